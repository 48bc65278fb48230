//! Values made up from their types: the same seed makes the same values, on any machine.

use tenon_engine::value::{Type, Val};

/// Elements of a generated list.
const ELEMENTS_MAX: u64 = 6;
/// Nesting beyond which lists are empty and options are none.
const DEPTH_MAX: usize = 6;

/// A sequence of numbers that look random (SplitMix64).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> Option<T> {
        let index = self.below(choices.len() as u64);
        choices.get(usize::try_from(index).ok()?).copied()
    }

    /// A whole number, a limit of the type every third time.
    fn integer(&mut self, limits: &[u64]) -> u64 {
        if self.below(3) == 0 { self.one_of(limits).unwrap_or(0) } else { self.next() >> self.below(64) }
    }

    fn character(&mut self) -> char {
        const NOTABLE: [char; 12] =
            ['a', 'Z', '0', ' ', '"', '\\', '\n', '\u{0}', 'é', '中', '🦀', '\u{10ffff}'];
        match self.below(3) {
            0 => u32::try_from(self.below(0x11_0000)).ok().and_then(char::from_u32).unwrap_or('\u{fffd}'),
            _ => self.one_of(&NOTABLE).unwrap_or('a'),
        }
    }
}

/// Whether values of the type can be made up: resources, streams and futures cannot.
pub(super) fn can_generate(ty: &Type) -> bool {
    match ty {
        Type::List(list) => can_generate(&list.ty()),
        Type::Option(option) => can_generate(&option.ty()),
        Type::Tuple(tuple) => tuple.types().all(|ty| can_generate(&ty)),
        Type::Record(record) => record.fields().all(|field| can_generate(&field.ty)),
        Type::Variant(variant) => variant.cases().all(|case| case.ty.is_none_or(|ty| can_generate(&ty))),
        Type::Result(result) => [result.ok(), result.err()].into_iter().flatten().all(|ty| can_generate(&ty)),
        // What the engine has switched off has no values either.
        Type::Map(_) | Type::FixedLengthList(_) => false,
        Type::Own(_) | Type::Borrow(_) | Type::Stream(_) | Type::Future(_) | Type::ErrorContext => false,
        _ => true,
    }
}

/// A value of the type.
pub(super) fn value(ty: &Type, random: &mut Random, depth: usize) -> Val {
    let shallow = depth < DEPTH_MAX;
    let inner = |ty: &Type, random: &mut Random| value(ty, random, depth + 1);
    match ty {
        Type::Bool => Val::Bool(random.below(2) == 1),
        Type::S8 => Val::S8(random.integer(&[0x7f, 0x80, 0xff]) as u8 as i8),
        Type::U8 => Val::U8(random.integer(&[0, 0xff]) as u8),
        Type::S16 => Val::S16(random.integer(&[0x7fff, 0x8000, 0xffff]) as u16 as i16),
        Type::U16 => Val::U16(random.integer(&[0, 0xffff]) as u16),
        Type::S32 => Val::S32(random.integer(&[0x7fff_ffff, 0x8000_0000, 0xffff_ffff]) as u32 as i32),
        Type::U32 => Val::U32(random.integer(&[0, 0xffff_ffff]) as u32),
        Type::S64 => Val::S64(random.integer(&[i64::MAX as u64, i64::MIN as u64, u64::MAX]) as i64),
        Type::U64 => Val::U64(random.integer(&[0, u64::MAX, 1 << 53])),
        Type::Float32 => {
            let notable =
                random.one_of(&[0.0, -0.0, 1.5, f32::MAX, f32::MIN_POSITIVE, f32::INFINITY, f32::NAN]);
            Val::Float32(
                notable.filter(|_| random.below(2) == 0).unwrap_or(random.below(1 << 20) as f32 / 8.0),
            )
        }
        Type::Float64 => {
            let notable =
                random.one_of(&[0.0, -0.0, 0.1, f64::MAX, f64::MIN_POSITIVE, f64::NEG_INFINITY, f64::NAN]);
            Val::Float64(
                notable.filter(|_| random.below(2) == 0).unwrap_or(random.below(1 << 40) as f64 / 1e3),
            )
        }
        Type::Char => Val::Char(random.character()),
        Type::String => {
            let length = random.below(ELEMENTS_MAX * 2);
            Val::String((0..length).map(|_| random.character()).collect())
        }
        Type::List(list) => {
            let length = if shallow { random.below(ELEMENTS_MAX) } else { 0 };
            Val::List((0..length).map(|_| inner(&list.ty(), random)).collect())
        }
        Type::Option(option) => {
            let some = shallow && random.below(3) > 0;
            Val::Option(some.then(|| Box::new(inner(&option.ty(), random))))
        }
        Type::Tuple(tuple) => Val::Tuple(tuple.types().map(|ty| inner(&ty, random)).collect()),
        Type::Record(record) => Val::Record(
            record.fields().map(|field| (field.name.to_owned(), inner(&field.ty, random))).collect(),
        ),
        Type::Variant(variant) => {
            let index = random.below(variant.cases().len() as u64);
            let case = usize::try_from(index).ok().and_then(|index| variant.cases().nth(index));
            case.map_or(Val::Bool(false), |case| {
                Val::Variant(case.name.to_owned(), case.ty.map(|ty| Box::new(inner(&ty, random))))
            })
        }
        Type::Enum(cases) => {
            let names: Vec<&str> = cases.names().collect();
            Val::Enum(random.one_of(&names).unwrap_or_default().to_owned())
        }
        Type::Flags(flags) => {
            Val::Flags(flags.names().filter(|_| random.below(2) == 1).map(str::to_owned).collect())
        }
        Type::Result(result) => {
            let payload = |ty: Option<Type>, random: &mut Random| ty.map(|ty| Box::new(inner(&ty, random)));
            Val::Result(if random.below(2) == 0 {
                Ok(payload(result.ok(), random))
            } else {
                Err(payload(result.err(), random))
            })
        }
        // `can_generate` says no to the rest.
        _ => Val::Bool(false),
    }
}

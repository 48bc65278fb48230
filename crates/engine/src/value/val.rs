//! A value of the Component Model.

use bytes::Bytes;
use wasmtime::component::types::Type;
use wasmtime::component::{self, FutureAny, ResourceAny, StreamAny};

/// A value of any type that is known only when a component is loaded.
///
/// A `list<u8>` is [`Bytes`](Self::Bytes), one piece of memory; every other list has a value for each element. The two
/// are equal when they have the same elements, and a guest takes either for a `list<u8>`.
#[derive(Clone, Debug)]
pub enum Val {
    /// `bool`.
    Bool(bool),
    /// `s8`.
    S8(i8),
    /// `u8`.
    U8(u8),
    /// `s16`.
    S16(i16),
    /// `u16`.
    U16(u16),
    /// `s32`.
    S32(i32),
    /// `u32`.
    U32(u32),
    /// `s64`.
    S64(i64),
    /// `u64`.
    U64(u64),
    /// `f32`.
    Float32(f32),
    /// `f64`.
    Float64(f64),
    /// `char`.
    Char(char),
    /// `string`.
    String(String),
    /// `list<u8>`.
    Bytes(Bytes),
    /// Any other `list`.
    List(Vec<Val>),
    /// `list` of a fixed length.
    FixedLengthList(Vec<Val>),
    /// `map`, as pairs of a key and a value.
    Map(Vec<(Val, Val)>),
    /// `record`: all fields with their names, in the order of the type.
    Record(Vec<(String, Val)>),
    /// `tuple`.
    Tuple(Vec<Val>),
    /// `variant`: the case and its value.
    Variant(String, Option<Box<Val>>),
    /// `enum`: the case.
    Enum(String),
    /// `option`.
    Option(Option<Box<Val>>),
    /// `result`, each side with its value if it has one.
    Result(Result<Option<Box<Val>>, Option<Box<Val>>>),
    /// `flags`: the names of those that are set.
    Flags(Vec<String>),
    /// `own` or `borrow`: a resource.
    Resource(ResourceAny),
    /// `future`.
    Future(FutureAny),
    /// `stream`.
    Stream(StreamAny),
}

impl Val {
    /// The bytes of a `list<u8>`; `None` when it is another value.
    pub fn into_bytes(self) -> Option<Bytes> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::List(items) => items.iter().map(byte).collect::<Option<Vec<u8>>>().map(Bytes::from),
            _ => None,
        }
    }

    /// How many elements a list has; `None` when it is another value.
    pub fn list_len(&self) -> Option<usize> {
        match self {
            Self::Bytes(bytes) => Some(bytes.len()),
            Self::List(items) => Some(items.len()),
            _ => None,
        }
    }

    /// A value of the type `ty`, as the engine has it. `None` when it has something that cannot be carried.
    pub(crate) fn from_engine(value: component::Val, ty: &Type) -> Option<Self> {
        use component::Val as Given;
        let boxed = |value: Option<Box<Given>>, ty: Option<Type>| match (value, ty) {
            (None, _) => Some(None),
            (Some(value), Some(ty)) => Self::from_engine(*value, &ty).map(|value| Some(Box::new(value))),
            (Some(_), None) => None,
        };
        let all = |values: Vec<Given>, ty: &Type| {
            values.into_iter().map(|value| Self::from_engine(value, ty)).collect::<Option<Vec<_>>>()
        };
        Some(match (value, ty) {
            (Given::Bool(value), _) => Self::Bool(value),
            (Given::S8(value), _) => Self::S8(value),
            (Given::U8(value), _) => Self::U8(value),
            (Given::S16(value), _) => Self::S16(value),
            (Given::U16(value), _) => Self::U16(value),
            (Given::S32(value), _) => Self::S32(value),
            (Given::U32(value), _) => Self::U32(value),
            (Given::S64(value), _) => Self::S64(value),
            (Given::U64(value), _) => Self::U64(value),
            (Given::Float32(value), _) => Self::Float32(value),
            (Given::Float64(value), _) => Self::Float64(value),
            (Given::Char(value), _) => Self::Char(value),
            (Given::String(value), _) => Self::String(value),
            (Given::List(items), Type::List(list)) => match list.ty() {
                Type::U8 => Self::Bytes(Self::List(all(items, &Type::U8)?).into_bytes()?),
                ty => Self::List(all(items, &ty)?),
            },
            (Given::FixedLengthList(items), Type::FixedLengthList(list)) => {
                Self::FixedLengthList(all(items, &list.ty())?)
            }
            (Given::Map(entries), Type::Map(map)) => {
                let (key_type, value_type) = (map.key(), map.value());
                let entries = entries.into_iter().map(|(key, value)| {
                    Some((Self::from_engine(key, &key_type)?, Self::from_engine(value, &value_type)?))
                });
                Self::Map(entries.collect::<Option<_>>()?)
            }
            (Given::Record(fields), Type::Record(record)) => {
                let fields = fields.into_iter().zip(record.fields());
                let fields =
                    fields.map(|((name, value), field)| Some((name, Self::from_engine(value, &field.ty)?)));
                Self::Record(fields.collect::<Option<_>>()?)
            }
            (Given::Tuple(items), Type::Tuple(tuple)) => {
                let items = items.into_iter().zip(tuple.types());
                Self::Tuple(items.map(|(item, ty)| Self::from_engine(item, &ty)).collect::<Option<_>>()?)
            }
            (Given::Variant(name, payload), Type::Variant(variant)) => {
                let ty = variant.cases().find(|case| case.name == name).and_then(|case| case.ty);
                Self::Variant(name, boxed(payload, ty)?)
            }
            (Given::Enum(name), _) => Self::Enum(name),
            (Given::Option(payload), Type::Option(option)) => {
                Self::Option(boxed(payload, Some(option.ty()))?)
            }
            (Given::Result(Ok(payload)), Type::Result(result)) => {
                Self::Result(Ok(boxed(payload, result.ok())?))
            }
            (Given::Result(Err(payload)), Type::Result(result)) => {
                Self::Result(Err(boxed(payload, result.err())?))
            }
            (Given::Flags(names), _) => Self::Flags(names),
            (Given::Resource(resource), _) => Self::Resource(resource),
            (Given::Future(future), _) => Self::Future(future),
            (Given::Stream(stream), _) => Self::Stream(stream),
            _ => return None,
        })
    }

    /// The same as the engine has it.
    pub(crate) fn into_engine(self) -> component::Val {
        use component::Val as Given;
        let boxed = |value: Option<Box<Self>>| value.map(|value| Box::new(value.into_engine()));
        let all = |values: Vec<Self>| values.into_iter().map(Self::into_engine).collect();
        match self {
            Self::Bool(value) => Given::Bool(value),
            Self::S8(value) => Given::S8(value),
            Self::U8(value) => Given::U8(value),
            Self::S16(value) => Given::S16(value),
            Self::U16(value) => Given::U16(value),
            Self::S32(value) => Given::S32(value),
            Self::U32(value) => Given::U32(value),
            Self::S64(value) => Given::S64(value),
            Self::U64(value) => Given::U64(value),
            Self::Float32(value) => Given::Float32(value),
            Self::Float64(value) => Given::Float64(value),
            Self::Char(value) => Given::Char(value),
            Self::String(value) => Given::String(value),
            Self::Bytes(bytes) => Given::List(bytes.iter().copied().map(Given::U8).collect()),
            Self::List(items) => Given::List(all(items)),
            Self::FixedLengthList(items) => Given::FixedLengthList(all(items)),
            Self::Map(entries) => Given::Map(
                entries.into_iter().map(|(key, value)| (key.into_engine(), value.into_engine())).collect(),
            ),
            Self::Record(fields) => {
                Given::Record(fields.into_iter().map(|(name, value)| (name, value.into_engine())).collect())
            }
            Self::Tuple(items) => Given::Tuple(all(items)),
            Self::Variant(name, payload) => Given::Variant(name, boxed(payload)),
            Self::Enum(name) => Given::Enum(name),
            Self::Option(payload) => Given::Option(boxed(payload)),
            Self::Result(Ok(payload)) => Given::Result(Ok(boxed(payload))),
            Self::Result(Err(payload)) => Given::Result(Err(boxed(payload))),
            Self::Flags(names) => Given::Flags(names),
            Self::Resource(resource) => Given::Resource(resource),
            Self::Future(future) => Given::Future(future),
            Self::Stream(stream) => Given::Stream(stream),
        }
    }
}

impl From<Vec<u8>> for Val {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes.into())
    }
}

fn byte(value: &Val) -> Option<u8> {
    match value {
        Val::U8(byte) => Some(*byte),
        _ => None,
    }
}

/// Whether two values are the same to a guest: one NaN is as good as another, and zero has a sign.
impl PartialEq for Val {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Float32(one), Self::Float32(other)) => {
                (one.is_nan() && other.is_nan()) || one.to_bits() == other.to_bits()
            }
            (Self::Float64(one), Self::Float64(other)) => {
                (one.is_nan() && other.is_nan()) || one.to_bits() == other.to_bits()
            }
            (Self::Bool(one), Self::Bool(other)) => one == other,
            (Self::S8(one), Self::S8(other)) => one == other,
            (Self::U8(one), Self::U8(other)) => one == other,
            (Self::S16(one), Self::S16(other)) => one == other,
            (Self::U16(one), Self::U16(other)) => one == other,
            (Self::S32(one), Self::S32(other)) => one == other,
            (Self::U32(one), Self::U32(other)) => one == other,
            (Self::S64(one), Self::S64(other)) => one == other,
            (Self::U64(one), Self::U64(other)) => one == other,
            (Self::Char(one), Self::Char(other)) => one == other,
            (Self::String(one), Self::String(other)) => one == other,
            (Self::Bytes(one), Self::Bytes(other)) => one == other,
            (Self::Bytes(bytes), Self::List(items)) | (Self::List(items), Self::Bytes(bytes)) => {
                items.len() == bytes.len()
                    && items.iter().zip(bytes).all(|(item, it)| byte(item) == Some(*it))
            }
            (Self::List(one), Self::List(other))
            | (Self::FixedLengthList(one), Self::FixedLengthList(other))
            | (Self::Tuple(one), Self::Tuple(other)) => one == other,
            (Self::Map(one), Self::Map(other)) => one == other,
            (Self::Record(one), Self::Record(other)) => one == other,
            (Self::Variant(one, payload), Self::Variant(other, with)) => one == other && payload == with,
            (Self::Enum(one), Self::Enum(other)) => one == other,
            (Self::Option(one), Self::Option(other)) => one == other,
            (Self::Result(one), Self::Result(other)) => one == other,
            (Self::Flags(one), Self::Flags(other)) => one == other,
            (Self::Resource(one), Self::Resource(other)) => one == other,
            (Self::Future(one), Self::Future(other)) => one == other,
            (Self::Stream(one), Self::Stream(other)) => one == other,
            _ => false,
        }
    }
}

//! From an offset in a component to the function and the source line it was compiled from.
//!
//! Debug information of WebAssembly is DWARF in custom sections of each core module, and its addresses count from the
//! start of that module's code section ("DWARF for WebAssembly", section "Code addresses"). A component may have been
//! stripped; then the information comes from a side file, the component or core module as it was before, whose code is
//! the same byte for byte.
//!
//! Where a component was optimised, a module of its side file says where each piece of its code was before, in a custom
//! section `tenon:moved`: triples of numbers (LEB128), the first of which is how far the piece begins behind the one
//! before, the second which of the modules that follow in the side file it is of, and the third where in that
//! module's code it was.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::ops::Range;

use gimli::{EndianSlice, LittleEndian};
use wasmparser::{KnownCustom, Name, Parser, Payload};

/// Functions that one address may stand for, each inlined into the next; beyond it the chain is cut.
const INLINED_MAX: usize = 32;

/// The custom section that says where code was before it was moved.
const MOVED: &str = "tenon:moved";

/// One function that an offset lies in: the function itself, or one that the compiler copied into it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceFrame {
    /// The function's name, demangled where it is Rust's.
    pub function: Option<String>,
    /// The source file.
    pub file: Option<String>,
    /// One-based line.
    pub line: Option<u32>,
    /// One-based column.
    pub column: Option<u32>,
}

/// The names and the debug information of a component's core modules.
#[derive(Default)]
pub struct Symbols<'a> {
    modules: Vec<ModuleSymbols<'a>>,
}

type Slice<'a> = EndianSlice<'a, LittleEndian>;
type Dwarf<'a> = addr2line::Context<Slice<'a>>;

#[derive(Default)]
struct ModuleSymbols<'a> {
    /// The code section's content: its place in the file, and its bytes.
    code: Range<u64>,
    code_bytes: &'a [u8],
    /// Bodies in their order, which is that of the file.
    bodies: Vec<Range<u64>>,
    imported_functions: u32,
    names: HashMap<u32, &'a str>,
    debug: HashMap<&'a str, &'a [u8]>,
    build_id: Option<&'a [u8]>,
    /// Where its code was before, piece by piece.
    moved: Vec<Moved>,
    /// The modules that its code was in.
    origins: Vec<ModuleSymbols<'a>>,
    dwarf: OnceCell<Option<Dwarf<'a>>>,
}

/// Code that was elsewhere: up to the next such piece, it is as it was.
#[derive(Clone, Copy)]
struct Moved {
    now: u64,
    module: u32,
    was: u64,
}

/// Adds to a core module where its code was before: for each piece in order, where it is now, which module it was in
/// and where it was there. Places count from the start of the code section's content.
pub fn append_moves(module: &mut Vec<u8>, moves: impl Iterator<Item = (u32, u32, u32)>) {
    use wasm_encoder::{Encode as _, Section as _};
    let (mut data, mut before) = (Vec::new(), 0);
    for (now, module, was) in moves {
        (now - before).encode(&mut data);
        module.encode(&mut data);
        was.encode(&mut data);
        before = now;
    }
    wasm_encoder::CustomSection { name: MOVED.into(), data: data.into() }.append_to(module);
}

fn read_moves(data: &[u8]) -> Vec<Moved> {
    let mut reader = wasmparser::BinaryReader::new(data, 0);
    let (mut moves, mut now) = (Vec::new(), 0u64);
    while let (Ok(further), Ok(module), Ok(was)) =
        (reader.read_var_u32(), reader.read_var_u32(), reader.read_var_u32())
    {
        now += u64::from(further);
        moves.push(Moved { now, module, was: was.into() });
    }
    moves
}

impl<'a> Symbols<'a> {
    /// Reads a component or a core module. What cannot be read is left out: a report is better with half its names than
    /// with none.
    pub fn read(bytes: &'a [u8]) -> Self {
        let mut modules = Vec::new();
        // The modules that are open; `None` for a component, which may hold several.
        let mut open: Vec<Option<ModuleSymbols<'a>>> = Vec::new();
        for payload in Parser::new(0).parse_all(bytes).map_while(Result::ok) {
            match payload {
                Payload::Version { encoding, .. } => {
                    open.push((encoding == wasmparser::Encoding::Module).then(ModuleSymbols::default));
                }
                Payload::End(_) => modules.extend(open.pop().flatten()),
                payload => {
                    if let Some(Some(module)) = open.last_mut() {
                        module.take(bytes, payload);
                    }
                }
            }
        }
        Self { modules }
    }

    /// Takes over the debug information of a side file for each module that has none of its own and whose build id or
    /// code is the same. Returns for how many.
    pub fn attach(&mut self, side: &'a [u8]) -> usize {
        let sides = Self::read(side);
        let mut attached = 0;
        for module in self.modules.iter_mut().filter(|module| !module.has_lines()) {
            let tells_more = |side: &ModuleSymbols<'_>| {
                side.has_lines()
                    || !side.moved.is_empty()
                    || module.names.is_empty() && !side.names.is_empty()
            };
            let twin = sides.modules.iter().position(|side| {
                tells_more(side)
                    && match (side.build_id, module.build_id) {
                        (Some(side), Some(own)) => side == own,
                        _ => !module.code_bytes.is_empty() && side.code_bytes == module.code_bytes,
                    }
            });
            let Some(at) = twin else { continue };
            let twin = &sides.modules[at];
            module.debug.clone_from(&twin.debug);
            if module.names.is_empty() {
                module.names.clone_from(&twin.names);
            }
            module.moved.clone_from(&twin.moved);
            let origins = twin.moved.iter().map(|it| it.module as usize + 1).max().unwrap_or(0);
            module.origins =
                sides.modules.iter().skip(at + 1).take(origins).map(ModuleSymbols::copied).collect();
            module.dwarf = OnceCell::new();
            attached += 1;
        }
        attached
    }

    /// Whether any module has line information.
    pub fn has_lines(&self) -> bool {
        self.modules.iter().any(ModuleSymbols::has_lines)
    }

    /// What the byte at `offset` of the file was compiled from: innermost first, where functions were inlined. Empty
    /// when it is not code.
    pub fn resolve(&self, offset: u64) -> Vec<SourceFrame> {
        self.modules.iter().find(|module| module.code.contains(&offset)).map_or_else(Vec::new, |module| {
            let mut frames = module.lines(offset - module.code.start);
            let name = module.name(offset);
            match frames.last_mut() {
                Some(outermost) if outermost.function.is_none() => outermost.function = name,
                Some(_) => {}
                None => frames
                    .extend(name.map(|name| SourceFrame { function: Some(name), ..SourceFrame::default() })),
            }
            frames
        })
    }
}

impl<'a> ModuleSymbols<'a> {
    fn take(&mut self, bytes: &'a [u8], payload: Payload<'a>) {
        match payload {
            Payload::ImportSection(imports) => {
                let functions = imports
                    .into_imports()
                    .map_while(Result::ok)
                    .filter(|import| {
                        matches!(import.ty, wasmparser::TypeRef::Func(_) | wasmparser::TypeRef::FuncExact(_))
                    })
                    .count();
                self.imported_functions = u32::try_from(functions).unwrap_or(u32::MAX);
            }
            Payload::CodeSectionStart { unchecked_range: range, .. } => {
                let place = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
                self.code_bytes = place.and_then(|(start, end)| bytes.get(start..end)).unwrap_or_default();
                self.code = range;
            }
            Payload::CodeSectionEntry(body) => self.bodies.push(body.range()),
            Payload::CustomSection(section) => match section.name() {
                "build_id" => self.build_id = Some(section.data()),
                MOVED => self.moved = read_moves(section.data()),
                name if name.starts_with(".debug_") => {
                    self.debug.insert(name, section.data());
                }
                "name" => {
                    if let KnownCustom::Name(names) = section.as_known() {
                        for names in names.into_iter().flatten() {
                            if let Name::Function(names) = names {
                                self.names
                                    .extend(names.into_iter().flatten().map(|name| (name.index, name.name)));
                            }
                        }
                    }
                }
                _ => {}
            },
            _ => {}
        }
    }

    fn has_lines(&self) -> bool {
        self.has_own_lines() || self.origins.iter().any(Self::has_own_lines)
    }

    fn has_own_lines(&self) -> bool {
        self.debug.contains_key(".debug_line") && self.debug.contains_key(".debug_info")
    }

    /// The same, without what was already looked up.
    fn copied(&self) -> Self {
        Self {
            code: self.code.clone(),
            code_bytes: self.code_bytes,
            bodies: self.bodies.clone(),
            imported_functions: self.imported_functions,
            names: self.names.clone(),
            debug: self.debug.clone(),
            build_id: self.build_id,
            moved: Vec::new(),
            origins: Vec::new(),
            dwarf: OnceCell::new(),
        }
    }

    /// The module that the code at `place` was in before, and where in its code it was.
    fn before(&self, place: u64) -> Option<(&Self, u64)> {
        let at = self.moved.partition_point(|it| it.now <= place).checked_sub(1)?;
        let piece = self.moved[at];
        Some((self.origins.get(piece.module as usize)?, piece.was + (place - piece.now)))
    }

    fn name(&self, offset: u64) -> Option<String> {
        let at = self.bodies.partition_point(|body| body.end <= offset);
        let index = self.imported_functions.checked_add(u32::try_from(at).ok()?)?;
        self.bodies.get(at).filter(|body| body.contains(&offset))?;
        self.names.get(&index).map(|name| demangled(name))
    }

    /// What the byte at `place` of its code was compiled from, as far as debug information says.
    fn lines(&self, place: u64) -> Vec<SourceFrame> {
        if let Some((origin, was)) = self.before(place) {
            return origin.lines(was);
        }
        let dwarf = self.dwarf.get_or_init(|| {
            if !self.has_own_lines() {
                return None;
            }
            let section = |id: gimli::SectionId| -> Result<Slice<'a>, gimli::Error> {
                Ok(Slice::new(self.debug.get(id.name()).copied().unwrap_or_default(), LittleEndian))
            };
            addr2line::Context::from_dwarf(gimli::Dwarf::load(section).ok()?).ok()
        });
        let mut lines = Vec::new();
        let Some(dwarf) = dwarf else { return lines };
        let Ok(mut frames) = dwarf.find_frames(place).skip_all_loads() else {
            return lines;
        };
        while let Ok(Some(frame)) = frames.next() {
            if lines.len() == INLINED_MAX {
                break;
            }
            let name = frame.function.as_ref().and_then(|name| name.raw_name().ok());
            let location = frame.location.as_ref();
            lines.push(SourceFrame {
                function: name.map(|name| demangled(&name)),
                file: location.and_then(|location| location.file).map(str::to_owned),
                line: location.and_then(|location| location.line).filter(|line| *line > 0),
                column: location.and_then(|location| location.column).filter(|column| *column > 0),
            });
        }
        // A location without a function and without a line says nothing.
        lines.retain(|frame| frame.function.is_some() || frame.line.is_some());
        lines
    }
}

/// A name as its language writes it, where it is Rust's.
fn demangled(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = r#"(component
        (core module $a (func $first nop) (func $second unreachable))
        (core module $b (import "x" "y" (func)) (func $_ZN3foo3bar17h05af221e174051e9E nop)))"#;

    #[test]
    fn an_offset_is_named_by_the_module_it_lies_in() {
        let bytes = wat::parse_str(TWO).unwrap();
        let symbols = Symbols::read(&bytes);
        let name = |module: usize, body: usize| {
            let offset = symbols.modules[module].bodies[body].start + 1;
            symbols.resolve(offset).remove(0).function.unwrap()
        };
        assert_eq!(name(0, 0), "first");
        assert_eq!(name(0, 1), "second");
        assert_eq!(
            name(1, 0),
            "foo::bar",
            "imports come first in the index space, and Rust's names are demangled"
        );
        assert_eq!(symbols.resolve(0), []);
        assert_eq!(symbols.resolve(u64::MAX), []);
        assert!(!symbols.has_lines());
    }

    #[test]
    fn code_that_was_moved_is_told_from_where_it_was() {
        let served = wat::parse_str("(module (func nop) (func unreachable))").unwrap();
        let origin = wat::parse_str("(module (func unreachable))").unwrap();
        let mut named = wat::parse_str("(module (func $a nop) (func $b unreachable))").unwrap();
        append_moves(&mut named, [(3, 1, 3), (6, 0, 3)].into_iter());
        let mut side = wasm_encoder::Component::new();
        for data in [&named, &origin, &origin] {
            side.section(&wasm_encoder::RawSection { id: 1, data });
        }
        let side = side.finish();
        let mut symbols = Symbols::read(&served);
        assert_eq!(symbols.attach(&side), 1);
        let module = &symbols.modules[0];
        let before = |place| module.before(place).map(|(origin, was)| (std::ptr::from_ref(origin), was));
        let origin = |number: usize| std::ptr::from_ref(&module.origins[number]);
        assert_eq!(before(2), None, "before the first piece");
        assert_eq!(before(3), Some((origin(1), 3)));
        assert_eq!(before(4), Some((origin(1), 4)));
        assert_eq!(before(7), Some((origin(0), 4)));
        assert_eq!(symbols.resolve(module.code.start + 6)[0].function.as_deref(), Some("b"));
        assert_eq!(read_moves(&[1, 2]).len(), 0, "cut short");
    }

    #[test]
    fn damaged_input_is_read_as_far_as_it_goes() {
        let bytes = wat::parse_str(TWO).unwrap();
        for end in 0..bytes.len() {
            let symbols = Symbols::read(&bytes[..end]);
            for offset in 0..bytes.len() as u64 {
                let _ = symbols.resolve(offset);
            }
        }
    }

    #[test]
    fn a_side_file_is_matched_by_its_code_or_by_its_build_id() {
        let module =
            |custom: &str, code: &str| wat::parse_str(format!("(module {custom} (func $f {code}))")).unwrap();
        let debug = r#"(@custom ".debug_info" "") (@custom ".debug_line" "")"#;
        let (id, other_id) = (r#"(@custom "build_id" "\04abcd")"#, r#"(@custom "build_id" "\04efgh")"#);
        let attach = |own: &[u8], side: &[u8]| {
            let mut symbols = Symbols::read(own);
            symbols.attach(side)
        };
        assert_eq!(attach(&module("", "nop"), &module(debug, "nop")), 1, "the same code");
        assert_eq!(attach(&module("", "nop"), &module(debug, "nop nop")), 0, "other code");
        assert_eq!(attach(&module("", "nop"), &module("", "nop")), 0, "no lines in it");
        assert_eq!(attach(&module(debug, "nop"), &module(debug, "nop")), 0, "has its own");
        let with = |id: &str| module(&format!("{id} {debug}"), "nop");
        assert_eq!(attach(&module(id, "nop nop"), &with(id)), 1, "the same build");
        assert_eq!(attach(&module(other_id, "nop"), &with(id)), 0, "another build of the same code");
    }
}

//! A core module that has been started at build time, so that no instance of it has to be.
//!
//! The engine runs the start; here the module is made ready for that, and the state it comes to is written into it: the
//! memory as data, the globals as their initial values, and neither `_initialize` nor `_settle` any more.

use tenon_model::{Digest, Initialized, Number};
use wasm_encoder::{
    ConstExpr, DataCountSection, DataSection, ExportKind, ExportSection, GlobalSection, GlobalType, Ieee32,
    Ieee64, MemorySection, MemoryType, Module, RawSection, ValType,
};
use wasmparser::{ExternalKind, Operator, Parser, Payload, TypeRef};

/// Runs `_initialize` of a core module, and `_settle` if it has that, and hands back its memory (exported as `memory`) and the exported globals with the
/// given names; randomness of the start follows from the digest. Or says, for people, why that cannot be done ahead of
/// time. The engine does this, which this room does not know.
pub type Initialize<'a> = &'a (dyn Fn(&[u8], &[String], &Digest) -> Result<Initialized, String> + Sync);

/// The function that is run.
const START: &str = "_initialize";
/// And one that makes the instance ready to be written down.
const SETTLE: &str = "_settle";
const MEMORY: &str = "memory";
const PAGE_BYTES: usize = 64 << 10;
/// Engines take more; each costs time when the module is compiled.
const SEGMENTS_MAX: usize = 10_000;
/// Zeros between two pieces of data that cost less than a segment of its own.
const GAP_BYTES: usize = 16;

/// The module after its start, and where in its memory the adapter has its own piece.
pub(crate) struct Snapshot {
    pub(crate) module: Vec<u8>,
    pub(crate) area: u32,
}

/// Starts `module` and writes its state into it.
///
/// # Errors
/// Why that cannot be done, for people.
pub(crate) fn snapshot(module: &[u8], initialize: Initialize<'_>) -> Result<Snapshot, String> {
    let globals = Globals::of(module)?;
    let open = with_exports(module, &globals)?;
    let state = initialize(&open, &globals.names(), &Digest::of(module))?;
    Ok(Snapshot { module: with_state(module, &globals, &state)?, area: state.area })
}

/// The mutable globals of a module, each by its index.
struct Globals(Vec<u32>);

impl Globals {
    /// Reads the module and makes sure that its state is all in its memory and in numbers: tables and what is passive
    /// stay as they are written.
    fn of(module: &[u8]) -> Result<Self, String> {
        let mut globals = Vec::new();
        let mut memories = 0;
        for payload in Parser::new(0).parse_all(module) {
            match payload.map_err(unreadable)? {
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        if !matches!(import.map_err(unreadable)?.ty, TypeRef::Func(_)) {
                            return Err("it imports more than functions".to_owned());
                        }
                    }
                }
                Payload::MemorySection(section) => {
                    for memory in section {
                        let memory = memory.map_err(unreadable)?;
                        memories += 1;
                        if memory.memory64 || memory.shared || memory.page_size_log2.is_some() {
                            return Err("its memory is of another kind".to_owned());
                        }
                    }
                }
                Payload::GlobalSection(section) => {
                    for (index, global) in (0..).zip(section) {
                        let ty = global.map_err(unreadable)?.ty;
                        if ty.mutable {
                            number(ty.content_type)?;
                            globals.push(index);
                        }
                    }
                }
                Payload::CodeSectionEntry(body) => {
                    let mut operators = body.get_operators_reader().map_err(unreadable)?;
                    while !operators.eof() {
                        if let Operator::TableSet { .. }
                        | Operator::TableGrow { .. }
                        | Operator::TableFill { .. }
                        | Operator::TableCopy { .. }
                        | Operator::TableInit { .. }
                        | Operator::ElemDrop { .. }
                        | Operator::MemoryInit { .. }
                        | Operator::DataDrop { .. } = operators.read().map_err(unreadable)?
                        {
                            return Err("it changes tables or segments while it runs".to_owned());
                        }
                    }
                }
                _ => {}
            }
        }
        if memories == 1 { Ok(Self(globals)) } else { Err("it has not exactly one memory".to_owned()) }
    }

    fn names(&self) -> Vec<String> {
        self.0.iter().map(|index| format!("tenon:global-{index}")).collect()
    }
}

fn unreadable(error: wasmparser::BinaryReaderError) -> String {
    format!("it cannot be read: {error}")
}

fn number(ty: wasmparser::ValType) -> Result<ValType, String> {
    match ty {
        wasmparser::ValType::I32 => Ok(ValType::I32),
        wasmparser::ValType::I64 => Ok(ValType::I64),
        wasmparser::ValType::F32 => Ok(ValType::F32),
        wasmparser::ValType::F64 => Ok(ValType::F64),
        _ => Err("one of its globals is not a number".to_owned()),
    }
}

/// The module with its mutable globals exported, and its memory as `memory`.
fn with_exports(module: &[u8], globals: &Globals) -> Result<Vec<u8>, String> {
    rewritten(module, |payload, output| {
        let Payload::ExportSection(section) = payload else { return Ok(false) };
        let mut exports = exports(section, |_| true)?;
        let has_memory = section.clone().into_iter().flatten().any(|export| export.name == MEMORY);
        if !has_memory {
            exports.export(MEMORY, ExportKind::Memory, 0);
        }
        for (name, index) in globals.names().iter().zip(&globals.0) {
            exports.export(name, ExportKind::Global, *index);
        }
        output.section(&exports);
        Ok(true)
    })
}

/// The module as it is after its start.
fn with_state(module: &[u8], globals: &Globals, state: &Initialized) -> Result<Vec<u8>, String> {
    let segments = segments(&state.memory);
    let mut has_data = false;
    let mut output = rewritten_module(module, |payload, output| {
        match payload {
            Payload::MemorySection(section) => {
                let mut memories = MemorySection::new();
                for memory in section.clone() {
                    let memory = memory.map_err(unreadable)?;
                    memories.memory(MemoryType {
                        minimum: (state.memory.len() / PAGE_BYTES) as u64,
                        maximum: memory.maximum,
                        memory64: false,
                        shared: false,
                        page_size_log2: None,
                    });
                }
                output.section(&memories);
            }
            Payload::GlobalSection(section) => {
                let mut values = globals.0.iter().zip(&state.globals);
                let mut written = GlobalSection::new();
                for global in section.clone() {
                    let global = global.map_err(unreadable)?;
                    let ty = GlobalType {
                        val_type: number(global.ty.content_type)?,
                        mutable: global.ty.mutable,
                        shared: global.ty.shared,
                    };
                    let value = if global.ty.mutable {
                        let (_, value) = values.next().ok_or("a global is missing")?;
                        match *value {
                            Number::I32(value) => ConstExpr::i32_const(value),
                            Number::I64(value) => ConstExpr::i64_const(value),
                            Number::F32(bits) => ConstExpr::f32_const(Ieee32::new(bits)),
                            Number::F64(bits) => ConstExpr::f64_const(Ieee64::new(bits)),
                        }
                    } else {
                        let mut reader = global.init_expr.get_binary_reader();
                        let length = reader.bytes_remaining();
                        let bytes = reader.read_bytes(length).map_err(unreadable)?;
                        // Without its end, which the encoder writes.
                        ConstExpr::raw(bytes[..length.saturating_sub(1)].iter().copied())
                    };
                    written.global(ty, &value);
                }
                output.section(&written);
            }
            Payload::ExportSection(section) => {
                output.section(&exports(section, |name| name != START && name != SETTLE)?);
            }
            // It has run.
            Payload::StartSection { .. } => {}
            Payload::DataCountSection { .. } => {
                output
                    .section(&DataCountSection { count: u32::try_from(segments.len()).unwrap_or(u32::MAX) });
            }
            Payload::DataSection(_) => {
                has_data = true;
                data(&state.memory, &segments, output);
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if !has_data {
        data(&state.memory, &segments, &mut output);
    }
    Ok(output.finish())
}

fn data(memory: &[u8], segments: &[std::ops::Range<usize>], output: &mut Module) {
    let mut data = DataSection::new();
    for segment in segments {
        let at = u32::try_from(segment.start).unwrap_or(u32::MAX).cast_signed();
        data.active(0, &ConstExpr::i32_const(at), memory[segment.clone()].iter().copied());
    }
    output.section(&data);
}

/// What of the memory is not zero, in pieces.
fn segments(memory: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut gap = GAP_BYTES;
    loop {
        let mut segments: Vec<std::ops::Range<usize>> = Vec::new();
        let mut at = 0;
        while let Some(start) = memory[at..].iter().position(|byte| *byte != 0).map(|zeros| at + zeros) {
            let end =
                memory[start..].iter().position(|byte| *byte == 0).map_or(memory.len(), |data| start + data);
            match segments.last_mut() {
                Some(last) if start - last.end <= gap => last.end = end,
                _ => segments.push(start..end),
            }
            at = end;
        }
        if segments.len() <= SEGMENTS_MAX {
            return segments;
        }
        gap *= 2;
    }
}

fn exports(
    section: &wasmparser::ExportSectionReader<'_>,
    keep: impl Fn(&str) -> bool,
) -> Result<ExportSection, String> {
    let mut exports = ExportSection::new();
    for export in section.clone() {
        let export = export.map_err(unreadable)?;
        let kind = match export.kind {
            ExternalKind::Func => ExportKind::Func,
            ExternalKind::Table => ExportKind::Table,
            ExternalKind::Memory => ExportKind::Memory,
            ExternalKind::Global => ExportKind::Global,
            _ => return Err("it exports something new".to_owned()),
        };
        if keep(export.name) {
            exports.export(export.name, kind, export.index);
        }
    }
    Ok(exports)
}

/// Goes through a module's sections: `rewrite` writes one and says so, or it is copied as it is.
fn rewritten_module(
    module: &[u8],
    mut rewrite: impl FnMut(&Payload<'_>, &mut Module) -> Result<bool, String>,
) -> Result<Module, String> {
    let mut output = Module::new();
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload.map_err(unreadable)?;
        if rewrite(&payload, &mut output)? {
            continue;
        }
        if let Some((id, range)) = payload.as_section() {
            let range = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
            let data = range.and_then(|(start, end)| module.get(start..end)).ok_or("it is cut off")?;
            output.section(&RawSection { id, data });
        }
    }
    Ok(output)
}

fn rewritten(
    module: &[u8],
    rewrite: impl FnMut(&Payload<'_>, &mut Module) -> Result<bool, String>,
) -> Result<Vec<u8>, String> {
    rewritten_module(module, rewrite).map(Module::finish)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULE: &str = r#"(module
        (import "a" "b" (func))
        (memory 1)
        (global i32 (i32.const 3))
        (global (mut i32) (i32.const 0))
        (global (mut f64) (f64.const 0))
        (func (export "_initialize"))
        (func (export "run") (result i32) (global.get 1))
        (data (i32.const 8) "old"))"#;

    fn taken(text: &str) -> Result<Snapshot, String> {
        let module = wat::parse_str(text).unwrap();
        snapshot(&module, &|open, globals, _| {
            wasmparser::validate(open).unwrap();
            assert_eq!(globals, ["tenon:global-1", "tenon:global-2"]);
            let mut memory = vec![0; 2 * PAGE_BYTES];
            memory[100] = 1;
            memory[110] = 2;
            memory[2 * PAGE_BYTES - 1] = 3;
            let globals = vec![Number::I32(-1), Number::F64(f64::NAN.to_bits())];
            Ok(Initialized { memory, globals, area: 16 })
        })
    }

    #[test]
    fn the_state_is_in_the_module() {
        let taken = taken(MODULE).unwrap();
        wasmparser::validate(&taken.module).unwrap();
        let mut segments = Vec::new();
        for payload in Parser::new(0).parse_all(&taken.module) {
            match payload.unwrap() {
                Payload::MemorySection(section) => {
                    assert_eq!(section.into_iter().next().unwrap().unwrap().initial, 2);
                }
                Payload::ExportSection(section) => {
                    let names: Vec<_> = section.into_iter().map(|export| export.unwrap().name).collect();
                    assert_eq!(names, ["run"]);
                }
                Payload::GlobalSection(section) => {
                    let mut values = Vec::new();
                    for global in section {
                        let mut operators = global.unwrap().init_expr.get_operators_reader();
                        values.push(operators.read().unwrap());
                    }
                    assert!(matches!(values[0], Operator::I32Const { value: 3 }), "{values:?}");
                    assert!(matches!(values[1], Operator::I32Const { value: -1 }), "{values:?}");
                }
                Payload::DataSection(section) => {
                    segments.extend(section.into_iter().map(|segment| segment.unwrap().data.to_vec()));
                }
                _ => {}
            }
        }
        assert_eq!(segments, [vec![1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2], vec![3]]);
    }

    #[test]
    fn what_is_not_in_memory_or_globals_is_refused() {
        for (text, reason) in [
            ("(module)", "it has not exactly one memory"),
            (r#"(module (import "a" "m" (memory 1)))"#, "it imports more than functions"),
            (
                "(module (memory 1) (global (mut externref) (ref.null extern)))",
                "one of its globals is not a number",
            ),
            (
                "(module (memory 1) (table 1 funcref) (func (table.set (i32.const 0) (ref.null func))))",
                "it changes tables or segments while it runs",
            ),
        ] {
            assert_eq!(taken(text).err().as_deref(), Some(reason));
        }
    }

    #[test]
    fn there_are_never_too_many_pieces() {
        let mut memory = vec![0; SEGMENTS_MAX * 100];
        memory.iter_mut().step_by(33).for_each(|byte| *byte = 1);
        let found = segments(&memory);
        assert!(found.len() <= SEGMENTS_MAX);
        assert!(found.iter().map(ExactSizeIterator::len).sum::<usize>() >= memory.len() / 33);
    }
}

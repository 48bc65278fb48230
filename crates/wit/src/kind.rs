//! What a file is.

use tenon_model::{Diagnostic, Location};
use wasmparser::{ComponentExternalKind, ComponentType, Parser, Payload, Validator, WasmFeatures};

/// The WebAssembly a component may use: the 3.0 specification and the Component Model with async, which is
/// what the engine runs.
const FEATURES: WasmFeatures = WasmFeatures::WASM3
    .union(WasmFeatures::COMPONENT_MODEL)
    .union(WasmFeatures::CM_ASYNC)
    .union(WasmFeatures::CM_MAP)
    .union(WasmFeatures::CM_FIXED_LENGTH_LISTS);

const MAGIC: &[u8] = b"\0asm";

/// How many bytes of an unknown file a diagnostic shows.
const FIRST_BYTES_SHOWN_MAX: usize = 8;

/// What a file is, told from its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A component in the binary format; not yet validated.
    Component,
    /// A core WebAssembly module.
    CoreModule(Module),
    /// A WIT package in the binary format: contracts without code.
    WitPackage,
    /// WebAssembly in a layer or version of the binary format that is not supported.
    UnknownVersion {
        /// The four bytes that name version and layer.
        version: [u8; 4],
    },
    /// WebAssembly in the text format.
    Text,
    /// No bytes at all.
    Empty,
    /// Anything else.
    NotWasm {
        /// The first bytes, at most eight.
        first_bytes: Vec<u8>,
        /// What the first bytes say it is, where they are known.
        looks_like: Option<&'static str>,
    },
}

/// What a core module was built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Module {
    /// Where its imports say it should run.
    pub system: System,
    /// It exports `_start`: a program that runs once, as opposed to a library ("reactor") that is called.
    pub command: bool,
    /// It carries a `component-type` section: bindings were generated, but nobody made it a component.
    pub embedded_world: bool,
}

/// The system a core module expects to be run by, told from the modules it imports from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    /// None of those below.
    Bare,
    /// `wasi_snapshot_preview1`, the older WASI 0.1.
    Preview1,
    /// `wasi_unstable`, the snapshot before preview 1.
    Preview0,
    /// JavaScript glue that Emscripten writes beside the module.
    Emscripten,
    /// JavaScript glue that wasm-bindgen writes beside the module.
    WasmBindgen,
    /// JavaScript glue of Go's `GOOS=js`.
    GoJs,
}

impl Module {
    /// What the module is, as a noun phrase with its article.
    pub fn describe(&self) -> &'static str {
        match (self.system, self.command) {
            (System::Preview1, true) => "a core module for WASI preview 1, a command",
            (System::Preview1, false) => "a core module for WASI preview 1, a reactor",
            (System::Preview0, _) => "a core module for WASI preview 0",
            (System::Emscripten, _) => "a core module that Emscripten made for a JavaScript host",
            (System::WasmBindgen, _) => "a core module that wasm-bindgen is to make glue for",
            (System::GoJs, _) => "a core module that Go made for a JavaScript host",
            (System::Bare, _) if self.embedded_world => {
                "a core module that was never turned into a component"
            }
            (System::Bare, _) => "a core module without WASI",
        }
    }

    /// Whether `tenon componentize` can make a component of it.
    pub fn can_be_wrapped(&self) -> bool {
        matches!(self.system, System::Bare | System::Preview1)
    }
}

/// Tells what `bytes` are without validating them.
pub fn classify(bytes: &[u8]) -> Kind {
    if bytes.is_empty() {
        return Kind::Empty;
    }
    if !bytes.starts_with(MAGIC) {
        return match is_text_format(bytes) {
            true => Kind::Text,
            false => Kind::NotWasm {
                first_bytes: bytes[..bytes.len().min(FIRST_BYTES_SHOWN_MAX)].to_vec(),
                looks_like: looks_like(bytes),
            },
        };
    }
    let Some(version) = bytes.get(4..8).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok()) else {
        // Cut within the header: validation says where.
        return Kind::Component;
    };
    match version {
        [1, 0, 0, 0] => core_module(bytes),
        [0x0d, 0, 1, 0] if is_wit_package(bytes) => Kind::WitPackage,
        [0x0d, 0, 1, 0] => Kind::Component,
        version => Kind::UnknownVersion { version },
    }
}

fn core_module(bytes: &[u8]) -> Kind {
    let mut module = Module { system: System::Bare, command: false, embedded_world: false };
    for payload in Parser::new(0).parse_all(bytes).map_while(Result::ok) {
        match payload {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports().map_while(Result::ok) {
                    // WASI tells more than `env`, from which anything may be imported.
                    if let Some(system) = system_of(import.module, import.name)
                        && matches!(module.system, System::Bare | System::Emscripten)
                    {
                        module.system = system;
                    }
                }
            }
            Payload::ExportSection(exports) => {
                module.command |= exports.into_iter().map_while(Result::ok).any(|export| {
                    export.name == "_start" && matches!(export.kind, wasmparser::ExternalKind::Func)
                });
            }
            Payload::CustomSection(section) => {
                module.embedded_world |= section.name().starts_with("component-type");
            }
            _ => {}
        }
    }
    Kind::CoreModule(module)
}

fn system_of(module: &str, name: &str) -> Option<System> {
    Some(match module {
        "wasi_snapshot_preview1" => System::Preview1,
        "wasi_unstable" => System::Preview0,
        "gojs" | "go" => System::GoJs,
        "wbg" | "__wbindgen_placeholder__" | "__wbindgen_externref_xform__" => System::WasmBindgen,
        "asm2wasm" => System::Emscripten,
        "env"
            if ["emscripten_", "_emscripten_", "__syscall_", "invoke_", "__cxa_"]
                .iter()
                .any(|start| name.starts_with(start)) =>
        {
            System::Emscripten
        }
        _ => return None,
    })
}

/// A WIT package is encoded as a component that exports component types and nothing else.
fn is_wit_package(bytes: &[u8]) -> bool {
    let mut exports = 0_usize;
    for payload in Parser::new(0).parse_all(bytes).map_while(Result::ok) {
        let fits = match payload {
            Payload::ComponentTypeSection(types) => {
                types.into_iter().all(|ty| matches!(ty, Ok(ComponentType::Component(_))))
            }
            Payload::ComponentExportSection(section) => {
                section.into_iter().map_while(Result::ok).all(|export| {
                    exports += 1;
                    export.kind == ComponentExternalKind::Type
                })
            }
            Payload::Version { .. } | Payload::CustomSection(_) | Payload::End(_) => true,
            _ => false,
        };
        if !fits {
            return false;
        }
    }
    exports > 0
}

fn is_text_format(bytes: &[u8]) -> bool {
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(4096)]);
    head.lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with(";;"))
        .is_some_and(|line| ["(module", "(component", "(; "].iter().any(|start| line.starts_with(start)))
}

fn looks_like(bytes: &[u8]) -> Option<&'static str> {
    const KNOWN: [(&[u8], &str); 10] = [
        (b"\x7fELF", "an ELF file: a native program, or a component already compiled ahead of time"),
        (b"MZ", "a Windows program"),
        (b"\xcf\xfa\xed\xfe", "a macOS program"),
        (b"PK\x03\x04", "a zip archive"),
        (b"\x1f\x8b", "a gzip archive"),
        (b"\x28\xb5\x2f\xfd", "a zstd archive"),
        (b"package ", "WIT text"),
        (b"<!", "an HTML page, perhaps a failed download"),
        (b"{", "JSON"),
        (b"#!", "a script"),
    ];
    KNOWN
        .iter()
        .find(|(start, _)| bytes.starts_with(start))
        .map(|(_, what)| *what)
        .or_else(|| std::str::from_utf8(bytes).is_ok_and(|text| !text.contains('\0')).then_some("text"))
}

/// Accepts a valid component and says of everything else what it is, what was expected and the mend.
///
/// # Errors
/// One diagnostic with the code `not-wasm`, `core-module`, `wit-package`, `unknown-wasm-version`,
/// `truncated-component` or `invalid-component`.
pub fn require_component(file: &str, bytes: &[u8]) -> Result<(), Diagnostic> {
    match classify(bytes) {
        Kind::Component => validate(file, bytes),
        other => Err(refuse(file, &other)),
    }
}

/// What to do with a core module: wrap it where that can be done, and build a component where it cannot.
fn mend_module(file: &str, module: &Module) -> String {
    const BUILD: &str = "Build a component: `cargo build --target wasm32-wasip2` in Rust, `tenon build` in every language Tenon builds.";
    match module {
        Module { system: System::Preview0, .. } => format!(
            "Build it again with a toolchain for WASI preview 1 or newer, which any since 2020 is. {BUILD}"
        ),
        Module { system: System::Emscripten, .. } => {
            "There is no adapter for a JavaScript host. Build it with a toolchain for WASI, `zig cc -target wasm32-wasi` for one, then: \
             `tenon componentize MODULE`."
                .to_owned()
        }
        Module { system: System::WasmBindgen, .. } => format!("There is no adapter for a JavaScript host. {BUILD}"),
        Module { system: System::GoJs, .. } => {
            "There is no adapter for a JavaScript host. Build it with `tenon build`, or with `GOOS=wasip1 GOARCH=wasm go build` and then: \
             `tenon componentize MODULE`."
                .to_owned()
        }
        Module { system: System::Preview1, command: true, .. } | Module { embedded_world: true, .. } => {
            format!("Wrap it: `tenon componentize {file}`.\n{BUILD}")
        }
        _ => format!(
            "Wrap it, and say what its exports are: `tenon componentize {file} --wit DIR --world NAME`.\n{BUILD}"
        ),
    }
}

const EXPECTED: &str = "a WebAssembly component in the binary format";

fn refuse(file: &str, kind: &Kind) -> Diagnostic {
    let refused = |code, message: &str, found: String, mend: &str| {
        Diagnostic::new(code, format!("`{file}` {message}"))
            .at(Location::file(file))
            .note("found", found)
            .note("expected", EXPECTED)
            .mend(mend)
    };
    match kind {
        Kind::CoreModule(module) => {
            let found = match (module.system, module.embedded_world) {
                (System::Preview1, _) => "a core module that imports `wasi_snapshot_preview1`",
                (System::Preview0, _) => {
                    "a core module that imports `wasi_unstable`, which preview 1 replaced in 2019"
                }
                (System::Emscripten, _) => "a core module that imports functions of Emscripten's JavaScript",
                (System::WasmBindgen, _) => {
                    "a core module that imports functions of wasm-bindgen's JavaScript"
                }
                (System::GoJs, _) => "a core module that imports functions of Go's `wasm_exec.js`",
                (System::Bare, true) => {
                    "a core module with a `component-type` section: its world is there, the wrapping is not"
                }
                (System::Bare, false) => {
                    "a core module; it has no typed imports or exports that others could be joined to"
                }
            };
            refused(
                "core-module",
                &format!("is {}, not a component", module.describe()),
                found.to_owned(),
                &mend_module(file, module),
            )
        }
        Kind::WitPackage => refused(
            "wit-package",
            "is a WIT package, not a component",
            "contracts without code, in the binary format".to_owned(),
            "Name the component that implements these contracts instead.",
        ),
        Kind::UnknownVersion { version: [low, high, layer, _] } => {
            let number = u16::from_le_bytes([*low, *high]);
            let found = match layer {
                1 => format!("a component in version {number:#x} of the format; 0xd is supported"),
                _ => format!("version {number:#x}, layer {layer}"),
            };
            refused(
                "unknown-wasm-version",
                "is WebAssembly in a version of the binary format that is not supported",
                found,
                "Build it again with a current toolchain.",
            )
        }
        Kind::Text => refused(
            "not-wasm",
            "is WebAssembly text, not a binary component",
            "the WebAssembly text format (WAT)".to_owned(),
            "Translate it: `wasm-tools parse FILE -o FILE.wasm`.",
        ),
        Kind::Empty => refused(
            "not-wasm",
            "is empty",
            "0 bytes".to_owned(),
            "Build the component again; its build was probably interrupted.",
        ),
        Kind::NotWasm { first_bytes, looks_like } => {
            let hex: Vec<_> = first_bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let found = match looks_like {
                Some(what) => format!("{what} (first bytes: {})", hex.join(" ")),
                None => format!("first bytes: {}", hex.join(" ")),
            };
            let mend = "Check the path: it has to name the `.wasm` file that the component's build wrote.";
            refused("not-wasm", "is not WebAssembly", found, mend)
        }
        Kind::Component => unreachable!("a component is validated, not refused by its kind"),
    }
}

fn validate(file: &str, bytes: &[u8]) -> Result<(), Diagnostic> {
    let Err(error) = Validator::new_with_features(FEATURES).validate_all(bytes) else {
        return Ok(());
    };
    let at = Location::file(file);
    if let Some(missing) = missing_at_end(bytes) {
        return Err(Diagnostic::new(
            "truncated-component",
            format!("`{file}` ends in the middle of a component"),
        )
        .at(at)
        .note("found", format!("{} bytes; the last section needs at least {missing} more", bytes.len()))
        .note("expected", EXPECTED)
        .mend("The file was cut short, by a full disk or an interrupted copy: copy or build it again."));
    }
    let mut diagnostic = Diagnostic::new("invalid-component", format!("`{file}` is not a valid component"))
        .at(at)
        .note("found", format!("{} (at byte {:#x})", error.message(), error.offset()))
        .note("expected", EXPECTED);
    diagnostic = match error.missing_wasm_feature() {
        Some(feature) => {
            let name =
                format!("{feature:?}").trim_start_matches("WasmFeatures(").trim_end_matches(')').to_owned();
            diagnostic.mend(format!(
                "It uses the proposal {name}, which the engine does not run: build it without."
            ))
        }
        None => diagnostic.mend(
            "The file is damaged, or the toolchain that wrote it has a fault: build it again, with a current \
             version of the toolchain.",
        ),
    };
    Err(diagnostic)
}

/// How many bytes the last section lacks, when the file ends within one.
fn missing_at_end(bytes: &[u8]) -> Option<usize> {
    let mut at = 8;
    if bytes.len() < at {
        return Some(at - bytes.len());
    }
    while at < bytes.len() {
        let mut size = 0_u64;
        let mut shift = 0_u32;
        at += 1; // the section's id
        loop {
            let Some(byte) = bytes.get(at) else { return Some(1) };
            at += 1;
            size |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
            if shift > 28 {
                return None; // not a size at all: damaged rather than cut
            }
        }
        at = at.saturating_add(usize::try_from(size).unwrap_or(usize::MAX));
    }
    // A size beyond what any toolchain writes is damage, not a cut.
    const MISSING_PLAUSIBLE_MAX: usize = 1 << 30;
    (at > bytes.len()).then(|| at - bytes.len()).filter(|missing| *missing < MISSING_PLAUSIBLE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wat(text: &str) -> Vec<u8> {
        wat::parse_str(text).unwrap()
    }

    fn code(bytes: &[u8]) -> &'static str {
        require_component("a.wasm", bytes).unwrap_err().code
    }

    #[test]
    fn tells_kinds_apart() {
        assert_eq!(classify(b""), Kind::Empty);
        assert_eq!(classify(&wat("(component)")), Kind::Component);
        let module = |text: &str| match classify(&wat(text)) {
            Kind::CoreModule(module) => (module.system, module.command),
            other => panic!("{other:?}"),
        };
        assert_eq!(module("(module)"), (System::Bare, false));
        for (import, system) in [
            ("\"wasi_snapshot_preview1\" \"proc_exit\"", System::Preview1),
            ("\"wasi_unstable\" \"proc_exit\"", System::Preview0),
            ("\"env\" \"emscripten_resize_heap\"", System::Emscripten),
            ("\"env\" \"mine\"", System::Bare),
            ("\"wbg\" \"__wbg_log\"", System::WasmBindgen),
            ("\"gojs\" \"runtime.wasmExit\"", System::GoJs),
        ] {
            assert_eq!(module(&format!("(module (import {import} (func)))")), (system, false), "{import}");
        }
        // A module of Emscripten's that stands alone imports WASI, too.
        let both = r#"(module (import "env" "emscripten_notify_memory_growth" (func)) (import "wasi_snapshot_preview1" "a" (func)) (func (export "_start")))"#;
        assert_eq!(module(both), (System::Preview1, true));
        assert_eq!(classify(b";; a comment\n(component)"), Kind::Text);
        assert!(matches!(classify(b"PK\x03\x04"), Kind::NotWasm { looks_like: Some("a zip archive"), .. }));
        assert_eq!(classify(b"\0asm\x0c\0\x01\0"), Kind::UnknownVersion { version: [0x0c, 0, 1, 0] });
    }

    #[test]
    fn a_wit_package_is_not_a_component() {
        let mut resolve = wit_parser::Resolve::default();
        let package = resolve
            .push_str("a.wit", "package demo:a; interface i { f: func(); } world w { export i; }")
            .unwrap();
        let bytes = wit_component::encode(&resolve, package, false).unwrap();
        assert_eq!(classify(&bytes), Kind::WitPackage);
        assert_eq!(code(&bytes), "wit-package");
    }

    #[test]
    fn a_core_module_is_named_and_its_mend_fits() {
        let refused = |text: &str| require_component("a.wasm", &wat(text)).unwrap_err().to_string();
        let command =
            refused(r#"(module (import "wasi_snapshot_preview1" "a" (func)) (func (export "_start")))"#);
        assert!(
            command.contains("preview 1, a command") && command.contains("tenon componentize a.wasm`"),
            "{command}"
        );
        let reactor = refused(r#"(module (import "wasi_snapshot_preview1" "a" (func)))"#);
        assert!(
            reactor.contains("a reactor") && reactor.contains("a.wasm --wit DIR --world NAME"),
            "{reactor}"
        );
        let bare = refused("(module)");
        assert!(bare.contains("without WASI") && bare.contains("--wit DIR"), "{bare}");
        let world = refused(r#"(module (@custom "component-type:w" "x"))"#);
        assert!(
            world.contains("never turned into a component") && world.contains("tenon componentize a.wasm`"),
            "{world}"
        );
        let old = refused(r#"(module (import "wasi_unstable" "a" (func)))"#);
        assert!(old.contains("preview 0") && !old.contains("tenon componentize"), "{old}");
    }

    #[test]
    fn refuses_everything_but_a_valid_component() {
        assert_eq!(require_component("a.wasm", &wat("(component)")), Ok(()));
        assert_eq!(code(b"#!/bin/sh\n"), "not-wasm");
        assert_eq!(code(b""), "not-wasm");
        assert_eq!(code(&wat("(module)")), "core-module");
        assert_eq!(code(b"\0asm"), "truncated-component");
        let whole = wat(r#"(component (core module (memory 1) (data (i32.const 0) "0123456789")))"#);
        for cut in 9..whole.len() {
            assert_eq!(code(&whole[..cut]), "truncated-component", "cut at {cut}");
        }
        let mut damaged = whole;
        damaged[8] = 0x7e;
        assert_eq!(code(&damaged), "invalid-component");
    }
}

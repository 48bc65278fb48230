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
    CoreModule {
        /// It imports `wasi_snapshot_preview1` (or its predecessor): a module for the older WASI 0.1.
        preview1: bool,
        /// It carries a `component-type` section: bindings were generated, but nobody made it a component.
        embedded_world: bool,
    },
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
    let (mut preview1, mut embedded_world) = (false, false);
    for payload in Parser::new(0).parse_all(bytes).map_while(Result::ok) {
        match payload {
            Payload::ImportSection(imports) => {
                preview1 |= imports
                    .into_imports()
                    .map_while(Result::ok)
                    .any(|import| matches!(import.module, "wasi_snapshot_preview1" | "wasi_unstable"));
            }
            Payload::CustomSection(section) => {
                embedded_world |= section.name().starts_with("component-type");
            }
            _ => {}
        }
    }
    Kind::CoreModule { preview1, embedded_world }
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
        Kind::CoreModule { preview1: true, .. } => refused(
            "core-module",
            "is a core module for WASI preview 1, not a component",
            "a core module that imports `wasi_snapshot_preview1`".to_owned(),
            "Build for a component target: `cargo build --target wasm32-wasip2` in Rust, `tenon build` in every \
             language Tenon builds.\nTo keep this module, wrap it: `wasm-tools component new MODULE --adapt \
             wasi_snapshot_preview1.reactor.wasm -o COMPONENT`.",
        ),
        Kind::CoreModule { embedded_world: true, .. } => refused(
            "core-module",
            "is a core module that was never turned into a component",
            "a core module with a `component-type` section: its world is there, the wrapping is not"
                .to_owned(),
            "Wrap it: `wasm-tools component new MODULE -o COMPONENT`, or let `tenon build` do both steps.",
        ),
        Kind::CoreModule { .. } => refused(
            "core-module",
            "is a core module, not a component",
            "a core module; it has no typed imports or exports that others could be joined to".to_owned(),
            "Build it as a component: `cargo build --target wasm32-wasip2` in Rust, `tenon build` in every \
             language Tenon builds.",
        ),
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
        assert_eq!(classify(&wat("(module)")), Kind::CoreModule { preview1: false, embedded_world: false });
        assert_eq!(
            classify(&wat(r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func (param i32))))"#)),
            Kind::CoreModule { preview1: true, embedded_world: false }
        );
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

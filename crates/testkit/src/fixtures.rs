//! Fixtures small enough to be written down: binaries that are not components, components as text.

use std::fs;
use std::path::{Path, PathBuf};

/// Bytes that are no WebAssembly at all.
pub const GARBAGE: &[u8] = b"this file is not WebAssembly\n";

/// A component's first eight bytes, followed by a section that says it is longer than the file.
pub const BROKEN_COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0\x01\xff\x01\0";

/// A core module without imports.
pub const CORE_MODULE: &str = r#"(module (func (export "handle") (result i32) (i32.const 42)))"#;

/// A core module of WASI preview 1, as compilers emitted them before components.
pub const PREVIEW1_MODULE: &str = r#"
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0)))))
"#;

/// A component that imports and exports nothing.
pub const EMPTY_COMPONENT: &str = "(component)";

/// Exports `acme:thing/stuff` with `go: func(x: u32) -> u32`.
pub const STUFF_PROVIDER: &str = r#"
(component
  (core module $m (func (export "go") (param i32) (result i32) (i32.add (local.get 0) (i32.const 1))))
  (core instance $i (instantiate $m))
  (func $go (param "x" u32) (result u32) (canon lift (core func $i "go")))
  (instance $stuff (export "go" (func $go)))
  (export "acme:thing/stuff" (instance $stuff)))
"#;

/// Exports `acme:thing/stuff` with `go: func(x: f64) -> u32`, which no consumer here can use.
pub const STUFF_PROVIDER_OF_ANOTHER_TYPE: &str = r#"
(component
  (core module $m (func (export "go") (param f64) (result i32) (i32.const 1)))
  (core instance $i (instantiate $m))
  (func $go (param "x" f64) (result u32) (canon lift (core func $i "go")))
  (instance $stuff (export "go" (func $go)))
  (export "acme:thing/stuff" (instance $stuff)))
"#;

/// Imports `acme:ring/left` and exports `acme:ring/right`; with [`RING_LEFT`] a cycle.
pub const RING_RIGHT: &str = r#"
(component
  (import "acme:ring/left" (instance $left (export "go" (func (param "x" u32) (result u32)))))
  (export "acme:ring/right" (instance $left)))
"#;

/// Imports `acme:ring/right` and exports `acme:ring/left`; with [`RING_RIGHT`] a cycle.
pub const RING_LEFT: &str = r#"
(component
  (import "acme:ring/right" (instance $right (export "go" (func (param "x" u32) (result u32)))))
  (export "acme:ring/left" (instance $right)))
"#;

/// A plain handler that imports `acme:thing/stuff` (`go: func(x: u32) -> u32`) and answers with what it gives.
///
/// Its records are types of the world, which a component imports: that is how WIT is encoded.
///
/// Where nobody supplies the import it must be refused; with [`STUFF_PROVIDER`] it answers `B` (`A` and one).
pub const STUFF_CONSUMER: &str = r#"
(component
  (import "acme:thing/stuff" (instance $stuff (export "go" (func (param "x" u32) (result u32)))))
  (type $request' (record
    (field "method" string)
    (field "path" string)
    (field "headers" (list (tuple string string)))
    (field "body" (option (list u8)))))
  (import "request" (type $request (eq $request')))
  (type $response' (record
    (field "status" u16)
    (field "headers" (list (tuple string string)))
    (field "body" (list u8))))
  (import "response" (type $response (eq $response')))

  (core func $go (canon lower (func $stuff "go")))
  (core module $m
    (import "acme" "go" (func $go (param i32) (result i32)))
    (memory (export "memory") 1)
    (global $free (mut i32) (i32.const 4096))
    ;; Allocates upwards and never frees: an instance answers one request.
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
      (global.set $free (i32.add (local.get $at) (local.get 3)))
      (local.get $at))
    ;; The flattened request comes in, the address of a response goes out.
    (func (export "handle") (param i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
      (i32.store16 (i32.const 512) (i32.const 200))
      (i32.store (i32.const 516) (i32.const 0))
      (i32.store (i32.const 520) (i32.const 0))
      (i32.store (i32.const 524) (i32.const 1024))
      (i32.store (i32.const 528) (i32.const 1))
      (i32.store8 (i32.const 1024) (call $go (i32.const 65)))
      (i32.const 512)))
  (core instance $imports (export "go" (func $go)))
  (core instance $i (instantiate $m (with "acme" (instance $imports))))
  (func $handle (param "req" $request) (result $response)
    (canon lift (core func $i "handle") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
  (export "handle" (func $handle)))
"#;

/// A plain handler that grows its table by a thousand elements and fails if it may not.
pub const TABLE_GROWER: &str = r#"
(component
  (type $request' (record
    (field "method" string)
    (field "path" string)
    (field "body" (option (list u8)))))
  (import "request" (type $request (eq $request')))
  (type $response' (record (field "status" u16) (field "body" (list u8))))
  (import "response" (type $response (eq $response')))
  (core module $m
    (memory (export "memory") 1)
    (table $table 1 funcref)
    (global $free (mut i32) (i32.const 4096))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
      (global.set $free (i32.add (local.get $at) (local.get 3)))
      (local.get $at))
    (func $grow_table (export "handle") (param i32 i32 i32 i32 i32 i32 i32) (result i32)
      (if (i32.eq (table.grow $table (ref.null func) (i32.const 1000)) (i32.const -1)) (then unreachable))
      (i32.store16 (i32.const 512) (i32.const 200))
      (i32.store (i32.const 516) (i32.const 1024))
      (i32.store (i32.const 520) (i32.const 0))
      (i32.const 512)))
  (core instance $i (instantiate $m))
  (func $handle (param "req" $request) (result $response)
    (canon lift (core func $i "handle") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
  (export "handle" (func $handle)))
"#;

/// Exports `acme:thing/stuff` with `go: func(x: u32) -> u32`, which traps.
pub const STUFF_TRAP: &str = r#"
(component
  ;; It calls itself, so that the engine cannot put all of it into its caller.
  (core module $m
    (func $boom (export "go") (param i32) (result i32)
      (if (result i32) (local.get 0)
        (then (call $boom (i32.sub (local.get 0) (i32.const 1))))
        (else unreachable))))
  (core instance $i (instantiate $m))
  (func $go (param "x" u32) (result u32) (canon lift (core func $i "go")))
  (instance $stuff (export "go" (func $go)))
  (export "acme:thing/stuff" (instance $stuff)))
"#;

/// The core module of a plain handler for WASI preview 1: it writes `adapted` to standard error and answers `ok`.
///
/// Its world is [`PREVIEW1_HANDLER_WIT`].
pub const PREVIEW1_HANDLER: &str = r#"
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 8)
  (data (i32.const 1024) "ok\n")
  (data (i32.const 1040) "adapted\n")
  (global $free (mut i32) (i32.const 4096))
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
    (global.set $free (i32.add (local.get $at) (local.get 3)))
    (local.get $at))
  (func (export "handle") (param i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
    (i32.store (i32.const 256) (i32.const 1040))
    (i32.store (i32.const 260) (i32.const 8))
    (drop (call $fd_write (i32.const 2) (i32.const 256) (i32.const 1) (i32.const 264)))
    (i32.store16 (i32.const 512) (i32.const 200))
    (i32.store (i32.const 516) (i32.const 0))
    (i32.store (i32.const 520) (i32.const 0))
    (i32.store (i32.const 524) (i32.const 1024))
    (i32.store (i32.const 528) (i32.const 3))
    (i32.const 512)))
"#;

/// The world of [`PREVIEW1_HANDLER`].
pub const PREVIEW1_HANDLER_WIT: &str = "
package acme:old;
world handler {
  record request { method: string, path: string, headers: list<tuple<string, string>>, body: option<list<u8>> }
  record response { status: u16, headers: list<tuple<string, string>>, body: list<u8> }
  export handle: func(req: request) -> response;
}
";

/// A component or core module without its debug information and the names of its functions, as a tool that strips would
/// write it.
///
/// # Panics
/// When the bytes are not WebAssembly.
pub fn stripped(bytes: &[u8]) -> Vec<u8> {
    const CUSTOM: u8 = 0;
    // Sections of a component that hold a whole module or component ("Component Definitions", `Binary.md`).
    const NESTED: [u8; 2] = [1, 4];
    let (header, mut rest) = bytes.split_at(8);
    let is_component = header[6] == 1;
    let mut output = header.to_vec();
    while let Some((&id, tail)) = rest.split_first() {
        let (length, content_at) = leb128(tail);
        let (content, tail) = tail[content_at..].split_at(length);
        rest = tail;
        let inner;
        let content = match id {
            CUSTOM => {
                let (length, name_at) = leb128(content);
                let name = &content[name_at..name_at + length];
                if name.starts_with(b".debug_") || name == b"name" {
                    continue;
                }
                content
            }
            id if is_component && NESTED.contains(&id) => {
                inner = stripped(content);
                &inner
            }
            _ => content,
        };
        output.push(id);
        let mut length = content.len();
        while length >= 0x80 {
            output.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        output.push(length as u8);
        output.extend_from_slice(content);
    }
    output
}

/// An unsigned LEB128 number, and how many bytes it took.
fn leb128(bytes: &[u8]) -> (usize, usize) {
    let (mut value, mut at) = (0, 0);
    loop {
        let byte = bytes[at];
        value |= usize::from(byte & 0x7f) << (7 * at);
        at += 1;
        if byte & 0x80 == 0 {
            return (value, at);
        }
    }
}

/// The binary of a text fixture.
///
/// # Panics
/// When the text is not WebAssembly.
pub fn binary(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("a fixture does not parse: {error}"))
}

/// Writes the binary of a text fixture to `folder/name`.
///
/// # Panics
/// When the text is not WebAssembly or the file cannot be written.
pub fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    write_bytes(folder, name, &binary(text))
}

/// Writes `bytes` to `folder/name`.
///
/// # Panics
/// When the file cannot be written.
pub fn write_bytes(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, bytes).unwrap_or_else(|error| panic!("{} cannot be written: {error}", path.display()));
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmparser::{Parser, Validator, WasmFeatures};

    #[test]
    fn every_text_is_valid_and_what_it_says() {
        let is_component = |text| {
            let bytes = binary(text);
            Validator::new_with_features(WasmFeatures::default()).validate_all(&bytes).unwrap();
            Parser::is_component(&bytes)
        };
        for module in [CORE_MODULE, PREVIEW1_MODULE, PREVIEW1_HANDLER] {
            assert!(!is_component(module));
        }
        for component in [
            EMPTY_COMPONENT,
            STUFF_PROVIDER,
            STUFF_PROVIDER_OF_ANOTHER_TYPE,
            STUFF_CONSUMER,
            STUFF_TRAP,
            RING_LEFT,
            RING_RIGHT,
        ] {
            assert!(is_component(component));
        }
    }

    #[test]
    fn what_is_stripped_is_smaller_and_still_valid() {
        let bytes = binary(STUFF_TRAP);
        let stripped = stripped(&bytes);
        assert!(stripped.len() < bytes.len());
        Validator::new_with_features(WasmFeatures::default()).validate_all(&stripped).unwrap();
        assert!(!stripped.windows(4).any(|window| window == b"boom"));
    }

    #[test]
    fn what_is_broken_is_not_valid() {
        for bytes in [GARBAGE, BROKEN_COMPONENT] {
            assert!(Validator::new_with_features(WasmFeatures::all()).validate_all(bytes).is_err());
        }
    }
}

//! What a component says it was made with.

use wasm_metadata::Producers;

/// The component `bytes` with the language its author wrote it in, where it does not say so: a component that carries
/// a language's runtime else names only what that was compiled from. What cannot be read stays as it is.
pub fn with_language(bytes: &[u8], language: &str) -> Vec<u8> {
    let mut producers = Producers::empty();
    producers.add("language", language, "");
    producers.add_to_wasm(bytes).unwrap_or_else(|_| bytes.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect;

    #[test]
    fn the_authors_language_is_not_that_of_the_runtime() {
        let runtime = Producers::from_bytes(
            &[1, 8, b'l', b'a', b'n', b'g', b'u', b'a', b'g', b'e', 1, 4, b'R', b'u', b's', b't', 0],
            0,
        );
        let module = runtime.unwrap().add_to_wasm(&wat::parse_str("(module)").unwrap()).unwrap();
        let mut component = wasm_encoder::Component::new();
        component.section(&wasm_encoder::RawSection { id: 1, data: &module });
        let component = component.finish();
        assert!(inspect("a.wasm", &component).unwrap().component.languages.is_empty());
        let told = with_language(&component, "TypeScript");
        let inspection = inspect("a.wasm", &told).unwrap();
        assert_eq!(inspection.component.languages, ["TypeScript"]);
        assert!(inspection.producers.iter().any(|it| it.name == "Rust"), "the runtime's is there too");
        assert_eq!(with_language(&told, "TypeScript"), told);
    }
}

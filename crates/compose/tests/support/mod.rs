//! Components for tests, made from text.

use std::fs;
use std::path::Path;

use tenon_compose::{Input, Manifest};
use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::{LiftLowerAbi, ManglingAndAbi, Resolve};

/// A component's name in the manifest, its file, its bytes, and the text it was made from where that is WIT.
pub(crate) type Owned = (String, String, Vec<u8>, Vec<(String, String)>);

/// The files that `manifest` names, made from what is in the folder `case`; what is not there is left out.
pub(crate) fn inputs(case: &Path, manifest: &Manifest) -> Vec<Owned> {
    manifest
        .components
        .iter()
        .filter_map(|component| {
            let stem = case.join(component.path.strip_suffix(".wasm").unwrap());
            let text = |extension: &str| fs::read_to_string(stem.with_extension(extension)).ok();
            let bytes = text("wat")
                .map(|text| wat::parse_str(text).unwrap())
                .or_else(|| text("wit").map(|text| from_wit(&text)))
                .or_else(|| {
                    text("cut.wit").map(|text| from_wit(&text)).map(|whole| whole[..whole.len() / 2].to_vec())
                })
                .or_else(|| fs::read(stem.with_extension("raw")).ok())?;
            let file = component.path.replace(".wasm", ".wit");
            let wit = text("wit").filter(|_| case.join("show-sources").exists()).map(|text| (file, text));
            Some((component.name.clone(), component.path.clone(), bytes, wit.into_iter().collect()))
        })
        .collect()
}

/// The same, as `compose` takes them.
pub(crate) fn borrowed(inputs: &[Owned]) -> Vec<Input<'_>> {
    inputs.iter().map(|(component, file, bytes, wit)| Input { component, file, bytes, wit }).collect()
}

/// A component that has the imports and exports of the world in `text` and does nothing.
pub(crate) fn from_wit(text: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("world.wit", text).unwrap();
    let world = resolve.select_world(&[package], None).unwrap();
    let mut module = dummy_module(&resolve, world, ManglingAndAbi::Legacy(LiftLowerAbi::Sync));
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).unwrap();
    ComponentEncoder::default().module(&module).unwrap().validate(true).encode().unwrap()
}

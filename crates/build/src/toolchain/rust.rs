//! Rust: `cargo build` for `wasm32-wasip2`, which links a component at once.

use std::path::{Path, PathBuf};

use tenon_model::{Diagnostic, Location};

use wit_bindgen_core::WorldGenerator as _;

use crate::drift::locked;
use crate::error::BuildError;
use crate::process::Program;
use crate::skeleton::Plan;
use crate::toolbox::RUST_TARGET;
use crate::toolchain::{Product, Site, Toolchain};

pub(super) struct Rust;

impl Toolchain for Rust {
    fn generates(&self) -> fn(&Path) -> bool {
        |_| false
    }

    fn writes_once(&self) -> Option<&'static str> {
        Some("Cargo.lock")
    }

    fn recipe(&self) -> String {
        format!("rust 1 {RUST_TARGET} release")
    }

    fn skeleton(&self, plan: &Plan<'_>) -> Result<Vec<(String, String)>, Diagnostic> {
        let bindings = bindings(plan.wit, &plan.contract.qualified_world(), true)?;
        let mut text = format!(
            "wit_bindgen::generate!({{ path: \"wit\", world: {:?}, generate_all }});\n\nstruct Component;\n",
            plan.contract.qualified_world()
        );
        for item in stubs(&bindings) {
            text.push('\n');
            text.push_str(&item);
        }
        text.push_str("\nexport!(Component);\n");
        Ok(vec![("src/lib.rs".to_owned(), text)])
    }

    fn bindings(&self, site: &Site<'_>) -> Result<Vec<(String, Vec<u8>)>, BuildError> {
        let text = bindings(site.wit, &site.contract.qualified_world(), false)?;
        Ok(vec![(format!("{}.rs", site.contract.world_name().replace('-', "_")), text.into_bytes())])
    }

    fn build(&self, site: &Site<'_>) -> Result<Product, BuildError> {
        let cargo = site.host.find("cargo").unwrap_or_else(|| "cargo".into());
        site.progress.step(site.component, "cargo build --release");
        let messages = Program::new(cargo, site.source, site.host, leaks)
            .args(["build", "--release", "--lib", "--target", RUST_TARGET, "--color=never"])
            .arg("--message-format=json-render-diagnostics")
            // One for all Rust components of the project, so that what they share is compiled once.
            .arg("--target-dir")
            .arg(site.work.join("cargo"))
            .stdout_is_data()
            .run(site.component, site.progress)
            .map_err(site.compile_error(None))?;
        let artifact = artifact(&messages, site.source).ok_or_else(|| {
            Diagnostic::new("no-component", format!("`{}` compiles, but to no component", site.component))
                .at(Location::file(site.source.join("Cargo.toml").display().to_string()))
                .mend("add this to Cargo.toml:\n[lib]\ncrate-type = [\"cdylib\"]")
        })?;
        let bytes = std::fs::read(&artifact).map_err(BuildError::io("read", &artifact))?;
        let also = std::fs::read_to_string(artifact.with_extension("d"))
            .map(|text| dependencies(&text))
            .unwrap_or_default()
            .into_iter()
            .filter(|path| !path.starts_with(site.source) && !path.starts_with(site.wit))
            .collect();
        // The standard library has bindings of its own, and theirs is the release that the linker keeps.
        let lock = std::fs::read_to_string(site.source.join("Cargo.lock")).unwrap_or_default();
        let bindings = locked(&lock, "wit-bindgen").into_iter().next_back();
        let tools = bindings.map(|version| ("wit-bindgen-rust", version.to_string())).into_iter().collect();
        Ok(Product { bytes, also, tools })
    }
}

/// What `wit_bindgen::generate!` makes of a world; with `stubs`, an implementation without bodies too.
pub(crate) fn bindings(wit: &Path, world: &str, stubs: bool) -> Result<String, Diagnostic> {
    let failed = |error: String| {
        Diagnostic::new("rust-bindings", "no Rust bindings can be made for the contracts")
            .at(Location::file(wit.display().to_string()))
            .note("found", error)
    };
    // The contracts were read before, by another release of the same parser.
    let mut resolve = wit_bindgen_core::wit_parser::Resolve::default();
    let (package, _) = resolve.push_path(wit).map_err(|error| failed(format!("{error:#}")))?;
    let id = resolve.select_world(&[package], Some(world)).map_err(|error| failed(format!("{error:#}")))?;
    let mut files = wit_bindgen_core::Files::default();
    let options = wit_bindgen_rust::Opts { stubs, format: true, generate_all: true, ..Default::default() };
    options.build().generate(&mut resolve, id, &mut files).map_err(|error| failed(format!("{error:#}")))?;
    let text = files.iter().map(|(_, text)| String::from_utf8_lossy(text).into_owned()).next();
    text.ok_or_else(|| failed("nothing was generated".to_owned()))
}

/// The implementations among generated code, as a person would begin them.
fn stubs(bindings: &str) -> Vec<String> {
    let mut stubs = Vec::new();
    let mut lines = bindings.lines();
    while let Some(line) = lines.next() {
        if !(line.starts_with("impl ") && line.ends_with(" for Stub {")) {
            continue;
        }
        let body = lines.by_ref().take_while(|line| *line != "}");
        let body = body.filter(|line| line.trim() != "#[allow(unused_variables)]");
        let text = body.fold(line.to_owned() + "\n", |text, line| text + line + "\n") + "}\n";
        stubs.push(
            text.replace(" for Stub {", " for Component {")
                .replace("= Stub;", "= Component;")
                .replace("unreachable!()", "todo!()")
                .replace("_rt::", "")
                .replace("wit_bindgen::rt::", "wit_bindgen::"),
        );
    }
    stubs
}

/// Variables that change what Cargo does and were meant for another build: ours, when Tenon was itself started by
/// `cargo run`, or the host's. How Cargo reaches its registries is left.
fn leaks(name: &str) -> bool {
    const KEPT: [&str; 6] =
        ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTRIES_", "CARGO_REGISTRY_", "CARGO_SOURCE_"];
    matches!(name, "RUSTFLAGS" | "RUSTDOCFLAGS" | "RUSTC" | "RUSTC_WRAPPER" | "RUSTC_WORKSPACE_WRAPPER")
        || name == "CARGO"
        || (name.starts_with("CARGO_") && !KEPT.iter().any(|kept| name.starts_with(kept)))
}

/// The component that the crate in `source` was linked to, from Cargo's JSON messages ("External tools" in the
/// Cargo book). Dependencies may be `cdylib`s too.
fn artifact(messages: &str, source: &Path) -> Option<PathBuf> {
    let manifest = source.join("Cargo.toml");
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["reason"] == "compiler-artifact")
        .filter(|message| message["manifest_path"].as_str().is_some_and(|path| Path::new(path) == manifest))
        .filter_map(|message| {
            let files = message["filenames"].as_array()?;
            files
                .iter()
                .filter_map(|file| file.as_str())
                .map(PathBuf::from)
                .find(|file| file.extension().is_some_and(|extension| extension == "wasm"))
        })
        .next_back()
}

/// The files on the right of the first rule in a dep-info file; blanks in names are escaped.
fn dependencies(text: &str) -> Vec<PathBuf> {
    let Some((_, files)) = text.lines().next().and_then(|rule| rule.split_once(": ")) else {
        return Vec::new();
    };
    files.replace("\\ ", "\0").split_whitespace().map(|file| PathBuf::from(file.replace('\0', " "))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_artifact_is_the_one_of_this_crate() {
        let messages = r#"{"reason":"compiler-artifact","manifest_path":"/a/dep/Cargo.toml","filenames":["/t/dep.wasm"]}
{"reason":"compiler-artifact","manifest_path":"/a/Cargo.toml","filenames":["/t/libx.rlib","/t/x.wasm"]}
{"reason":"build-finished","success":true}"#;
        assert_eq!(artifact(messages, Path::new("/a")), Some("/t/x.wasm".into()));
        assert_eq!(artifact(messages, Path::new("/b")), None);
        assert_eq!(artifact("not json", Path::new("/a")), None);
    }

    #[test]
    fn dep_info_is_read() {
        assert_eq!(
            dependencies("/t/x.wasm: /a/src/lib.rs /a/my\\ key\n\n/a/src/lib.rs:\n"),
            [PathBuf::from("/a/src/lib.rs"), PathBuf::from("/a/my key")]
        );
    }

    #[test]
    fn settings_of_the_outer_build_do_not_leak() {
        for name in [
            "RUSTFLAGS",
            "CARGO_TARGET_DIR",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_BUILD_TARGET",
            "CARGO_PKG_NAME",
        ] {
            assert!(leaks(name), "{name}");
        }
        for name in
            ["PATH", "HOME", "CARGO_HOME", "CARGO_HTTP_CAINFO", "CARGO_NET_OFFLINE", "RUSTUP_TOOLCHAIN"]
        {
            assert!(!leaks(name), "{name}");
        }
    }
}

//! The fixture guests, compiled from `crates/testkit/guests` once and kept beside the other build products.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::repository;

/// The fixture components that are written in Rust. What fits in a few lines of text is in
/// [`fixtures`](crate::fixtures).
#[derive(Debug)]
pub struct Guests;

/// One `cargo build`, and the folder it needs to itself: guests of WASI 0.2 and 0.3 link different releases of
/// the same bindings runtime.
///
/// The third has line tables, and the last is what people have while they write code; their names say so: what is in these
/// two is there more than once.
const BUILDS: [(&str, &[&str], &str); 4] = [
    (
        "p2",
        &[
            "--workspace",
            "--exclude",
            "acts-p3",
            "--exclude",
            "conforming-p3",
            "--exclude",
            "fetching-p3",
            "--exclude",
            "part-back-p3",
            "--exclude",
            "part-front-p3",
            "--exclude",
            "reach-back-p3",
            "--exclude",
            "reach-front-p3",
            "--exclude",
            "reaching-p3",
            "--exclude",
            "relaying-p3",
            "--exclude",
            "service-p3",
            "--exclude",
            "typed-async",
        ],
        "",
    ),
    (
        "p3",
        &[
            "-p",
            "conforming-p3",
            "-p",
            "part-back-p3",
            "-p",
            "part-front-p3",
            "-p",
            "reach-back-p3",
            "-p",
            "reach-front-p3",
            "-p",
            "reaching-p3",
            "-p",
            "relaying-p3",
            "-p",
            "service-p3",
            "-p",
            "typed-async",
        ],
        "",
    ),
    (
        "lines",
        &[
            "-p",
            "plain-chaos",
            "-p",
            "chaos-http",
            "-p",
            "part-back",
            "-p",
            "part-front",
            "--config",
            "profile.release.strip=\"none\"",
            "--config",
            "profile.release.debug=\"line-tables-only\"",
        ],
        "-with-lines",
    ),
    (
        "debug",
        &[
            "-p",
            "part-back",
            "-p",
            "part-front",
            "--config",
            "profile.release.strip=\"none\"",
            "--config",
            "profile.release.debug=\"full\"",
            "--config",
            "profile.release.opt-level=0",
            "--config",
            "profile.release.debug-assertions=true",
            "--config",
            "profile.release.lto=false",
            "--config",
            "profile.release.codegen-units=16",
        ],
        "-for-debugging",
    ),
];

const TARGET: &str = "wasm32-wasip2";

impl Guests {
    /// The component built from the guest `name`, a folder of `crates/testkit/guests`.
    ///
    /// The first call of a test run builds all guests, in whichever process it happens; the others wait for it,
    /// and find nothing to do.
    ///
    /// # Panics
    /// When the guests do not compile, or none is called `name`.
    pub fn get(name: &str) -> PathBuf {
        static FOLDER: OnceLock<PathBuf> = OnceLock::new();
        let path = FOLDER.get_or_init(build).join(format!("{name}.wasm"));
        assert!(path.is_file(), "there is no fixture guest called `{name}`");
        path
    }
}

/// Builds what is not built and gives back the folder of the components.
fn build() -> PathBuf {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("guests");
    let products = repository().join("target").join("testkit-guests");
    let components = products.join("components");
    let stamp = components.join("sources");
    fs::create_dir_all(&components).expect("the folder of the guests is created");

    // Held until this function returns: other test processes wait here.
    let lock = File::create(products.join("lock")).expect("the lock file is created");
    lock.lock().expect("the lock is taken");

    let state = state(&sources);
    if fs::read_to_string(&stamp).is_ok_and(|built| built == state) {
        return components;
    }
    for (folder, packages, suffix) in BUILDS {
        let folder = products.join(folder);
        run_cargo(&sources, &folder, packages);
        let built = folder.join(TARGET).join("release");
        for entry in
            fs::read_dir(&built).expect("cargo made the folder").map(|entry| entry.expect("a listing"))
        {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "wasm") {
                let name = path.file_stem().unwrap_or_default().to_string_lossy().replace('_', "-");
                let component = components.join(format!("{name}{suffix}.wasm"));
                fs::copy(&path, component).expect("the component is copied");
            }
        }
    }
    fs::write(&stamp, state).expect("the stamp is written");
    components
}

fn run_cargo(sources: &Path, target_folder: &Path, packages: &[&str]) {
    let output = Command::new(env!("CARGO"))
        .args(["build", "--release", "--locked", "--target", TARGET])
        .args(packages)
        .current_dir(sources)
        .env("CARGO_TARGET_DIR", target_folder)
        // Settings meant for the product's own build; a guest is built for another machine.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .output()
        .expect("cargo can be started");
    assert!(
        output.status.success(),
        "the fixture guests do not compile (`rustup target add {TARGET}` if the target is missing):\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A text that changes when any source of the guests does.
fn state(sources: &Path) -> String {
    let mut files = Vec::new();
    collect(sources, &mut files);
    let interfaces = repository().join("crates/engine/wit");
    collect(&interfaces, &mut files);
    files.sort();
    let mut hasher = DefaultHasher::new();
    env!("CARGO").hash(&mut hasher);
    BUILDS.hash(&mut hasher);
    for file in files {
        file.strip_prefix(repository()).expect("below the folder").hash(&mut hasher);
        fs::read(&file).expect("a source is readable").hash(&mut hasher);
    }
    format!("{:016x}\n", hasher.finish())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the guests are there").map(|entry| entry.expect("a listing")) {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if entry.file_name() != "target" {
                collect(&path, files);
            }
        } else {
            files.push(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmparser::{Parser, Payload};

    #[test]
    fn every_guest_is_a_component_that_imports_and_exports_what_it_is_named_for() {
        for (name, import, export) in [
            ("archive", "wasi:blobstore/container@0.2.0-draft", "wasi:http/incoming-handler@0.2."),
            (
                "clerk",
                "wasi:messaging/request-reply@0.2.0-draft",
                "wasi:messaging/incoming-handler@0.2.0-draft",
            ),
            ("conforming", "wasi:sockets/tcp@0.2.", "wasi:http/incoming-handler@0.2."),
            ("conforming-p3", "wasi:sockets/types@0.3.", "wasi:http/handler@0.3."),
            ("courier", "wasi:messaging/producer@0.2.0-draft", "wasi:http/incoming-handler@0.2."),
            ("drafted", "wasi:keyvalue/atomics@0.2.0-draft", "wasi:http/incoming-handler@0.2."),
            ("keeper", "wasi:keyvalue/atomics@0.2.0-draft2", "wasi:http/incoming-handler@0.2."),
            ("part-back", "wasi:config/store@0.2.0-", "fixture:parts/neighbour"),
            ("part-front", "fixture:parts/neighbour", "wasi:http/incoming-handler@0.2."),
            ("part-back-p3", "wasi:sockets/types@0.3.", "fixture:parts-async/neighbour"),
            ("part-front-p3", "fixture:parts-async/neighbour", "wasi:http/handler@0.3."),
            ("chaos-http", "wasi:http/types@0.2.", "wasi:http/incoming-handler@0.2."),
            ("not-a-handler", "", "fixture:adder/arithmetic"),
            ("plain-chaos", "", "fixture:chaos/handler"),
            ("plain-echo", "", "fixture:echo/handler"),
            ("plain-iface", "", "acme:web/api@1.2.0"),
            ("plain-no-headers", "", "fixture:bare/http"),
            ("plain-root", "", "handle"),
            ("reach-back", "wasi:http/outgoing-handler@0.2.", "fixture:reach/fetcher"),
            ("reach-front", "fixture:reach/fetcher", "wasi:http/incoming-handler@0.2."),
            ("reach-back-p3", "wasi:http/client@0.3.", "fixture:reach-async/fetcher"),
            ("reach-front-p3", "fixture:reach-async/fetcher", "wasi:http/handler@0.3."),
            ("reaching", "wasi:sockets/udp@0.2.", "wasi:http/incoming-handler@0.2."),
            ("reaching-p3", "wasi:http/client@0.3.", "wasi:http/handler@0.3."),
            ("relaying-p3", "wasi:http/handler@0.3.", "wasi:http/handler@0.3."),
            ("secretive", "wasi:keyvalue/store@0.2.0-draft2", "wasi:http/incoming-handler@0.2."),
            ("service-p3", "wasi:http/types@0.3.", "wasi:http/handler@0.3."),
            ("typed", "", "fixture:typed/echo@1.2.0"),
            ("typed-async", "", "fixture:streams/api"),
            ("wants-outgoing", "wasi:http/outgoing-handler@0.2.", "wasi:http/incoming-handler@0.2."),
            ("wants-sockets", "wasi:sockets/tcp@0.2.", "wasi:http/incoming-handler@0.2."),
        ] {
            let (imports, exports) = names(&fs::read(Guests::get(name)).unwrap());
            assert!(
                import.is_empty() || imports.iter().any(|found| found.starts_with(import)),
                "{name}: {imports:?}"
            );
            assert!(exports.iter().any(|found| found.starts_with(export)), "{name}: {exports:?}");
        }
    }

    /// What a component itself imports and exports, not what is nested in it does.
    fn names(bytes: &[u8]) -> (Vec<String>, Vec<String>) {
        let (mut imports, mut exports, mut depth) = (Vec::new(), Vec::new(), 0);
        for payload in Parser::new(0).parse_all(bytes) {
            match payload.unwrap() {
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth -= 1,
                Payload::ComponentImportSection(section) if depth == 0 => {
                    imports.extend(section.into_iter().map(|import| import.unwrap().name.name.to_owned()));
                }
                Payload::ComponentExportSection(section) if depth == 0 => {
                    exports.extend(section.into_iter().map(|export| export.unwrap().name.name.to_owned()));
                }
                _ => {}
            }
        }
        (imports, exports)
    }

    #[test]
    fn a_second_build_has_nothing_to_do() {
        let components = build();
        let modified = |name: &str| fs::metadata(components.join(name)).unwrap().modified().unwrap();
        let before = modified("chaos-http.wasm");
        assert_eq!(build(), components);
        assert_eq!(modified("chaos-http.wasm"), before);
    }
}

//! The reference services, from outside: each built from a copy of its source with the real toolchains, and composed.
//!
//! Needs the guest toolchains in the project's tool folder, where `cargo xtask` puts them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tenon_testkit::{Tenon, repository};

/// How long a build from nothing may take on a machine that is busy with others.
const BUILD_DEADLINE: Duration = Duration::from_secs(1200);

/// What a build leaves among the sources.
const PRODUCTS: [&str; 4] = [".tenon", "target", "node_modules", "internal"];

/// One build at a time: each uses all of the machine.
static BUILDING: Mutex<()> = Mutex::new(());

/// A built copy of an example, and the `tenon` that built it.
struct Example {
    tenon: Tenon,
    folder: PathBuf,
    manifest: &'static str,
}

impl Example {
    /// Copies the sources of `name` to the folder of test products and builds them there. The folder outlives the test,
    /// so that the next run builds what has changed since; the first one builds everything.
    fn build(name: &str, manifest: &'static str) -> Self {
        let _alone = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
        let tenon = Tenon::new(env!("CARGO_BIN_EXE_tenon"));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("examples").join(name);
        mirror(&repository().join("examples").join(name), &folder);
        share_cargo_target(&folder.join(".tenon"));
        let args = ["build".as_ref(), folder.as_os_str()];
        tenon.run_for(BUILD_DEADLINE, tenon.data(), args).expect_code(0);
        Self { tenon, folder, manifest }
    }

    /// The composed file.
    fn compose(&self) -> PathBuf {
        let out = self.tenon.data().join("composed.wasm");
        let args =
            ["compose".as_ref(), "--config".as_ref(), self.manifest.as_ref(), "-o".as_ref(), out.as_os_str()];
        self.tenon.run(&self.folder, args).expect_code(0);
        out
    }

    /// What `tenon inspect` says about `file`.
    fn inspect(&self, file: &Path) -> Value {
        let args = ["inspect".as_ref(), file.as_os_str(), "--json".as_ref()];
        self.tenon.run(&self.folder, args).expect_code(0).json()
    }
}

/// Lets all examples compile into one folder: the bindings generator is most of the work, and the same for each.
fn share_cargo_target(products: &Path) {
    let shared = Path::new(env!("CARGO_TARGET_TMPDIR")).join("examples-cargo");
    let link = products.join("cargo");
    if !link.exists() {
        fs::create_dir_all(&shared).unwrap();
        fs::create_dir_all(products).unwrap();
        std::os::unix::fs::symlink(shared, link).unwrap();
    }
}

/// Makes `to` hold the sources that `from` holds, and no other; what was built in it stays.
fn mirror(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    let names = |folder: &Path| -> BTreeSet<_> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        entries.filter(|name| !PRODUCTS.iter().any(|product| name == *product)).collect()
    };
    let sources = names(from);
    for gone in names(to).difference(&sources) {
        let path = to.join(gone);
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
    }
    for name in sources {
        let (source, copy) = (from.join(&name), to.join(&name));
        if source.is_dir() {
            mirror(&source, &copy);
        } else if fs::read(&copy).ok() != Some(fs::read(&source).unwrap()) {
            fs::copy(source, copy).unwrap();
        }
    }
}

/// The names under `key` of what `inspect` says, without the versions of WASI interfaces.
#[track_caller]
fn names(of: &Value, key: &str) -> Vec<String> {
    let list = of[key].as_array().unwrap_or_else(|| panic!("no `{key}` in {of:#}"));
    let mut names: Vec<_> = list.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

/// What Rust's and Go's own libraries bring along, which reaches nothing.
fn is_inert(import: &str) -> bool {
    ["wasi:cli/", "wasi:clocks/", "wasi:io/", "wasi:random/"]
        .iter()
        .any(|package| import.starts_with(package))
}

#[test]
fn the_image_processor_reaches_nothing_and_exports_resize() {
    let example = Example::build("image-processor", "tenon.toml");
    let shown = example.inspect(&example.compose());
    assert_eq!(names(&shown, "exports"), ["demo:image-processor/processor@1.0.0"]);
    assert_eq!(
        shown["exports"][0]["functions"],
        json!(["resize: func(input: list<u8>, opts: resize-options) -> result<list<u8>, string>"])
    );
    let imports = names(&shown, "imports");
    assert!(imports.iter().all(|import| is_inert(import)), "{imports:?}");
}

#[test]
fn payments_see_a_clock_and_random_numbers_and_nothing_else() {
    let example = Example::build("payments", "tenon.toml");
    let shown = example.inspect(&example.compose());
    assert_eq!(names(&shown, "imports"), ["wasi:clocks/wall-clock@0.2.6", "wasi:random/random@0.2.6"]);
    assert_eq!(
        shown["exports"][0]["functions"],
        json!(["process-payment: func(amount: f64, currency: string) -> result<string, string>"])
    );
}

#[test]
fn the_metrics_app_gets_both_imports_from_components() {
    let example = Example::build("metrics-app", "composition.toml");
    let composed = example.compose();
    let shown = example.inspect(&composed);
    assert_eq!(names(&shown, "components"), ["app", "console", "math"]);
    assert_eq!(shown["exports"][0]["functions"], json!(["process-data: func(input: list<u8>) -> string"]));
    let imports = names(&shown, "imports");
    assert!(imports.iter().all(|import| is_inert(import)), "nothing of its own is left open: {imports:?}");

    let again = fs::read(example.compose()).unwrap();
    assert!(fs::read(&composed).unwrap() == again, "composing is reproducible");
}

#[test]
fn the_metrics_app_alone_leaves_its_imports_to_the_host() {
    let example = Example::build("metrics-app", "composition.toml");
    let shown = example.inspect(&example.folder.join(".tenon/app.wasm"));
    let mut imports = names(&shown, "imports");
    imports.retain(|import| !is_inert(import));
    assert_eq!(imports, ["demo:metrics/logging@1.0.0", "demo:metrics/math-ops@1.0.0"]);
}

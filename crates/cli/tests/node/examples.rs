//! The project's examples, built from copies of their sources. The copies are kept from one run to the next: what has not
//! changed is not built again.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tenon_testkit::{Tenon, repository};

/// How long a build may take from nothing.
pub(crate) const BUILD_DEADLINE: Duration = Duration::from_secs(1200);

/// What a build leaves among the sources.
const PRODUCTS: [&str; 4] = [".tenon", "target", "node_modules", "internal"];

/// The folder in which the copies lie, at the paths that they have in the repository.
pub(crate) fn workshop() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("workshop")
}

/// The copy of an example, built.
pub(crate) fn built(tenon: &Tenon, name: &'static str) -> PathBuf {
    static BUILT: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let folder = workshop().join("examples").join(name);
    // Held while it is built: several tests want the same one.
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if built.insert(name) {
        copy(&repository().join("examples").join(name), &folder);
        if name == "api-gateway" {
            // Counted over a day: no test sees a window end.
            replace(&folder.join("customer/policy.txt"), "rate 600 60\n", "rate 600 86400\n");
        }
        tenon.run_for(BUILD_DEADLINE, tenon.data(), ["build".as_ref(), folder.as_os_str()]).expect_code(0);
    }
    folder
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let name = entry.file_name();
        if PRODUCTS.iter().any(|product| name == *product) {
            continue;
        }
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to.join(name)),
            false => std::fs::copy(entry.path(), to.join(name)).map(|_| ()).unwrap(),
        }
    }
}

/// Changes a source.
#[track_caller]
pub(crate) fn replace(file: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{} has no `{from}`", file.display());
    std::fs::write(file, text.replace(from, to)).unwrap();
}

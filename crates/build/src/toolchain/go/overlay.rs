//! Two functions that Go's runtime lacks, put into it for a build without touching the installed one (`go build
//! -overlay`).
//!
//! `wasiOnIdle` tells when no goroutine can go on: then an asynchronous function of the component gives control back to
//! its host. `wasiReseed` takes new random numbers, for an instance whose start was done at build time.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::json;
use tenon_model::{Diagnostic, Location};

use crate::error::BuildError;

/// The file of the runtime, in Go's own folder.
const FILE: &str = "src/runtime/lock_wasip1.go";

/// What the file has in it, and what takes its place.
const STOCK: &str = "func beforeIdle(int64, int64) (*g, bool) {\n\treturn nil, false\n}\n";
pub(super) const OURS: &str = r#"// Set by the bindings of asynchronous functions while one of them runs.
var wasiIdle func() bool

// wasiOnIdle sets what is called when no goroutine can go on. It reports whether one now can.
func wasiOnIdle(idle func() bool) {
	wasiIdle = idle
}

// A timer, or somebody who waits for a descriptor, is waited for as ever.
//
//go:yeswritebarrierrec
func beforeIdle(_, pollUntil int64) (*g, bool) {
	if wasiIdle == nil || pollUntil != 0 || netpollAnyWaiters() {
		return nil, false
	}
	return nil, wasiIdle()
}

// wasiReseed takes random numbers of its own for an instance that was started elsewhere. The keys of maps stay, since
// there may be maps.
func wasiReseed() {
	var seed [5]uint64
	if random_get((*byte)(unsafe.Pointer(&seed)), size(unsafe.Sizeof(seed))) != 0 {
		throw("random_get failed")
	}
	mp := getg().m
	mp.chacha8.Init64([4]uint64(seed[:4]))
	mp.cheaprand = uint32(seed[4])
	mp.cheaprand64 = seed[4]
}
"#;

/// Writes the file and the list that names it into `work`; the list is what `-overlay` takes. `root` is Go's folder.
pub(super) fn write(root: &Path, work: &Path) -> Result<PathBuf, BuildError> {
    let stock = root.join(FILE);
    let text = std::fs::read_to_string(&stock).map_err(BuildError::io("read", &stock))?;
    let text = patched(&text).ok_or_else(|| {
        Diagnostic::new("go-runtime-changed", "Go's runtime is not the one that Tenon builds with")
            .at(Location::file(stock.display().to_string()))
            .mend("tenon doctor --fix")
    })?;
    let (ours, list) = (work.join("go-lock_wasip1.go"), work.join("go-overlay.json"));
    write_whole(&ours, text.as_bytes())?;
    write_whole(&list, json!({ "Replace": { stock.display().to_string(): ours } }).to_string().as_bytes())?;
    Ok(list)
}

fn patched(stock: &str) -> Option<String> {
    let text = stock.replacen(STOCK, OURS, 1);
    let text = text.replacen("package runtime\n", "package runtime\n\nimport \"unsafe\"\n", 1);
    (stock.matches(STOCK).count() == 1 && !stock.contains("\nimport ")).then_some(text)
}

/// Several components are built at once: none may see half of a file of the other.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), BuildError> {
    if std::fs::read(path).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(BuildError::io("write in", folder))?;
    file.write_all(bytes).map_err(BuildError::io("write", path))?;
    file.persist(path).map(drop).map_err(|error| BuildError::io("write", path)(error.error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_runtime_that_is_known_is_changed() {
        let stock = format!("// A\n\npackage runtime\n\n{STOCK}\nfunc checkTimeouts() {{}}\n");
        let text = patched(&stock).unwrap();
        assert!(text.contains("import \"unsafe\"") && text.contains("func wasiReseed()"), "{text}");
        assert!(text.contains("throw(\"random_get failed\")") && !text.contains(STOCK), "{text}");
        assert_eq!(patched("package runtime\n"), None);
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("src/runtime")).unwrap();
        std::fs::write(root.path().join(FILE), "package runtime\n").unwrap();
        let error = write(root.path(), root.path()).unwrap_err();
        assert_eq!(error.diagnostics().iter().next().unwrap().code, "go-runtime-changed");
        std::fs::write(root.path().join(FILE), &stock).unwrap();
        let list = std::fs::read_to_string(write(root.path(), root.path()).unwrap()).unwrap();
        assert!(list.contains("go-lock_wasip1.go"), "{list}");
    }
}

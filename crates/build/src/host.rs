//! The machine that builds: its environment, as the caller read it.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// The environment that programs are run in, and in whose `PATH` they are looked for.
#[derive(Clone, Debug, Default)]
pub struct Host {
    variables: Vec<(OsString, OsString)>,
}

impl Host {
    /// A machine with these environment variables; the caller passes its own.
    pub fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        Self { variables: variables.into_iter().collect() }
    }

    /// The environment without the variables whose name `leaks` says are not the toolchain's business.
    pub(crate) fn variables_without(&self, leaks: fn(&str) -> bool) -> Vec<(OsString, OsString)> {
        self.variables.iter().filter(|(name, _)| !name.to_str().is_some_and(leaks)).cloned().collect()
    }

    /// The program `name`, when it is in the `PATH`.
    pub fn find(&self, name: &str) -> Option<PathBuf> {
        let (_, path) = self.variables.iter().find(|(variable, _)| variable == OsStr::new("PATH"))?;
        std::env::split_paths(path)
            .map(|folder| folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX)))
            .find(|file| is_program(file))
    }
}

#[cfg(unix)]
fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_program(file: &Path) -> bool {
    file.is_file()
}

//! `wasi:filesystem`: the directories that a component was granted, and how many files it holds open.

use std::fs::File;
use std::sync::{Arc, Weak};

use tenon_model::{Access, DirectoryGrant, Grants};
use wasmtime_wasi::filesystem::WasiFilesystemCtx;
use wasmtime_wasi::{FsPerms, WasiCtx};

/// The directories of a component, opened now. One that cannot be opened is not there, and the log says why.
pub(crate) fn context(grants: &Grants) -> WasiFilesystemCtx {
    if grants.filesystem.is_empty() {
        return WasiFilesystemCtx::default();
    }
    let mut builder = WasiCtx::builder();
    for DirectoryGrant { directory, at, access } in &grants.filesystem {
        let permissions = match access {
            Access::Read => FsPerms::ReadOnly,
            Access::Write => FsPerms::ReadWrite,
        };
        if let Err(error) = builder.preopened_dir(directory, at, permissions) {
            tracing::warn!(target: "tenon::grant", directory, at, %error, "a granted directory cannot be opened");
        }
    }
    std::mem::take(builder.build().filesystem())
}

/// The files of one request that are open, and whose they are.
#[derive(Default)]
pub(crate) struct OpenFiles(Vec<(Weak<File>, usize)>);

impl OpenFiles {
    /// Whose file it is, if it is known.
    pub(crate) fn owner(&self, file: &Arc<File>) -> Option<usize> {
        self.0
            .iter()
            .find(|(known, _)| std::ptr::eq(known.as_ptr(), Arc::as_ptr(file)))
            .map(|(_, owner)| *owner)
    }

    /// How many files are open of `owner`'s.
    pub(crate) fn count(&mut self, owner: usize) -> usize {
        self.0.retain(|(file, _)| file.strong_count() > 0);
        self.0.iter().filter(|(_, of)| *of == owner).count()
    }

    /// Remembers a file as `owner`'s for as long as it is open.
    pub(crate) fn note(&mut self, file: &Arc<File>, owner: usize) {
        self.0.push((Arc::downgrade(file), owner));
    }
}

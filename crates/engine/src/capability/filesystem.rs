//! `wasi:filesystem`: the directories that a component was granted, and how many files it holds open.

use std::fs::File;
use std::sync::{Arc, Weak};

use tenon_model::{Access, DirectoryGrant, Grants};
use wasmtime::component::{Accessor, LinkerInstance, Resource};
use wasmtime::{Result, StoreContextMut};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystem, WasiFilesystemCtx};
use wasmtime_wasi::p2::bindings::filesystem as filesystem02;
use wasmtime_wasi::p3::bindings::filesystem as filesystem03;
use wasmtime_wasi::{FsPerms, WasiCtx};

use crate::host::{self, Host};

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

/// The files and directories of one request that are open, and whose they are: `wasi:filesystem/types` itself does not
/// say for which component it works.
#[derive(Default)]
pub(crate) struct OpenFiles {
    open: Vec<(Weak<File>, usize)>,
    /// Whose files are being opened now.
    opening: Vec<usize>,
}

impl OpenFiles {
    /// Whose it is, if it is known.
    fn owner(&self, descriptor: &Descriptor) -> Option<usize> {
        let file = Arc::as_ptr(file_of(descriptor));
        self.open.iter().find(|(known, _)| std::ptr::eq(known.as_ptr(), file)).map(|(_, owner)| *owner)
    }

    /// How many are open of `owner`'s, or about to be.
    pub(crate) fn count(&mut self, owner: usize) -> usize {
        self.open.retain(|(file, _)| file.strong_count() > 0);
        self.open.iter().filter(|(_, of)| *of == owner).count()
            + self.opening.iter().filter(|of| **of == owner).count()
    }

    /// Remembers it as `owner`'s for as long as it is open.
    fn note(&mut self, descriptor: &Descriptor, owner: usize) {
        if self.owner(descriptor).is_none() {
            self.open.push((Arc::downgrade(file_of(descriptor)), owner));
        }
    }

    fn opened(&mut self, owner: usize) {
        if let Some(at) = self.opening.iter().position(|of| *of == owner) {
            self.opening.swap_remove(at);
        }
    }
}

fn file_of(descriptor: &Descriptor) -> &Arc<File> {
    match descriptor {
        Descriptor::File(file) => &file.file,
        Descriptor::Dir(directory) => &directory.dir,
    }
}

impl Host {
    /// Whose file is opened from the directory `from`, if its owner may open one more.
    fn open_begins(&mut self, from: &Resource<Descriptor>) -> Result<Option<usize>> {
        // Every directory was given out to somebody; one that was not would count as the whole's.
        let owner = self.open_files.owner(self.table.get(from)?).unwrap_or_default();
        let limit = self.caller(owner).authority().outside.open_files;
        if self.open_files.count(owner) >= limit as usize {
            self.caller(owner).spent("open-files", u64::from(limit));
            return Ok(None);
        }
        self.open_files.opening.push(owner);
        Ok(Some(owner))
    }

    /// Whether what lies in the directory `from` may be changed at all. The engine lets a directory be opened to be changed
    /// where nothing may be changed, and refuses each change.
    fn may_change_within(&self, from: &Resource<Descriptor>) -> Result<bool> {
        Ok(match self.table.get(from)? {
            Descriptor::Dir(directory) => !directory.perms.write_not_permitted(),
            Descriptor::File(_) => true,
        })
    }

    fn open_ends(&mut self, owner: usize, opened: Option<&Resource<Descriptor>>) -> Result<()> {
        self.open_files.opened(owner);
        if let Some(opened) = opened {
            self.open_files.note(self.table.get(opened)?, owner);
        }
        Ok(())
    }

    /// Notes the directories that principal `who` finds open.
    fn found_open(&mut self, who: usize, found: &[(Resource<Descriptor>, String)]) -> Result<()> {
        for (directory, _) in found {
            self.open_files.note(self.table.get(directory)?, who);
        }
        Ok(())
    }
}

/// `get-directories` of 0.2, noted. Takes the place of the engine's.
pub(super) fn noted_preopens02(instance: &mut LinkerInstance<'_, Host>, who: usize) -> Result<()> {
    use filesystem02::preopens::Host as Preopens;
    instance.func_wrap("get-directories", move |mut store: StoreContextMut<'_, Host>, (): ()| {
        let found = Preopens::get_directories(&mut host::filesystem(who)(store.data_mut()))?;
        store.data_mut().found_open(who, &found)?;
        Ok((found,))
    })
}

/// `get-directories` of 0.3, noted. Takes the place of the engine's.
pub(super) fn noted_preopens03(instance: &mut LinkerInstance<'_, Host>, who: usize) -> Result<()> {
    use filesystem03::preopens::Host as Preopens;
    instance.func_wrap("get-directories", move |mut store: StoreContextMut<'_, Host>, (): ()| {
        let found = Preopens::get_directories(&mut host::filesystem(who)(store.data_mut()))?;
        store.data_mut().found_open(who, &found)?;
        Ok((found,))
    })
}

/// `open-at` of 0.2, counted. Takes the place of the engine's.
pub(super) fn counted_types02(instance: &mut LinkerInstance<'_, Host>, who: usize) -> Result<()> {
    use filesystem02::types::{self, DescriptorFlags, ErrorCode, HostDescriptor as _, OpenFlags, PathFlags};
    type Args = (Resource<Descriptor>, PathFlags, String, OpenFlags, DescriptorFlags);
    instance.func_wrap_async(
        "[method]descriptor.open-at",
        move |mut store: StoreContextMut<'_, Host>, (from, follow, path, how, flags): Args| {
            Box::new(async move {
                if flags.contains(DescriptorFlags::MUTATE_DIRECTORY)
                    && !store.data().may_change_within(&from)?
                {
                    return Ok((Err(ErrorCode::ReadOnly),));
                }
                let Some(owner) = store.data_mut().open_begins(&from)? else {
                    return Ok((Err(ErrorCode::Quota),));
                };
                let mut view = host::filesystem(who)(store.data_mut());
                let opened = match view.open_at(from, follow, path, how, flags).await {
                    Ok(opened) => Ok(opened),
                    Err(error) => Err(types::Host::convert_error_code(&mut view, error)?),
                };
                store.data_mut().open_ends(owner, opened.as_ref().ok())?;
                Ok((opened,))
            })
        },
    )
}

/// `open-at` of 0.3, counted. Takes the place of the engine's.
pub(super) fn counted_types03(instance: &mut LinkerInstance<'_, Host>, who: usize) -> Result<()> {
    use filesystem03::types::{
        self, DescriptorFlags, ErrorCode, HostDescriptorWithStore, OpenFlags, PathFlags,
    };
    type Args = (Resource<Descriptor>, PathFlags, String, OpenFlags, DescriptorFlags);
    instance.func_wrap_concurrent(
        "[method]descriptor.open-at",
        move |store: &Accessor<Host>, (from, follow, path, how, flags): Args| {
            Box::pin(async move {
                if flags.contains(DescriptorFlags::MUTATE_DIRECTORY)
                    && !store.with(|mut access| access.data_mut().may_change_within(&from))?
                {
                    return Ok((Err(ErrorCode::ReadOnly),));
                }
                let Some(owner) = store.with(|mut access| access.data_mut().open_begins(&from))? else {
                    return Ok((Err(ErrorCode::Quota),));
                };
                let within = &store.with_getter::<WasiFilesystem>(host::filesystem(who));
                let opened = <WasiFilesystem as HostDescriptorWithStore<Host>>::open_at(
                    within, from, follow, path, how, flags,
                );
                let opened = match opened.await {
                    Ok(opened) => Ok(opened),
                    Err(error) => Err(within
                        .with(|mut access| types::Host::convert_error_code(&mut access.get(), error))?),
                };
                store.with(|mut access| access.data_mut().open_ends(owner, opened.as_ref().ok()))?;
                Ok((opened,))
            })
        },
    )
}

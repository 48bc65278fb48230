//! What `tenon serve` composed, kept from one start to the next: a second start serves at once.
//!
//! The composition is kept beside the build products, under a key over everything it is made from: the manifest, the
//! components' bytes and this very program. A key or a file that does not fit is as good as none.

use std::fs::{self, Metadata};
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use tenon_compose::Composed;
use tenon_model::{Diagnostics, Digest};

use crate::project::{COMPONENT_BYTES_MAX, ComponentFile, Project, inputs, read, side_file, write};

/// The composed component, and the key it was composed under.
const COMPONENT: &str = ".tenon/served/component.wasm";
const KEY: &str = ".tenon/served/key";

impl Project {
    /// The composition as it is served: the one of the last start when nothing it is made from has changed.
    ///
    /// # Errors
    /// See [`Project::compose`].
    pub(crate) fn composed_to_serve(&self) -> Result<Vec<u8>, Diagnostics> {
        let files = self.files_to_compose(&[])?;
        let made_from = self.key(&files);
        let (component, key) = (self.folder.join(COMPONENT), self.folder.join(KEY));
        let kept = fs::read_to_string(&key).ok().filter(|_| made_from.is_some()).and_then(|kept| {
            let bytes = read(&component, COMPONENT_BYTES_MAX).ok()?;
            (made_from.as_ref().map(|made_from| entry(made_from, &bytes)).as_ref() == Some(&kept))
                .then_some(bytes)
        });
        if let Some(bytes) = kept {
            return Ok(bytes);
        }
        let composed = self.compose_files(&files)?;
        let side = composed.side.clone();
        let composed = composed.attributed().to_vec();
        if let Some(made_from) = made_from {
            // A folder that cannot be written to is served all the same; it is composed again the next time.
            let kept = write(&component, &composed)
                .and_then(|()| side.map_or(Ok(()), |side| write(&side_file(&component), &side)))
                .and_then(|()| write(&key, entry(&made_from, &composed).as_bytes()));
            if let Err(error) = kept {
                tracing::debug!(%error, "the composition is not kept for the next start");
            }
        }
        Ok(composed)
    }

    /// Where the composition of the last start is kept. What an optimised one has left out lies beside it.
    pub(crate) fn served_file(&self) -> PathBuf {
        self.folder.join(COMPONENT)
    }

    /// Everything a composition is made from; `None` when this program cannot tell itself from another.
    fn key(&self, files: &[ComponentFile]) -> Option<String> {
        let program = std::env::current_exe().and_then(fs::metadata).ok()?;
        let mut key = format!("{} {}\n{}", env!("CARGO_PKG_VERSION"), age(&program)?, self.text);
        for file in files {
            key.push_str(&format!("\n{} {}", file.component, Digest::of(&file.bytes)));
        }
        Some(Digest::of(key.as_bytes()).to_string())
    }

    fn compose_files(&self, files: &[ComponentFile]) -> Result<Composed, Diagnostics> {
        tenon_compose::compose(&self.manifest, &inputs(files))
    }

    /// Joins the components. A file of `stand_ins` takes the place of the component's whose `path` ends in the same
    /// file name.
    pub(crate) fn compose(&self, stand_ins: &[PathBuf]) -> Result<Composed, Diagnostics> {
        self.compose_files(&self.files_to_compose(stand_ins)?)
    }

    /// The components. Where one of them cannot be read, what is wrong between the others is told in the same run.
    fn files_to_compose(&self, stand_ins: &[PathBuf]) -> Result<Vec<ComponentFile>, Diagnostics> {
        let (files, mut found) = self.readable_files(stand_ins);
        if !found.is_empty()
            && let Err(others) = self.compose_files(&files)
        {
            // Which of them are missing has been said already, and why.
            found.extend(others.iter().filter(|it| it.code != "missing-input").cloned());
        }
        Diagnostics::check(found)?;
        Ok(files)
    }
}

/// What the key file says when it fits the component beside it.
fn entry(made_from: &str, component: &[u8]) -> String {
    format!("{made_from} {}\n", Digest::of(component))
}

/// Tells one build of this program from the next.
fn age(program: &Metadata) -> Option<String> {
    let modified = program.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(format!("{} {}", program.len(), modified.as_nanos()))
}

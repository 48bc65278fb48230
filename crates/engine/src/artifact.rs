//! Compiled code on disk: content-addressed, authenticated, mapped.
//!
//! An artifact is native code, so loading one that somebody else wrote is handing them the node. Each file is the
//! code, notes that say what it was compiled from and for, and a seal: a keyed hash over all of it, under a key that
//! only this node has. The file is opened once; the seal is checked over that open file and the same open file is
//! mapped, so there is no moment in which it could be exchanged. Anything that does not verify is compiled again and
//! replaced.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tenon_model::{Diagnostic, Digest, Location};
use wasmtime::component::Component;

use crate::engine::{Engine, EngineError, Lane, Part, Source};

/// The last bytes of a sealed artifact.
const MAGIC: &[u8; 8] = b"tenon\0\0\x03";
/// Length of the notes' length, the seal and the magic.
const TRAILER_BYTES: u64 = 8 + 32 + 8;
/// What is read of an artifact's end at once: all of the notes of most.
const END_BYTES: u64 = 16 << 10;
/// An artifact larger than this is not read: no component compiles to as much.
const ARTIFACT_BYTES_MAX: u64 = 4 << 30;
/// Bytes of artifacts that a store keeps although nobody says that they are needed; beyond it the ones written longest ago
/// go.
const SPARE_BYTES_MAX: u64 = 8 << 30;
/// How files begin that are being written.
const WRITING: &str = ".writing-";
/// A file still being written after this long is not: its process was killed.
const ABANDONED_AFTER: Duration = Duration::from_secs(3_600);
/// The names of a composition's parts, and the types of the component.
const NOTES_BYTES_MAX: u64 = 2 << 20;
/// Files that are remembered as sealed; when there are more, all are forgotten.
const SEALED_MAX: usize = 100_000;
/// Types that are longer as text are not kept: nobody reads a page of as much.
const CONTRACT_BYTES_MAX: usize = 512 << 10;

/// The store could not be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub struct ArtifactsError {
    /// The file or folder.
    pub path: PathBuf,
    /// What happened.
    pub source: io::Error,
}

/// Where a component's compiled code came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was in the store.
    Loaded,
    /// It was compiled now, and stored.
    Compiled,
    /// What was in the store did not verify; it was compiled anew, and replaced.
    Recompiled,
}

/// What an artifact says of itself.
#[derive(Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Notes {
    /// Binds it to the component, the exact engine, its settings and the processor's features.
    key: String,
    /// What people called the component.
    name: String,
    digest: String,
    lane: Lane,
    parts: Vec<Part>,
    contract: Option<String>,
}

/// An open artifact whose seal is this node's.
struct Verified {
    file: File,
    notes: Notes,
    bytes: u64,
}

/// A compiled component, mapped and ready to link.
pub struct Stored {
    pub(crate) component: Component,
    pub(crate) lane: Lane,
    pub(crate) parts: Vec<Part>,
    /// What people called the component when it was compiled.
    pub name: String,
    /// The component's types, as its [`Source`] gave them.
    pub contract: Option<String>,
    /// The component's digest.
    pub digest: Digest,
    /// Where its code came from.
    pub origin: Origin,
    /// How long that took.
    pub took: Duration,
    /// The artifact.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// Why an artifact that is there is not used.
enum LoadError {
    /// It is not this node's, or not for this component.
    Untrusted(String),
    /// It is, and the pool cannot hold such a component.
    Unfit(wasmtime::Error),
    /// The engine it is for cannot be set up.
    NoEngine(EngineError),
}

impl From<EngineError> for LoadError {
    fn from(error: EngineError) -> Self {
        Self::NoEngine(error)
    }
}

fn unfit(name: &str, error: &wasmtime::Error) -> Diagnostic {
    Diagnostic::new("exceeds-limits", format!("`{name}` does not fit the sandbox"))
        .at(Location::file(name))
        .note("the engine says", format!("{error:#}"))
        .mend(
            "what the engine says is too much has to become less, or, where it is memory or core instances, its limit \
             more: `memory` and `instances` in [limits], `--memory` and `--instances`. `tenon inspect` shows which \
             component needs how much.",
        )
}

/// The store of one node: a folder only its user can reach, and the node's key beside it.
pub struct Artifacts {
    folder: PathBuf,
    key: [u8; 32],
    /// Files whose seal this process has checked, and how they were then. What is mapped is not looked at again either,
    /// and only this user can write into the folder.
    sealed: Mutex<HashMap<PathBuf, Stamp>>,
}

/// Tells one state of a file from the next.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(meta: &fs::Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            bytes: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

impl Artifacts {
    /// Opens the store in the data directory `data`, and makes it and the node's key where they are missing. No artifact is
    /// removed: whether one is needed, whoever opens it knows, and says with [`Self::prune`].
    ///
    /// # Errors
    /// When the folder or the key cannot be made, read, or kept to this user.
    pub fn open(data: &Path) -> Result<Self, ArtifactsError> {
        let folder = data.join("artifacts");
        private_folder(data).map_err(at(data))?;
        private_folder(&folder).and_then(|()| tidy(&folder)).map_err(at(&folder))?;
        let key_path = data.join("key");
        let key = node_key(&key_path).map_err(at(&key_path))?;
        Ok(Self { folder, key, sealed: Mutex::default() })
    }

    /// Removes the artifacts written longest ago, where there are more than 8 GiB of those that none of the `needed` components
    /// runs from on this engine. Says how many. What is mapped stays usable: its name goes, not its pages.
    ///
    /// # Errors
    /// When the folder cannot be read, or a file cannot be removed.
    pub fn prune(&self, engine: &Engine, needed: &BTreeSet<Digest>) -> Result<usize, ArtifactsError> {
        // An engine's lane is not set up for nothing.
        if self.bytes().map_err(at(&self.folder))? <= SPARE_BYTES_MAX {
            return Ok(0);
        }
        let mut lanes = Vec::new();
        for lane in Lane::ALL {
            let lane = engine.lane(lane).map_err(|error| ArtifactsError {
                path: self.folder.clone(),
                source: io::Error::other(error.to_string()),
            })?;
            lanes.push(lane);
        }
        let kept =
            needed.iter().flat_map(|digest| lanes.iter().map(|lane| self.path(&lane.artifact_key(digest))));
        self.prune_but(&kept.collect(), SPARE_BYTES_MAX).map_err(at(&self.folder))
    }

    /// The same, where no artifact is needed: each can be made again from what whoever wants it brings along.
    ///
    /// # Errors
    /// When the folder cannot be read, or a file cannot be removed.
    pub fn prune_all(&self) -> Result<usize, ArtifactsError> {
        self.prune_but(&HashSet::new(), SPARE_BYTES_MAX).map_err(at(&self.folder))
    }

    fn bytes(&self) -> io::Result<u64> {
        fs::read_dir(&self.folder)?
            .try_fold(0_u64, |sum, entry| Ok(sum.saturating_add(entry?.metadata()?.len())))
    }

    fn prune_but(&self, kept: &HashSet<PathBuf>, spare_bytes_max: u64) -> io::Result<usize> {
        let mut spare = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let path = entry.path();
            if kept.contains(&path) || is_being_written(&path) {
                continue;
            }
            let meta = entry.metadata()?;
            // The youngest first.
            spare.push((meta.modified()?.elapsed().unwrap_or_default(), meta.len(), path));
        }
        spare.sort();
        let (mut bytes_kept, mut removed) = (0_u64, 0);
        for (_, bytes, path) in spare {
            bytes_kept = bytes_kept.saturating_add(bytes);
            if bytes_kept > spare_bytes_max {
                fs::remove_file(path)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// The compiled form of the component with this digest, if it is in the store: nothing is compiled. The seal of a file
    /// is checked once in a process, and again when the file has changed.
    ///
    /// # Errors
    /// `artifact-refused` when what is in the store does not verify, so that it has to be compiled again; or what the
    /// engine says against the component.
    pub fn find(&self, engine: &Engine, digest: &Digest) -> Result<Option<Stored>, Diagnostic> {
        let began = Instant::now();
        for lane in Lane::ALL {
            match self.load(engine, lane, digest) {
                Ok(Some(stored)) => return Ok(Some(Stored { took: began.elapsed(), ..stored })),
                Ok(None) => {}
                Err(LoadError::Unfit(error)) => return Err(unfit(&digest.to_string(), &error)),
                Err(LoadError::NoEngine(error)) => return Err(error.into()),
                Err(LoadError::Untrusted(why)) => {
                    let said = format!("the compiled form of {digest} is not run: {why}");
                    return Err(Diagnostic::new("artifact-refused", said).mend("it is compiled again"));
                }
            }
        }
        Ok(None)
    }

    /// Whether there is compiled code of the component with this digest for this engine, with this node's seal on it. Whoever loads it
    /// then need not check that again, as long as the file is the same.
    ///
    /// # Errors
    /// When the engine cannot be set up.
    pub fn check(&self, engine: &Engine, digest: &Digest) -> Result<bool, Diagnostic> {
        let is_sealed =
            |path: PathBuf| File::open(&path).is_ok_and(|file| self.verify_once(&path, file).is_ok());
        Ok(self.place(engine, digest)?.is_some_and(is_sealed))
    }

    /// Whether there is a compiled form of the component with this digest for this engine. Whether it verifies, whoever loads it
    /// finds out.
    ///
    /// # Errors
    /// When the engine cannot be set up.
    pub fn has(&self, engine: &Engine, digest: &Digest) -> Result<bool, Diagnostic> {
        Ok(self.place(engine, digest)?.is_some())
    }

    /// Where its compiled form is, for whichever lane it needs.
    fn place(&self, engine: &Engine, digest: &Digest) -> Result<Option<PathBuf>, EngineError> {
        for lane in Lane::ALL {
            let path = self.path(&engine.lane(lane)?.artifact_key(digest));
            if path.exists() {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    /// The compiled form of `source`: from the store when it is there and verifies, else compiled and stored.
    ///
    /// # Errors
    /// When the engine refuses the component, or the artifact cannot be written.
    pub fn get(&self, engine: &Engine, source: &Source<'_>) -> Result<Stored, Diagnostic> {
        let began = Instant::now();
        let digest = Digest::of(source.bytes);
        let mut origin = Origin::Compiled;
        for lane in Lane::ALL {
            match self.load(engine, lane, &digest) {
                Ok(Some(stored)) => return Ok(Stored { took: began.elapsed(), ..stored }),
                Ok(None) => {}
                Err(LoadError::Unfit(error)) => return Err(unfit(source.name, &error)),
                Err(LoadError::NoEngine(error)) => return Err(error.into()),
                Err(LoadError::Untrusted(why)) => {
                    origin = Origin::Recompiled;
                    tracing::warn!(component = source.name, %digest, cause = %why, "an artifact was refused and is compiled again");
                }
            }
        }
        let (lane, code) = engine.compile(source)?;
        let key = engine.lane(lane)?.artifact_key(&digest);
        let path = self.path(&key);
        let notes = Notes {
            key,
            name: source.name.to_owned(),
            digest: digest.to_string(),
            lane,
            parts: (source.parts)(),
            contract: (source.contract)().filter(|text| text.len() <= CONTRACT_BYTES_MAX),
        };
        let unwritable = |error: io::Error| {
            Diagnostic::new(
                "cannot-store-artifact",
                format!("the compiled form of `{}` cannot be stored: {error}", source.name),
            )
            .at(Location::file(path.display().to_string()))
            .mend("free some space, or choose another data directory with `--data DIR`")
        };
        self.store(&path, &code, &notes).map_err(unwritable)?;
        match self.load(engine, lane, &digest) {
            Ok(Some(stored)) => Ok(Stored { origin, took: began.elapsed(), ..stored }),
            Ok(None) => Err(unwritable(io::ErrorKind::NotFound.into())),
            Err(LoadError::Unfit(error)) => Err(unfit(source.name, &error)),
            Err(LoadError::NoEngine(error)) => Err(error.into()),
            Err(LoadError::Untrusted(why)) => Err(unwritable(io::Error::other(why))),
        }
    }

    /// Takes over an artifact that this node wrote and somebody then copied elsewhere: it is copied back into the
    /// store, where nobody else can change it, and only that copy is verified and mapped.
    ///
    /// # Errors
    /// When it is not this node's, was made for another engine or processor, or cannot be read.
    pub fn adopt(&self, engine: &Engine, file: &Path) -> Result<Stored, Diagnostic> {
        let began = Instant::now();
        let refused = |why: String| {
            Diagnostic::new("artifact-refused", format!("`{}` is not run: {why}", file.display()))
                .at(Location::file(file.display().to_string()))
                .mend("an artifact is native code, and runs only on the node that compiled it; serve the component itself (`.wasm`), which this node then compiles")
        };
        let copied = || -> io::Result<tempfile::NamedTempFile> {
            let mut temporary = self.temporary()?;
            io::copy(&mut File::open(file)?.take(ARTIFACT_BYTES_MAX), temporary.as_file_mut())?;
            temporary.as_file().sync_all()?;
            Ok(temporary)
        };
        let temporary = copied().map_err(|error| refused(error.to_string()))?;
        let verified = File::open(temporary.path())
            .map_err(|error| error.to_string())
            .and_then(|copy| self.verify(copy))
            .map_err(refused)?;
        let digest: Digest =
            verified.notes.digest.parse().map_err(|_| refused("its notes are damaged".into()))?;
        let path = self.path(&verified.notes.key);
        let name = verified.notes.name.clone();
        let stored = self.map(engine, verified, path.clone(), &digest).map_err(|error| match error {
            LoadError::Unfit(error) => unfit(&name, &error),
            LoadError::NoEngine(error) => error.into(),
            LoadError::Untrusted(why) => refused(why),
        })?;
        temporary.persist(&path).map_err(|error| refused(error.to_string()))?;
        Ok(Stored { took: began.elapsed(), ..stored })
    }

    fn path(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{key}.cwasm"))
    }

    fn temporary(&self) -> io::Result<tempfile::NamedTempFile> {
        tempfile::Builder::new()
            .prefix(WRITING)
            .permissions(fs::Permissions::from_mode(0o600))
            .tempfile_in(&self.folder)
    }

    /// `Ok(None)` when there is no such artifact, `Err` with the reason when there is one that must not be run.
    fn load(&self, engine: &Engine, lane: Lane, digest: &Digest) -> Result<Option<Stored>, LoadError> {
        let path = self.path(&engine.lane(lane)?.artifact_key(digest));
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(LoadError::Untrusted(error.to_string())),
        };
        let verified = self.verify_once(&path, file).map_err(LoadError::Untrusted)?;
        self.map(engine, verified, path, digest).map(Some)
    }

    /// Maps a verified artifact, if it is the one for `digest` on this engine and this processor.
    fn map(
        &self,
        engine: &Engine,
        verified: Verified,
        path: PathBuf,
        digest: &Digest,
    ) -> Result<Stored, LoadError> {
        let Verified { file, notes, bytes } = verified;
        let Notes { key, name, lane, parts, contract, .. } = notes;
        let lane_engine = engine.lane(lane)?;
        if key != lane_engine.artifact_key(digest) {
            let why = "it was made for another component, engine or processor";
            return Err(LoadError::Untrusted(why.into()));
        }
        // SAFETY: the seal was checked over this very open file, and only this node has the key, so this node wrote
        // it; the sealed key binds it to this component, this engine, its settings and this processor. Files in the
        // store are written once, under another name, and never changed afterwards, and the folder is this user's
        // alone.
        let component = unsafe { lane_engine.load(file) }.map_err(LoadError::Unfit)?;
        let (digest, origin, took) = (*digest, Origin::Loaded, Duration::ZERO);
        Ok(Stored { component, lane, parts, name, contract, digest, origin, took, path, bytes })
    }

    /// Checks the seal of an open artifact and reads its notes.
    fn verify(&self, file: File) -> Result<Verified, String> {
        let bytes = file.metadata().map_err(|error| error.to_string())?.len();
        self.read(file, bytes, false)
    }

    /// The same, without the seal where it was checked before and the file is as it was.
    fn verify_once(&self, path: &Path, file: File) -> Result<Verified, String> {
        let stamp = Stamp::of(&file.metadata().map_err(|error| error.to_string())?);
        let sealed = || self.sealed.lock().unwrap_or_else(PoisonError::into_inner);
        let known = sealed().get(path) == Some(&stamp);
        let verified = self.read(file, stamp.bytes, known)?;
        if !known {
            let mut sealed = sealed();
            if sealed.len() >= SEALED_MAX {
                sealed.clear();
            }
            sealed.insert(path.to_owned(), stamp);
        }
        Ok(verified)
    }

    /// Reads the notes of a file of so many bytes, and checks its seal where that is not `known` to be good.
    fn read(&self, mut file: File, bytes: u64, known: bool) -> Result<Verified, String> {
        let io = |error: io::Error| error.to_string();
        if !(TRAILER_BYTES..=ARTIFACT_BYTES_MAX).contains(&bytes) {
            return Err(format!("it has {bytes} bytes: truncated, or not an artifact"));
        }
        let mut end = last_bytes(&file, bytes, END_BYTES.min(bytes)).map_err(io)?;
        let trailer = end.split_off(end.len() - TRAILER_BYTES as usize);
        let (notes_length, rest) = trailer.split_at(8);
        let (seal, magic) = rest.split_at(32);
        if magic != MAGIC {
            return Err("it does not end like an artifact: truncated, or of another version".into());
        }
        let sealed = blake3::Hash::from_slice(seal).map_err(|error| error.to_string())?;
        // `blake3::Hash` compares in constant time.
        if !known && self.seal(&mut file, bytes - (TRAILER_BYTES - 8)).map_err(io)? != sealed {
            return Err("its seal is not this node's: it was changed, or another node made it".into());
        }
        let mut number = [0; 8];
        number.copy_from_slice(notes_length);
        let notes_length = u64::from_le_bytes(number);
        if notes_length > NOTES_BYTES_MAX.min(bytes - TRAILER_BYTES) {
            return Err("its notes are longer than it is".into());
        }
        if notes_length > end.len() as u64 {
            end = last_bytes(&file, bytes - TRAILER_BYTES, notes_length).map_err(io)?;
        }
        let notes = postcard::from_bytes(&end[end.len() - notes_length as usize..])
            .map_err(|error| error.to_string())?;
        Ok(Verified { file, notes, bytes })
    }

    /// The keyed hash over the first `length` bytes.
    fn seal(&self, content: &mut File, length: u64) -> io::Result<blake3::Hash> {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        content.seek(SeekFrom::Start(0))?;
        hasher.update_reader(content.take(length))?;
        Ok(hasher.finalize())
    }

    /// Writes an artifact under another name, seals it, and moves it into place.
    fn store(&self, path: &Path, code: &[u8], notes: &Notes) -> io::Result<()> {
        let notes = postcard::to_allocvec(notes).map_err(io::Error::other)?;
        let mut temporary = self.temporary()?;
        temporary.write_all(code)?;
        temporary.write_all(&notes)?;
        temporary.write_all(&(notes.len() as u64).to_le_bytes())?;
        let length = temporary.stream_position()?;
        let seal = self.seal(temporary.as_file_mut(), length)?;
        temporary.seek(SeekFrom::End(0))?;
        temporary.write_all(seal.as_bytes())?;
        temporary.write_all(MAGIC)?;
        temporary.as_file().sync_all()?;
        temporary.persist(path).map_err(|error| error.error)?;
        File::open(&self.folder)?.sync_all()
    }
}

/// The `count` bytes of a file before this place in it.
fn last_bytes(file: &File, before: u64, count: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; count as usize];
    file.read_exact_at(&mut bytes, before - count)?;
    Ok(bytes)
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> ArtifactsError {
    let path = path.to_owned();
    move |source| ArtifactsError { path, source }
}

/// Makes a folder that only its user can enter. One that is there already is left as it is, and refused when others
/// may write into it: they could put a key there.
fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    if fs::metadata(path)?.permissions().mode() & 0o022 != 0 {
        let what = "others may write into this folder; make it this user's alone (chmod 700)";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
    }
    Ok(())
}

/// Removes what a killed process left half-written.
fn tidy(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !is_being_written(&entry.path()) {
            continue;
        }
        let age = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
        if age > ABANDONED_AFTER {
            match fs::remove_file(entry.path()) {
                // It lies there for longer then, and what is compiled can be used.
                Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => return Ok(()),
                removed => removed?,
            }
        }
    }
    Ok(())
}

fn is_being_written(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(WRITING.as_bytes()))
}

/// Reads the node's key, or makes it. Two processes that start at once agree: the key is linked into place whole,
/// and whoever comes second reads the first one's.
fn node_key(path: &Path) -> io::Result<[u8; 32]> {
    let read = || -> io::Result<[u8; 32]> {
        let mut key = [0; 32];
        let mut file = File::open(path)?;
        file.read_exact(&mut key)?;
        if file.read(&mut [0])? != 0 || file.metadata()?.permissions().mode() & 0o077 != 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the node's key must have 32 bytes and be readable by its user only (chmod 600); remove it to have a new one made",
            ));
        }
        Ok(key)
    };
    match read() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        done => return done,
    }
    let mut key = [0; 32];
    getrandom::fill(&mut key)?;
    let temporary =
        path.with_extension(format!("{:016x}", u64::from_le_bytes(key[..8].try_into().unwrap_or_default())));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(&key)?;
    file.sync_all()?;
    let linked = fs::hard_link(&temporary, path);
    fs::remove_file(&temporary)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => read(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Pool;

    fn store() -> (tempfile::TempDir, Artifacts, PathBuf) {
        let data = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(data.path()).unwrap();
        let path = artifacts.path("name");
        artifacts.store(&path, b"native code", &notes()).unwrap();
        (data, artifacts, path)
    }

    fn notes() -> Notes {
        Notes {
            key: "name".into(),
            name: "app".into(),
            digest: Digest::of(b"component").to_string(),
            lane: Lane::Sequential,
            parts: vec![Part { name: "auth".into(), range: 3..9 }],
            contract: Some("package a:b;".into()),
        }
    }

    fn verify(artifacts: &Artifacts, path: &Path) -> Result<Verified, String> {
        artifacts.verify(File::open(path).unwrap())
    }

    #[test]
    fn what_was_stored_verifies() {
        let (_data, artifacts, path) = store();
        let verified = verify(&artifacts, &path).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(verified.notes, notes());
    }

    #[test]
    fn notes_are_read_whole_however_long() {
        let (_data, artifacts, path) = store();
        for length in [END_BYTES - 200, END_BYTES - TRAILER_BYTES, END_BYTES, 3 * END_BYTES] {
            let notes = Notes { contract: Some("x".repeat(length as usize)), ..notes() };
            artifacts.store(&path, b"native code", &notes).unwrap();
            let verified = verify(&artifacts, &path).unwrap_or_else(|why| panic!("{length}: {why}"));
            assert_eq!(verified.notes, notes, "{length}");
        }
    }

    #[test]
    fn any_changed_byte_and_any_missing_end_is_refused() {
        let (_data, artifacts, path) = store();
        let whole = fs::read(&path).unwrap();
        for index in 0..whole.len() {
            let mut changed = whole.clone();
            changed[index] ^= 1;
            fs::write(&path, &changed).unwrap();
            assert!(verify(&artifacts, &path).is_err(), "byte {index}");
            fs::write(&path, &whole[..index]).unwrap();
            assert!(verify(&artifacts, &path).is_err(), "length {index}");
        }
    }

    #[test]
    fn a_seal_is_checked_ahead_and_again_once_the_file_is_another() {
        let data = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(data.path()).unwrap();
        let engine = Engine::new(Pool { instances: 1, ..Pool::default() }).unwrap();
        let digest = Digest::of(b"component");
        assert!(!artifacts.check(&engine, &digest).unwrap());
        let path = artifacts.path(&engine.lane(Lane::Concurrent).unwrap().artifact_key(&digest));
        artifacts.store(&path, b"native code", &notes()).unwrap();
        assert!(artifacts.check(&engine, &digest).unwrap());
        let sealed = || artifacts.sealed.lock().unwrap().len();
        assert_eq!(sealed(), 1, "whoever loads it does not check it again");
        let mut changed = fs::read(&path).unwrap();
        changed[0] ^= 1;
        let other = artifacts.path("other");
        fs::write(&other, changed).unwrap();
        fs::rename(other, &path).unwrap();
        assert!(!artifacts.check(&engine, &digest).unwrap());
    }

    #[test]
    fn another_nodes_key_is_refused() {
        let (_data, _, path) = store();
        let (_other_data, other_node, _) = store();
        assert!(verify(&other_node, &path).is_err());
    }

    #[test]
    fn a_folder_that_others_may_write_into_is_refused_and_left_as_it_is() {
        let data = tempfile::tempdir().unwrap();
        fs::set_permissions(data.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Artifacts::open(data.path()).is_err());
        assert_eq!(fs::metadata(data.path()).unwrap().permissions().mode() & 0o777, 0o777);
    }

    #[test]
    fn what_a_killed_process_left_half_written_is_removed_once_it_is_old() {
        let (data, artifacts, path) = store();
        let (new, old) = (artifacts.folder.join(".writing-new"), artifacts.folder.join(".writing-old"));
        fs::write(&new, "").unwrap();
        let abandoned = File::create(&old).unwrap();
        abandoned.set_modified(std::time::SystemTime::now() - ABANDONED_AFTER * 2).unwrap();
        Artifacts::open(data.path()).unwrap();
        assert!(new.exists() && path.exists() && !old.exists());
    }

    #[test]
    fn what_is_needed_stays_however_much_there_is_and_the_oldest_of_the_rest_goes() {
        let (data, artifacts, needed) = store();
        let file = |name: &str, hours: u64| {
            let path = artifacts.path(name);
            let file = File::create(&path).unwrap();
            // It takes no room.
            file.set_len(SPARE_BYTES_MAX / 2).unwrap();
            file.set_modified(std::time::SystemTime::now() - Duration::from_secs(hours * 3_600)).unwrap();
            path
        };
        let (older, old, young) = (file("older", 3), file("old", 2), file("young", 1));
        let writing = artifacts.folder.join(".writing-now");
        fs::write(&writing, "").unwrap();
        let large = File::options().write(true).open(&needed).unwrap();
        large.set_len(SPARE_BYTES_MAX * 2).unwrap();
        large.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        Artifacts::open(data.path()).unwrap();
        let all = [&older, &old, &young, &needed, &writing];
        assert!(all.iter().all(|path| path.exists()), "whoever opens the store does not know what is needed");
        let kept = HashSet::from([needed.clone()]);
        assert_eq!(artifacts.prune_but(&kept, SPARE_BYTES_MAX).unwrap(), 1);
        assert!(!older.exists() && [&old, &young, &needed, &writing].iter().all(|path| path.exists()));
        assert_eq!(artifacts.prune_but(&kept, SPARE_BYTES_MAX).unwrap(), 0);
    }

    #[test]
    fn the_key_is_kept_and_private() {
        let data = tempfile::tempdir().unwrap();
        let first = Artifacts::open(data.path()).unwrap().key;
        assert_eq!(first, Artifacts::open(data.path()).unwrap().key);
        let key = data.path().join("key");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Artifacts::open(data.path()).is_err(), "a key that others can read is not a key");
    }
}

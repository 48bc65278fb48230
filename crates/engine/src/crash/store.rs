//! The folder of crash reports, the thread that writes it, and the bounds of both.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use tenon_model::Digest;

use super::report::{self, CrashReport, Wreck};

/// Reports that may wait for the writer.
const QUEUE_MAX: usize = 64;
/// Reports made in one second; a guest that fails every request must not keep a core busy with saying so.
const REPORTS_A_SECOND_MAX: u32 = 20;
/// Bytes of one report.
const REPORT_BYTES_MAX: usize = 256 << 10;
/// Bytes of all reports.
const REPORTS_BYTES_MAX: u64 = 32 << 20;
/// Core dumps that may wait for the writer: each is as large as its request's memory.
const DUMPS_WAITING_MAX: usize = 2;
/// Core dumps that are kept.
const DUMPS_KEPT_MAX: usize = 4;
/// Components that are kept to show reports with, and their bytes together.
const COMPONENTS_KEPT_MAX: usize = 16;
const COMPONENTS_BYTES_MAX: u64 = 1 << 30;
/// How often the writer says what was left out.
const LOOK: Duration = Duration::from_secs(1);
/// How files begin that are being written.
const WRITING: &str = ".writing-";
/// A file still being written after this long is not: its process was killed.
const ABANDONED_AFTER: Duration = Duration::from_secs(3_600);
const COMPONENTS: &str = "components";

/// The folder of reports could not be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub struct CrashesError {
    /// The file or folder.
    pub path: PathBuf,
    /// What happened.
    pub source: io::Error,
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> CrashesError {
    let path = path.to_owned();
    move |source| CrashesError { path, source }
}

/// What is reported, and how much of it is kept.
#[derive(Clone, Debug)]
pub struct CrashPolicy {
    /// Reports that are kept; the oldest go.
    pub keep: usize,
    /// Whether values of header fields and queries are kept, too.
    pub keep_arguments: bool,
    /// The files that the component was read from, for whoever shows a report.
    pub files: Vec<String>,
}

impl Default for CrashPolicy {
    /// A hundred reports, without arguments.
    fn default() -> Self {
        Self { keep: 100, keep_arguments: false, files: Vec::new() }
    }
}

/// Reports as they lie on disk.
#[derive(Clone, Debug)]
pub struct CrashFolder {
    path: PathBuf,
}

impl CrashFolder {
    /// The folder of the data directory `data`; it need not be there yet.
    pub fn of(data: &Path) -> Self {
        Self { path: data.join("crashes") }
    }

    /// The reports, newest first. A file that is no report is passed over.
    ///
    /// # Errors
    /// When the folder is there and cannot be read.
    pub fn list(&self) -> Result<Vec<CrashReport>, CrashesError> {
        let mut names = names(&self.path, ".json").map_err(at(&self.path))?;
        names.reverse();
        Ok(names.iter().filter_map(|name| self.read(name)).collect())
    }

    /// The newest report whose id begins with `id`, or whose request's id is `id`.
    ///
    /// # Errors
    /// When the folder is there and cannot be read.
    pub fn find(&self, id: &str) -> Result<Option<CrashReport>, CrashesError> {
        Ok(self.list()?.into_iter().find(|report| report.id.starts_with(id) || report.request.id == id))
    }

    /// The bytes of a component that a report is about, if they were kept.
    pub fn component(&self, report: &CrashReport) -> Option<Vec<u8>> {
        let digest: Digest = report.digest.parse().ok()?;
        let bytes = fs::read(self.path.join(COMPONENTS).join(format!("{}.wasm", digest.hex()))).ok()?;
        (Digest::of(&bytes) == digest).then_some(bytes)
    }

    /// Where the core dump of a report is, if it still is.
    pub fn core_dump(&self, report: &CrashReport) -> Option<PathBuf> {
        let path = self.path.join(report.core_dump.as_deref()?);
        path.is_file().then_some(path)
    }

    fn read(&self, name: &str) -> Option<CrashReport> {
        let mut bytes = Vec::new();
        let file = fs::File::open(self.path.join(name)).ok()?;
        file.take(REPORT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).ok()?;
        let report: CrashReport = serde_json::from_slice(&bytes).ok()?;
        (report.format == report::FORMAT).then_some(report)
    }
}

/// Where failed requests are reported to. Reports are written by a thread of its own.
pub struct Crashes {
    folder: PathBuf,
    pub(crate) policy: CrashPolicy,
    number: AtomicU16,
    second: Mutex<(Instant, u32)>,
    shared: Arc<Shared>,
    writer: Mutex<Option<(SyncSender<Job>, JoinHandle<()>)>>,
}

/// What the writer and those who report have in common.
#[derive(Default)]
struct Shared {
    /// Reports that were left out and not yet spoken of.
    dropped: AtomicU64,
    dumps_waiting: AtomicUsize,
}

struct Job {
    report: CrashReport,
    core_dump: Option<Vec<u8>>,
}

impl Crashes {
    /// Makes the folder in the data directory `data` where it is missing, and starts the writer.
    ///
    /// # Errors
    /// When the folder cannot be made or kept to this user, or the thread cannot be started.
    pub fn open(data: &Path, policy: CrashPolicy) -> Result<Arc<Self>, CrashesError> {
        let folder = CrashFolder::of(data).path;
        let components = folder.join(COMPONENTS);
        private_folder(&components).map_err(at(&components))?;
        remove_abandoned(&folder).and_then(|()| prune(&folder, policy.keep)).map_err(at(&folder))?;
        let mut seed = [0; 2];
        getrandom::fill(&mut seed).map_err(|error| at(&folder)(io::Error::other(error)))?;
        let shared = Arc::new(Shared::default());
        let (sender, jobs) = sync_channel(QUEUE_MAX);
        let (in_thread, shared_in_thread, keep) = (folder.clone(), Arc::clone(&shared), policy.keep);
        let writer = std::thread::Builder::new()
            .name("tenon-crashes".into())
            .spawn(move || write_all(&in_thread, keep, &jobs, &shared_in_thread))
            .map_err(at(&folder))?;
        Ok(Arc::new(Self {
            folder,
            policy,
            number: AtomicU16::new(u16::from_le_bytes(seed)),
            second: Mutex::new((Instant::now(), 0)),
            shared,
            writer: Mutex::new(Some((sender, writer))),
        }))
    }

    /// Keeps a copy of a component, so that its reports can be shown with names and lines after it was changed.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_component(&self, bytes: &[u8]) -> Result<(), CrashesError> {
        let folder = self.folder.join(COMPONENTS);
        let path = folder.join(format!("{}.wasm", Digest::of(bytes).hex()));
        let kept = || -> io::Result<()> {
            if fs::metadata(&path).is_ok_and(|meta| meta.len() == bytes.len() as u64) {
                // Used again: the last to go.
                return fs::File::open(&path)?.set_modified(SystemTime::now());
            }
            remove_abandoned(&folder)?;
            write(&folder, &path, bytes)?;
            prune_components(&folder)
        };
        kept().map_err(at(&path))
    }

    /// Whether one more report may be made now; counts it as left out when it may not.
    pub(crate) fn admit(&self) -> bool {
        let mut second = self.second.lock().unwrap_or_else(PoisonError::into_inner);
        if second.0.elapsed() >= Duration::from_secs(1) {
            *second = (Instant::now(), 0);
        }
        second.1 += 1;
        let admitted = second.1 <= REPORTS_A_SECOND_MAX;
        if !admitted {
            self.shared.dropped.fetch_add(1, Relaxed);
        }
        admitted
    }

    /// Whether there is room for another core dump, which is then taken until it is written.
    fn admit_dump(&self) -> bool {
        let more = |waiting: usize| (waiting < DUMPS_WAITING_MAX).then_some(waiting + 1);
        self.shared.dumps_waiting.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    pub(crate) fn next_id(&self, at: SystemTime) -> String {
        report::id(at, self.number.fetch_add(1, Relaxed))
    }

    /// Hands a report to the writer; returns its id when the writer has room for it.
    pub(crate) fn report(&self, wreck: Wreck<'_>, core_dump: Option<Vec<u8>>) -> Option<Arc<str>> {
        let sender = self.writer.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.0.clone();
        let mut report = wreck.report();
        let id = Arc::from(report.id.as_str());
        let core_dump = core_dump.filter(|_| self.admit_dump());
        report.core_dump = core_dump.is_some().then(|| format!("{}.coredump", report.id));
        match sender.try_send(Job { report, core_dump }) {
            Ok(()) => Some(id),
            Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => {
                if job.core_dump.is_some() {
                    self.shared.dumps_waiting.fetch_sub(1, Relaxed);
                }
                self.shared.dropped.fetch_add(1, Relaxed);
                None
            }
        }
    }

    /// Writes what is waiting and ends the writer; later reports are left out.
    pub fn finish(&self) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((sender, thread)) = writer {
            drop(sender);
            let _ = thread.join();
        }
    }
}

impl Drop for Crashes {
    fn drop(&mut self) {
        self.finish();
    }
}

/// The writer's life.
fn write_all(folder: &Path, keep: usize, jobs: &Receiver<Job>, shared: &Shared) {
    loop {
        let job = match jobs.recv_timeout(LOOK) {
            Ok(job) => Some(job),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => break,
        };
        if let Some(Job { report, core_dump }) = job {
            let dumped = core_dump.is_some();
            if let Err(error) = write_one(folder, keep, report, core_dump) {
                tracing::warn!(folder = %folder.display(), %error, "a crash report could not be written");
            }
            if dumped {
                shared.dumps_waiting.fetch_sub(1, Relaxed);
            }
        }
        say_dropped(shared);
    }
    say_dropped(shared);
}

fn say_dropped(shared: &Shared) {
    let dropped = shared.dropped.swap(0, Relaxed);
    if dropped > 0 {
        tracing::warn!(dropped, "more requests failed than crash reports are written; the rest was left out");
    }
}

fn write_one(
    folder: &Path,
    keep: usize,
    mut report: CrashReport,
    core_dump: Option<Vec<u8>>,
) -> io::Result<()> {
    if let Some((name, dump)) = report.core_dump.clone().zip(core_dump) {
        write(folder, &folder.join(name), &dump)?;
    }
    let mut bytes = serde_json::to_vec_pretty(&report)?;
    if bytes.len() > REPORT_BYTES_MAX {
        // What a client or guest can make long goes first.
        report.log.clear();
        report.request.headers.clear();
        report.parts.clear();
        bytes = serde_json::to_vec_pretty(&report)?;
        if bytes.len() > REPORT_BYTES_MAX {
            return Err(io::Error::other("it is larger than a report may be"));
        }
    }
    write(folder, &folder.join(format!("{}.json", report.id)), &bytes)?;
    prune(folder, keep)
}

/// Writes a file whole or not at all.
fn write(folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = tempfile::Builder::new()
        .prefix(WRITING)
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(folder)?;
    temporary.write_all(bytes)?;
    temporary.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// The files of a folder that end so, oldest first; none when there is no folder.
fn names(folder: &Path, end: &str) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        names.extend(
            name.to_str().filter(|name| name.ends_with(end) && !name.starts_with('.')).map(str::to_owned),
        );
    }
    names.sort_unstable();
    Ok(names)
}

/// Removes the oldest reports and core dumps until there are no more than may be kept. Another process may do the same.
fn prune(folder: &Path, keep: usize) -> io::Result<()> {
    let (mut kept, mut bytes) = (0, 0);
    for name in names(folder, ".json")?.iter().rev() {
        let path = folder.join(name);
        kept += 1;
        bytes += fs::metadata(&path).map_or(0, |meta| meta.len());
        if kept > keep || bytes > REPORTS_BYTES_MAX {
            remove(&path)?;
        }
    }
    for name in names(folder, ".coredump")?.iter().rev().skip(DUMPS_KEPT_MAX.min(keep)) {
        remove(&folder.join(name))?;
    }
    Ok(())
}

fn prune_components(folder: &Path) -> io::Result<()> {
    let mut components = Vec::new();
    for name in names(folder, ".wasm")? {
        let path = folder.join(name);
        let meta = fs::metadata(&path)?;
        components.push((meta.modified()?, meta.len(), path));
    }
    components.sort();
    let (mut kept, mut bytes) = (0, 0);
    for (_, size, path) in components.iter().rev() {
        kept += 1;
        bytes += size;
        // The one just written stays, however large it is.
        if kept > 1 && (kept > COMPONENTS_KEPT_MAX || bytes > COMPONENTS_BYTES_MAX) {
            remove(path)?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Makes a folder, and those it lies in, that only its user can enter.
fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn remove_abandoned(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(WRITING.as_bytes())
            && entry.metadata()?.modified()?.elapsed().unwrap_or_default() > ABANDONED_AFTER
        {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::{Backends, Principals};
    use crate::crash::report::Boundary;
    use crate::failure::Failure;
    use crate::respond::Bill;
    use tenon_model::{Authority, Limits};

    fn report(crashes: &Crashes, request: &str, dump: Option<Vec<u8>>) -> Option<Arc<str>> {
        let now = SystemTime::now();
        let http = http::Request::new(());
        let bill = Bill { wall: Duration::ZERO, cpu: Duration::ZERO, memory_bytes: 0 };
        let failure = Failure::Internal { cause: "x".repeat(10_000) };
        crashes.report(
            Wreck {
                id: crashes.next_id(now),
                at: now,
                app: "app",
                digest: &Digest::of(b"component"),
                files: &[],
                function: "handle",
                arguments: None,
                trace_id: None,
                boundary: Boundary::of(&http, &request.into(), false),
                keep_arguments: false,
                failure: &failure,
                bill: &bill,
                limits: &Limits::default(),
                used: None,
                principals: &Principals::new(
                    "app",
                    &Authority::default(),
                    &Limits::default(),
                    &Backends::default(),
                ),
                parts: &[],
                stack: Vec::new(),
                log: Vec::new(),
            },
            dump,
        )
    }

    /// Reports and waits until it is written.
    fn written(crashes: &Crashes, folder: &CrashFolder, request: &str) {
        let id = report(crashes, request, None).unwrap();
        let began = Instant::now();
        while folder.find(&id).unwrap().is_none() {
            assert!(began.elapsed() < Duration::from_secs(30), "not written");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn so_many_are_kept_and_the_oldest_go() {
        let data = tempfile::tempdir().unwrap();
        let crashes = Crashes::open(data.path(), CrashPolicy { keep: 3, ..CrashPolicy::default() }).unwrap();
        let folder = CrashFolder::of(data.path());
        for number in 0..5 {
            written(&crashes, &folder, &format!("r{number}"));
            std::thread::sleep(Duration::from_millis(2));
        }
        crashes.finish();
        let kept: Vec<_> = folder.list().unwrap().into_iter().map(|report| report.request.id).collect();
        assert_eq!(kept, ["r4", "r3", "r2"], "newest first");
        assert!(folder.find("r3").unwrap().is_some() && folder.find("r0").unwrap().is_none());
        assert_eq!(report(&crashes, "late", None), None, "nobody writes any longer");
        assert!(fs::read_dir(data.path().join("crashes")).unwrap().count() <= 4);
    }

    #[test]
    fn what_comes_too_fast_is_left_out() {
        let data = tempfile::tempdir().unwrap();
        let crashes = Crashes::open(data.path(), CrashPolicy::default()).unwrap();
        let admitted = (0..1_000).filter(|_| crashes.admit()).count();
        // A second may begin while they are counted.
        assert!((20..=60).contains(&admitted), "{admitted}");
        assert!(crashes.shared.dropped.load(Relaxed) > 0);
    }

    #[test]
    fn core_dumps_are_few() {
        let data = tempfile::tempdir().unwrap();
        let crashes = Crashes::open(data.path(), CrashPolicy::default()).unwrap();
        let folder = CrashFolder::of(data.path());
        for number in 0..8 {
            report(&crashes, &format!("r{number}"), Some(vec![0; 100])).unwrap();
            while crashes.shared.dumps_waiting.load(Relaxed) > 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        crashes.finish();
        let dumps = names(&data.path().join("crashes"), ".coredump").unwrap();
        assert_eq!(dumps.len(), DUMPS_KEPT_MAX);
        let reports = folder.list().unwrap();
        assert_eq!(reports.len(), 8);
        assert_eq!(
            reports.iter().filter(|report| folder.core_dump(report).is_some()).count(),
            DUMPS_KEPT_MAX
        );
    }

    #[test]
    fn a_component_is_kept_and_told_from_a_changed_one() {
        let data = tempfile::tempdir().unwrap();
        let crashes = Crashes::open(data.path(), CrashPolicy::default()).unwrap();
        let folder = CrashFolder::of(data.path());
        crashes.keep_component(b"component").unwrap();
        crashes.keep_component(b"component").unwrap();
        written(&crashes, &folder, "r");
        let report = folder.find("r").unwrap().unwrap();
        assert_eq!(folder.component(&report).as_deref(), Some(&b"component"[..]));
        let path =
            data.path().join("crashes/components").join(format!("{}.wasm", Digest::of(b"component").hex()));
        fs::write(&path, b"something else").unwrap();
        assert_eq!(folder.component(&report), None);
        for number in 0..COMPONENTS_KEPT_MAX + 4 {
            crashes.keep_component(format!("component {number}").as_bytes()).unwrap();
        }
        let kept = names(&data.path().join("crashes/components"), ".wasm").unwrap();
        assert_eq!(kept.len(), COMPONENTS_KEPT_MAX);
    }

    #[test]
    fn what_is_no_report_is_passed_over() {
        let data = tempfile::tempdir().unwrap();
        let folder = CrashFolder::of(data.path());
        assert!(folder.list().unwrap().is_empty(), "no folder yet");
        drop(Crashes::open(data.path(), CrashPolicy::default()).unwrap());
        fs::write(data.path().join("crashes/garbage.json"), b"{").unwrap();
        fs::write(data.path().join("crashes/other.json"), b"{\"format\": 7}").unwrap();
        assert!(folder.list().unwrap().is_empty());
    }
}

//! What a process that serves asks of the kernel before it has threads, so that no request waits for the kernel later.

use std::io;
use std::os::fd::RawFd;

use rustix::process::{Resource, getrlimit, setrlimit};

/// Places of the kernel's table of open files that are made at start, for as many as there may be: eight bytes each.
const TABLED_FILES_MAX: u64 = 1 << 18;

/// What could not be had; the process serves all the same.
pub(crate) struct Prepared([(&'static str, io::Result<()>); 3]);

/// For a process that builds as well, in programs that have what it has: without turning off huge pages.
pub(crate) fn prepare_to_build() -> Prepared {
    prepared(Ok(()))
}

/// To be called before the first thread is started.
pub(crate) fn prepare() -> Prepared {
    prepared(leave_huge_pages())
}

fn prepared(huge_pages: io::Result<()>) -> Prepared {
    Prepared([
        ("the limit on open files could not be raised", allow_open_files()),
        (
            "the table of open files could not be made larger: opening one may take milliseconds",
            table_open_files(),
        ),
        ("huge pages could not be turned off: allocating memory may take milliseconds", huge_pages),
    ])
}

impl Prepared {
    /// Says so in the log, which began after that.
    pub(crate) fn say(self) {
        for (what, done) in self.0 {
            if let Err(error) = done {
                tracing::warn!(%error, "{what}");
            }
        }
    }
}

/// Every connection and every component in memory is an open file, and the usual soft limit is far below the hard one.
fn allow_open_files() -> io::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}

/// The kernel doubles its table of a process's open files when that is full, and where there are several threads, whoever
/// opens a file waits 10 to 20 ms for it (`expand_files`, which waits for a grace period of RCU).
fn table_open_files() -> io::Result<()> {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX).min(TABLED_FILES_MAX);
    let last = RawFd::try_from(files.saturating_sub(1)).unwrap_or(RawFd::MAX);
    // A file in the last place; it is closed at once, and the table stays.
    Ok(rustix::io::fcntl_dupfd_cloexec(io::stderr(), last).map(drop)?)
}

/// The allocator asks for huge pages. To clear one is quick where memory is the machine's own, but takes 6 ms where the machine
/// is a virtual one that gets it from its host only then, and whoever allocates waits.
fn leave_huge_pages() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::thread::disable_transparent_huge_pages(true)?;
    Ok(())
}

/// Takes back for this process what it has of its parent: it compiles, and nobody waits for a page of it.
pub(crate) fn take_huge_pages() {
    #[cfg(target_os = "linux")]
    // Without them it is as quick but for a little.
    let _ = rustix::thread::disable_transparent_huge_pages(false);
}

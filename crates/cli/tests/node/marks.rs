//! Where a deploy is, as it can be seen from outside while it runs.

use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tenon_testkit::{Finished, Serving};

use crate::support::Site;

/// How often it is looked.
const LOOK: Duration = Duration::from_micros(500);
/// How long a deploy may take to come to where it is wanted: it may build first.
const PATIENCE: Duration = Duration::from_secs(600);

/// A step that has begun or is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// The component has begun to come.
    Uploading,
    /// All of it is there.
    Uploaded,
    /// A compiler runs.
    Compiling,
    /// Its code is there.
    Compiled,
    /// The node says that it has changed.
    Committed,
}

impl Mark {
    pub(crate) const ALL: [Self; 5] =
        [Self::Uploading, Self::Uploaded, Self::Compiling, Self::Compiled, Self::Committed];
}

/// How a node was before a deploy.
pub(crate) struct Before {
    blobs: usize,
    artifacts: usize,
    generation: u64,
    app: String,
}

impl Before {
    /// Now; `app` is `tenant/name`.
    pub(crate) fn of(site: &Site, app: &str) -> Self {
        let data = site.tenon.data();
        Self {
            blobs: files(&data.join("node/blobs/sha256")),
            artifacts: files(&data.join("artifacts")),
            generation: generation(site, app),
            app: app.to_owned(),
        }
    }

    fn is_at(&self, site: &Site, mark: Mark) -> bool {
        let data = site.tenon.data();
        match mark {
            Mark::Uploading => {
                files(&data.join("node/blobs/unfinished")) > 0 || self.is_at(site, Mark::Uploaded)
            }
            Mark::Uploaded => files(&data.join("node/blobs/sha256")) > self.blobs,
            Mark::Compiling => compiles(&site.node),
            Mark::Compiled => files(&data.join("artifacts")) > self.artifacts,
            Mark::Committed => generation(site, &self.app) > self.generation,
        }
    }

    /// Waits until a deploy has come there; whether it was seen before the command ended.
    pub(crate) fn wait(&self, site: &Site, mark: Mark, deploying: &JoinHandle<Finished>) -> bool {
        let start = Instant::now();
        while !deploying.is_finished() {
            if self.is_at(site, mark) {
                return true;
            }
            assert!(start.elapsed() < PATIENCE, "the deploy never came to {mark:?}");
            std::thread::sleep(LOOK);
        }
        false
    }
}

/// How often an app was changed; zero where there is none.
fn generation(site: &Site, app: &str) -> u64 {
    let (tenant, name) = app.split_once('/').unwrap();
    let reply = site.admin(&format!("/v1/tenants/{tenant}/apps/{name}"));
    let app = serde_json::from_str::<serde_json::Value>(&reply.text()).ok();
    app.and_then(|app| app["generation"].as_u64()).unwrap_or(0)
}

/// Files below a folder that may change meanwhile.
fn files(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => files(&entry.path()),
            Ok(kind) if kind.is_file() => 1,
            _ => 0,
        })
        .sum()
}

/// Whether one of the node's own processes compiles.
fn compiles(node: &Serving) -> bool {
    let Ok(processes) = std::fs::read_dir("/proc") else { return false };
    processes.flatten().any(|process| {
        let is_worker = std::fs::read(process.path().join("cmdline"))
            .is_ok_and(|line| line.windows(14).any(|word| word == b"compile-worker"));
        is_worker && parent(&process.path()) == Some(node.id())
    })
}

fn parent(process: &Path) -> Option<u32> {
    let status = std::fs::read_to_string(process.join("status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
}

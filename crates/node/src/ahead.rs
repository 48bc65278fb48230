//! What is done about compiled code before a request wants it.
//!
//! Compiling ahead: a node that takes another one's place has what is served compiled for its own engine before requests come.
//!
//! Compiled code is keyed by the engine, so the next version of the node may have none. While the one before serves on, and can be
//! changed, all that it serves is compiled; then it is asked for its state. What was deployed meanwhile is few.
//!
//! Checking ahead: the seal of an artifact is checked once while a node runs, and an app's first request need not wait for it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use tenon_engine::{Artifacts, Engine};
use tenon_model::{AppId, Diagnostic, Digest};
use tenon_state::BlobFolder;

use crate::compile::Compiler;
use crate::config::Predecessor;
use crate::node::{Inner, said};

/// How long a node that has the state waits for what is still compiled, before it serves all the same: meanwhile nobody can change
/// anything, and the one before takes its state back after two minutes.
const AFTER_HAND_OVER_MAX: Duration = Duration::from_secs(60);
/// How often it is said how far it is, over all of it.
const SAID_TIMES: usize = 20;

/// What compiles.
pub(crate) struct Ahead<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) artifacts: &'a Artifacts,
    pub(crate) compiler: &'a Compiler,
    pub(crate) blobs: &'a BlobFolder,
    /// Compilers that run at the same time.
    pub(crate) compilers: usize,
}

impl Ahead<'_> {
    /// Compiles what the node before serves. One that cannot say it is no reason to end: then everything is compiled once the state
    /// is here.
    ///
    /// # Errors
    /// When this node's engine cannot be set up.
    pub(crate) fn of(&self, predecessor: &mut dyn Predecessor) -> Result<(), Diagnostic> {
        match predecessor.serving() {
            Ok(serving) => self.compile(&serving, &|| true),
            Err(error) => {
                tracing::warn!(
                    code = error.code,
                    cause = error.message,
                    "the node that is replaced does not say what it serves: it is compiled after the hand-over"
                );
                Ok(())
            }
        }
    }

    /// Compiles those of these components that have no compiled code for this engine, as long as it is to go on. What cannot be
    /// compiled is said, and left to whoever asks for it.
    fn compile(
        &self,
        serving: &[(AppId, Digest)],
        goes_on: &(dyn Fn() -> bool + Sync),
    ) -> Result<(), Diagnostic> {
        let began = Instant::now();
        let mut missing = Vec::new();
        for one in serving {
            if !self.artifacts.has(self.engine, &one.1)? {
                missing.push(one);
            }
        }
        if missing.is_empty() {
            tracing::info!(components = serving.len(), "all that is served is compiled for this engine");
            return Ok(());
        }
        tracing::info!(components = missing.len(), of = serving.len(), "compiling ahead what is served");
        let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..self.compilers.clamp(1, missing.len()) {
                scope.spawn(|| {
                    while goes_on()
                        && let Some((app, digest)) = missing.get(next.fetch_add(1, Relaxed))
                    {
                        self.compile_one(app, digest);
                        tell(done.fetch_add(1, Relaxed) + 1, missing.len());
                    }
                });
            }
        });
        tracing::info!(took_s = began.elapsed().as_secs(), "compiling ahead is over");
        Ok(())
    }

    fn compile_one(&self, app: &AppId, digest: &Digest) {
        let place = self.blobs.place(digest);
        if let Err(refused) = self.compiler.compile((self.engine, self.artifacts), app, &place, digest) {
            let (code, cause) = (&refused.0.code, said(&refused));
            tracing::warn!(%app, %digest, code, cause, "a component could not be compiled ahead");
        }
    }
}

/// Says how far it is: for few each time, for many after each twentieth part.
fn tell(done: usize, of: usize) {
    if is_told(done, of) {
        tracing::info!(done, of, "compiled ahead");
    }
}

fn is_told(done: usize, of: usize) -> bool {
    done * SAID_TIMES / of != (done - 1) * SAID_TIMES / of
}

/// Compiles what the state says is served and is not compiled yet; waits for it, but not for long. What is left then is compiled while
/// the node serves.
pub(crate) fn finish(node: &Arc<Inner>) -> io::Result<()> {
    let (done, ended) = sync_channel(1);
    let here = Arc::clone(node);
    thread::Builder::new().name("tenon-ahead".into()).spawn(move || {
        let ahead = Ahead {
            engine: &here.engine,
            artifacts: &here.artifacts,
            compiler: &here.compiler,
            blobs: &here.blobs,
            compilers: here.bounds.compilers,
        };
        if let Err(error) = ahead.compile(&here.serving(), &|| !here.draining.load(SeqCst)) {
            tracing::warn!(code = error.code, cause = error.message, "nothing could be compiled ahead");
        }
        let _ = done.try_send(());
    })?;
    if ended.recv_timeout(AFTER_HAND_OVER_MAX).is_err() {
        tracing::warn!(
            "requests are served before everything is compiled: an app whose turn has not come is compiled when it is asked"
        );
    }
    Ok(())
}

/// Checks the seals of what is served, while it is served; no faster than half of the time, for it reads all of it. Whoever asks before
/// that waits for it as ever.
pub(crate) fn check(node: &Arc<Inner>) {
    let serving = node.serving();
    let here = Arc::downgrade(node);
    let started = thread::Builder::new().name("tenon-ahead".into()).spawn(move || {
        tenon_engine::give_way();
        for (_, digest) in serving {
            let began = Instant::now();
            let Some(node) = here.upgrade().filter(|node| !node.draining.load(SeqCst)) else { return };
            // What is wrong with it is told by whoever loads it.
            let _ = node.artifacts.check(&node.engine, &digest);
            drop(node);
            thread::sleep(began.elapsed());
        }
    });
    if let Err(error) = started {
        tracing::warn!(%error, "seals are checked when apps are asked for the first time");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_how_far_it_is_and_not_too_often() {
        let told = |of: usize| (1..=of).filter(|done| is_told(*done, of)).collect::<Vec<_>>();
        assert_eq!(told(1), [1]);
        assert_eq!(told(3), [1, 2, 3]);
        assert_eq!(told(3_000).len(), SAID_TIMES);
        assert_eq!(told(3_000).last(), Some(&3_000));
    }
}

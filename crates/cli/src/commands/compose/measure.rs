//! How long it takes to make an instance of a composed component, before and after it was optimised.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tenon_engine::call::{Callable, Session};
use tenon_engine::{Backends, Engine, Pool, Terms};
use tenon_model::Diagnostic;

use crate::app::addressable;
use crate::commands::compile;
use crate::error::CommandError;
use crate::project::Project;
use crate::stores;
use crate::terminal::Terminal;

/// Instances made of each, unless the time is over before.
const ROUNDS_MAX: usize = 500;
/// How long measuring may take beyond the first round.
const TIME_MAX: Duration = Duration::from_secs(2);
/// Sandboxes that the pool of each holds: one, and one that may still be on its way out.
const SANDBOXES: u32 = 2;

/// What an instance takes of each of the two components: the median, the rounds taken in turns.
///
/// # Errors
/// When one of them cannot be linked, or its instantiation fails.
pub(super) fn instantiation(
    project: &Project,
    components: [&[u8]; 2],
    data: &Path,
    terminal: &Terminal,
) -> Result<[Duration; 2], CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CommandError::ours("the runtime could not start", &error))?;
    let mut sessions = Vec::new();
    for component in components {
        sessions.push(session(project, component, data, terminal)?);
    }
    runtime.block_on(async {
        let mut took: [Vec<Duration>; 2] = [Vec::new(), Vec::new()];
        let started = Instant::now();
        // The first of each is not counted: it finds nothing in the caches.
        for round in 0..=ROUNDS_MAX {
            for (session, took) in sessions.iter_mut().zip(&mut took) {
                let before = Instant::now();
                session.instantiate().await.map_err(|failure| {
                    Diagnostic::new("not-measured", "an instance of the component cannot be made")
                        .note("found", failure.to_string())
                })?;
                if round > 0 {
                    took.push(before.elapsed());
                }
            }
            if round > 1 && started.elapsed() > TIME_MAX {
                break;
            }
        }
        Ok(took.map(|mut took| {
            took.sort_unstable();
            took[took.len() / 2]
        }))
    })
}

fn session(
    project: &Project,
    component: &[u8],
    data: &Path,
    terminal: &Terminal,
) -> Result<Session, CommandError> {
    let name = project.name();
    let limits = addressable(project.manifest.limits)?;
    let authorities = project.authorities()?;
    let engine = Engine::new(Pool::of(SANDBOXES, &limits)).map_err(Diagnostic::from)?;
    let stored = compile::compiled(&engine, &compile::open_store(data)?, &name, component, terminal)?;
    let backends = Backends { stores: stores::open(&authorities, data)?, ..Backends::default() };
    let file = project.manifest.file.clone();
    let terms = Terms { name: &name, file: &file, limits, authorities: &authorities, backends: &backends };
    Ok(Arc::new(Callable::new(&engine, stored, &terms)?).session("compose".into()))
}

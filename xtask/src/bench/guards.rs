//! What guarding a request costs: one server without guards, and one more for each that is switched on. All of them run
//! at the same time on one core and are loaded in turn for a moment each, again and again, so that a machine which is
//! faster one second than the next is as fast for one as for the others.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::figures::Spread;
use super::guests::Guarded;
use super::load::Load;
use super::{Run, process, subject};
use crate::command::{Cmd, Server};
use crate::failure::Result;
use crate::signals;

/// How long each is loaded at a time.
const SLICE_SECONDS: u64 = 1;
/// How often each has its turn.
const TURNS: usize = 20;
/// After a load: what a server still does for it is over by then.
const SETTLE: Duration = Duration::from_millis(50);

/// What is switched on, from nothing to everything.
const GUARDS: [&[&str]; 4] = [&[], &["limits"], &["limits", "billing"], &["limits", "billing", "grants"]];
/// What each guard costs: its name, the server with it, the one without it, and what it may cost at most.
const COSTS: [(&str, usize, usize, Option<f64>); 4] =
    [("limits", 1, 0, None), ("bill", 2, 1, None), ("grants", 3, 2, None), ("all three", 3, 0, Some(1.1))];

/// Processor time a request, in microseconds: of each turn, of each server.
#[derive(Default)]
pub(super) struct Guards {
    turns: Vec<[f64; GUARDS.len()]>,
}

/// Starts them all and loads them in turn.
pub(super) fn measure(run: &Run<'_>, guests: &Guarded) -> Result<Guards> {
    let mut servers: Vec<(Server, SocketAddr)> = Vec::new();
    for on in GUARDS {
        // One guest for all: what it imports costs the same, granted or not.
        let command =
            Cmd::new(&guests.server).arg(&guests.reach).arg(&guests.artifacts).args(on.iter().copied());
        servers.push(subject::serve(command, run, &format!("guards-{}", on.len()))?);
    }
    let load = |address| Load {
        connections: run.options.connections,
        seconds: SLICE_SECONDS,
        rate: None,
        address,
        path: "/",
        core: run.cores.load,
    };
    for (_, address) in &servers {
        load(*address).run(run.workspace)?;
    }
    let mut guards = Guards::default();
    for _ in 0..TURNS {
        let mut turn = [f64::NAN; GUARDS.len()];
        for (cost, (server, address)) in turn.iter_mut().zip(&servers) {
            signals::check()?;
            let before = process::cpu(server.id())?;
            let loaded = load(*address).run(run.workspace)?;
            thread::sleep(SETTLE);
            let cpu = process::cpu(server.id())?.saturating_sub(before);
            *cost = cpu.as_secs_f64() * 1e6 / loaded.answered as f64;
        }
        guards.turns.push(turn);
    }
    for (mut server, _) in servers {
        server.check()?;
        server.stop()?;
    }
    for (guard, spread, _) in guards.costs() {
        println!("  {guard:12} {}", spread.map_or("-".to_owned(), |spread| format!("{:.3}", spread.median)));
    }
    Ok(guards)
}

impl Guards {
    fn costs(&self) -> impl Iterator<Item = (&'static str, Option<Spread>, Option<f64>)> {
        COSTS.iter().map(|&(guard, on, off, at_most)| {
            (guard, Spread::of(self.turns.iter().map(|turn| turn[on] / turn[off])), at_most)
        })
    }

    /// Rows of a table for people, under a heading.
    pub(super) fn rows(&self) -> Vec<Vec<String>> {
        let heading = ["", "CPU, on over off", "half of the turns", "at most"].map(str::to_owned).to_vec();
        let rows = self.costs().map(|(guard, spread, at_most)| {
            let shown = |figure: &dyn Fn(&Spread) -> String| spread.as_ref().map_or("-".to_owned(), figure);
            vec![
                guard.to_owned(),
                shown(&|it| format!("{:.3}", it.median)),
                shown(&|it| format!("{:.3}–{:.3}", it.q1, it.q3)),
                at_most.map_or(String::new(), |at_most| format!("{at_most}")),
            ]
        });
        std::iter::once(heading).chain(rows).collect()
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        self.costs()
            .map(|(guard, spread, at_most)| {
                json!({ "guard": guard, "cpu_ratio": spread.map(|it| it.json()), "at_most": at_most })
            })
            .collect()
    }
}

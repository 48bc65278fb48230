//! One guest loops for ever, again and again, beside requests that come at a steady rate: what those notice, and how soon
//! the guest is stopped.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::figures::Spread;
use super::guests::Guarded;
use super::load::{Load, Loaded};
use super::machine::on_core;
use super::{Run, WARM_UP_SECONDS, subject};
use crate::failure::{Failure, Result};
use crate::http::Request;
use crate::signals;

/// Requests a second beside the loop: what leaves the core time for both.
const RATE: u32 = 1_000;
/// Their connections.
const CONNECTIONS: usize = 8;
/// The processor time a request may use.
const BUDGET: Duration = Duration::from_millis(500);
/// How long a loop may go on at most, before the harness gives up.
const STOPPED_MAX: Duration = Duration::from_secs(60);
/// How often a loop without neighbours is timed.
const LOOPS: usize = 9;

/// What was seen.
#[derive(Default)]
pub(super) struct Neighbours {
    /// For each round: the neighbours alone, and beside the loop.
    rounds: Vec<(Loaded, Loaded)>,
    /// For each loop that had the core to itself: from its budget to its end.
    overrun_ms: Vec<f64>,
    /// Loops that were stopped while there were neighbours.
    loops: usize,
}

/// Serves the 0.2 hello, and has it loop.
pub(super) fn measure(run: &Run<'_>, guests: &Guarded) -> Result<Neighbours> {
    let budget = format!("{}ms", BUDGET.as_millis());
    let address = subject::free_address()?;
    let log = run.logs.join("neighbours.log");
    let command = run
        .workspace
        .run_tenon(["serve", "--quiet", "--workers", "1", "--cpu", &budget])
        .arg(&guests.http)
        .arg("--listen")
        .arg(address.to_string())
        .log_to(&log);
    let mut server = on_core(run.cores.server, || command.start())?;
    subject::first_byte(&mut server, address, "/").map_err(|failure| subject::said(&failure, &log))?;

    let load = |seconds| {
        let (path, core) = ("/", run.cores.load);
        Load { connections: CONNECTIONS, seconds, rate: Some(RATE), address, path, core }.run(run.workspace)
    };
    load(WARM_UP_SECONDS)?;
    let mut seen = Neighbours::default();
    for _ in 0..run.options.rounds {
        signals::check()?;
        let quiet = load(run.options.seconds)?;
        let over = AtomicBool::new(false);
        let (beside, loops) = thread::scope(|scope| {
            let looping = scope.spawn(|| {
                let mut loops = 0;
                while !over.load(Ordering::Relaxed) {
                    spin(address)?;
                    loops += 1;
                }
                Ok(loops)
            });
            let beside = load(run.options.seconds);
            over.store(true, Ordering::Relaxed);
            let loops = looping.join().map_err(|_| Failure::new("the loops ended in a panic"))?;
            Ok::<_, Failure>((beside?, loops?))
        })?;
        println!("  p99 {:>7.0} µs quiet, {:>7.0} µs beside a loop", quiet.p99_us, beside.p99_us);
        seen.loops += loops;
        seen.rounds.push((quiet, beside));
    }
    for _ in 0..LOOPS {
        signals::check()?;
        let took = spin(address)?;
        seen.overrun_ms.push((took.as_secs_f64() - BUDGET.as_secs_f64()) * 1e3);
    }
    server.check()?;
    server.stop()?;
    Ok(seen)
}

/// Has the guest loop until it is stopped; how long that took.
fn spin(address: SocketAddr) -> Result<Duration> {
    let failed = |error: std::io::Error| Failure::new(format!("a request that loops, to {address}: {error}"));
    let mut stream = TcpStream::connect(address).map_err(failed)?;
    stream.set_read_timeout(Some(STOPPED_MAX)).map_err(failed)?;
    let began = Instant::now();
    let request = Request { method: "GET", path: "/spin", ..Request::default() };
    stream.write_all(&request.bytes(address)).map_err(failed)?;
    let mut status = [0; 12];
    stream.read_exact(&mut status).map_err(failed)?;
    match &status {
        b"HTTP/1.1 504" => Ok(began.elapsed()),
        status => Err(Failure::new(format!(
            "a guest that loops was answered with {}, not with 504",
            String::from_utf8_lossy(status)
        ))),
    }
}

impl Neighbours {
    fn spread(&self, figure: impl Fn(&(Loaded, Loaded)) -> f64) -> Option<Spread> {
        Spread::of(self.rounds.iter().map(figure))
    }

    fn figures(&self) -> [(&'static str, &'static str, Option<Spread>); 6] {
        [
            ("quiet_p50_us", "p50 quiet, µs", self.spread(|(quiet, _)| quiet.p50_us)),
            ("beside_p50_us", "p50 beside the loop, µs", self.spread(|(_, beside)| beside.p50_us)),
            ("quiet_p99_us", "p99 quiet, µs", self.spread(|(quiet, _)| quiet.p99_us)),
            ("beside_p99_us", "p99 beside the loop, µs", self.spread(|(_, beside)| beside.p99_us)),
            (
                "p99_ratio",
                "p99 beside over quiet [at most 2]",
                self.spread(|(quiet, beside)| beside.p99_us / quiet.p99_us),
            ),
            (
                "overrun_ms",
                "the loop's end after its budget, ms [at most 50]",
                Spread::of(self.overrun_ms.iter().copied()),
            ),
        ]
    }

    fn failed(&self) -> u64 {
        self.rounds.iter().map(|(quiet, beside)| quiet.failed + beside.failed).sum()
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "  One core; {RATE} requests a second over {CONNECTIONS} connections; one guest at a time loops until its {} ms of \
             processor time are used up.\n",
            BUDGET.as_millis()
        );
        for (_, name, spread) in self.figures() {
            let shown =
                spread.map_or("-".to_owned(), |it| format!("{:.2} ({:.2}–{:.2})", it.median, it.min, it.max));
            text.push_str(&format!("  {name:50}{shown}\n"));
        }
        text.push_str(&format!(
            "  {} loops were stopped meanwhile; {} neighbours were not answered with 200\n",
            self.loops,
            self.failed()
        ));
        text
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let mut value = json!({
            "rate": RATE, "connections": CONNECTIONS, "budget_ms": BUDGET.as_millis() as u64, "loops": self.loops,
            "failed": self.failed(),
        });
        for (id, _, spread) in self.figures() {
            value[id] = json!(spread.map(|spread| spread.json()));
        }
        value
    }
}

//! A neighbour that asks at a steady rate, by itself and beside tenants that loop, take memory, and hold connections open: how
//! much longer its requests take, and whether any is lost.
//!
//! Between the two it is by itself again, while another process of the machine holds as many connections. What those cost
//! whoever they are held by is the machine's doing (its kernel, and what watches its sockets), and no tenant's.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use super::apps::{self, Built};
use super::{Bench, Figures, Node, PER_ADDRESS};
use crate::bench::client::{self, Client, Percentiles};
use crate::bench::figures::Spread;
use crate::bench::machine::on_core;
use crate::failure::{Failure, Result};
use crate::signals;

/// Requests a second of the neighbour.
const RATE: u32 = 1_000;
/// Its connections.
const CONNECTIONS: usize = 8;
/// Connections over which a request was begun and goes no further.
const SLOW: usize = 10_000;
/// Requests under way at once of the tenant that loops, and of the one that takes memory.
const AT_ONCE: usize = 4;
/// How often it is asked by itself and beside the others, in turns.
const ROUNDS: usize = 3;
/// The longest that one measurement may be: a node gives a head thirty seconds.
const SECONDS_MAX: u64 = 20;

/// What the neighbour's requests took, in turns.
struct Round {
    /// By itself.
    quiet: Percentiles,
    /// By itself, while another process holds as many connections as the noisy tenants do.
    crowded: Percentiles,
    /// Beside the noisy tenants.
    beside: Percentiles,
}

/// What the others did.
#[derive(Default)]
struct Noise {
    stopped: AtomicU64,
    exhausted: AtomicU64,
    refused: AtomicU64,
}

/// Measures it, on the servers' core; the load comes from the other one.
pub(super) fn measure(bench: &Bench<'_>, built: &Built, figures: &mut Figures) -> Result<()> {
    let data = bench.data.with_file_name("node-fairness");
    let _nothing_there = fs::remove_dir_all(&data);
    let data_elsewhere = bench.data.with_file_name("node-elsewhere");
    let _nothing_there = fs::remove_dir_all(&data_elsewhere);
    let node = bench.node(&data, &[])?;
    let log = bench.logs.join("elsewhere.log");
    let elsewhere = Node::start(bench.workspace, Some(bench.cores.server), &data_elsewhere, &[], &log)?;
    apps::deploy_neighbours(&bench.tenon(&node, &data), built)?;
    let length = Duration::from_secs(bench.options.seconds.min(SECONDS_MAX));
    let noise = Noise::default();
    let (mut rounds, mut failed, mut held, mut asked) = (Vec::new(), 0, SLOW, 0);
    on_core(bench.cores.load, || {
        let steady = |length| client::paced(node.address, "steady.example", CONNECTIONS, RATE, length);
        for _ in 0..ROUNDS {
            signals::check()?;
            // The node is done by then with the connections of the round before.
            steady(Duration::from_secs(2));
            let quiet = steady(length).rates(Duration::ZERO);
            let slow = hold(elsewhere.address)?;
            let crowded = steady(length).rates(Duration::ZERO);
            held = held.min(still_held(slow));
            steady(Duration::from_secs(2));
            let slow = hold(node.address)?;
            let beside = beside(node.address, &noise, || steady(length)).rates(Duration::ZERO);
            held = held.min(still_held(slow));
            println!(
                "  p99 {:>7.0} µs by itself, {:>7.0} µs while another process holds connections, {:>7.0} µs beside the others",
                quiet.times.p99_us, crowded.times.p99_us, beside.times.p99_us
            );
            for rates in [&quiet, &crowded, &beside] {
                failed += rates.failed;
                asked += rates.times.count + rates.failed;
            }
            rounds.push(Round { quiet: quiet.times, crowded: crowded.times, beside: beside.times });
        }
        Ok(())
    })?;
    elsewhere.stop()?;
    node.stop()?;
    let _gone = (fs::remove_dir_all(&data), fs::remove_dir_all(&data_elsewhere));
    let median = |figure: fn(&Round) -> f64| {
        Spread::of(rounds.iter().map(figure)).map_or(f64::NAN, |spread| spread.median)
    };
    figures.node.insert("steady_quiet_p99_us", median(|round| round.quiet.p99_us));
    figures.node.insert("steady_crowded_p99_us", median(|round| round.crowded.p99_us));
    figures.node.insert("steady_beside_p99_us", median(|round| round.beside.p99_us));
    figures.node.insert("steady_p99_ratio", median(|round| round.beside.p99_us / round.quiet.p99_us));
    figures
        .node
        .insert("steady_p99_ratio_crowded", median(|round| round.beside.p99_us / round.crowded.p99_us));
    figures.node.insert("steady_requests", asked as f64);
    figures.node.insert("steady_failed", failed as f64);
    figures.node.insert("slow_connections", held as f64);
    figures.node.insert("loops_stopped", noise.stopped.load(Relaxed) as f64);
    figures.node.insert("bombs_stopped", noise.exhausted.load(Relaxed) as f64);
    figures.node.insert("noise_refused", noise.refused.load(Relaxed) as f64);
    if noise.stopped.load(Relaxed) == 0 || noise.exhausted.load(Relaxed) == 0 {
        return Err(Failure::new("there was no noise: no loop or no memory bomb was stopped"));
    }
    Ok(())
}

/// Connections over which a request was begun; all of them are accepted when this returns.
fn hold(address: SocketAddr) -> Result<Vec<TcpStream>> {
    let slow = (0..SLOW)
        .map(|number| client::begin_from(number / PER_ADDRESS, address, "slow.example"))
        .collect::<Result<Vec<_>>>()?;
    // Connections are taken in the order they came: whoever comes next is answered once all of these are. What is
    // measured is what holding them costs its neighbours.
    Client::open(address)?.ask("steady.example", "/")?;
    Ok(slow)
}

/// How many of these the node has neither answered nor closed; all are closed now.
fn still_held(slow: Vec<TcpStream>) -> usize {
    slow.iter().filter(|stream| client::is_silent(stream)).count()
}

/// What the neighbour sees while the others are at it.
fn beside<T: Send>(address: SocketAddr, noise: &Noise, steady: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| disturb(address, "loops.example", "/spin", &over, noise));
            scope.spawn(|| disturb(address, "bombs.example", "/bomb", &over, noise));
        }
        let seen = steady();
        over.store(true, Relaxed);
        seen
    })
}

/// Asks for trouble until it is over.
fn disturb(address: SocketAddr, host: &str, path: &str, over: &AtomicBool, noise: &Noise) {
    /// Who was refused comes again, and does not make the load's core the busy one.
    const PAUSE: Duration = Duration::from_millis(5);
    while !over.load(Relaxed) {
        let Ok(mut client) = Client::open(address) else { return };
        while let (false, Ok((status, _))) = (over.load(Relaxed), client.ask(host, path)) {
            let count = match (status, path) {
                (504, _) => &noise.stopped,
                (500, "/bomb") => &noise.exhausted,
                _ => &noise.refused,
            };
            count.fetch_add(1, Relaxed);
            thread::sleep(PAUSE);
        }
    }
}

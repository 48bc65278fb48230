//! Many requests held open at once, each inside a guest that sleeps: how much memory one live instance takes.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::guests::Guests;
use super::machine::{allow_open_files, on_core};
use super::{Run, process, subject};
use crate::command::Cmd;
use crate::failure::{Failure, Result};
use crate::http::Request;
use crate::signals;

/// How long every guest sleeps: longer than it takes to open all connections and to look.
const HOLD: Duration = Duration::from_secs(12);
/// How long after the last request the memory is looked at: all guests must be asleep by then.
const SETTLE: Duration = Duration::from_secs(3);
/// How long to wait for an answer after that.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Room in the pools beside the held instances.
const SPARE: usize = 64;
/// Core instances, memories and tables that one component of the measured kind needs at most.
const CORE_INSTANCES_PER_COMPONENT: usize = 8;

/// What holding gave.
pub(super) struct Held {
    /// Whose.
    pub(super) name: &'static str,
    /// How many were asked for.
    pub(super) asked: usize,
    /// How many were answered with 200 after their sleep, so were alive all the time.
    pub(super) answered: usize,
    /// Resident memory for each, connection included.
    pub(super) resident_kib: f64,
    /// Page tables for each.
    pub(super) tables_kib: f64,
    /// Why there is nothing, if there is nothing.
    pub(super) missing: Option<String>,
}

/// Holds `count` requests in Tenon and in the peer.
pub(super) fn measure(run: &Run<'_>, guests: &Guests, count: usize) -> Result<Vec<Held>> {
    // Both ends of every connection, and what a server keeps open besides; children inherit it.
    allow_open_files(count as u64 + 1_000)?;
    let room = (count + SPARE).to_string();
    let tenon = run.workspace.run_tenon(["serve", "--quiet"]).arg(&guests.guarded.http).args([
        "--pool",
        &room,
        "--concurrency",
        &room,
        "--wall",
        "60s",
        "--listen",
    ]);
    let of_pool = |what: &str, count: usize| format!("pooling-total-{what}={count}");
    let mut peer = subject::peer(run.workspace, &guests.http_peer);
    let cores = (count + SPARE) * CORE_INSTANCES_PER_COMPONENT;
    for (what, count) in [
        ("component-instances", count + SPARE),
        ("stacks", count + SPARE),
        ("memories", count + SPARE),
        ("core-instances", cores),
        ("tables", cores),
    ] {
        peer = peer.arg("-O").arg(of_pool(what, count));
    }
    let mut held = Vec::new();
    for (name, command) in [("Tenon, wasi:http 0.2", tenon), ("peer, wasi:http 0.2", peer.arg("--addr"))] {
        signals::check()?;
        let log = run.logs.join(format!("held-{}.log", held.len()));
        let one = hold(run, name, command, count, &log).unwrap_or_else(|failure| Held {
            name,
            asked: count,
            answered: 0,
            resident_kib: f64::NAN,
            tables_kib: f64::NAN,
            missing: Some(failure.what().to_owned()),
        });
        match &one.missing {
            Some(why) => println!("  {name}: {why}"),
            None => println!("  {name}: {} of {count} held, {:.1} KiB each", one.answered, one.resident_kib),
        }
        held.push(one);
    }
    Ok(held)
}

fn hold(run: &Run<'_>, name: &'static str, command: Cmd, count: usize, log: &Path) -> Result<Held> {
    let address = subject::free_address()?;
    let mut server = on_core(run.cores.server, || command.arg(address.to_string()).log_to(log).start())?;
    subject::first_byte(&mut server, address, "/").map_err(|failure| subject::said(&failure, log))?;
    let before = process::memory(server.id())?;
    let streams = ask_all(address, count)?;
    thread::sleep(SETTLE);
    let during = process::memory(server.id())?;
    let answered = streams.into_iter().filter_map(answer).filter(|answer| answer == b"HTTP/1.1 200").count();
    server.check()?;
    server.stop()?;
    let each = |before: f64, during: f64| (during - before) / answered.max(1) as f64;
    Ok(Held {
        name,
        asked: count,
        answered,
        resident_kib: each(before.resident_kib, during.resident_kib),
        tables_kib: each(before.tables_kib, during.tables_kib),
        missing: (answered == 0).then(|| "not one request was answered with 200".to_owned()),
    })
}

fn ask_all(address: SocketAddr, count: usize) -> Result<Vec<TcpStream>> {
    let path = format!("/hold?ms={}", HOLD.as_millis());
    let request = Request { method: "GET", path: &path, ..Request::default() }.bytes(address);
    let failed = |error: std::io::Error| Failure::new(format!("a held request to {address}: {error}"));
    let mut streams = Vec::with_capacity(count);
    for _ in 0..count {
        let mut stream = TcpStream::connect(address).map_err(failed)?;
        stream.write_all(&request).map_err(failed)?;
        streams.push(stream);
    }
    Ok(streams)
}

/// The first bytes of an answer, if one comes.
fn answer(mut stream: TcpStream) -> Option<[u8; 12]> {
    stream.set_read_timeout(Some(ANSWER_MAX)).ok()?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).ok()?;
    Some(answer)
}

//! `cargo xtask bench node`: thousands of apps on one node, what each of them costs, and what a request costs beside
//! the peer and a server without a sandbox.

mod apps;
mod fairness;
mod report;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{fs, thread};

use super::client::{self, Client, Percentiles, Rates};
use super::machine::{Cores, Machine, allow_open_files, on_core};
use super::{process, subject};
use crate::command::{Cmd, Server};
use crate::failure::{Failure, Result};
use crate::signals;
use crate::steps::{Outcome, Steps};
use crate::tools;
use crate::usage;
use crate::workspace::Workspace;
use apps::{Apps, Deployed};
pub(super) use apps::{distinct, set_tenant};

/// Apps that are asked when nothing is in memory, for the first request's time.
const FIRST_APPS: usize = 500;
/// How long a node is left alone after its start before first requests are timed.
const SEALS_CHECKED: Duration = Duration::from_secs(10);
/// Routes of the smallest and the largest table.
const ROUTES: [usize; 2] = [10, 10_000];
/// Requests held open at once, each in an instance of its own.
const HELD: usize = 10_000;
/// How long each guest sleeps then.
const HOLD: Duration = Duration::from_secs(40);
/// Connections of one client address: a node closes further ones.
const PER_ADDRESS: usize = 2_000;
/// How long a node may take to start with thousands of apps.
const START_MAX: Duration = Duration::from_secs(120);

/// What was measured; each figure by its name.
#[derive(Default)]
struct Figures {
    /// Figures of the node.
    node: BTreeMap<&'static str, f64>,
    /// Percentiles, in microseconds.
    times: BTreeMap<&'static str, Percentiles>,
    /// Servers under the same load.
    servers: Vec<(String, Rates)>,
    /// What could not be measured, and why.
    missing: Vec<String>,
    /// What was left out because somebody said so.
    left_out: Vec<String>,
}

/// Prepares, measures and reports.
pub(crate) fn run(workspace: &Workspace, options: &usage::NodeBench) -> Result<ExitCode> {
    let mut steps = Steps::new(9);
    let mut built = None;
    steps.run("build", || {
        if !options.built {
            workspace.build_programs(&["tenon"])?;
        }
        built = Some(apps::build(workspace)?);
        Ok(Outcome::Done)
    })?;
    let built = built.ok_or_else(|| Failure::new("the guests were not built"))?;
    signals::listen()?;
    // The node has its end of each, the harness the other: two processes, each with a limit of its own.
    allow_open_files(HELD as u64 + 4_000)?;
    let folder = super::results_folder(workspace)?;
    let bench = Bench {
        workspace,
        cores: Cores::choose()?,
        data: workspace.target.join("bench/node-data"),
        logs: folder.join("logs"),
        options,
    };
    if !options.deployed {
        let _nothing_there = fs::remove_dir_all(&bench.data);
    }
    let mut machine = Machine::look(workspace);
    let mut figures = Figures::default();
    let mut deployed = None;
    steps.run("deploy", || {
        deployed = Some(bench.deploy(&built, &mut figures)?);
        Ok(Outcome::Done)
    })?;
    let deployed = deployed.ok_or_else(|| Failure::new("nothing was deployed"))?;
    steps.run("all apps answer", || bench.all_answer(&deployed, &mut figures).map(|()| Outcome::Done))?;
    steps.run("first requests", || bench.first_requests(&deployed, &mut figures).map(|()| Outcome::Done))?;
    steps.run("routing", || bench.routing(&built, &mut figures).map(|()| Outcome::Done))?;
    steps.run("live instances", || bench.held(&built, &mut figures).map(|()| Outcome::Done))?;
    steps.run("beside others", || bench.beside(&built, &mut figures).map(|()| Outcome::Done))?;
    steps.run("a steady neighbour", || {
        fairness::measure(&bench, &built, &mut figures).map(|()| Outcome::Done)
    })?;
    machine.look_again();
    steps.run("report", || {
        let (text, json) = report::write(&figures, &machine, options);
        println!("\n{text}");
        publishable(&figures, options)?;
        super::write(
            workspace,
            &folder,
            options.publish,
            &[("node.txt", &text), ("node.json", &json)],
            None,
        )?;
        Ok(Outcome::Done)
    })?;
    steps.print_table("Steps:");
    Ok(ExitCode::SUCCESS)
}

/// Refuses to publish a page with holes in it that nobody has asked for.
fn publishable(figures: &Figures, options: &usage::NodeBench) -> Result<()> {
    if options.publish && !figures.missing.is_empty() {
        return Err(Failure::new(format!(
            "not published, for not everything was measured: {}; `--without-peer` publishes what needs no peer",
            figures.missing.join("; ")
        )));
    }
    Ok(())
}

struct Bench<'a> {
    workspace: &'a Workspace,
    cores: Cores,
    data: PathBuf,
    logs: PathBuf,
    options: &'a usage::NodeBench,
}

/// A node that runs, and its addresses.
pub(super) struct Node {
    server: Server,
    pub(super) address: SocketAddr,
    admin: SocketAddr,
}

impl Node {
    /// Starts one on its data directory, on this core, or wherever there is room.
    pub(super) fn start(
        workspace: &Workspace,
        core: Option<usize>,
        data: &Path,
        more: &[&str],
        log: &Path,
    ) -> Result<Self> {
        let command = workspace
            .run_tenon(["node", "--json", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data"])
            .arg(data)
            .args(more.iter().copied())
            .log_to(log);
        let mut server = match core {
            Some(core) => on_core(core, || command.start())?,
            None => command.start()?,
        };
        let line = server.wait_for_line("{\"", START_MAX).map_err(|failure| subject::said(&failure, log))?;
        let event: serde_json::Value = serde_json::from_str(&line)
            .map_err(|error| Failure::new(format!("the node says {line:?}: {error}")))?;
        let address = |key: &str| {
            let text = event[key].as_str().unwrap_or_default();
            text.parse().map_err(|_| Failure::new(format!("the node does not say its `{key}`: {line}")))
        };
        Ok(Self { address: address("address")?, admin: address("admin")?, server })
    }

    /// `tenon …` against it.
    pub(super) fn tenon(&self, workspace: &Workspace, data: &Path) -> Cmd {
        workspace
            .run_tenon(["--quiet"])
            .env("TENON_DATA", data)
            .env("TENON_NODE", format!("http://{}", self.admin))
    }

    pub(super) fn stop(self) -> Result<()> {
        self.server.stop().map(drop)
    }
}

impl Bench<'_> {
    /// Starts a node on its data directory, on the servers' core.
    fn node(&self, data: &Path, more: &[&str]) -> Result<Node> {
        self.node_on(Some(self.cores.server), data, more)
    }

    /// The same on this core, or wherever there is room.
    fn node_on(&self, core: Option<usize>, data: &Path, more: &[&str]) -> Result<Node> {
        Node::start(self.workspace, core, data, more, &self.logs.join("node.log"))
    }

    /// `tenon …` against a node.
    fn tenon(&self, node: &Node, data: &Path) -> Cmd {
        node.tenon(self.workspace, data)
    }

    fn deploy(&self, built: &apps::Built, figures: &mut Figures) -> Result<Deployed> {
        let apps = Apps::make(self.workspace, built, self.options)?;
        if !self.options.deployed {
            // Compilers may use both cores: nothing is measured while they run but how long it takes in all.
            let node = self.node_on(None, &self.data, &["--loaded", "100000"])?;
            let start = Instant::now();
            apps.deploy(&self.tenon(&node, &self.data), &self.workspace.tenon())?;
            figures.node.insert("deploy_seconds", start.elapsed().as_secs_f64());
            node.stop()?;
        }
        let deployed = apps.deployed();
        figures.node.insert("apps", deployed.hosts.len() as f64);
        Ok(deployed)
    }

    /// Every app is asked once, all are kept, and what they take is looked at.
    fn all_answer(&self, deployed: &Deployed, figures: &mut Figures) -> Result<()> {
        let node = self.node(&self.data, &["--loaded", "100000", "--loaded-bytes", "64GiB"])?;
        let id = node.server.id();
        let before = process::memory(id)?;
        let mut client = Client::open(node.address)?;
        let mut answered = 0;
        for host in &deployed.hosts {
            signals::check()?;
            let (status, _) = client.ask(host, deployed.path)?;
            answered += usize::from(status == 200);
        }
        let after = process::memory(id)?;
        let apps = deployed.hosts.len().max(1) as f64;
        figures.node.insert("apps_answering", answered as f64);
        figures.node.insert("resident_kib_empty", before.resident_kib);
        figures.node.insert("resident_kib_all_loaded", after.resident_kib);
        figures.node.insert("resident_kib_per_loaded_app", (after.resident_kib - before.resident_kib) / apps);
        figures.node.insert("open_files_all_loaded", open_files(id));
        node.stop()?;
        // Kept in bounds: fewer in memory than there are, all of them asked again.
        let bound = (deployed.hosts.len() / 10).max(1);
        let bounded = self.node(&self.data, &["--loaded", &bound.to_string()])?;
        let mut client = Client::open(bounded.address)?;
        let mut answered = 0;
        for host in &deployed.hosts {
            let (status, _) = client.ask(host, deployed.path)?;
            answered += usize::from(status == 200);
        }
        let id = bounded.server.id();
        figures.node.insert("loaded_bound", bound as f64);
        figures.node.insert("apps_answering_bounded", answered as f64);
        figures.node.insert("resident_kib_bounded", process::memory(id)?.resident_kib);
        figures.node.insert("open_files_bounded", open_files(id));
        bounded.stop()
    }

    /// The first request of apps that are not in memory, over a connection that is open; then the next ones.
    fn first_requests(&self, deployed: &Deployed, figures: &mut Figures) -> Result<()> {
        for (hosts, first, next) in [
            (&deployed.hosts, "first_request_gateway_us", "second_request_gateway_us"),
            (&deployed.plain, "first_request_us", "second_request_us"),
        ] {
            // Once, so that the files are in the page cache; the node that is measured has nothing in memory.
            for round in 0..2 {
                let node = self.node(&self.data, &["--loaded", "100000"])?;
                let mut client = Client::open(node.address)?;
                if round == 1 {
                    // It has checked the seals of what it serves by then, as a node has that was not just started.
                    thread::sleep(SEALS_CHECKED);
                }
                // The node's own first request is none of the apps'.
                client.ask("nobody.example", "/")?;
                let (mut firsts, mut nexts) = (Vec::new(), Vec::new());
                for host in hosts.iter().take(FIRST_APPS) {
                    signals::check()?;
                    let (status, took) = client.ask(host, deployed.path_of(host))?;
                    if status == 200 {
                        firsts.push(took);
                    }
                    nexts.push(client.ask(host, deployed.path_of(host))?.1);
                }
                node.stop()?;
                if round == 1 && !firsts.is_empty() {
                    figures.times.insert(first, Percentiles::of(firsts));
                    figures.times.insert(next, Percentiles::of(nexts));
                }
            }
        }
        Ok(())
    }

    /// What a request costs the server with few routes and with many.
    fn routing(&self, built: &apps::Built, figures: &mut Figures) -> Result<()> {
        for routes in ROUTES {
            let data = self.data.with_file_name(format!("node-routes-{routes}"));
            let _nothing_there = fs::remove_dir_all(&data);
            let node = self.node(&data, &[])?;
            let host = apps::deploy_routes(&self.tenon(&node, &data), built, routes)?;
            let rates = self.load(node.server.id(), node.address, &host)?;
            node.stop()?;
            let name = if routes == ROUTES[0] { "cpu_us_10_routes" } else { "cpu_us_10000_routes" };
            figures.node.insert(name, rates.cpu_us);
            let _gone = fs::remove_dir_all(&data);
        }
        Ok(())
    }

    /// Many requests at once, each inside a guest that sleeps.
    fn held(&self, built: &apps::Built, figures: &mut Figures) -> Result<()> {
        let data = self.data.with_file_name("node-held");
        let _nothing_there = fs::remove_dir_all(&data);
        let room = (HELD + 100).to_string();
        let node = self.node(&data, &["--pool", &room, "--pool-memory", "16MiB", "--workers", "2"])?;
        let tenon = self.tenon(&node, &data);
        apps::deploy_holding(&tenon, built, HELD + 100)?;
        let id = node.server.id();
        let mut warm = Client::open(node.address)?;
        warm.ask("held.example", "/")?;
        let before = process::memory(id)?;
        let path = format!("/hold?ms={}", HOLD.as_millis());
        let mut streams = Vec::with_capacity(HELD);
        for number in 0..HELD {
            streams.push(client::ask_from(number / PER_ADDRESS, node.address, "held.example", &path)?);
        }
        let opened = Instant::now();
        // All are asleep once the node has begun the last of them.
        thread::sleep(Duration::from_secs(5));
        let during = process::memory(id)?;
        let top = tenon.clone().args(["status", "--json"]).capture()?;
        let running = serde_json::from_str::<serde_json::Value>(&top)
            .ok()
            .and_then(|status| status["running"].as_f64())
            .unwrap_or(f64::NAN);
        let answered = streams.into_iter().filter(|stream| client::is_ok(stream, HOLD * 2)).count();
        figures.node.insert("held", answered as f64);
        figures.node.insert("held_running_at_once", running);
        figures.node.insert("held_seconds", opened.elapsed().as_secs_f64());
        let each = |before: f64, during: f64| (during - before) / answered.max(1) as f64;
        figures.node.insert("resident_kib_per_live_instance", each(before.resident_kib, during.resident_kib));
        figures.node.insert("page_tables_kib_per_live_instance", each(before.tables_kib, during.tables_kib));
        node.stop()?;
        let _gone = fs::remove_dir_all(&data);
        Ok(())
    }

    /// The same component under the same load: the node, `tenon serve`, the peer, and no sandbox at all.
    fn beside(&self, built: &apps::Built, figures: &mut Figures) -> Result<()> {
        let data = self.data.with_file_name("node-load");
        let _nothing_there = fs::remove_dir_all(&data);
        let node = self.node(&data, &["--workers", "1"])?;
        apps::deploy_holding(&self.tenon(&node, &data), built, 1_000)?;
        let rates = self.load(node.server.id(), node.address, "held.example")?;
        figures.times.insert("warm_us", rates.times);
        figures.servers.push((report::NODE.to_owned(), rates));
        node.stop()?;
        let _gone = fs::remove_dir_all(&data);
        let tenon = self.workspace.run_tenon(["serve", "--quiet", "--workers", "1"]).arg(&built.hello);
        let mut others = vec![
            ("tenon serve, wasi:http 0.2, fresh", tenon.arg("--listen")),
            ("hyper, no sandbox", Cmd::new(&built.floor)),
        ];
        match &built.hello_peer {
            _ if self.options.without_peer => {
                figures.left_out.push(format!("{}: `--without-peer`", tools::WASMTIME.name()));
            }
            Some(artifact) => {
                let peer = || subject::peer(self.workspace, artifact);
                let reused = peer().args(["--max-instance-reuse-count", "128", "--addr"]);
                others.push(("peer, wasi:http 0.2, fresh", peer().arg("--addr")));
                others.push((report::PEER_REUSED, reused));
            }
            None => figures
                .missing
                .push(format!("{} is not installed: `cargo xtask bench` does so", tools::WASMTIME.name())),
        }
        for (name, command) in others {
            signals::check()?;
            let address = subject::free_address()?;
            let log = self.logs.join("beside.log");
            let command = command.arg(address.to_string()).log_to(&log);
            let mut server = on_core(self.cores.server, || command.start())?;
            if let Err(failure) = subject::first_byte(&mut server, address, "/") {
                // What else was measured took half an hour.
                figures.missing.push(format!("{name}: {}", subject::said(&failure, &log).what()));
                continue;
            }
            let rates = self.load(server.id(), address, "held.example")?;
            server.stop()?;
            figures.servers.push((name.to_owned(), rates));
        }
        Ok(())
    }

    /// Connections that ask one after the other, for the rounds' best picture of one server.
    fn load(&self, id: u32, address: SocketAddr, host: &str) -> Result<Rates> {
        let seconds = Duration::from_secs(self.options.seconds);
        let connections = self.options.connections;
        on_core(self.cores.load, || {
            client::load(address, host, "/", connections, Duration::from_secs(1))?;
            let before = process::cpu(id)?;
            let loaded = client::load(address, host, "/", connections, seconds)?;
            let cpu = process::cpu(id)?.saturating_sub(before);
            Ok(loaded.rates(cpu))
        })
    }
}

fn open_files(id: u32) -> f64 {
    fs::read_dir(format!("/proc/{id}/fd")).map_or(f64::NAN, |files| files.count() as f64)
}

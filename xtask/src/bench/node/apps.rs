//! The apps that are deployed: the gateway of `examples/api-gateway` for each of many customers, and a small component as
//! often as wanted, each with a digest of its own.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use super::super::guests;
use crate::command::Cmd;
use crate::failure::{Failure, Result};
use crate::signals;
use crate::usage;
use crate::workspace::Workspace;

/// Deploys under way at once.
const AT_ONCE: usize = 2;
/// How long the gateways may take to be deployed: of thousands, each is compiled.
const DEPLOY_MAX: Duration = Duration::from_secs(6 * 3_600);
/// Small components that are deployed beside the gateways, for the time of a first request.
const PLAIN: usize = 200;
/// Routes of one app.
const ROUTES_PER_APP: usize = 64;

/// What everything is made of.
pub(super) struct Built {
    /// `wasi:http` 0.2, Rust.
    pub(super) hello: PathBuf,
    /// The same, compiled ahead of time by the peer, where it is installed.
    pub(super) hello_peer: Option<PathBuf>,
    /// An HTTP server without a sandbox.
    pub(super) floor: PathBuf,
    /// The folder with the gateway's components.
    gateway: PathBuf,
    /// The program that makes a gateway of each customer.
    fleet: PathBuf,
    /// The script that deploys them.
    deploy: PathBuf,
}

pub(super) fn build(workspace: &Workspace) -> Result<Built> {
    let example = workspace.root.join("examples/api-gateway");
    workspace.run_tenon(["build"]).arg(&example).run()?;
    let target = workspace.target.join("bench/fleet");
    let manifest = example.join("fleet/Cargo.toml");
    workspace
        .cargo(["build", "--release", "--locked", "--manifest-path"])
        .arg(&manifest)
        .arg("--target-dir")
        .arg(&target)
        .run()?;
    let (hello, hello_peer, floor) = guests::hello(workspace)?;
    Ok(Built {
        hello,
        hello_peer,
        floor,
        gateway: example.join(".tenon"),
        fleet: target.join("release/fleet"),
        deploy: example.join("deploy.sh"),
    })
}

/// Folders and files, ready to be deployed.
pub(super) struct Apps {
    /// Where `fleet` has written.
    out: PathBuf,
    deploy: PathBuf,
    customers: Vec<PathBuf>,
    plain: Vec<PathBuf>,
}

/// What was deployed.
pub(super) struct Deployed {
    /// The hosts of the gateways.
    pub(super) hosts: Vec<String>,
    /// Those of the small components.
    pub(super) plain: Vec<String>,
    /// What is asked of a gateway.
    pub(super) path: &'static str,
    is_plain: HashSet<String>,
}

impl Deployed {
    pub(super) fn path_of(&self, host: &str) -> &'static str {
        if self.is_plain.contains(host) { "/" } else { self.path }
    }
}

impl Apps {
    /// As many as were asked for.
    pub(super) fn make(workspace: &Workspace, built: &Built, options: &usage::NodeBench) -> Result<Self> {
        let out = workspace.target.join("bench/node-apps");
        let _nothing_there = fs::remove_dir_all(&out);
        Cmd::new(&built.fleet).arg(&built.gateway).arg(options.apps.to_string()).arg(&out).run()?;
        let listing = fs::read_dir(out.join("customers"))
            .map_err(|error| Failure::file("read", &out.join("customers"), &error))?;
        let mut customers: Vec<PathBuf> = listing.flatten().map(|entry| entry.path()).collect();
        customers.sort();
        let hello = fs::read(&built.hello).map_err(|error| Failure::file("read", &built.hello, &error))?;
        let folder = out.join("plain");
        fs::create_dir_all(&folder).map_err(|error| Failure::file("create", &folder, &error))?;
        let plain = (0..PLAIN.min(options.apps))
            .map(|number| {
                let file = folder.join(format!("plain-{number:04}.wasm"));
                fs::write(&file, distinct(&hello, number))
                    .map_err(|error| Failure::file("write", &file, &error))?;
                Ok(file)
            })
            .collect::<Result<_>>()?;
        Ok(Self { out, deploy: built.deploy.clone(), customers, plain })
    }

    /// Deploys all of them, a few at once: the gateways as the example's own script does.
    pub(super) fn deploy(&self, tenon: &Cmd, program: &Path) -> Result<()> {
        set_tenant(tenon, "plain")?;
        let plain = |file: &PathBuf| -> Result<()> {
            let name = name(file);
            let route = format!("{name}.example/*");
            let to = ["--tenant", "plain", "--app", &name, "--route", &route].map(str::to_owned);
            tenon.clone().arg("deploy").arg(file).args(to).capture().map(drop)
        };
        several(&self.plain, &plain)?;
        let script = tenon.with_program("sh").env("TENON", program);
        script.arg(&self.deploy).arg(&self.out).arg(AT_ONCE.to_string()).run_at_most(DEPLOY_MAX)
    }

    /// What there is once they are deployed.
    pub(super) fn deployed(&self) -> Deployed {
        let plain: Vec<String> = self.plain.iter().map(|file| format!("{}.example", name(file))).collect();
        Deployed {
            hosts: self.customers.iter().map(|it| format!("{}.gateway.example", name(it))).collect(),
            is_plain: plain.iter().cloned().collect(),
            plain,
            path: "/health",
        }
    }
}

/// What a file or a folder is called.
fn name(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

pub(in crate::bench) fn set_tenant(tenon: &Cmd, tenant: &str) -> Result<()> {
    let quota = ["--apps", "20000", "--requests", "1000000", "--cpu", "100s", "--bytes", "100GiB"];
    let room = ["--concurrency", "100000", "--queue", "10000", "--memory", "1000GiB"];
    tenon.clone().args(["tenant", "set", tenant]).args(quota).args(room).capture().map(drop)
}

/// Does something with each, some at once, and says how far it is.
fn several(all: &[PathBuf], act: &(dyn Fn(&PathBuf) -> Result<()> + Sync)) -> Result<()> {
    let next = AtomicUsize::new(0);
    let work = || -> Result<()> {
        loop {
            let number = next.fetch_add(1, Relaxed);
            let Some(one) = all.get(number) else { return Ok(()) };
            signals::check()?;
            act(one)?;
            if number % 100 == 99 {
                println!("{} of {}", number + 1, all.len());
            }
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().unwrap_or_else(|_| Err(Failure::new("a deploy could not be waited for")))
        })
    })
}

/// The same component with another digest: a section that means nothing, with a number in it.
pub(in crate::bench) fn distinct(component: &[u8], number: usize) -> Vec<u8> {
    let mut payload = vec![6];
    payload.extend_from_slice(b"number");
    payload.extend_from_slice(format!("{number:08}").as_bytes());
    let mut bytes = component.to_vec();
    // A custom section: id 0, its length in LEB128, which for less than 128 is one byte (Core specification, section 5.5.3).
    bytes.extend_from_slice(&[0, u8::try_from(payload.len()).unwrap_or(0)]);
    bytes.extend_from_slice(&payload);
    bytes
}

/// Deploys the small component under so many routes, over as many apps as that takes, and gives back one of the hosts.
pub(super) fn deploy_routes(tenon: &Cmd, built: &Built, routes: usize) -> Result<String> {
    set_tenant(tenon, "plain")?;
    let mut left = routes;
    let mut number = 0;
    while left > 0 {
        signals::check()?;
        let here = left.min(ROUTES_PER_APP);
        let app = format!("app-{number}");
        let mut deploy = tenon
            .clone()
            .arg("deploy")
            .arg(&built.hello)
            .args(["--tenant", "plain", "--app", &app].map(str::to_owned));
        for route in 0..here {
            deploy = deploy.args(["--route".to_owned(), format!("{app}-{route}.example/*")]);
        }
        deploy.capture()?;
        left -= here;
        number += 1;
    }
    Ok("app-0-0.example".to_owned())
}

/// Deploys the small component so that this many requests of it may run at once.
pub(super) fn deploy_holding(tenon: &Cmd, built: &Built, concurrency: usize) -> Result<()> {
    set_tenant(tenon, "plain")?;
    let folder = built.hello.with_file_name("held");
    fs::create_dir_all(&folder).map_err(|error| Failure::file("create", &folder, &error))?;
    let manifest = format!(
        "name = \"held\"\n[deploy]\ntenant = \"plain\"\nroutes = [\"held.example/*\"]\n[component.hello]\npath = \"{}\"\n\
         [limits]\nwall = \"120s\"\nmemory = \"16MiB\"\nconcurrency = {concurrency}\n",
        built.hello.display()
    );
    let file = folder.join("tenon.toml");
    fs::write(&file, manifest).map_err(|error| Failure::file("write", &file, &error))?;
    tenon.clone().arg("deploy").arg(&folder).capture().map(drop)
}

/// Deploys the small component for a tenant that is steady and for three that are not, each with the quotas that a tenant has
/// where nobody says anything.
pub(super) fn deploy_neighbours(tenon: &Cmd, built: &Built) -> Result<()> {
    for tenant in ["steady", "loops", "bombs", "slow"] {
        tenon.clone().args(["tenant", "set", tenant]).capture()?;
        let folder = built.hello.with_file_name(tenant);
        fs::create_dir_all(&folder).map_err(|error| Failure::file("create", &folder, &error))?;
        let manifest = format!(
            "name = \"app\"\n[deploy]\ntenant = \"{tenant}\"\nroutes = [\"{tenant}.example/*\"]\n[component.hello]\n\
             path = \"{}\"\n[limits]\ncpu = \"300ms\"\nwall = \"2s\"\nmemory = \"64MiB\"\n",
            built.hello.display()
        );
        let file = folder.join("tenon.toml");
        fs::write(&file, manifest).map_err(|error| Failure::file("write", &file, &error))?;
        tenon.clone().arg("deploy").arg(&folder).capture()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_section_of_its_own() {
        let (one, two) = (distinct(b"x", 1), distinct(b"x", 2));
        assert_eq!(one, b"x\0\x0f\x06number00000001");
        assert_ne!(one, two);
    }
}

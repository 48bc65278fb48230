//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use lexopt::ValueExt as _;

/// What `--help` prints.
pub(crate) const TEXT: &str = "\
usage: cargo xtask <task>

  demo  [--once] [--listen ADDR]
        set up, build and serve examples/storefront, send it requests; until Ctrl-C, or with --once until they
        are answered
  test  [--quick] [--step NAME] [FILTER]
        set up, check and test everything; the last line is the count.
        --quick leaves out the licence check, the documentation and the guests' own tests;
        --step runs one step alone, by a part of its name; FILTER runs the matching tests alone
  test  --step kills
        kill a node a thousand times, at every step of a deploy, which no other run does so often; TENON_KILLS says
        how often instead, TENON_SEED at which other instants
  bench [http] [--seconds N] [--rounds N] [--connections N] [--json FILE] [--publish] [--shipped]
        run Tenon and its peer side by side on the same component; results go to benches/results,
        with --publish to docs/benchmarks as well. Here and below --shipped measures what `ship` has made
  bench sandbox [the same options]
        of that, only what needs no peer: what guarding a request costs, and what the neighbours of a guest
        that loops notice
  bench node [--apps N] [--seconds N] [--connections N] [--built] [--publish] [--without-peer] [--deployed] [--shipped]
        deploy thousands of apps to one node and measure what they cost, in memory and out of it, beside the peer where
        that is installed, and what a steady tenant notices of noisy ones; --built takes target/release/tenon as it is;
        --publish publishes nothing where the peer is not installed, unless --without-peer leaves it out;
        --deployed takes as many apps as an earlier run has deployed, and measures the rest
  bench authoring [--rounds N] [--language LANG] [--built] [--publish] [--shipped]
        measure for each language how long it takes from `tenon new` to the first response, and from saving a file to its
        being served, and what a request costs in a fresh sandbox and in one that is used again, and the same of
        examples/edge-shop, four languages in one file; --language edge-shop measures that alone
  ship
        build the program that people are given, target/shipped/tenon: compiled once to count how often it comes where, run as
        a server and as a node, and compiled again with those counts. About twenty minutes on two cores
  reference
        write docs/reference.md anew, from the program";

/// What to do.
#[derive(Debug, PartialEq)]
pub(crate) enum Task {
    /// Print the usage.
    Help,
    /// Build and serve the example.
    Demo(Demo),
    /// Check and test.
    Test(Test),
    /// Measure.
    Bench(Bench),
    /// Measure a node.
    NodeBench(NodeBench),
    /// Measure writing components.
    AuthoringBench(AuthoringBench),
    /// Build what is shipped.
    Ship,
    /// Write the reference page.
    Reference,
}

/// Options of `demo`.
#[derive(Debug, PartialEq)]
pub(crate) struct Demo {
    /// Stop after the requests.
    pub(crate) once: bool,
    /// Where to serve.
    pub(crate) listen: SocketAddr,
}

/// Options of `test`.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Test {
    /// Leave out what takes long and seldom changes.
    pub(crate) quick: bool,
    /// Run only the steps whose name contains this.
    pub(crate) step: Option<String>,
    /// Run only the tests whose name contains this.
    pub(crate) filter: Option<String>,
}

/// Options of `bench node`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NodeBench {
    /// Apps, each with a digest of its own.
    pub(crate) apps: usize,
    /// Length of each load.
    pub(crate) seconds: u64,
    /// Connections of each load.
    pub(crate) connections: usize,
    /// Do not build first.
    pub(crate) built: bool,
    /// Write the published page as well.
    pub(crate) publish: bool,
    /// Leave out what needs the peer.
    pub(crate) without_peer: bool,
    /// Take the apps that an earlier run has deployed.
    pub(crate) deployed: bool,
    /// Measure the program that is shipped.
    pub(crate) shipped: bool,
}

impl Default for NodeBench {
    fn default() -> Self {
        Self {
            apps: 3_000,
            seconds: 10,
            connections: 16,
            built: false,
            publish: false,
            without_peer: false,
            deployed: false,
            shipped: false,
        }
    }
}

/// Options of `bench authoring`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AuthoringBench {
    /// How often each language is measured.
    pub(crate) rounds: usize,
    /// Only this language, or the example of four.
    pub(crate) language: Option<String>,
    /// Do not build first.
    pub(crate) built: bool,
    /// Write the published page as well.
    pub(crate) publish: bool,
    /// Measure the program that is shipped.
    pub(crate) shipped: bool,
}

impl Default for AuthoringBench {
    fn default() -> Self {
        Self { rounds: 3, language: None, built: false, publish: false, shipped: false }
    }
}

/// Options of `bench`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bench {
    /// Only what a sandbox costs and keeps apart.
    pub(crate) sandbox: bool,
    /// Length of each measurement.
    pub(crate) seconds: u64,
    /// How often each server is measured.
    pub(crate) rounds: usize,
    /// Keep-alive connections of the load generator.
    pub(crate) connections: usize,
    /// Where to write the figures as JSON besides the results folder.
    pub(crate) json: Option<PathBuf>,
    /// Write the published page as well.
    pub(crate) publish: bool,
    /// Measure the program that is shipped.
    pub(crate) shipped: bool,
}

impl Default for Bench {
    fn default() -> Self {
        Self {
            sandbox: false,
            seconds: 5,
            rounds: 5,
            connections: 32,
            json: None,
            publish: false,
            shipped: false,
        }
    }
}

/// Longest single measurement and most rounds: the harness must not run away.
const SECONDS_MAX: u64 = 120;
const ROUNDS_MAX: usize = 50;
const CONNECTIONS_MAX: usize = 512;
const APPS_MAX: usize = 20_000;

/// Reads the command line.
pub(crate) fn parse(mut parser: lexopt::Parser) -> Result<Task, lexopt::Error> {
    use lexopt::prelude::{Long, Short, Value};
    let task = match parser.next()? {
        None | Some(Long("help") | Short('h')) => return Ok(Task::Help),
        Some(Value(name)) => name.string()?,
        Some(other) => return Err(other.unexpected()),
    };
    match task.as_str() {
        "help" => Ok(Task::Help),
        "demo" => {
            let mut demo = Demo { once: false, listen: SocketAddr::from(([127, 0, 0, 1], 8080)) };
            while let Some(argument) = parser.next()? {
                match argument {
                    Long("once") => demo.once = true,
                    Long("listen") => demo.listen = parser.value()?.parse()?,
                    Long("help") | Short('h') => return Ok(Task::Help),
                    other => return Err(other.unexpected()),
                }
            }
            Ok(Task::Demo(demo))
        }
        "test" => {
            let mut test = Test::default();
            while let Some(argument) = parser.next()? {
                match argument {
                    Long("quick") => test.quick = true,
                    Long("step") => test.step = Some(parser.value()?.string()?),
                    Long("help") | Short('h') => return Ok(Task::Help),
                    Value(filter) if test.filter.is_none() => test.filter = Some(filter.string()?),
                    other => return Err(other.unexpected()),
                }
            }
            Ok(Task::Test(test))
        }
        "bench" => {
            let mut bench = Bench::default();
            if parser.raw_args()?.peek().is_some_and(|name| name == "node") {
                parser.next()?;
                return node_bench(parser);
            }
            if parser.raw_args()?.peek().is_some_and(|name| name == "authoring") {
                parser.next()?;
                return authoring_bench(parser);
            }
            while let Some(argument) = parser.next()? {
                match argument {
                    Value(name) if name == "http" => bench.sandbox = false,
                    Value(name) if name == "sandbox" => bench.sandbox = true,
                    Long("seconds") => bench.seconds = parser.value()?.parse::<u64>()?.clamp(1, SECONDS_MAX),
                    Long("rounds") => bench.rounds = parser.value()?.parse::<usize>()?.clamp(1, ROUNDS_MAX),
                    Long("connections") => {
                        bench.connections = parser.value()?.parse::<usize>()?.clamp(1, CONNECTIONS_MAX);
                    }
                    Long("json") => bench.json = Some(parser.value()?.into()),
                    Long("publish") => bench.publish = true,
                    Long("shipped") => bench.shipped = true,
                    Long("help") | Short('h') => return Ok(Task::Help),
                    other => return Err(other.unexpected()),
                }
            }
            Ok(Task::Bench(bench))
        }
        "ship" => alone(parser, Task::Ship),
        "reference" => alone(parser, Task::Reference),
        other => Err(format!("no task is called {other:?}").into()),
    }
}

/// A task without options.
fn alone(mut parser: lexopt::Parser, task: Task) -> Result<Task, lexopt::Error> {
    use lexopt::prelude::{Long, Short};
    match parser.next()? {
        None => Ok(task),
        Some(Long("help") | Short('h')) => Ok(Task::Help),
        Some(other) => Err(other.unexpected()),
    }
}

fn node_bench(mut parser: lexopt::Parser) -> Result<Task, lexopt::Error> {
    use lexopt::prelude::{Long, Short};
    let mut bench = NodeBench::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("apps") => bench.apps = parser.value()?.parse::<usize>()?.clamp(1, APPS_MAX),
            Long("seconds") => bench.seconds = parser.value()?.parse::<u64>()?.clamp(1, SECONDS_MAX),
            Long("connections") => {
                bench.connections = parser.value()?.parse::<usize>()?.clamp(1, CONNECTIONS_MAX);
            }
            Long("built") => bench.built = true,
            Long("publish") => bench.publish = true,
            Long("shipped") => bench.shipped = true,
            Long("without-peer") => bench.without_peer = true,
            Long("deployed") => bench.deployed = true,
            Long("help") | Short('h') => return Ok(Task::Help),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Task::NodeBench(bench))
}

fn authoring_bench(mut parser: lexopt::Parser) -> Result<Task, lexopt::Error> {
    use lexopt::prelude::{Long, Short};
    let mut bench = AuthoringBench::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("rounds") => bench.rounds = parser.value()?.parse::<usize>()?.clamp(1, ROUNDS_MAX),
            Long("language") => bench.language = Some(parser.value()?.string()?),
            Long("built") => bench.built = true,
            Long("publish") => bench.publish = true,
            Long("shipped") => bench.shipped = true,
            Long("help") | Short('h') => return Ok(Task::Help),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Task::AuthoringBench(bench))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Task, String> {
        parse(lexopt::Parser::from_args(arguments)).map_err(|error| error.to_string())
    }

    #[test]
    fn tasks_and_options_are_read() {
        assert_eq!(parsed(&[]), Ok(Task::Help));
        let Ok(Task::Demo(demo)) = parsed(&["demo", "--once", "--listen", "127.0.0.1:0"]) else {
            panic!("demo")
        };
        assert!(demo.once && demo.listen.port() == 0);
        assert_eq!(
            parsed(&["test", "--quick", "--step", "lint", "token"]),
            Ok(Task::Test(Test { quick: true, step: Some("lint".into()), filter: Some("token".into()) }))
        );
        let Ok(Task::Bench(bench)) = parsed(&["bench", "http", "--seconds", "9999", "--rounds=2"]) else {
            panic!("bench")
        };
        assert_eq!((bench.sandbox, bench.seconds, bench.rounds), (false, SECONDS_MAX, 2));
        assert!(matches!(parsed(&["bench", "sandbox"]), Ok(Task::Bench(Bench { sandbox: true, .. }))));
        assert!(matches!(parsed(&["bench", "--shipped"]), Ok(Task::Bench(Bench { shipped: true, .. }))));
        assert_eq!((parsed(&["ship"]), parsed(&["ship", "-h"])), (Ok(Task::Ship), Ok(Task::Help)));
        let Ok(Task::NodeBench(node)) =
            parsed(&["bench", "node", "--apps", "50", "--built", "--without-peer", "--deployed"])
        else {
            panic!("bench node")
        };
        assert_eq!((node.apps, node.built, node.connections), (50, true, 16));
        assert!(node.without_peer && node.deployed);
        let Ok(Task::AuthoringBench(authoring)) =
            parsed(&["bench", "authoring", "--language", "go", "--rounds=1"])
        else {
            panic!("bench authoring")
        };
        assert_eq!((authoring.language.as_deref(), authoring.rounds), (Some("go"), 1));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for arguments in
            [&["dmeo"][..], &["test", "a", "b"], &["demo", "--listen"], &["bench", "grpc"], &["ship", "it"]]
        {
            assert!(parsed(arguments).is_err(), "{arguments:?}");
        }
    }
}

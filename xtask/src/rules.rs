//! What no room of this workspace may ever depend on, as a table, checked against `cargo metadata`. What metadata
//! cannot see (use of the standard library) is in [`crate::scan`].

use std::collections::{HashMap, VecDeque};

use serde_json::Value;

use crate::command::Cmd;
use crate::failure::{Failure, Result};
use crate::workspace::Workspace;

/// Async runtimes, sockets, servers and clients: anything that does input or output by itself.
const RUNTIMES: &[&str] = &[
    "tokio",
    "tokio-*",
    "mio",
    "socket2",
    "async-std",
    "async-io",
    "smol",
    "hyper",
    "hyper-*",
    "h3",
    "h3-*",
    "quinn",
    "quinn-*",
    "reqwest",
    "ureq",
];
/// The engine and its parts.
const ENGINES: &[&str] = &["wasmtime", "wasmtime-*", "cranelift-*", "wasmer", "wasmer-*", "wasmi"];
/// Databases and their clients.
const DATABASES: &[&str] = &[
    "redb",
    "redis",
    "async-nats",
    "nats",
    "rusqlite",
    "libsqlite3-sys",
    "sqlx",
    "sqlx-*",
    "sled",
    "fjall",
    "rocksdb",
    "heed",
];
/// Clients of OCI registries.
const OCI_CLIENTS: &[&str] = &["oci-client", "oci-distribution", "oci-wasm", "wasm-pkg-*"];
/// Terminals, command lines, the home directory.
const TERMINALS: &[&str] = &[
    "clap",
    "clap_*",
    "lexopt",
    "argh",
    "crossterm",
    "ratatui",
    "termion",
    "indicatif",
    "dialoguer",
    "console",
    "termcolor",
    "anstream",
    "owo-colors",
    "colored",
    "rustyline",
    "dirs",
    "dirs-*",
    "directories",
    "etcetera",
    "home",
];
/// Serialization: wire types live with whoever reads the wire.
const SERIALIZERS: &[&str] = &["serde", "serde_*", "toml", "toml_*"];

/// The members that a rule is about.
enum Members {
    /// These, and they exist.
    These(&'static [&'static str]),
    /// Every member but these.
    AllBut(&'static [&'static str]),
}

/// How far a rule looks.
#[derive(Clone, Copy, PartialEq)]
enum Reach {
    /// What the member itself names, for building and testing too.
    Named,
    /// What the member itself names, except for its tests.
    NamedOutsideTests,
    /// Everything that ends up in the member.
    Anywhere,
}

/// One thing that must never be.
struct Rule {
    who: Members,
    never: &'static [&'static [&'static str]],
    reach: Reach,
    why: &'static str,
}

/// The list. A name that ends in `*` stands for every name with that start.
const NEVER: &[Rule] = &[
    Rule {
        who: Members::These(&["tenon-model", "tenon-wit", "tenon-compose"]),
        never: &[RUNTIMES, ENGINES, DATABASES, OCI_CLIENTS, TERMINALS],
        reach: Reach::Anywhere,
        why: "model, wit and compose are pure: same inputs, same outputs",
    },
    Rule {
        who: Members::These(&["tenon-model"]),
        never: &[SERIALIZERS],
        reach: Reach::Anywhere,
        why: "the shared vocabulary does not serialize",
    },
    Rule {
        who: Members::AllBut(&["tenon-engine"]),
        never: &[ENGINES],
        reach: Reach::Named,
        why: "only engine imports wasmtime",
    },
    Rule {
        who: Members::AllBut(&["tenon-state"]),
        never: &[DATABASES],
        reach: Reach::Named,
        why: "only state imports a database or NATS client",
    },
    Rule {
        who: Members::AllBut(&["tenon-registry"]),
        never: &[OCI_CLIENTS],
        reach: Reach::Named,
        why: "only registry imports an OCI client",
    },
    Rule {
        who: Members::These(&["tenon-edge"]),
        never: &[DATABASES, OCI_CLIENTS, &["tenon-state", "tenon-registry"]],
        reach: Reach::Anywhere,
        why: "edge knows no registry and no database",
    },
    Rule {
        who: Members::AllBut(&["tenon-cli", "xtask"]),
        never: &[TERMINALS],
        reach: Reach::Named,
        why: "only cli touches the terminal, the environment and the home directory",
    },
    Rule {
        who: Members::AllBut(&[]),
        never: &[&["tenon-testkit"]],
        reach: Reach::NamedOutsideTests,
        why: "nothing depends on testkit outside tests",
    },
];

/// Which rooms a room may know. A room that is not listed may not exist.
const ARROWS: &[(&str, &[&str])] = &[
    // An example of what a program that embeds the engine needs: no more than these.
    ("plugin-host", &["tenon-model", "tenon-engine"]),
    // The request path alone, for the harness.
    ("bench-guarded", &["tenon-model", "tenon-engine", "tenon-edge"]),
    ("tenon-model", &[]),
    ("tenon-wit", &["tenon-model"]),
    ("tenon-compose", &["tenon-model", "tenon-wit"]),
    ("tenon-engine", &["tenon-model"]),
    ("tenon-edge", &["tenon-model", "tenon-engine"]),
    ("tenon-state", &["tenon-model"]),
    ("tenon-registry", &["tenon-model", "tenon-wit"]),
    ("tenon-build", &["tenon-model", "tenon-wit"]),
    (
        "tenon-node",
        &[
            "tenon-model",
            "tenon-wit",
            "tenon-compose",
            "tenon-engine",
            "tenon-edge",
            "tenon-state",
            "tenon-registry",
            "tenon-build",
        ],
    ),
    (
        "tenon-cli",
        &[
            "tenon-model",
            "tenon-wit",
            "tenon-compose",
            "tenon-engine",
            "tenon-edge",
            "tenon-state",
            "tenon-registry",
            "tenon-build",
            "tenon-node",
        ],
    ),
    (
        "tenon-testkit",
        &[
            "tenon-model",
            "tenon-wit",
            "tenon-compose",
            "tenon-engine",
            "tenon-edge",
            "tenon-state",
            "tenon-registry",
            "tenon-build",
            "tenon-node",
        ],
    ),
    ("tenon-fuzz", &["tenon-model", "tenon-wit", "tenon-compose", "tenon-engine", "tenon-build"]),
    ("xtask", &[]),
];

/// Checks the table; says how many members and packages it looked at.
pub(crate) fn check(workspace: &Workspace) -> Result<String> {
    // For this platform: for all of them, cargo would first download what no build here uses.
    let about = Cmd::new("rustc").args(["--version", "--verbose"]).cwd(&workspace.root).capture()?;
    let host = about.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.ok_or_else(|| Failure::new("`rustc --version --verbose` does not name its host"))?;
    let metadata =
        workspace.cargo(["metadata", "--format-version", "1", "--locked", "--filter-platform", host]);
    let text = metadata.capture()?;
    let metadata = serde_json::from_str(&text)
        .map_err(|error| Failure::new(format!("cargo metadata is not JSON: {error}")))?;
    let graph = Graph::read(&metadata).ok_or_else(|| {
        Failure::new("cargo metadata is not what it was: packages, resolve or nodes are missing")
    })?;
    let found = graph.violations();
    if found.is_empty() {
        let members = graph.packages.iter().filter(|package| package.is_member).count();
        return Ok(format!("{members} members, {} packages", graph.packages.len()));
    }
    Err(Failure::new(format!("what must never be:\n    {}", found.join("\n    ")))
        .mend("remove the dependency, or move the code to the room that may have it (ARCHITECTURE.md)"))
}

/// What a dependency is for.
#[derive(Clone, Copy, Default)]
struct Kinds {
    normal: bool,
    build: bool,
    dev: bool,
}

struct Package {
    name: String,
    is_member: bool,
    dependencies: Vec<(usize, Kinds)>,
}

/// Who depends on whom.
struct Graph {
    packages: Vec<Package>,
}

impl Graph {
    fn read(metadata: &Value) -> Option<Self> {
        let members: Vec<&str> =
            metadata["workspace_members"].as_array()?.iter().filter_map(Value::as_str).collect();
        let mut packages = Vec::new();
        let mut index = HashMap::new();
        for package in metadata["packages"].as_array()? {
            let id = package["id"].as_str()?;
            index.insert(id, packages.len());
            packages.push(Package {
                name: package["name"].as_str()?.to_owned(),
                is_member: members.contains(&id),
                dependencies: Vec::new(),
            });
        }
        for node in metadata["resolve"]["nodes"].as_array()? {
            let from = *index.get(node["id"].as_str()?)?;
            for dependency in node["deps"].as_array()? {
                let mut kinds = Kinds::default();
                for kind in dependency["dep_kinds"].as_array()? {
                    match kind["kind"].as_str() {
                        None => kinds.normal = true,
                        Some("build") => kinds.build = true,
                        Some(_) => kinds.dev = true,
                    }
                }
                packages[from].dependencies.push((*index.get(dependency["pkg"].as_str()?)?, kinds));
            }
        }
        Some(Self { packages })
    }

    fn violations(&self) -> Vec<String> {
        let mut found = Vec::new();
        for rule in NEVER {
            for (at, member) in self.members() {
                let concerned = match rule.who {
                    Members::These(names) => names.contains(&member.name.as_str()),
                    Members::AllBut(names) => !names.contains(&member.name.as_str()),
                };
                if concerned {
                    let chains = self.chains(at, rule.reach);
                    found.extend(chains.into_iter().filter_map(|chain| {
                        let last = chain.last()?;
                        let hit = rule.never.iter().copied().flatten().any(|pattern| matches(pattern, last));
                        hit.then(|| format!("{}  ({})", chain.join(" → "), rule.why))
                    }));
                }
            }
        }
        for (_, member) in self.members() {
            let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == member.name) else {
                found.push(format!("{}  (a room that the list of arrows does not know)", member.name));
                continue;
            };
            for (to, kinds) in &member.dependencies {
                let to = &self.packages[*to];
                if to.is_member && (kinds.normal || kinds.build) && !allowed.contains(&to.name.as_str()) {
                    // Testkit has a rule, and a reason, of its own.
                    if to.name != "tenon-testkit" {
                        found.push(format!(
                            "{} → {}  (not an arrow of the architecture)",
                            member.name, to.name
                        ));
                    }
                }
            }
        }
        found
    }

    fn members(&self) -> impl Iterator<Item = (usize, &Package)> {
        self.packages.iter().enumerate().filter(|(_, package)| package.is_member)
    }

    /// Everything within reach, each with one shortest chain of names that leads there.
    fn chains(&self, from: usize, reach: Reach) -> Vec<Vec<&str>> {
        let mut chains = Vec::new();
        let mut seen = vec![false; self.packages.len()];
        seen[from] = true;
        let mut queue = VecDeque::from([(from, vec![self.packages[from].name.as_str()])]);
        while let Some((at, chain)) = queue.pop_front() {
            for (to, kinds) in &self.packages[at].dependencies {
                let counts = match reach {
                    Reach::Named => kinds.normal || kinds.build || kinds.dev,
                    Reach::NamedOutsideTests => kinds.normal || kinds.build,
                    Reach::Anywhere => kinds.normal,
                };
                if counts && !seen[*to] {
                    seen[*to] = true;
                    let mut chain = chain.clone();
                    chain.push(&self.packages[*to].name);
                    chains.push(chain.clone());
                    if reach == Reach::Anywhere {
                        queue.push_back((*to, chain));
                    }
                }
            }
        }
        chains
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The metadata of a workspace with these members and dependencies, as cargo prints it: `"a > b"`, with the
    /// kind in front where it is not a normal one: `"dev a > b"`.
    fn violations(members: &[&str], arrows: &[&str]) -> Vec<String> {
        let arrows: Vec<(Value, &str, &str)> = arrows
            .iter()
            .map(|arrow| {
                let (from, to) = arrow.split_once(" > ").unwrap();
                match from.split_once(' ') {
                    Some((kind, from)) => (Value::from(kind), from, to),
                    None => (Value::Null, from, to),
                }
            })
            .collect();
        let mut names: Vec<&str> = members.to_vec();
        names.extend(arrows.iter().flat_map(|(_, from, to)| [*from, *to]));
        names.sort_unstable();
        names.dedup();
        let nodes: Vec<Value> = names
            .iter()
            .map(|name| {
                let deps: Vec<Value> = arrows
                    .iter()
                    .filter(|(_, from, _)| from == name)
                    .map(|(kind, _, to)| serde_json::json!({ "pkg": to, "dep_kinds": [{ "kind": kind }] }))
                    .collect();
                serde_json::json!({ "id": name, "deps": deps })
            })
            .collect();
        let packages: Vec<Value> =
            names.iter().map(|name| serde_json::json!({ "id": name, "name": name })).collect();
        let metadata = serde_json::json!({
            "workspace_members": members, "packages": packages, "resolve": { "nodes": nodes },
        });
        Graph::read(&metadata).unwrap().violations()
    }

    #[test]
    fn what_the_architecture_allows_is_allowed() {
        let members =
            ["tenon-model", "tenon-wit", "tenon-engine", "tenon-edge", "tenon-cli", "tenon-testkit", "xtask"];
        let arrows = [
            "tenon-wit > tenon-model",
            "tenon-engine > wasmtime",
            "wasmtime > tokio",
            "tenon-edge > tenon-engine",
            "tenon-edge > hyper",
            "dev tenon-edge > tenon-testkit",
            "tenon-testkit > tenon-engine",
            "tenon-cli > tenon-edge",
            "tenon-cli > clap",
            "xtask > lexopt",
        ];
        assert_eq!(violations(&members, &arrows), Vec::<String>::new());
    }

    #[test]
    fn every_rule_can_fail() {
        // In the order of the table; the first two rules differ only in their members.
        for (member, arrows, why) in [
            ("tenon-compose", &["tenon-compose > wac-graph", "wac-graph > tokio"][..], NEVER[0].why),
            ("tenon-wit", &["tenon-wit > wasmtime-environ"], NEVER[0].why),
            ("tenon-model", &["tenon-model > x", "x > serde"], NEVER[1].why),
            ("tenon-cli", &["tenon-cli > wasmtime"], NEVER[2].why),
            ("tenon-edge", &["dev tenon-edge > wasmtime-wasi"], NEVER[2].why),
            ("tenon-node", &["tenon-node > redb"], NEVER[3].why),
            ("tenon-node", &["tenon-node > wasm-pkg-client"], NEVER[4].why),
            ("tenon-edge", &["tenon-edge > x", "x > async-nats"], NEVER[5].why),
            ("tenon-build", &["build tenon-build > clap"], NEVER[6].why),
            ("tenon-edge", &["tenon-edge > tenon-testkit"], NEVER[7].why),
        ] {
            let mut members = vec![member];
            members.extend(
                arrows.iter().filter(|arrow| arrow.ends_with("tenon-testkit")).map(|_| "tenon-testkit"),
            );
            let found = violations(&members, arrows);
            assert!(found.iter().any(|violation| violation.contains(why)), "{arrows:?}: {found:?}");
        }
        assert_eq!(NEVER.len(), 8, "a new rule needs a line above");
    }

    #[test]
    fn a_violation_shows_the_way_there() {
        let found = violations(&["tenon-compose"], &["tenon-compose > a", "a > b", "b > mio", "a > mio"]);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("tenon-compose → a → mio  ("), "{found:?}");
    }

    #[test]
    fn only_the_arrows_of_the_architecture_join_rooms() {
        let found = violations(&["tenon-model", "tenon-wit"], &["tenon-model > tenon-wit"]);
        assert_eq!(found, ["tenon-model → tenon-wit  (not an arrow of the architecture)"]);
        let found = violations(&["tenon-common"], &[]);
        assert_eq!(found, ["tenon-common  (a room that the list of arrows does not know)"]);
    }
}

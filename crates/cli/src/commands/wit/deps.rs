//! `tenon wit deps`: packages of contracts that others depend on, copied into `deps` and locked by digest.
//!
//! ```toml
//! version = 1
//!
//! [[package]]
//! name = "wasi:http@0.2.12"
//! source = "wasi:http@0.2.12"
//! digest = "sha256:…"
//! ```
//!
//! The lock lies beside `deps`, as `deps.lock`. A source is a package of WASI, in a release that comes with Tenon, or a path
//! from the folder of the contracts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::json;
use tenon_build::WitPackage;
use tenon_model::{Diagnostic, Diagnostics, Digest, Location};
use toml::de::{DeTable, DeValue};

use super::{contracts, text};
use crate::args::{WitDepsArgs, WitDepsCommand};
use crate::error::CommandError;
use crate::project;
use crate::terminal::Terminal;

/// The version of the lock's form.
const VERSION: &str = "1";
/// The lock, beside the folder `deps`.
const LOCK: &str = "deps.lock";

pub(super) fn run(args: &WitDepsArgs, terminal: &Terminal) -> Result<(), CommandError> {
    let deps = Deps::open(&args.wit)?;
    match &args.command {
        WitDepsCommand::Add { sources } => deps.add(sources, terminal),
        WitDepsCommand::Lock { locked } => deps.lock(*locked, terminal),
        WitDepsCommand::Vendor { locked } => deps.vendor(*locked, terminal),
    }
}

/// What is known of a package of `deps`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Locked {
    /// Where it came from; none when somebody put it there.
    source: Option<String>,
    digest: String,
}

/// A folder of contracts, and what its lock says of its `deps`.
#[derive(Debug)]
struct Deps {
    wit: PathBuf,
    locked: BTreeMap<String, Locked>,
}

impl Deps {
    fn open(wit: &Path) -> Result<Self, Diagnostic> {
        let file = wit.join(LOCK);
        let locked = if file.is_file() { parse(&file, &text(&file)?)? } else { BTreeMap::new() };
        Ok(Self { wit: wit.to_owned(), locked })
    }

    /// Copies the packages of these sources into `deps`.
    fn add(mut self, sources: &[String], terminal: &Terminal) -> Result<(), CommandError> {
        let mut added = Vec::new();
        for source in sources {
            let shown = self.shown(source);
            for package in self.packages(source, Path::new(source))? {
                let digest = digest_of(&package.text);
                let file = self.file(&package.name);
                let there = if file.is_file() { Some(digest_of(&text(&file)?)) } else { None };
                if let Some(there) = there.filter(|there| *there != digest) {
                    return Err(conflict(&file, &package.name)
                        .note("there", there)
                        .note("from the source", digest)
                        .mend(
                            "remove the one in `deps` if the source is right; a package that changes needs another \
                             version",
                        )
                        .into());
                }
                self.write(&package)?;
                terminal.step("added", &package.name);
                self.locked.insert(package.name.clone(), Locked { source: Some(shown.clone()), digest });
                added.push(package.name);
            }
        }
        self.save()?;
        terminal.result(
            format_args!("{}: {} packages", self.deps().display(), added.len()),
            || json!({ "folder": self.deps().display().to_string(), "added": added }),
        );
        Ok(())
    }

    /// Writes the lock of what is in `deps`, or compares.
    fn lock(mut self, only_compare: bool, terminal: &Terminal) -> Result<(), CommandError> {
        let mut found = BTreeMap::new();
        for file in self.files()? {
            let name = package_of(&file)?;
            let source = self.locked.get(&name).and_then(|locked| locked.source.clone());
            found.insert(name, Locked { source, digest: digest_of(&text(&file)?) });
        }
        if only_compare {
            Diagnostics::check(self.differences(&found))?;
        } else {
            self.locked = found;
            self.save()?;
        }
        let count = self.locked.len();
        terminal.result(
            format_args!("{}: {count} packages", self.wit.join(LOCK).display()),
            || json!({ "packages": self.locked.keys().collect::<Vec<_>>() }),
        );
        Ok(())
    }

    /// Copies every package from its source again.
    fn vendor(mut self, only_locked: bool, terminal: &Terminal) -> Result<(), CommandError> {
        let lock = self.wit.join(LOCK);
        let mut sources: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, locked) in &self.locked {
            if let Some(source) = &locked.source {
                sources.entry(source.clone()).or_default().push(name.clone());
            }
        }
        let (mut fetched, mut wrong) = (Vec::new(), Vec::new());
        for (source, names) in sources {
            let packages = self.packages(&source, &self.wit.join(&source))?;
            for name in names {
                let Some(package) = packages.iter().find(|package| package.name == name) else {
                    let what = format!("`{source}` no longer has `{name}`");
                    wrong.push(
                        differs(&lock, what).mend("add it from where it is now: `tenon wit deps add SOURCE`"),
                    );
                    continue;
                };
                let (locked, digest) = (&self.locked[&name].digest, digest_of(&package.text));
                if only_locked && *locked != digest {
                    wrong.push(changed(&lock, &name, locked, &digest));
                    continue;
                }
                fetched.push((package.clone(), digest));
            }
        }
        Diagnostics::check(wrong)?;
        for (package, digest) in &fetched {
            self.write(package)?;
            if let Some(locked) = self.locked.get_mut(&package.name) {
                locked.digest.clone_from(digest);
            }
        }
        self.save()?;
        terminal.result(
            format_args!("{}: {} packages", self.deps().display(), fetched.len()),
            || json!({ "vendored": fetched.iter().map(|(package, _)| &package.name).collect::<Vec<_>>() }),
        );
        Ok(())
    }

    fn deps(&self) -> PathBuf {
        self.wit.join("deps")
    }

    /// Where a package lies: `wasi:http@0.2.12` in `wasi-http-0.2.12.wit`.
    fn file(&self, name: &str) -> PathBuf {
        self.deps().join(format!("{}.wit", name.replace([':', '@', '/'], "-")))
    }

    fn files(&self) -> Result<Vec<PathBuf>, Diagnostic> {
        let mut files = Vec::new();
        if self.deps().is_dir() {
            contracts(&self.deps(), 0, &mut files)?;
        }
        Ok(files)
    }

    fn write(&self, package: &WitPackage) -> Result<(), CommandError> {
        let own = self.file(&package.name);
        // Another file may have the same package under a name of its own.
        for file in self.files()? {
            if file != own && package_of(&file).is_ok_and(|name| name == package.name) {
                return Err(conflict(&file, &package.name).mend("remove that file").into());
            }
        }
        Ok(project::write(&own, package.text.as_bytes())?)
    }

    /// The source as the lock names it: a path from the folder of the contracts.
    fn shown(&self, source: &str) -> String {
        if wasi(source).is_some() {
            return source.to_owned();
        }
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let (from, to) = (absolute(&self.wit), absolute(Path::new(source)));
        let common = from.components().zip(to.components()).take_while(|(left, right)| left == right).count();
        let up = std::iter::repeat_n("..", from.components().count() - common).map(PathBuf::from);
        let down = to.components().skip(common).map(|part| PathBuf::from(part.as_os_str()));
        up.chain(down).collect::<PathBuf>().display().to_string().replace('\\', "/")
    }

    /// The packages of a source, found at `path` unless it is one of WASI's; not those of the contracts themselves.
    fn packages(&self, source: &str, path: &Path) -> Result<Vec<WitPackage>, Diagnostic> {
        if let Some(packages) = wasi(source) {
            return packages;
        }
        if !path.exists()
            && let Some(range) = tenon_wit::registry_reference(source)
        {
            return Err(from_registry(source, range));
        }
        let own = self.own_package();
        let mut packages = tenon_build::wit_packages(path)?;
        packages.retain(|package| Some(&package.name) != own.as_ref());
        Ok(packages)
    }

    /// The package that the contracts themselves are.
    fn own_package(&self) -> Option<String> {
        let mut files = Vec::new();
        if self.wit.is_dir() {
            contracts(&self.wit, 0, &mut files).ok()?;
        }
        files.iter().find_map(|file| package_of(file).ok())
    }

    fn differences(&self, found: &BTreeMap<String, Locked>) -> Vec<Diagnostic> {
        let file = self.wit.join(LOCK);
        let names: BTreeSet<&String> = self.locked.keys().chain(found.keys()).collect();
        names
            .into_iter()
            .filter_map(|name| match (self.locked.get(name), found.get(name)) {
                (Some(locked), Some(found)) if locked.digest == found.digest => None,
                (Some(locked), Some(found)) => Some(changed(&file, name, &locked.digest, &found.digest)),
                (Some(_), None) => Some(differs(&file, format!("`{name}` is locked, and is not in `deps`"))),
                (None, _) => Some(differs(&file, format!("`{name}` is in `deps`, and is not locked"))),
            })
            .collect()
    }

    fn save(&self) -> Result<(), CommandError> {
        // TOML's basic strings are JSON's.
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let mut text = format!("# Written by `tenon wit deps`.\nversion = {VERSION}\n");
        for (name, locked) in &self.locked {
            let _ = write!(text, "\n[[package]]\nname = {}\n", quoted(name));
            if let Some(source) = &locked.source {
                let _ = writeln!(text, "source = {}", quoted(source));
            }
            let _ = writeln!(text, "digest = {}", quoted(&locked.digest));
        }
        Ok(project::write(&self.wit.join(LOCK), text.as_bytes())?)
    }
}

fn digest_of(text: &str) -> String {
    Digest::of(text.as_bytes()).to_string()
}

fn conflict(file: &Path, name: &str) -> Diagnostic {
    Diagnostic::new("wit-deps-conflict", format!("`{name}` is in `deps` already, and is not the same there"))
        .at(Location::file(file.display().to_string()))
}

fn differs(file: &Path, what: String) -> Diagnostic {
    Diagnostic::new("wit-deps-changed", what)
        .at(Location::file(file.display().to_string()))
        .mend("tenon wit deps lock, if that is as it should be; else `tenon wit deps vendor`")
}

fn changed(file: &Path, name: &str, locked: &str, found: &str) -> Diagnostic {
    differs(file, format!("`{name}` is not what was locked")).note("locked", locked).note("found", found)
}

/// `wasi:http@0.2.12`: that package of a release that comes with Tenon, with all of the same release that it uses.
fn wasi(source: &str) -> Option<Result<Vec<WitPackage>, Diagnostic>> {
    let rest = source.strip_prefix("wasi:")?;
    let newest = tenon_build::WASI[0].0;
    let (package, version) = rest.split_once('@').unwrap_or((rest, newest));
    if !tenon_build::WASI.iter().any(|(_, packages)| packages.iter().any(|(name, _)| *name == package)) {
        return None;
    }
    let wanted = format!("wasi:{package}@{version}");
    let packages = tenon_build::wasi(version).unwrap_or_default();
    let named = |(name, text): (String, String)| WitPackage { name: format!("{name}@{version}"), text };
    let all: Vec<WitPackage> = packages.into_iter().map(named).collect();
    if !all.iter().any(|package| package.name == wanted) {
        let releases: Vec<&str> = tenon_build::WASI.iter().map(|(release, _)| *release).collect();
        let what = format!("`{wanted}` is not among the contracts that come with Tenon");
        return Some(Err(Diagnostic::new("wit-deps-unknown", what)
            .note("releases", releases.join(", "))
            .mend("name one of them, or a file, folder or component that has the package")));
    }
    let mut needed = vec![wanted];
    let mut at = 0;
    while let Some(name) = needed.get(at).cloned() {
        at += 1;
        let text = all.iter().find(|it| it.name == name).map_or("", |it| it.text.as_str());
        for other in &all {
            let stem = other.name.split('@').next().unwrap_or_default();
            if text.contains(&format!("{stem}/")) && !needed.contains(&other.name) {
                needed.push(other.name.clone());
            }
        }
    }
    Some(Ok(all.into_iter().filter(|it| needed.contains(&it.name)).collect()))
}

fn from_registry(source: &str, range: Result<(), String>) -> Diagnostic {
    match range {
        Ok(()) => {
            let what =
                format!("`{source}` would come from a registry of packages, and there is none to ask yet");
            Diagnostic::new("registry-path", what).mend("download the package, and name its file or folder")
        }
        Err(why) => {
            let what = format!("`{source}` names no range of versions: {why}");
            Diagnostic::new("wit-deps-unknown", what).mend(
                "name a WIT file, a folder of them, a component, or a package of WASI such as `wasi:http@0.2.12`",
            )
        }
    }
}

/// The name in a file's `package` line.
fn package_of(file: &Path) -> Result<String, Diagnostic> {
    let text = text(file)?;
    let line = text.lines().map(str::trim).find_map(|line| line.strip_prefix("package "));
    let name = line.and_then(|it| it.split([';', '{', ' ']).next()).filter(|it| !it.is_empty());
    name.map(str::to_owned).ok_or_else(|| {
        Diagnostic::new("wit-invalid", "the file has no `package` line, so it cannot be told what it is")
            .at(Location::file(file.display().to_string()))
            .mend("begin it with `package namespace:name@version;`")
    })
}

fn parse(file: &Path, text: &str) -> Result<BTreeMap<String, Locked>, Diagnostic> {
    let unreadable = |why: String| {
        Diagnostic::new("lock-invalid", "the lock of `deps` cannot be read")
            .at(Location::file(file.display().to_string()))
            .note("found", why)
            .mend("remove it, and write it anew: `tenon wit deps lock`")
    };
    let document = DeTable::parse(text).map_err(|error| unreadable(error.message().to_owned()))?;
    let top = document.get_ref();
    let is_known = matches!(
        top.get("version").map(toml::Spanned::get_ref),
        Some(DeValue::Integer(version)) if version.as_str() == VERSION
    );
    if !is_known {
        return Err(unreadable(format!("it is not of version {VERSION}")));
    }
    let mut packages = BTreeMap::new();
    let Some(DeValue::Array(entries)) = top.get("package").map(toml::Spanned::get_ref) else {
        return Ok(packages);
    };
    for entry in entries.iter() {
        let text = |key: &str| match entry.get_ref() {
            DeValue::Table(table) => match table.get(key).map(toml::Spanned::get_ref) {
                Some(DeValue::String(text)) => Some(text.to_string()),
                _ => None,
            },
            _ => None,
        };
        let (Some(name), Some(digest)) = (text("name"), text("digest")) else {
            return Err(unreadable("a package without a name or digest".to_owned()));
        };
        packages.insert(name, Locked { source: text("source"), digest });
    }
    Ok(packages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_of_wasi_brings_what_it_uses() {
        let names = |source: &str| -> Vec<String> {
            wasi(source).unwrap().unwrap().into_iter().map(|package| package.name).collect()
        };
        assert_eq!(names("wasi:random@0.2.12"), ["wasi:random@0.2.12"]);
        let http = names("wasi:http@0.2.12");
        for name in ["wasi:http@0.2.12", "wasi:io@0.2.12", "wasi:clocks@0.2.12"] {
            assert!(http.iter().any(|it| it == name), "{http:?}");
        }
        assert!(names("wasi:clocks")[0].ends_with("@0.3.0"));
        for source in ["wasi:http@9.9.9", "wasi:io@0.3.0"] {
            assert_eq!(wasi(source).unwrap().unwrap_err().code, "wit-deps-unknown");
        }
        assert!(wasi("wasi:unheard@0.2.12").is_none());
    }

    #[test]
    fn the_lock_reads_what_it_writes() {
        let root = tempfile::tempdir().unwrap();
        let locked =
            |source: Option<&str>| Locked { source: source.map(str::to_owned), digest: "sha256:0".into() };
        let mut deps = Deps::open(root.path()).unwrap();
        deps.locked.insert("a:b@1.0.0".into(), locked(Some("../x.wit")));
        deps.locked.insert("c:d".into(), locked(None));
        deps.save().unwrap();
        assert_eq!(Deps::open(root.path()).unwrap().locked, deps.locked);
        std::fs::write(root.path().join(LOCK), "version = 2").unwrap();
        assert_eq!(Deps::open(root.path()).unwrap_err().code, "lock-invalid");
    }
}

//! What a component of a world begins with: every export there, with a body that a person fills in.

use std::path::Path;

use tenon_model::{Diagnostic, Language, Location};
use wit_parser::{Function, FunctionKind, InterfaceId, TypeDefKind, WorldItem, WorldKey};

use crate::contract::Contract;
use crate::toolchain::toolchain_of;

/// The source that a component begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skeleton {
    /// The world, as a manifest names it.
    pub world: String,
    /// The files below the source folder, each with its text.
    pub files: Vec<(String, String)>,
    /// Whether the world has async functions, for which a library may need a feature.
    pub is_async: bool,
    /// Whether it exports what answers HTTP requests.
    pub serves: bool,
}

/// What a skeleton is made from.
pub(crate) struct Plan<'a> {
    /// The component's name.
    pub(crate) name: &'a str,
    /// The folder or file of the contracts.
    pub(crate) wit: &'a Path,
    /// The world in them.
    pub(crate) contract: &'a Contract,
    /// The language, where a toolchain has two.
    pub(crate) language: Language,
}

/// The skeleton of a component called `name` for `world` of the contracts at `wit`; without a name, for the only one.
///
/// # Errors
/// When the contracts cannot be read, or the language lacks what the world has.
pub fn skeleton(
    language: Language,
    name: &str,
    wit: &Path,
    world: Option<&str>,
) -> Result<Skeleton, Diagnostic> {
    let contract = Contract::load(wit, world)?;
    let exports = contract.exports();
    if exports.is_empty() {
        let what = format!(
            "the world `{}` exports nothing, so a component of it would do nothing",
            contract.qualified_world()
        );
        return Err(Diagnostic::new("world-exports-nothing", what)
            .at(Location::file(wit.display().to_string()))
            .mend("name a world that exports something"));
    }
    let files = toolchain_of(language).skeleton(&Plan { name, wit, contract: &contract, language })?;
    Ok(Skeleton {
        world: contract.qualified_world(),
        files,
        is_async: contract.has_async(),
        serves: exports.iter().any(|name| {
            name.starts_with("wasi:http/incoming-handler@") || name.starts_with("wasi:http/handler@")
        }),
    })
}

/// What a body says that nobody has written yet.
pub(crate) fn unwritten(function: &Function) -> String {
    format!("to be written: {}", function.item_name())
}

/// An exported interface, or the functions that the world itself exports.
pub(crate) struct Exported<'a> {
    /// The interface's own name, without its package; `None` for the world's functions.
    pub(crate) name: Option<String>,
    /// Its functions, without those of resources.
    pub(crate) functions: Vec<&'a Function>,
    /// Its resources, each with its name and its functions.
    pub(crate) resources: Vec<(String, Vec<&'a Function>)>,
}

/// What the world exports; its own functions first.
pub(crate) fn exported(contract: &Contract) -> Vec<Exported<'_>> {
    let resolve = &contract.resolve;
    let mut own = Exported { name: None, functions: Vec::new(), resources: Vec::new() };
    let mut interfaces = Vec::new();
    for (key, item) in &resolve.worlds[contract.world].exports {
        match item {
            WorldItem::Function(function) => own.functions.push(function),
            WorldItem::Interface { id, .. } => interfaces.push(interface(contract, key, *id)),
            WorldItem::Type { .. } => {}
        }
    }
    let own = (!own.functions.is_empty()).then_some(own);
    own.into_iter().chain(interfaces).collect()
}

fn interface<'a>(contract: &'a Contract, key: &WorldKey, id: InterfaceId) -> Exported<'a> {
    let interface = &contract.resolve.interfaces[id];
    let name = match key {
        WorldKey::Name(name) => name.clone(),
        WorldKey::Interface(_) => interface.name.clone().unwrap_or_default(),
    };
    let of = |function: &&Function, resource| function.kind.resource() == Some(resource);
    let resources = interface
        .types
        .iter()
        .filter(|(_, ty)| matches!(contract.resolve.types[**ty].kind, TypeDefKind::Resource))
        .map(|(name, ty)| (name.clone(), interface.functions.values().filter(|it| of(it, *ty)).collect()))
        .collect();
    let functions = interface.functions.values().filter(|it| it.kind.resource().is_none()).collect();
    Exported { name: Some(name), functions, resources }
}

/// The parameters of a function without the resource that a method is called on.
pub(crate) fn parameters(function: &Function) -> Vec<String> {
    let is_method = matches!(function.kind, FunctionKind::Method(_) | FunctionKind::AsyncMethod(_));
    function.params.iter().skip(usize::from(is_method)).map(|parameter| parameter.name.clone()).collect()
}

/// `verify-token` as `verifyToken`.
pub(crate) fn camel(name: &str) -> String {
    let mut words = name.split('-');
    let first = words.next().unwrap_or_default().to_lowercase();
    words.fold(first, |text, word| text + &capital(word))
}

/// `verify-token` as `VerifyToken`.
pub(crate) fn pascal(name: &str) -> String {
    name.split('-').map(capital).collect()
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().to_string() + letters.as_str()).unwrap_or_default()
}

/// The releases of WASI whose contracts are at hand, newest first, and the packages of each with their text.
pub const WASI: [(&str, &[(&str, &str)]); 3] = [
    (
        "0.3.0",
        &[
            ("cli", include_str!("../wasi/0.3.0/cli.wit")),
            ("clocks", include_str!("../wasi/0.3.0/clocks.wit")),
            ("filesystem", include_str!("../wasi/0.3.0/filesystem.wit")),
            ("http", include_str!("../wasi/0.3.0/http.wit")),
            ("random", include_str!("../wasi/0.3.0/random.wit")),
            ("sockets", include_str!("../wasi/0.3.0/sockets.wit")),
        ],
    ),
    ("0.2.12", &WASI_02),
    // StarlingMonkey's; see below.
    ("0.2.10", &WASI_02),
];

const WASI_02: [(&str, &str); 7] = [
    ("cli", include_str!("../wasi/0.2.12/cli.wit")),
    ("clocks", include_str!("../wasi/0.2.12/clocks.wit")),
    ("filesystem", include_str!("../wasi/0.2.12/filesystem.wit")),
    ("http", include_str!("../wasi/0.2.12/http.wit")),
    ("io", include_str!("../wasi/0.2.12/io.wit")),
    ("random", include_str!("../wasi/0.2.12/random.wit")),
    ("sockets", include_str!("../wasi/0.2.12/sockets.wit")),
];

/// The packages of a release of WASI that is at hand: each one's name, `wasi:http`, and its text.
pub fn wasi(version: &str) -> Option<Vec<(String, String)>> {
    let (_, packages) = WASI.iter().find(|(release, _)| *release == version)?;
    // Between the two, one function was stabilised; nothing else differs.
    let text = |text: &str| match version {
        "0.2.10" => text
            .replace("@since(version = 0.2.12)", "@unstable(feature = cli-exit-with-code)")
            .replace("0.2.12", "0.2.10"),
        _ => text.to_owned(),
    };
    Some(packages.iter().map(|(name, it)| (format!("wasi:{name}"), text(it))).collect())
}

/// The packages of a release of WASI that `wanted` and what it uses are in, without their worlds: those would bring all of
/// WASI along, and toolchains merge them with their own.
pub fn wasi_interfaces(version: &str, wanted: &str) -> Option<Vec<(String, String)>> {
    let all: Vec<_> = wasi(version)?.into_iter().map(|(name, text)| (name, without_worlds(&text))).collect();
    let mut needed = vec![wanted.to_owned()];
    let mut at = 0;
    while let Some(name) = needed.get(at).cloned() {
        at += 1;
        let text = all.iter().find(|(it, _)| *it == name).map_or("", |(_, text)| text);
        let used = all.iter().filter(|(other, _)| text.contains(&format!("{other}/")));
        let used: Vec<String> = used.map(|(other, _)| other.clone()).collect();
        needed.extend(used.into_iter().filter(|it| *it != name));
        // Each once, in the order in which they were found.
        let mut seen = std::collections::BTreeSet::new();
        needed.retain(|it| seen.insert(it.clone()));
    }
    Some(all.into_iter().filter(|(name, _)| needed.contains(name)).collect())
}

/// A package's text without its worlds, each with what stands before it.
fn without_worlds(text: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("world ") {
            while kept.last().is_some_and(|line| line.starts_with(['@', '/'])) {
                kept.pop();
            }
            for line in lines.by_ref() {
                if line.starts_with('}') {
                    break;
                }
            }
        } else {
            kept.push(line);
        }
    }
    kept.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) const SHOP: &str = r#"
        package demo:shop@1.0.0;
        interface types { record item { name: string, qty: u32 } enum kind { small, big } }
        interface orders {
            use types.{item, kind};
            variant fault { missing(string), empty }
            place: func(items: list<item>, kind: kind) -> result<u64, fault>;
            find-all: func(prefix: option<string>) -> list<item>;
        }
        interface log { write: func(line: string); }
        world shop { import log; export orders; export run-all: func(args: list<string>) -> result; }
        world empty { import log; }
    "#;

    #[test]
    fn every_language_begins_with_every_export() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("shop.wit"), SHOP).unwrap();
        for (language, names) in [
            (Language::Rust, ["fn place(", "fn find_all(", "fn run_all("]),
            (Language::Go, ["func Place(", "func FindAll(", "func RunAll("]),
            (Language::TypeScript, ["place(", "findAll(", "const runAll:"]),
            (Language::JavaScript, ["place(", "findAll(", "runAll("]),
            (Language::Python, ["def place(self, items, kind)", "def find_all(", "def run_all("]),
            (Language::C, ["exports_demo_shop_orders_place(", "orders_find_all(", "exports_shop_run_all("]),
            (Language::Cpp, [" Place(", " FindAll(", " RunAll("]),
            (Language::AssemblyScript, ["function place(", "function findAll(", "function runAll("]),
        ] {
            let skeleton = skeleton(language, "my-shop", root.path(), Some("shop")).unwrap();
            assert_eq!((&*skeleton.world, skeleton.serves), ("demo:shop/shop@1.0.0", false));
            let text: String = skeleton.files.into_iter().map(|(_, text)| text).collect();
            for name in names {
                assert_eq!(text.matches(name).count(), 1, "{language}: {name} in\n{text}");
            }
        }
        let refused = skeleton(Language::C, "x", root.path(), Some("empty")).unwrap_err();
        assert_eq!(refused.code, "world-exports-nothing");
    }

    #[test]
    fn a_resource_in_cpp_begins_with_a_class_to_add_members_to() {
        let root = tempfile::tempdir().unwrap();
        let world = "package demo:stock@1.0.0;
            interface kinds { record item { name: string, qty: u32 } }
            interface stock {
                use kinds.{item};
                enum level { low, high }
                resource shelf {
                    constructor(first: item);
                    put: func(item: item) -> level;
                    join: static func(a: shelf, b: borrow<shelf>) -> shelf;
                }
                find: func(of: borrow<shelf>) -> option<item>;
            }
            world shop { export stock; }";
        std::fs::write(root.path().join("stock.wit"), world).unwrap();
        let files = skeleton(Language::Cpp, "my-shop", root.path(), None).unwrap().files;
        let text = |name: &str| files.iter().find(|(file, _)| file == name).map(|(_, text)| text.as_str());
        let class = text("exports-demo-stock-stock-Shelf.h").unwrap();
        for part in ["yours to add members to", "class Shelf :", "Shelf(::demo::stock::kinds::Item first);"] {
            assert_eq!(class.matches(part).count(), 1, "{part} in\n{class}");
        }
        let source = text("my-shop.cpp").unwrap();
        for part in ["Shelf::Shelf(", " Shelf::Put(", "Shelf::Join(", " Find("] {
            assert_eq!(source.matches(part).count(), 1, "{part} in\n{source}");
        }
        assert!(!source.contains("#include \"exports-"), "{source}");
    }

    #[test]
    fn names_are_cased() {
        assert_eq!((camel("a-big-one"), pascal("a-big-one")), ("aBigOne".to_owned(), "ABigOne".to_owned()));
    }

    #[test]
    fn the_contracts_of_wasi_can_be_read() {
        for (version, _) in WASI {
            let root = tempfile::tempdir().unwrap();
            for (name, text) in wasi(version).unwrap() {
                assert!(
                    text.starts_with(&format!("package {name}@{version};"))
                        || text.contains(&format!("package {name}@{version};"))
                );
                std::fs::create_dir_all(root.path().join("deps")).unwrap();
                let file = name.replace("wasi:", "");
                std::fs::write(root.path().join(format!("deps/{file}.wit")), text).unwrap();
            }
            let world = format!(
                "package a:b; world w {{ import wasi:http/types@{version}; export wasi:cli/run@{version}; }}"
            );
            std::fs::write(root.path().join("w.wit"), world).unwrap();
            assert!(Contract::load(root.path(), None).is_ok(), "{version}");

            let root = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(root.path().join("deps")).unwrap();
            let files = wasi_interfaces(version, "wasi:http").unwrap();
            assert!(files.len() < 5 && files.iter().all(|(_, text)| !text.contains("world ")), "{version}");
            for (name, text) in files {
                std::fs::write(root.path().join(format!("deps/{}.wit", &name[5..])), text).unwrap();
            }
            let world = format!("package a:b; world w {{ import wasi:http/types@{version}; }}");
            std::fs::write(root.path().join("w.wit"), world).unwrap();
            assert!(Contract::load(root.path(), None).is_ok(), "{version}");
        }
    }
}

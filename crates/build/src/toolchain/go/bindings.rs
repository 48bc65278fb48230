//! The Go code between the component's ABI and the author's packages.
//!
//! `wit-bindgen-go` writes it for a module of its own; here it moves into the author's module, so that `go build`,
//! `go vet` and an editor work there with nothing but the module's own `go.mod`.

use std::collections::BTreeMap;
use std::path::Path;

use tenon_model::{Diagnostic, Digest, Location};
use wit_bindgen_core::Files;
use wit_bindgen_core::wit_parser::{Resolve, WorldItem, WorldKey};

/// The folder of the generated packages in the author's module.
pub(super) const GENERATED_FOLDER: &str = "internal/wit";

/// The generated file in an author's own package, when that exports resources: their methods are the author's.
pub(super) const GENERATED_FILE: &str = "wit_bindings.go";

/// What the generated code runs on: the module `go.bytecodealliance.org/pkg`, see `vendor/go/README.md`.
const RUNTIME: [(&str, &str); 11] = [
    ("LICENSE", include_str!("../../../vendor/go/LICENSE")),
    ("async/async.go", include_str!("../../../vendor/go/async/async.go")),
    ("async/empty.s", include_str!("../../../vendor/go/async/empty.s")),
    ("runtime/empty.s", include_str!("../../../vendor/go/runtime/empty.s")),
    ("runtime/runtime.go", include_str!("../../../vendor/go/runtime/runtime.go")),
    ("types/future.go", include_str!("../../../vendor/go/types/future.go")),
    ("types/option.go", include_str!("../../../vendor/go/types/option.go")),
    ("types/result.go", include_str!("../../../vendor/go/types/result.go")),
    ("types/stream.go", include_str!("../../../vendor/go/types/stream.go")),
    ("types/tuple.go", include_str!("../../../vendor/go/types/tuple.go")),
    ("types/unit.go", include_str!("../../../vendor/go/types/unit.go")),
];
const COLLECTOR: &str = include_str!("../../../vendor/go/runtime/collector.go");

/// Lets a package declare functions without bodies (imports) on machines other than WebAssembly, where its tests run.
const EMPTY_ASSEMBLY: &str = include_str!("../../../vendor/go/runtime/empty.s");

const RUNTIME_MODULE: &str = "go.bytecodealliance.org/pkg/wit";
const GENERATED_MODULE: &str = "wit_component";

/// The digest of everything in here that ends up in a component.
pub(super) fn pins() -> Digest {
    let texts: Vec<&str> = RUNTIME.iter().map(|(_, text)| *text).chain([COLLECTOR]).collect();
    Digest::of(texts.join("\0").as_bytes())
}

/// Something the world exports, and the author's package that implements it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Export {
    /// The name in the world: `demo:routing/match@1.0.0`.
    pub(super) name: String,
    /// The author's folder, and the name of the package in it as far as generated code minds.
    pub(super) folder: String,
    pub(super) package: String,
    /// What `wit-bindgen-go` calls the package.
    generated: String,
}

/// Generated code, ready to be written.
#[derive(Debug)]
pub(super) struct Bindings {
    /// Path in the author's module, and text.
    pub(super) files: BTreeMap<String, String>,
    pub(super) exports: Vec<Export>,
}

impl Bindings {
    /// The bindings of `world` in the contracts at `wit` for the module `module`.
    pub(super) fn generate(wit: &Path, world: &str, module: &str) -> Result<Self, Diagnostic> {
        let (generated, exports) = generate(wit, world, false)?;
        let mut files = BTreeMap::new();
        for (path, text) in generated {
            // The author's module has its own.
            if path == "go.mod" {
                continue;
            }
            let text = moved(&text, module, &exports);
            if path == "wit_exports.go" {
                files.insert(format!("{GENERATED_FOLDER}/{path}"), with_collection(&text));
                continue;
            }
            let package = path.split('/').next().unwrap_or_default();
            if let Some(export) = exports.iter().find(|export| export.generated == package) {
                // Resources: half of the package is the author's.
                let clause = format!("package {}\n", export.package);
                let text = text.replacen(&format!("package {package}\n"), &clause, 1);
                files.insert(format!("{}/{GENERATED_FILE}", export.folder), text);
            } else if RUNTIME.iter().any(|(file, _)| file.split('/').next() == Some(package)) {
                return Err(Diagnostic::new(
                    "go-name-taken",
                    format!(
                        "the world has an interface `{package}`, which in Go is a package of the bindings"
                    ),
                )
                .mend("rename the interface"));
            } else {
                files.insert(format!("{GENERATED_FOLDER}/{package}/empty.s"), EMPTY_ASSEMBLY.to_owned());
                files.insert(format!("{GENERATED_FOLDER}/{path}"), text);
            }
        }
        for (path, text) in RUNTIME.into_iter().chain([("runtime/collector.go", COLLECTOR)]) {
            files.insert(format!("{GENERATED_FOLDER}/{path}"), moved(text, module, &exports));
        }
        Ok(Self { files, exports })
    }

    /// A file that an author can begin with: the functions of `export` with nothing in them.
    pub(super) fn stub(wit: &Path, world: &str, module: &str, export: &Export) -> Result<String, Diagnostic> {
        let (generated, exports) = generate(wit, world, true)?;
        let path = format!("{}/wit_bindings.go", export.generated);
        let text = generated.get(&path).cloned().unwrap_or_default();
        // Its heading is about another tool.
        let code = text.find("\npackage ").map_or("", |at| &text[at + 1..]);
        let code = code.replacen(&export.generated, &export.package, 1);
        Ok(moved(&code, module, &exports))
    }
}

/// What `wit-bindgen-go` writes, and the world's exports.
fn generate(
    wit: &Path,
    world: &str,
    stubs: bool,
) -> Result<(BTreeMap<String, String>, Vec<Export>), Diagnostic> {
    // The contracts were read before, by another release of the same parser.
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(wit).map_err(unreadable(wit))?;
    let id = resolve.select_world(&[package], Some(world)).map_err(unreadable(wit))?;
    let exports = exports(&resolve, id);
    let mut files = Files::default();
    let mut generator = wit_bindgen_go::Opts {
        format: wit_bindgen_go::Format::False,
        generate_stubs: stubs,
        ..Default::default()
    }
    .build();
    generator.generate(&mut resolve, id, &mut files).map_err(unreadable(wit))?;
    let files = files
        .iter()
        .map(|(path, text)| (path.to_owned(), String::from_utf8_lossy(text).into_owned()))
        .collect();
    Ok((files, exports))
}

fn unreadable<E: std::fmt::Display>(wit: &Path) -> impl Fn(E) -> Diagnostic {
    move |error| {
        Diagnostic::new("go-bindings", "no Go bindings can be made for the contracts")
            .at(Location::file(wit.display().to_string()))
            .note("found", format!("{error:#}"))
    }
}

fn exports(resolve: &Resolve, world: wit_bindgen_core::wit_parser::WorldId) -> Vec<Export> {
    let mut exports: Vec<Export> = Vec::new();
    for (key, item) in &resolve.worlds[world].exports {
        let (name, generated, short) = match (key, item) {
            (_, WorldItem::Function(_)) => {
                ("functions of the world".to_owned(), "wit_world".to_owned(), "world".to_owned())
            }
            (WorldKey::Name(name), _) => (name.clone(), escaped(snake(name)), snake(name)),
            (WorldKey::Interface(id), _) => {
                let interface = &resolve.interfaces[*id];
                let short = snake(interface.name.as_deref().unwrap_or_default());
                (resolve.name_world_key(key), generated_name(resolve, *id), short)
            }
        };
        let generated = format!("export_{generated}");
        if exports.iter().all(|export| export.generated != generated) {
            exports.push(Export { name, package: escaped(short.clone()), folder: short, generated });
        }
    }
    // Interfaces of several packages may have the same name; then all of them go by their full one.
    let folders: Vec<String> = exports.iter().map(|export| export.folder.clone()).collect();
    for export in &mut exports {
        if folders.iter().filter(|folder| **folder == export.folder).count() > 1 {
            export.folder = export.generated.trim_start_matches("export_").to_owned();
            export.package = export.folder.clone();
        }
    }
    exports
}

/// The package name that `wit-bindgen-go` gives an interface (`go_package_name` there).
fn generated_name(resolve: &Resolve, id: wit_bindgen_core::wit_parser::InterfaceId) -> String {
    let interface = &resolve.interfaces[id];
    let Some(package) = interface.package.map(|package| &resolve.packages[package].name) else {
        return String::new();
    };
    let others = resolve.packages.iter().any(|(_, other)| {
        other.name.namespace == package.namespace
            && other.name.name == package.name
            && other.name.version != package.version
    });
    let version = match &package.version {
        Some(version) if others => format!("{}_", version.to_string().replace(['.', '-', '+'], "_")),
        _ => String::new(),
    };
    let interface = snake(interface.name.as_deref().unwrap_or_default());
    format!("{}_{}_{version}{interface}", snake(&package.namespace), snake(&package.name))
}

/// WIT names are kebab case.
fn snake(name: &str) -> String {
    name.to_lowercase().replace('-', "_")
}

/// Go's keywords cannot name a package.
fn escaped(name: String) -> String {
    const KEYWORDS: [&str; 25] = [
        "break",
        "case",
        "chan",
        "const",
        "continue",
        "default",
        "defer",
        "else",
        "fallthrough",
        "for",
        "func",
        "go",
        "goto",
        "if",
        "import",
        "interface",
        "map",
        "package",
        "range",
        "return",
        "select",
        "struct",
        "switch",
        "type",
        "var",
    ];
    if KEYWORDS.contains(&name.as_str()) { name + "_" } else { name }
}

/// The same code with its imports where they are in the author's module.
fn moved(text: &str, module: &str, exports: &[Export]) -> String {
    let mut moved = text.replace(&format!("\"{RUNTIME_MODULE}/"), &format!("\"{module}/{GENERATED_FOLDER}/"));
    for Export { generated, folder, .. } in exports {
        let import = format!("\"{GENERATED_MODULE}/{generated}\"");
        moved = moved.replace(&import, &format!("{generated} \"{module}/{folder}\""));
    }
    moved.replace(&format!("\"{GENERATED_MODULE}/"), &format!("\"{module}/{GENERATED_FOLDER}/"))
}

/// The same code with a collection at the start of every exported function: the one moment where a collection may
/// start (see `vendor/go/runtime/collector.go`). What runs after a function has returned is left alone.
fn with_collection(text: &str) -> String {
    let mut is_export = false;
    let mut code = String::with_capacity(text.len());
    for line in text.lines() {
        code.push_str(line);
        code.push('\n');
        if let Some(name) = line.strip_prefix("//go:wasmexport ") {
            is_export = !name.starts_with("cabi_post_");
        } else if is_export && line.starts_with("func ") && line.ends_with('{') {
            code.push_str("\twitRuntime.Collect()\n");
            is_export = false;
        }
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generate(text: &str) -> Result<Bindings, Diagnostic> {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("a.wit"), text).unwrap();
        Bindings::generate(root.path(), "w", "example.org/m")
    }

    const TWO: &str = "package a:b; interface select { record r { x: u8 } f: func(p: string) -> list<r>; } \
                       interface k { g: func(); } world w { import k; export select; export run: func(); }";

    #[test]
    fn exports_are_packages_of_the_author() {
        let bindings = generate(TWO).unwrap();
        let folders: Vec<_> =
            bindings.exports.iter().map(|export| (&*export.folder, &*export.package)).collect();
        assert_eq!(folders, [("world", "world"), ("select", "select_")]);
        let main = &bindings.files["internal/wit/wit_exports.go"];
        assert!(main.contains("export_a_b_select \"example.org/m/select\""), "{main}");
        assert!(main.contains("export_wit_world \"example.org/m/world\""), "{main}");
        assert!(bindings.files.contains_key("internal/wit/a_b_k/wit_bindings.go"));
        for (path, text) in &bindings.files {
            assert!(
                !text.contains("\"wit_component/") && !text.contains("\"go.bytecodealliance.org"),
                "{path}"
            );
        }
    }

    #[test]
    fn every_export_collects_and_nothing_else_does() {
        let main = generate(TWO).unwrap().files.remove("internal/wit/wit_exports.go").unwrap();
        let exports = main.lines().filter(|line| line.starts_with("//go:wasmexport "));
        let (after, before): (Vec<_>, Vec<_>) = exports.partition(|line| line.contains("cabi_post_"));
        assert!(!after.is_empty());
        assert_eq!(before.len(), 2);
        assert_eq!(main.matches("witRuntime.Collect()").count(), 2);
    }

    #[test]
    fn interfaces_of_one_name_go_by_their_full_ones() {
        let bindings = generate(
            "package a:b; interface i { f: func(); } package c:d { interface i { f: func(); } } \
             world w { export i; export c:d/i; }",
        )
        .unwrap();
        let folders: Vec<_> = bindings.exports.iter().map(|export| &*export.folder).collect();
        assert_eq!(folders, ["a_b_i", "c_d_i"]);
    }

    #[test]
    fn resources_are_generated_into_the_package_of_the_author() {
        let bindings =
            generate("package a:b; interface i { resource r { m: func(); } } world w { export i; }").unwrap();
        let file = &bindings.files["i/wit_bindings.go"];
        assert!(file.contains("\npackage i\n"), "{file}");
    }

    #[test]
    fn a_stub_is_go_of_the_module() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("a.wit"), TWO).unwrap();
        let bindings = Bindings::generate(root.path(), "w", "m").unwrap();
        let stub = Bindings::stub(root.path(), "w", "m", &bindings.exports[1]).unwrap();
        assert!(stub.starts_with("package select_\n"), "{stub}");
        assert!(stub.contains("\"m/internal/wit/a_b_select\"") && stub.contains("func F("), "{stub}");
    }
}

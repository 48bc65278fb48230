//! C and C++: bindings from the contract, the clang in `zig`, and the component made from that.
//!
//! What is generated lies in `bindings` of the author's folder. The author's files are those in the folder itself and
//! in `src`; `compile_flags.txt`, which editors read too, may add flags.

mod classes;
mod skeleton;

use std::path::{Path, PathBuf};

use tenon_model::{Diagnostic, Location};
use wit_bindgen_core::Files;
use wit_component::StringEncoding;

use crate::contract::Contract;
use crate::error::BuildError;
use crate::language::{CPP_EXTENSIONS, c_sources};
use crate::process::Program;
use crate::skeleton::Plan;
use crate::toolbox::{Kit, ZIG_VERSION};
use crate::toolchain::{Lacks, Product, Site, Toolchain, core, write_generated};

pub(super) struct C;
pub(super) struct Cpp;

/// The folder of the generated files in the author's.
const GENERATED_FOLDER: &str = "bindings";

/// The author's own flags, one a line, in the form that clang's tools read.
const FLAGS_FILE: &str = "compile_flags.txt";

/// Small, without what only a debugger reads; the names of functions stay, for traps.
const FLAGS: [&str; 8] = [
    "-target",
    "wasm32-wasi",
    "-mexec-model=reactor",
    "-Os",
    "-g0",
    "-ffunction-sections",
    "-fdata-sections",
    "-Wl,--gc-sections",
];
/// The headers of the author's classes are included from a generated one.
const CPP_FLAGS: [&str; 7] = ["-std=c++23", "-fno-exceptions", "-fno-rtti", "-iquote", ".", "-iquote", "src"];

/// What the linker's commonest complaint means.
const UNDEFINED: &str = "an undefined symbol that begins with `exports` is a function of the world that nobody wrote: its declaration is in the header in `bindings`";

/// The release of the generators.
const BINDINGS: &str = "0.63.0";

fn recipe(language: &str) -> String {
    format!("{language} 3 {} wit-bindgen {BINDINGS} {FLAGS:?} {CPP_FLAGS:?}", Kit::Zig.pins())
}

fn is_generated(path: &Path) -> bool {
    path == Path::new(GENERATED_FOLDER)
}

type Generator = dyn wit_bindgen_core::WorldGenerator;

fn c_generator() -> Box<Generator> {
    wit_bindgen_c::Opts { no_object_file: true, ..Default::default() }.build()
}

/// It looks in a folder for classes that somebody has written already, where the author's are not: what it makes of a world
/// would depend on where `tenon` was started. No file has such a name.
fn cpp_generator() -> Box<Generator> {
    wit_bindgen_cpp::Opts::default().build(Some(&PathBuf::from("\0")))
}

/// The world's name as the generators' files begin with it.
fn snake(name: &str) -> String {
    name.to_lowercase().replace('-', "_")
}

impl Toolchain for C {
    fn generates(&self) -> fn(&Path) -> bool {
        is_generated
    }

    fn skeleton(&self, plan: &Plan<'_>) -> Result<Vec<(String, String)>, Diagnostic> {
        let files = c_bindings(plan.wit, plan.contract)?;
        let header = format!("{}.h", snake(plan.contract.world_name()));
        Ok(vec![(format!("{}.c", plan.name), skeleton::c(&files, &header))])
    }

    fn recipe(&self) -> String {
        recipe("c")
    }

    fn bindings(&self, site: &Site<'_>) -> Result<Vec<(String, Vec<u8>)>, BuildError> {
        let files = c_bindings(site.wit, site.contract)?;
        Ok(written(&files).map(|(name, text)| (name.to_owned(), text.to_vec())).collect())
    }

    fn build(&self, site: &Site<'_>) -> Result<Product, BuildError> {
        generate(site, c_bindings, "c")?;
        let sources = [c_sources(site.source, &["c"]), generated(site, &["c"])].concat();
        let core = link(site, "cc", &[], &sources)?;
        Ok(Product {
            bytes: core::componentize(site.contract, core, StringEncoding::UTF8)?,
            also: Vec::new(),
            tools: vec![
                ("wit-bindgen-c", BINDINGS.to_owned()),
                core::adapter(),
                ("zig", ZIG_VERSION.to_owned()),
            ],
        })
    }
}

/// The generator leaves async functions out without a word.
const CPP_LACKS: Lacks = Lacks {
    async_exports: true,
    async_imports: true,
    streams: true,
    exported_resources: false,
    resources: false,
};

impl Toolchain for Cpp {
    fn generates(&self) -> fn(&Path) -> bool {
        is_generated
    }

    fn skeleton(&self, plan: &Plan<'_>) -> Result<Vec<(String, String)>, Diagnostic> {
        CPP_LACKS.refuse(plan.language, plan.contract)?;
        let files = cpp_bindings(plan.wit, plan.contract)?;
        let source = (format!("{}.cpp", plan.name), skeleton::cpp(&files, &cpp_header(plan.contract)));
        Ok(std::iter::once(source).chain(skeleton::classes(&files)).collect())
    }

    fn recipe(&self) -> String {
        recipe("cpp")
    }

    fn bindings(&self, site: &Site<'_>) -> Result<Vec<(String, Vec<u8>)>, BuildError> {
        CPP_LACKS.refuse(site.language, site.contract)?;
        let files = cpp_bindings(site.wit, site.contract)?;
        Ok(written(&files).map(|(name, text)| (name.to_owned(), text.to_vec())).collect())
    }

    fn build(&self, site: &Site<'_>) -> Result<Product, BuildError> {
        CPP_LACKS.refuse(site.language, site.contract)?;
        generate(site, cpp_bindings, "cpp")?;
        let mut inputs = [c_sources(site.source, &CPP_EXTENSIONS), generated(site, &CPP_EXTENSIONS)].concat();
        for source in c_sources(site.source, &["c"]) {
            inputs.push(compile(site, &source)?);
        }
        let core = link(site, "c++", &CPP_FLAGS, &inputs)?;
        Ok(Product {
            bytes: core::componentize(site.contract, core, StringEncoding::UTF8)?,
            also: Vec::new(),
            tools: vec![
                ("wit-bindgen-cpp", BINDINGS.to_owned()),
                core::adapter(),
                ("zig", ZIG_VERSION.to_owned()),
            ],
        })
    }
}

/// What a generator writes for a world.
fn bindings(wit: &Path, contract: &Contract, generator: &mut Generator) -> Result<Files, Diagnostic> {
    let mut files = Files::default();
    generator.generate(&mut contract.resolve.clone(), contract.world, &mut files).map_err(|error| {
        Diagnostic::new("c-bindings", "no bindings can be made for the contracts")
            .at(Location::file(wit.display().to_string()))
            .note("found", format!("{error:#}"))
    })?;
    Ok(files)
}

fn generate(
    site: &Site<'_>,
    bindings: fn(&Path, &Contract) -> Result<Files, Diagnostic>,
    extension: &str,
) -> Result<(), BuildError> {
    site.progress.step(site.component, "bindings from the contract");
    let files = bindings(site.wit, site.contract)?;
    // The generated code asks for an object with the world in it, so that no linker leaves that out. Here the world is
    // embedded after linking.
    let symbol = wit_bindgen_c::component_type_object::linking_symbol(site.contract.world_name());
    let anchor = format!(
        "// Written by `tenon build`.\n#ifdef __cplusplus\nextern \"C\"\n#endif\nvoid {symbol}(void);\nvoid {symbol}(void) {{}}\n"
    );
    let name = format!("tenon_world.{extension}");
    // A class that the author has a header of is there to compare with.
    let templates: Vec<String> = written(&files).map(|(name, _)| template(site, name)).collect();
    let named = written(&files).zip(&templates).map(|((_, text), name)| (name.as_str(), text));
    write_generated(site, GENERATED_FOLDER, named.chain([(name.as_str(), anchor.as_bytes())]))
}

/// The name that a generated file is written under.
fn template(site: &Site<'_>, name: &str) -> String {
    let is_the_authors = || ["", "src"].iter().any(|folder| site.source.join(folder).join(name).is_file());
    if classes::is_class(name) && is_the_authors() { format!("{name}.template") } else { name.to_owned() }
}

/// The generator leaves its library out of a world that needs only the empty type of it: the library is that of a world
/// that needs more.
fn with_library(files: Files, header: &str) -> Result<Files, Diagnostic> {
    const LIBRARY: &str = "wit.h";
    if files.iter().any(|(name, _)| name == LIBRARY) {
        return Ok(files);
    }
    let failed = |error: &dyn std::fmt::Display| {
        Diagnostic::new("c-bindings", "no bindings can be made for the contracts")
            .note("found", format!("{error:#}"))
    };
    let mut resolve = wit_parser::Resolve::default();
    let package = resolve
        .push_str("a.wit", "package a:b; world w { export f: func(text: string); }")
        .map_err(|error| failed(&error))?;
    let world = resolve.select_world(&[package], None).map_err(|error| failed(&error))?;
    let mut other = Files::default();
    cpp_generator().generate(&mut resolve, world, &mut other).map_err(|error| failed(&error))?;
    let mut complete = Files::default();
    for (name, text) in files.iter() {
        let include = format!("#include \"{LIBRARY}\"\n");
        match String::from_utf8(text.to_vec()) {
            Ok(text) if name == header && !text.contains(&include) => {
                let text =
                    text.replacen("#include <cstdint>\n", &format!("#include <cstdint>\n{include}"), 1);
                complete.push(name, text.as_bytes());
            }
            _ => complete.push(name, text),
        }
    }
    for (name, text) in other.iter().filter(|(name, _)| *name == LIBRARY) {
        complete.push(name, text);
    }
    Ok(complete)
}

/// The bindings for C.
fn c_bindings(wit: &Path, contract: &Contract) -> Result<Files, Diagnostic> {
    bindings(wit, contract, &mut *c_generator())
}

/// The bindings for C++.
fn cpp_bindings(wit: &Path, contract: &Contract) -> Result<Files, Diagnostic> {
    classes::refuse_circles(&contract.resolve, contract.world)
        .map_err(|found| found.at(Location::file(wit.display().to_string())))?;
    let files = bindings(wit, contract, &mut *cpp_generator())?;
    let header = cpp_header(contract);
    Ok(classes::placed(&with_library(files, &header)?, &header))
}

fn cpp_header(contract: &Contract) -> String {
    format!("{}_cpp.h", snake(contract.world_name()))
}

/// What of the generated files is for the compiler: objects hold the world, templates are functions to begin with.
fn written(files: &Files) -> impl Iterator<Item = (&str, &[u8])> {
    files.iter().filter(|(name, _)| !name.ends_with(".o") && !name.ends_with(".template"))
}

fn generated(site: &Site<'_>, extensions: &[&str]) -> Vec<PathBuf> {
    c_sources(&site.source.join(GENERATED_FOLDER), extensions)
}

/// Variables that would change what is compiled.
fn leaks(name: &str) -> bool {
    matches!(name, "CPATH" | "C_INCLUDE_PATH" | "CPLUS_INCLUDE_PATH" | "LIBRARY_PATH" | "SDKROOT")
        || name.starts_with("ZIG_")
}

fn zig(site: &Site<'_>, driver: &str) -> Program {
    let cache = site.toolbox.zig_cache();
    Program::new(site.toolbox.zig(), site.source, site.host, leaks)
        .env("ZIG_GLOBAL_CACHE_DIR", &cache)
        .env("ZIG_LOCAL_CACHE_DIR", &cache)
        .arg(driver)
        .args(FLAGS)
        .arg(format!("-I{GENERATED_FOLDER}"))
}

/// The author's flags.
fn own_flags(site: &Site<'_>) -> Result<Vec<String>, BuildError> {
    let file = site.source.join(FLAGS_FILE);
    match std::fs::read_to_string(&file) {
        Ok(text) => {
            Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(BuildError::io("read", &file)(error)),
    }
}

/// A C file of a C++ component, which has flags of its own, to an object file.
fn compile(site: &Site<'_>, source: &Path) -> Result<PathBuf, BuildError> {
    let shown = source.strip_prefix(site.source).unwrap_or(source).display().to_string();
    // Files of different folders may have one name.
    let object = site.work.join(format!("{}.{}.o", site.component, shown.replace('/', ".")));
    site.progress.step(site.component, &format!("zig cc {shown}"));
    zig(site, "cc")
        .args(own_flags(site)?.iter().filter(|flag| !flag.starts_with("-std=")))
        .arg("-c")
        .arg(source)
        .arg("-o")
        .arg(&object)
        .run(site.component, site.progress)
        .map_err(site.compile_error(None))?;
    Ok(object)
}

fn link(site: &Site<'_>, driver: &str, flags: &[&str], inputs: &[PathBuf]) -> Result<Vec<u8>, BuildError> {
    let core = site.work.join(format!("{}.core.wasm", site.component));
    site.progress.step(site.component, &format!("zig {driver}"));
    zig(site, driver)
        .args(flags)
        .args(own_flags(site)?)
        .args(inputs.iter().map(|input| input.strip_prefix(site.source).unwrap_or(input)))
        .arg("-o")
        .arg(&core)
        .run(site.component, site.progress)
        .map_err(site.compile_error(Some(UNDEFINED.to_owned())))?;
    let bytes = std::fs::read(&core).map_err(BuildError::io("read", &core))?;
    std::fs::remove_file(&core).map_err(BuildError::io("remove", &core))?;
    Ok(bytes)
}

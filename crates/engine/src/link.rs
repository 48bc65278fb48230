//! Which imports a component gets: the inert ones, and nothing else.
//!
//! The linker holds only what everybody may have, so a component that imports more cannot be instantiated
//! whatever the checks before it say.

use tenon_model::{Diagnostic, Diagnostics, Location, Standing, standing};
use wasmtime::Engine;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, HasData, InstancePre, Linker, ResourceTable};
use wasmtime_wasi::cli::{WasiCli, WasiCliView};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView};
use wasmtime_wasi::random::{WasiRandom, WasiRandomView};
use wasmtime_wasi_http::{WasiHttp, WasiHttpView};

use crate::host::Host;

/// The resource table alone: streams and pollables need no WASI context.
struct Table;

impl HasData for Table {
    type Data<'a> = &'a mut ResourceTable;
}

/// The inert interfaces of WASI 0.2.
pub(crate) fn add_wasi02(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, random};
    use wasmtime_wasi_http::p2::bindings as http;
    use wasmtime_wasi_io::bindings::wasi::io;

    io::error::add_to_linker::<_, Table>(linker, |host| &mut host.table)?;
    io::poll::add_to_linker::<_, Table>(linker, |host| &mut host.table)?;
    io::streams::add_to_linker::<_, Table>(linker, |host| &mut host.table)?;
    clocks::wall_clock::add_to_linker::<_, WasiClocks>(linker, Host::clocks)?;
    clocks::monotonic_clock::add_to_linker::<_, WasiClocks>(linker, Host::clocks)?;
    random::random::add_to_linker::<_, WasiRandom>(linker, Host::random)?;
    random::insecure::add_to_linker::<_, WasiRandom>(linker, Host::random)?;
    random::insecure_seed::add_to_linker::<_, WasiRandom>(linker, Host::random)?;
    filesystem::preopens::add_to_linker::<_, WasiFilesystem>(linker, Host::filesystem)?;
    filesystem::types::add_to_linker::<_, WasiFilesystem>(linker, Host::filesystem)?;
    cli::environment::add_to_linker::<_, WasiCli>(linker, Host::cli)?;
    cli::exit::add_to_linker::<_, WasiCli>(linker, Host::cli)?;
    cli::stdin::add_to_linker::<_, WasiCli>(linker, Host::cli)?;
    cli::stdout::add_to_linker::<_, WasiCli>(linker, Host::cli)?;
    cli::stderr::add_to_linker::<_, WasiCli>(linker, Host::cli)?;
    cli::terminal_input::add_to_linker::<_, WasiCli>(linker, Host::cli)?;
    cli::terminal_output::add_to_linker::<_, WasiCli>(linker, Host::cli)?;
    cli::terminal_stdin::add_to_linker::<_, WasiCli>(linker, Host::cli)?;
    cli::terminal_stdout::add_to_linker::<_, WasiCli>(linker, Host::cli)?;
    cli::terminal_stderr::add_to_linker::<_, WasiCli>(linker, Host::cli)?;
    let options = http::LinkOptions::default();
    http::http::types::add_to_linker::<_, WasiHttp>(linker, &(&options).into(), Host::http)
}

/// The inert interfaces of WASI 0.3.
pub(crate) fn add_wasi03(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    wasmtime_wasi::p3::cli::add_to_linker(linker)?;
    wasmtime_wasi::p3::clocks::add_to_linker(linker)?;
    wasmtime_wasi::p3::filesystem::add_to_linker(linker)?;
    wasmtime_wasi::p3::random::add_to_linker(linker)?;
    wasmtime_wasi_http::p3::bindings::http::types::add_to_linker::<_, WasiHttp>(linker, Host::http)
}

/// Checks every import, then links.
///
/// # Errors
/// All imports that are refused, in one run.
pub(crate) fn link(
    linker: &Linker<Host>,
    name: &str,
    file: &str,
    component: &Component,
) -> Result<InstancePre<Host>, Diagnostics> {
    let engine = linker.engine();
    let at = || Location::file(file);
    let refused = component
        .component_type()
        .imports(engine)
        .filter_map(|(import, item)| match standing(import) {
            Standing::Inert => None,
            Standing::Foreign if is_types_only(engine, &item.ty) => None,
            Standing::Grantable(_) | Standing::Withheld => Some(
                Diagnostic::new("import-not-granted", format!("`{name}` imports `{import}`, which it was not granted"))
                    .at(at())
                    .note("granted to every component", "an empty environment, captured standard streams, clocks, random numbers, no directories, HTTP types")
                    .mend(format!("build the component without `{import}`; nothing outside the sandbox is reachable unless it is granted")),
            ),
            Standing::Foreign => Some(
                Diagnostic::new("unsatisfied-import", format!("`{name}` imports `{import}`, and nothing supplies it"))
                    .at(at())
                    .mend(format!(
                        "compose it with a component that exports `{import}`:\n\n[component.NAME.imports]\n\"{}\" = {{ component = \"PROVIDER\" }}",
                        import.split('@').next().unwrap_or(import),
                    )),
            ),
        })
        .collect();
    Diagnostics::check(refused)?;
    linker.instantiate_pre(component).map_err(|error| {
        Diagnostic::new("import-mismatch", format!("`{name}` does not fit the host's interfaces"))
            .at(at())
            .note("the engine says", format!("{error:#}"))
            .note("offered", "WASI 0.2 up to 0.2.12 and WASI 0.3.0; release-candidate snapshots are not")
            .mend("rebuild the component with bindings for one of the offered versions")
            .into()
    })
}

/// Whether an import is an interface, or a root-level type, that only gives names to value types: nobody has to
/// supply those.
fn is_types_only(engine: &Engine, item: &ComponentItem) -> bool {
    match item {
        ComponentItem::Type(_) => true,
        ComponentItem::ComponentInstance(instance) => {
            instance.exports(engine).all(|(_, item)| matches!(item.ty, ComponentItem::Type(_)))
        }
        _ => false,
    }
}

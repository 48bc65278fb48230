//! What the host offers, one module a capability, and which component each import of a service acts for.
//!
//! Everything stands in one table by the interface's name, whether it is inert or has to be granted; what decides is
//! [`crate::link`], before anything is put into a linker.

use std::sync::Arc;

use ::http::Response;
use tenon_model::InterfaceName;
use wasmtime::Result;
use wasmtime::component::{Linker, LinkerInstance};
use wasmtime_wasi::cli::WasiCli;
use wasmtime_wasi::clocks::WasiClocks;
use wasmtime_wasi::filesystem::WasiFilesystem;
use wasmtime_wasi::random::WasiRandom;
use wasmtime_wasi::sockets::WasiSockets;
use wasmtime_wasi_http::{Error as HttpError, WasiBody, WasiHttp};

mod blobstore;
mod caller;
pub(crate) mod cli;
pub(crate) mod clocks;
mod config;
pub(crate) mod filesystem;
pub(crate) mod http;
mod keyvalue;
mod logging;
pub(crate) mod messaging;
mod output;
pub(crate) mod sockets;
pub(crate) mod stores;

pub(crate) use caller::{Caller, PRINCIPALS_MAX, Principals, Spent};
pub(crate) use filesystem::OpenFiles;

use crate::functions::HostFunctions;
use crate::host::{self, HasCalled, Host, Table};

/// What capabilities are made of: the same for all services of a node. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Backends {
    /// Whose signature on a server's certificate is believed.
    pub roots: Arc<http::Roots>,
    /// What outlives a request.
    pub stores: stores::Stores,
    /// What the embedding program implements itself.
    pub functions: HostFunctions,
    /// Whose the service is, on a node of several tenants: what it keeps is kept apart from what an app of another tenant
    /// keeps under the same name.
    pub tenant: Option<Arc<str>>,
}

/// What sending a request ends in: the response, and the connection's work that is left.
pub(crate) type Sent = (Response<WasiBody>, Box<dyn Future<Output = Result<(), HttpError>> + Send>);

/// An import of a component, resolved.
pub(crate) struct Import<'a> {
    /// The name it is imported under.
    pub(crate) name: &'a str,
    /// The WASI interface it stands for.
    pub(crate) interface: InterfaceName,
    /// Whom it acts for.
    pub(crate) principal: usize,
}

impl Import<'_> {
    /// Whether it is of WASI 0.3 where 0.2 has an interface of the same name.
    fn is_wasi03(&self) -> bool {
        self.interface.version.as_deref().is_some_and(|version| version.starts_with("0.3."))
    }
}

/// Puts the interface behind `import` into the linker, acting for the import's principal. `false` when there is no
/// such interface here.
///
/// # Errors
/// When the engine refuses: a name that is defined twice.
pub(crate) fn add(linker: &mut Linker<Host>, import: &Import<'_>) -> Result<bool> {
    let who = import.principal;
    let interface = import.interface.unversioned();
    // Some functions take the place of the engine's.
    linker.allow_shadowing(true);
    let instance = &mut linker.instance(import.name)?;
    if let Some(added) = add_proposal(instance, import)? {
        return Ok(added);
    }
    if import.is_wasi03() {
        use wasmtime_wasi::p3::bindings::{cli, clocks, filesystem, random, sockets};
        use wasmtime_wasi_http::p3::bindings::http as http03;
        match interface.as_str() {
            "wasi:cli/environment" => {
                cli::environment::add_to_linker_instance::<_, WasiCli>(instance, host::cli(who))?;
            }
            "wasi:cli/exit" => cli::exit::add_to_linker_instance::<_, WasiCli>(instance, host::cli(who))?,
            "wasi:cli/stdin" => cli::stdin::add_to_linker_instance::<_, WasiCli>(instance, host::cli(who))?,
            "wasi:cli/stdout" => cli::stdout::add_to_linker_instance::<_, WasiCli>(instance, host::cli(who))?,
            "wasi:cli/stderr" => cli::stderr::add_to_linker_instance::<_, WasiCli>(instance, host::cli(who))?,
            "wasi:cli/terminal-input" => {
                cli::terminal_input::add_to_linker_instance::<_, WasiCli>(instance, host::cli(who))?;
            }
            "wasi:cli/terminal-output" => {
                cli::terminal_output::add_to_linker_instance::<_, WasiCli>(instance, host::cli(who))?;
            }
            "wasi:cli/terminal-stdin" => {
                cli::terminal_stdin::add_to_linker_instance::<_, WasiCli>(instance, host::cli(who))?;
            }
            "wasi:cli/terminal-stdout" => {
                cli::terminal_stdout::add_to_linker_instance::<_, WasiCli>(instance, host::cli(who))?;
            }
            "wasi:cli/terminal-stderr" => {
                cli::terminal_stderr::add_to_linker_instance::<_, WasiCli>(instance, host::cli(who))?;
            }
            "wasi:clocks/types" => {
                clocks::types::add_to_linker_instance::<_, WasiClocks>(instance, host::clocks(who))?;
            }
            "wasi:clocks/monotonic-clock" => {
                clocks::monotonic_clock::add_to_linker_instance::<_, WasiClocks>(
                    instance,
                    host::clocks(who),
                )?;
                self::clocks::waits03(instance, who)?;
            }
            "wasi:clocks/system-clock" => {
                clocks::system_clock::add_to_linker_instance::<_, WasiClocks>(instance, host::clocks(who))?;
            }
            "wasi:filesystem/preopens" => {
                filesystem::preopens::add_to_linker_instance::<_, WasiFilesystem>(
                    instance,
                    host::filesystem(who),
                )?;
                self::filesystem::noted_preopens03(instance, who)?;
            }
            "wasi:filesystem/types" => {
                filesystem::types::add_to_linker_instance::<_, WasiFilesystem>(
                    instance,
                    host::filesystem(who),
                )?;
                self::filesystem::counted_types03(instance, who)?;
            }
            "wasi:random/random" => {
                random::random::add_to_linker_instance::<_, WasiRandom>(instance, host::random(who))?;
            }
            "wasi:random/insecure" => {
                random::insecure::add_to_linker_instance::<_, WasiRandom>(instance, host::random(who))?;
            }
            "wasi:random/insecure-seed" => {
                random::insecure_seed::add_to_linker_instance::<_, WasiRandom>(instance, host::random(who))?;
            }
            "wasi:http/types" => {
                http03::types::add_to_linker_instance::<_, WasiHttp>(instance, host::http(who))?;
            }
            "wasi:http/client" => {
                http03::client::add_to_linker_instance::<_, WasiHttp>(instance, host::http(who))?;
            }
            "wasi:http/handler" => self::http::add_handler03(instance, who)?,
            "wasi:sockets/types" => {
                sockets::types::add_to_linker_instance::<_, WasiSockets>(instance, host::sockets(who))?;
                self::sockets::bound_types03(instance, who)?;
            }
            "wasi:sockets/ip-name-lookup" => {
                sockets::ip_name_lookup::add_to_linker_instance::<_, WasiSockets>(
                    instance,
                    host::sockets(who),
                )?;
                self::sockets::bound_lookup03(instance, who)?;
            }
            _ => return Ok(false),
        }
        return Ok(true);
    }
    use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, random, sockets};
    use wasmtime_wasi_http::p2::bindings as http02;
    use wasmtime_wasi_io::bindings::wasi::io;
    match interface.as_str() {
        "wasi:io/error" => io::error::add_to_linker_instance::<_, Table>(instance, |host| &mut host.table)?,
        "wasi:io/poll" => io::poll::add_to_linker_instance::<_, Table>(instance, |host| &mut host.table)?,
        "wasi:io/streams" => {
            io::streams::add_to_linker_instance::<_, Table>(instance, |host| &mut host.table)?;
        }
        "wasi:cli/environment" => {
            cli::environment::add_to_linker_instance::<_, WasiCli>(instance, host::cli(who))?;
        }
        "wasi:cli/exit" => cli::exit::add_to_linker_instance::<_, WasiCli>(instance, host::cli(who))?,
        "wasi:cli/stdin" => cli::stdin::add_to_linker_instance::<_, WasiCli>(instance, host::cli(who))?,
        "wasi:cli/stdout" => cli::stdout::add_to_linker_instance::<_, WasiCli>(instance, host::cli(who))?,
        "wasi:cli/stderr" => cli::stderr::add_to_linker_instance::<_, WasiCli>(instance, host::cli(who))?,
        "wasi:cli/terminal-input" => {
            cli::terminal_input::add_to_linker_instance::<_, WasiCli>(instance, host::cli(who))?;
        }
        "wasi:cli/terminal-output" => {
            cli::terminal_output::add_to_linker_instance::<_, WasiCli>(instance, host::cli(who))?;
        }
        "wasi:cli/terminal-stdin" => {
            cli::terminal_stdin::add_to_linker_instance::<_, WasiCli>(instance, host::cli(who))?;
        }
        "wasi:cli/terminal-stdout" => {
            cli::terminal_stdout::add_to_linker_instance::<_, WasiCli>(instance, host::cli(who))?;
        }
        "wasi:cli/terminal-stderr" => {
            cli::terminal_stderr::add_to_linker_instance::<_, WasiCli>(instance, host::cli(who))?;
        }
        "wasi:clocks/monotonic-clock" => {
            clocks::monotonic_clock::add_to_linker_instance::<_, WasiClocks>(instance, host::clocks(who))?;
            self::clocks::waits02(instance, who)?;
        }
        "wasi:clocks/wall-clock" => {
            clocks::wall_clock::add_to_linker_instance::<_, WasiClocks>(instance, host::clocks(who))?;
        }
        "wasi:filesystem/preopens" => {
            filesystem::preopens::add_to_linker_instance::<_, WasiFilesystem>(
                instance,
                host::filesystem(who),
            )?;
            self::filesystem::noted_preopens02(instance, who)?;
        }
        "wasi:filesystem/types" => {
            filesystem::types::add_to_linker_instance::<_, WasiFilesystem>(instance, host::filesystem(who))?;
            self::filesystem::counted_types02(instance, who)?;
        }
        "wasi:random/random" => {
            random::random::add_to_linker_instance::<_, WasiRandom>(instance, host::random(who))?;
        }
        "wasi:random/insecure" => {
            random::insecure::add_to_linker_instance::<_, WasiRandom>(instance, host::random(who))?;
        }
        "wasi:random/insecure-seed" => {
            random::insecure_seed::add_to_linker_instance::<_, WasiRandom>(instance, host::random(who))?;
        }
        "wasi:http/types" => {
            let options = http02::LinkOptions::default();
            http02::http::types::add_to_linker_instance::<_, WasiHttp>(
                instance,
                &(&options).into(),
                host::http(who),
            )?;
        }
        "wasi:http/outgoing-handler" => {
            http02::http::outgoing_handler::add_to_linker_instance::<_, WasiHttp>(instance, host::http(who))?;
        }
        "wasi:sockets/network" => {
            let options = wasmtime_wasi::p2::bindings::LinkOptions::default();
            sockets::network::add_to_linker_instance::<_, WasiSockets>(
                instance,
                &(&options).into(),
                host::sockets(who),
            )?;
        }
        "wasi:sockets/instance-network" => {
            sockets::instance_network::add_to_linker_instance::<_, WasiSockets>(
                instance,
                host::sockets(who),
            )?;
        }
        "wasi:sockets/ip-name-lookup" => {
            sockets::ip_name_lookup::add_to_linker_instance::<_, WasiSockets>(instance, host::sockets(who))?;
            self::sockets::bound_lookup02(instance, who)?;
        }
        "wasi:sockets/tcp" => {
            sockets::tcp::add_to_linker_instance::<_, WasiSockets>(instance, host::sockets(who))?;
        }
        "wasi:sockets/tcp-create-socket" => {
            sockets::tcp_create_socket::add_to_linker_instance::<_, WasiSockets>(
                instance,
                host::sockets(who),
            )?;
            self::sockets::bound_tcp02(instance, who)?;
        }
        "wasi:sockets/udp" => {
            sockets::udp::add_to_linker_instance::<_, WasiSockets>(instance, host::sockets(who))?;
        }
        "wasi:sockets/udp-create-socket" => {
            sockets::udp_create_socket::add_to_linker_instance::<_, WasiSockets>(
                instance,
                host::sockets(who),
            )?;
            self::sockets::bound_udp02(instance, who)?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// The interfaces that are proposals: each is there in the versions that are implemented, and in no other, because
/// drafts do not promise to fit each other. `None` for every other interface.
fn add_proposal(instance: &mut LinkerInstance<'_, Host>, import: &Import<'_>) -> Result<Option<bool>> {
    let called = host::called(import.principal);
    let version = import.interface.version.as_deref().unwrap_or_default();
    match (import.interface.unversioned().as_str(), version) {
        ("wasi:config/store", config::VERSION) => {
            config::store::add_to_linker_instance::<_, HasCalled>(instance, called)?;
        }
        ("wasi:logging/logging", logging::VERSION) => {
            logging::logging::add_to_linker_instance::<_, HasCalled>(instance, called)?;
        }
        ("wasi:keyvalue/store", keyvalue::draft2::VERSION) => {
            keyvalue::draft2::store::add_to_linker_instance::<_, HasCalled>(instance, called)?;
        }
        ("wasi:keyvalue/atomics", keyvalue::draft2::VERSION) => {
            keyvalue::draft2::atomics::add_to_linker_instance::<_, HasCalled>(instance, called)?;
        }
        ("wasi:keyvalue/batch", keyvalue::draft2::VERSION) => {
            keyvalue::draft2::batch::add_to_linker_instance::<_, HasCalled>(instance, called)?;
        }
        ("wasi:keyvalue/store", keyvalue::draft::VERSION) => {
            keyvalue::draft::store::add_to_linker_instance::<_, HasCalled>(instance, called)?;
        }
        ("wasi:keyvalue/atomics", keyvalue::draft::VERSION) => {
            keyvalue::draft::atomics::add_to_linker_instance::<_, HasCalled>(instance, called)?;
        }
        ("wasi:keyvalue/batch", keyvalue::draft::VERSION) => {
            keyvalue::draft::batch::add_to_linker_instance::<_, HasCalled>(instance, called)?;
        }
        ("wasi:blobstore/blobstore", blobstore::VERSION) => {
            blobstore::blobstore::add_to_linker_instance::<_, HasCalled>(instance, called)?;
        }
        ("wasi:blobstore/container", blobstore::VERSION) => {
            blobstore::container::add_to_linker_instance::<_, HasCalled>(instance, called)?;
        }
        ("wasi:blobstore/types", blobstore::VERSION) => {
            blobstore::types::add_to_linker_instance::<_, HasCalled>(instance, called)?;
        }
        ("wasi:messaging/producer", messaging::VERSION) => {
            messaging::producer::add_to_linker_instance::<_, HasCalled>(instance, called)?;
        }
        ("wasi:messaging/request-reply", messaging::VERSION) => {
            messaging::request_reply::add_to_linker_instance::<_, HasCalled>(instance, called)?;
        }
        ("wasi:messaging/types", messaging::VERSION) => {
            messaging::types::add_to_linker_instance::<_, HasCalled>(instance, called)?;
        }
        (name, _) => {
            let proposals =
                ["wasi:blobstore/", "wasi:config/", "wasi:keyvalue/", "wasi:logging/", "wasi:messaging/"];
            return Ok(proposals.iter().any(|proposal| name.starts_with(proposal)).then_some(false));
        }
    }
    Ok(Some(true))
}

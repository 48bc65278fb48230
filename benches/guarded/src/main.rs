//! Serves one WebAssembly component as `tenon serve` does, with limits, billing and grants each on only if asked for: what the
//! harness in `benches/` measures their cost with. Whoever serves what strangers wrote wants all of them.
//!
//! `guarded COMPONENT.wasm ARTIFACTS [limits] [billing] [grants] ADDRESS`

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tenon_edge::{Server, Site};
use tenon_engine::{Artifacts, Backends, Engine, Guard, Pool, Service, Source, Terms, Tuning};
use tenon_model::{
    Access, Authorities, Authority, DirectoryGrant, Grants, HostPattern, HttpGrant, HttpScheme, Limits,
    SocketDirection, SocketGrant, SocketProtocol,
};

const USAGE: &str = "usage: guarded COMPONENT.wasm ARTIFACTS [limits] [billing] [grants] ADDRESS";

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let address = arguments.pop().ok_or(USAGE)?.parse()?;
    let [file, artifacts, on @ ..] = arguments.as_slice() else { return Err(USAGE.into()) };
    let (file, artifacts) = (PathBuf::from(file), Path::new(artifacts));
    let is_on = |what: &str| on.iter().any(|word| word == what);
    let guard = Guard { limits: is_on("limits"), billing: is_on("billing"), grants: is_on("grants") };
    let authorities = if is_on("grants") { everything(&file) } else { Authorities::default() };

    let limits = Limits::default();
    let engine =
        Engine::configured(Pool::of(limits.concurrency, &limits), Tuning { guard, ..Tuning::default() })?;
    let bytes = std::fs::read(&file)?;
    let stored = Artifacts::open(artifacts)?
        .get(&engine, &Source { name: "measured", bytes: &bytes, parts: &Vec::new, contract: &|| None })
        .map_err(|refused| refused.to_string())?;
    let shown = file.display().to_string();
    let backends = Backends::default();
    let terms =
        Terms { name: "measured", file: &shown, limits, authorities: &authorities, backends: &backends };
    let service = Service::new(&engine, stored, &terms).map_err(|refused| refused.to_string())?;
    let site = Arc::new(Site::new(service));
    let server = Server { engine: Some(engine), ..Server::new(address, 1, Duration::ZERO) };
    let _listening = server.start(site)?;
    loop {
        std::thread::park();
    }
}

/// What a component can be granted that needs no store.
fn everything(file: &Path) -> Authorities {
    let folder = file.parent().unwrap_or(Path::new(".")).display().to_string();
    let grants = Grants {
        http: vec![HttpGrant {
            scheme: HttpScheme::Http,
            host: HostPattern::Any,
            port: 80,
            path: "/".into(),
            private: false,
        }],
        filesystem: vec![DirectoryGrant { directory: folder, at: "/data".into(), access: Access::Read }],
        sockets: vec![SocketGrant {
            protocol: SocketProtocol::Tcp,
            direction: SocketDirection::Connect,
            host: "127.0.0.1".into(),
            ports: (1, 1),
        }],
        ..Grants::default()
    };
    Authorities { whole: Authority { grants, ..Authority::default() }, ..Authorities::default() }
}

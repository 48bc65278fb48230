//! What every module here starts from: a node, its tenants, and apps that say which version they are.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use http::Request;
use serde_json::Value;
use tenon_testkit::client::{Body, Reply, call, get};
use tenon_testkit::{Finished, Guests, Serving, Tenon, Watched};

/// A node, and a person with its first token.
pub(crate) struct Site {
    pub(crate) tenon: Tenon,
    pub(crate) node: Serving,
}

impl Site {
    /// A node with an empty data directory.
    pub(crate) fn new() -> Self {
        Self::with::<&str>([])
    }

    /// The same, started with more arguments.
    pub(crate) fn with<A: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = A>) -> Self {
        let tenon = Tenon::new(env!("CARGO_BIN_EXE_tenon"));
        let node = tenon.node().args(args).start();
        Self { tenon, node }
    }

    /// A node with these tenants.
    pub(crate) fn of(tenants: &[&str]) -> Self {
        let site = Self::new();
        for tenant in tenants {
            site.run(["tenant", "set", tenant]).expect_code(0);
        }
        site
    }

    /// Where apps are served.
    pub(crate) fn address(&self) -> SocketAddr {
        self.node.address()
    }

    /// The URL of the admin API.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.node.admin())
    }

    /// Runs `tenon ARGS… --node URL`.
    pub(crate) fn run<A: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Finished {
        let args = args.into_iter().map(|arg| arg.as_ref().to_owned());
        let node = ["--node".into(), self.url().into()];
        self.tenon.run(self.tenon.data(), args.chain(node).collect::<Vec<_>>())
    }

    /// The same with `--json`, and what it says.
    #[track_caller]
    pub(crate) fn json<A: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Value {
        let args: Vec<_> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        let finished = self.run(args.into_iter().chain(["--json".into()])).expect_code(0);
        finished.json()
    }

    /// Deploys `app` and gives back what the node said.
    #[track_caller]
    pub(crate) fn deploy(&self, app: &Path, more: &[&str]) -> Value {
        let args =
            [&["deploy".as_ref(), app.as_os_str()][..], &more.iter().map(AsRef::as_ref).collect::<Vec<_>>()];
        self.json(args.concat())
    }

    /// Asks for `path` of `host`.
    pub(crate) fn get(&self, host: &str, path: &str) -> Reply {
        call(self.address(), to(host, get(path)))
    }

    /// Starts `tenon ARGS… --node URL`, for what goes on by itself.
    pub(crate) fn watch(&self, args: &[&str]) -> Watched {
        let url = self.url();
        self.tenon.watch(self.tenon.data(), args.iter().copied().chain(["--node", &url]))
    }

    /// What the admin API answers to a GET of `path`.
    #[track_caller]
    pub(crate) fn admin(&self, path: &str) -> Reply {
        let token = std::fs::read_to_string(self.tenon.data().join("node/admin-token")).unwrap();
        let mut request = get(path);
        request
            .headers_mut()
            .insert(http::header::AUTHORIZATION, format!("Bearer {}", token.trim()).parse().unwrap());
        call(self.node.admin(), request)
    }

    /// What `/metrics` says of the metric `name` with all of `labels`; nothing was counted where it is not there.
    #[track_caller]
    pub(crate) fn counted(&self, name: &str, labels: &[&str]) -> u64 {
        let metrics = self.admin("/metrics").expect(200);
        let line = metrics.lines().find(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{'))
                && labels.iter().all(|label| line.contains(label))
        });
        let count = line.and_then(|line| line.rsplit(' ').next()).and_then(|count| count.parse::<f64>().ok());
        count.map_or(0, |count| count as u64)
    }

    /// Makes the folder of an app of `tenant` at `host` that says `version`; see [`version`].
    pub(crate) fn app(&self, tenant: &str, name: &str, host: &str, version: &str) -> PathBuf {
        let folder = self.tenon.data().join("apps").join(tenant).join(name);
        write_app(&folder, "keeper", tenant, name, host, version);
        folder
    }

    /// The version that answers at `host`.
    #[track_caller]
    pub(crate) fn version(&self, host: &str) -> String {
        self.get(host, VERSION).expect(200)
    }
}

/// Where an app of these tests says its version.
pub(crate) const VERSION: &str = "/config?key=version";

/// The folder of an app: a fixture guest, and a version that is part of its terms.
pub(crate) fn write_app(folder: &Path, guest: &str, tenant: &str, name: &str, host: &str, version: &str) {
    std::fs::create_dir_all(folder).unwrap();
    let file = Guests::get(guest);
    let grants = match guest {
        "keeper" => format!(
            "\"wasi:config\" = {{ version = \"{version}\" }}\n\"wasi:keyvalue\" = [{{ bucket = \"default\", access = \"write\" }}]\n\
             \"wasi:logging\" = true\n"
        ),
        _ => format!("\"wasi:cli\" = {{ environment = {{ VERSION = \"{version}\" }} }}\n"),
    };
    let manifest = format!(
        "name = \"{name}\"\n[deploy]\ntenant = \"{tenant}\"\nroutes = [\"{host}/*\"]\n[component.app]\npath = \"{}\"\n[grants]\n{grants}",
        file.display()
    );
    std::fs::write(folder.join("tenon.toml"), manifest).unwrap();
}

/// The request, for `host`.
pub(crate) fn to(host: &str, mut request: Request<Body>) -> Request<Body> {
    request.headers_mut().insert(http::header::HOST, host.parse().unwrap());
    request
}

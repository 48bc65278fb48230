//! What the environment says, read once.

use std::ffi::OsString;
use std::path::PathBuf;

/// Folders of the person who runs the command.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Where the node keeps its artifacts and its key.
    pub(crate) data: PathBuf,
    /// Where guest toolchains are installed.
    pub(crate) tools: PathBuf,
    /// The node that is talked to, where the command line names none.
    pub(crate) node: Option<String>,
    /// The token for it.
    pub(crate) token: Option<String>,
    /// The socket of whoever started this process and waits until it serves.
    pub(crate) notify: Option<OsString>,
    /// The environment that toolchains are run in.
    pub(crate) environment: Vec<(OsString, OsString)>,
}

impl Settings {
    /// `TENON_DATA` and `TENON_TOOLS`, else the folders of the XDG Base Directory Specification; `TENON_NODE` and
    /// `TENON_TOKEN`; and `NOTIFY_SOCKET`, as systemd sets it.
    pub(crate) fn from_environment() -> Self {
        let environment: Vec<(OsString, OsString)> = std::env::vars_os().collect();
        let folder = |name: &str| {
            environment
                .iter()
                .find(|(key, value)| key == name && !value.is_empty())
                .map(|(_, value)| PathBuf::from(value))
        };
        let text = |name: &str| folder(name).and_then(|value| value.into_os_string().into_string().ok());
        let home = folder("HOME").unwrap_or_else(|| PathBuf::from("."));
        let data = folder("TENON_DATA").unwrap_or_else(|| {
            folder("XDG_DATA_HOME").unwrap_or_else(|| home.join(".local/share")).join("tenon")
        });
        let tools = folder("TENON_TOOLS").unwrap_or_else(|| {
            folder("XDG_CACHE_HOME").unwrap_or_else(|| home.join(".cache")).join("tenon/tools")
        });
        let (node, token) = (text("TENON_NODE"), text("TENON_TOKEN"));
        let notify = folder("NOTIFY_SOCKET").map(PathBuf::into_os_string);
        Self { data, tools, node, token, notify, environment }
    }
}

//! What a part of a composition does when it is told to, with whatever it was granted itself (WASI 0.3). What it opens
//! stays open as long as its sandbox lives.

use std::any::Any;
use std::cell::RefCell;
use std::fmt::Debug;
use std::net::SocketAddrV4;

use faults::Target;
use wasip3::filesystem::types::{Descriptor, DescriptorFlags, OpenFlags, PathFlags};
use wasip3::sockets::types::{IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, TcpSocket};
use wasip3::wit_stream;

thread_local! {
    static HELD: RefCell<Vec<Box<dyn Any>>> = const { RefCell::new(Vec::new()) };
}

/// Does what the path of `target` says, and says how that went.
pub async fn act(target: &str) -> String {
    let target = Target::parse(target);
    let text = |name: &str| target.text(name).unwrap_or_default();
    let ask = || fetching_p3::Ask { url: text("url"), ..Default::default() };
    match target.path {
        "/read" => shown(read(&text("path")).await),
        "/open-many" => many(&target, async || open(&text("path")).await.map(hold)).await,
        "/connect" => shown(connect(&text("to")).await.map(|_| "connected")),
        "/connect-many" => many(&target, async || connect(&text("to")).await.map(hold)).await,
        "/fetch" => fetching_p3::shown(&ask()).await,
        "/fetch-many" => {
            many(&target, async || match fetching_p3::fetch(&ask()).await {
                Ok(response) => Ok(fetching_p3::read(response).await),
                Err(error) => Err(error),
            })
            .await
        }
        "/variable" => {
            let all = wasip3::cli::environment::get_environment();
            let found = all.into_iter().find(|(name, _)| *name == text("name"));
            shown(found.map(|(_, value)| value).ok_or("no such variable"))
        }
        "/print" => {
            let (mut writer, reader) = wit_stream::new();
            let written = wasip3::cli::stdout::write_via_stream(reader);
            for _ in 0..target.number("n", 1) {
                writer.write_all(format!("{}\n", text("text")).into_bytes()).await;
            }
            drop(writer);
            shown(written.await.map(|()| "printed"))
        }
        _ => "no such path".to_owned(),
    }
}

fn shown<T: AsRef<str>, E: Debug>(result: Result<T, E>) -> String {
    match result {
        Ok(text) => format!("ok: {}", text.as_ref()),
        Err(error) => format!("refused: {error:?}"),
    }
}

/// How many of `n` attempts went well.
async fn many<T, E>(target: &Target<'_>, mut attempt: impl AsyncFnMut() -> Result<T, E>) -> String {
    let mut fine = 0;
    for _ in 0..target.number("n", 1) {
        fine += u32::from(attempt().await.is_ok());
    }
    fine.to_string()
}

fn hold(what: impl Any) {
    HELD.with_borrow_mut(|held| held.push(Box::new(what)));
}

async fn open(path: &str) -> Result<Descriptor, String> {
    let found = wasip3::filesystem::preopens::get_directories();
    let (directory, base) =
        found.into_iter().find(|(_, at)| path.starts_with(at.as_str())).ok_or("no directory")?;
    let within = path[base.len()..].trim_start_matches('/').to_owned();
    directory
        .open_at(PathFlags::SYMLINK_FOLLOW, within, OpenFlags::empty(), DescriptorFlags::READ)
        .await
        .map_err(|error| format!("{error:?}"))
}

async fn read(path: &str) -> Result<String, String> {
    let (content, _done) = open(path).await?.read_via_stream(0);
    Ok(String::from_utf8_lossy(&content.collect().await).into_owned())
}

async fn connect(to: &str) -> Result<TcpSocket, String> {
    let to: SocketAddrV4 = to.parse().map_err(|error| format!("{error:?}"))?;
    let [a, b, c, d] = to.ip().octets();
    let address = Ipv4SocketAddress { port: to.port(), address: (a, b, c, d) };
    let socket = TcpSocket::create(IpAddressFamily::Ipv4).map_err(|error| format!("{error:?}"))?;
    let connected = socket.connect(IpSocketAddress::Ipv4(address)).await;
    connected.map(|()| socket).map_err(|error| format!("{error:?}"))
}

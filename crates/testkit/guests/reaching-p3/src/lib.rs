//! The `wasi:http` service world of WASI 0.3 that reaches outside on request: the path chooses where.

use std::sync::atomic::{AtomicU32, Ordering};

use faults::Target;
use wasip3::filesystem::types::{Descriptor, DescriptorFlags, OpenFlags, PathFlags};
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::sockets::types::{IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, TcpSocket, UdpSocket};
use wasip3::{spawn_local, wit_future, wit_stream};

mod escape;

wasip3::http::service::export!(Service);

struct Service;

static REQUESTS: AtomicU32 = AtomicU32::new(0);

impl wasip3::exports::http::handler::Guest for Service {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let target = request.get_path_with_query().unwrap_or_default();
        let target = Target::parse(&target);
        let text = |name: &str| target.text(name).unwrap_or_default();
        let port = u16::try_from(target.number("port", 0)).unwrap_or_default();
        let answer = match target.path {
            "/fetch" => fetching_p3::shown(&ask(&target)).await,
            "/fetch-many" => fetch_many(&target).await,
            "/read" => show(read(&text("path"), false).await),
            "/write" => show(read(&text("path"), true).await),
            "/escape" => escape::all(&text("from"), &text("secret")).await,
            "/open-many" => {
                let mut open = Vec::new();
                for _ in 0..target.number("n", 1) {
                    open.push(open_at(&text("path"), false).await);
                }
                open.iter().filter(|file| file.is_ok()).count().to_string()
            }
            "/connect" => show(connect(port).await),
            "/connect-many" => {
                let sockets: Vec<_> =
                    (0..target.number("n", 1)).map(|_| TcpSocket::create(IpAddressFamily::Ipv4)).collect();
                sockets.iter().filter(|socket| socket.is_ok()).count().to_string()
            }
            "/listen" => show(listen(port)),
            "/bind-udp" => show(bind_udp(port)),
            "/udp" => show(udp(port).await),
            "/resolve" => show(
                wasip3::sockets::ip_name_lookup::resolve_addresses(text("name"))
                    .await
                    .map(|found| found.len().to_string()),
            ),
            "/env" => format!(
                "{:?} {:?}",
                wasip3::cli::environment::get_environment(),
                wasip3::cli::environment::get_arguments()
            ),
            "/counter" => (REQUESTS.fetch_add(1, Ordering::Relaxed) + 1).to_string(),
            "/clock" => wasip3::clocks::system_clock::now().seconds.to_string(),
            "/random" => {
                let bytes = wasip3::random::random::get_random_bytes(16);
                format!("{bytes:02x?} {}", wasip3::random::insecure::get_insecure_random_u64())
            }
            "/print" => {
                let (mut writer, reader) = wit_stream::new();
                let written = wasip3::cli::stdout::write_via_stream(reader);
                let line = "x".repeat(usize::try_from(target.number("bytes", 99)).unwrap_or(99)) + "\n";
                for _ in 0..target.number("lines", 1) {
                    writer.write_all(line.clone().into_bytes()).await;
                }
                drop(writer);
                written.await.map_or_else(|error| format!("{error:?}"), |()| "printed".to_owned())
            }
            _ => "no such path".to_owned(),
        };
        Ok(respond(answer))
    }
}

fn show<E: std::fmt::Debug>(result: Result<String, E>) -> String {
    match result {
        Ok(text) => format!("ok: {text}"),
        Err(error) => format!("refused: {error:?}"),
    }
}

fn ask(target: &Target<'_>) -> fetching_p3::Ask {
    fetching_p3::Ask {
        url: target.text("url").unwrap_or_default(),
        method: target.text("method").unwrap_or_default(),
        timeout_ms: target.text("ms").and_then(|ms| ms.parse().ok()),
        body_bytes: target.number("size", 0),
    }
}

/// Holds all responses at once, unless told to let each go.
async fn fetch_many(target: &Target<'_>) -> String {
    let (mut held, mut fine, mut refused) = (Vec::new(), 0, String::new());
    for _ in 0..target.number("n", 1) {
        match fetching_p3::fetch(&ask(target)).await {
            Ok(response) if target.text("hold").is_some() => {
                fine += 1;
                held.push(response);
            }
            Ok(response) => {
                fine += 1;
                let _ = fetching_p3::read(response).await;
            }
            Err(error) => refused = format!("{error:?}"),
        }
    }
    format!("{fine} fine {refused}")
}

async fn open_at(path: &str, write: bool) -> Result<Descriptor, String> {
    let found = wasip3::filesystem::preopens::get_directories();
    let (directory, base) =
        found.into_iter().find(|(_, at)| path.starts_with(at.as_str())).ok_or("no directory")?;
    let within = path[base.len()..].trim_start_matches('/').to_owned();
    let (how, flags) = if write {
        (OpenFlags::CREATE, DescriptorFlags::WRITE)
    } else {
        (OpenFlags::empty(), DescriptorFlags::READ)
    };
    directory
        .open_at(PathFlags::SYMLINK_FOLLOW, within, how, flags)
        .await
        .map_err(|error| format!("{error:?}"))
}

async fn read(path: &str, write: bool) -> Result<String, String> {
    let file = open_at(path, write).await?;
    if write {
        return Ok("opened for writing".to_owned());
    }
    let (content, _done) = file.read_via_stream(0);
    Ok(String::from_utf8_lossy(&content.collect().await).into_owned())
}

fn localhost(port: u16) -> IpSocketAddress {
    IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address: (127, 0, 0, 1) })
}

async fn connect(port: u16) -> Result<String, wasip3::sockets::types::ErrorCode> {
    let socket = TcpSocket::create(IpAddressFamily::Ipv4)?;
    socket.connect(localhost(port)).await?;
    let (mut writer, reader) = wit_stream::new();
    let _sent = socket.send(reader);
    writer.write_all(b"GET /hello HTTP/1.1\r\nhost: x\r\n\r\n".to_vec()).await;
    let (content, _done) = socket.receive();
    Ok(String::from_utf8_lossy(&content.collect().await).into_owned())
}

fn listen(port: u16) -> Result<String, wasip3::sockets::types::ErrorCode> {
    let socket = TcpSocket::create(IpAddressFamily::Ipv4)?;
    socket.bind(localhost(port))?;
    socket.listen()?;
    Ok("listening".to_owned())
}

fn bind_udp(port: u16) -> Result<String, wasip3::sockets::types::ErrorCode> {
    UdpSocket::create(IpAddressFamily::Ipv4)?.bind(localhost(port))?;
    Ok("bound".to_owned())
}

async fn udp(port: u16) -> Result<String, wasip3::sockets::types::ErrorCode> {
    let socket = UdpSocket::create(IpAddressFamily::Ipv4)?;
    socket.send(b"ping".to_vec(), Some(localhost(port))).await?;
    let (content, _) = socket.receive().await?;
    Ok(String::from_utf8_lossy(&content).into_owned())
}

fn respond(content: String) -> Response {
    let (mut writer, reader) = wit_stream::new();
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (response, _sent) = Response::new(Fields::new(), Some(reader), trailers);
    spawn_local(async move {
        writer.write_all(content.into_bytes()).await;
    });
    response
}

//! The `wasi:http` service world of WASI 0.3 that reaches outside on request: the path chooses where.

use faults::Target;
use wasip3::filesystem::types::{Descriptor, DescriptorFlags, OpenFlags, PathFlags};
use wasip3::http::types::{ErrorCode, Fields, Request, Response, Scheme};
use wasip3::sockets::types::{IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, TcpSocket, UdpSocket};
use wasip3::{spawn_local, wit_future, wit_stream};

wasip3::http::service::export!(Service);

struct Service;

impl wasip3::exports::http::handler::Guest for Service {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let target = request.get_path_with_query().unwrap_or_default();
        let target = Target::parse(&target);
        let text = |name: &str| target.text(name).unwrap_or_default();
        let port = u16::try_from(target.number("port", 0)).unwrap_or_default();
        let answer = match target.path {
            "/fetch" => show(fetch(&text("url")).await),
            "/read" => show(read(&text("path"), false).await),
            "/write" => show(read(&text("path"), true).await),
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
            "/udp" => show(udp(port).await),
            "/resolve" => show(
                wasip3::sockets::ip_name_lookup::resolve_addresses(text("name"))
                    .await
                    .map(|found| found.len().to_string()),
            ),
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

async fn fetch(url: &str) -> Result<String, ErrorCode> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (request, _sent) = Request::new(Fields::new(), None, trailers, None);
    let refused = |_: ()| ErrorCode::HttpRequestUriInvalid;
    request
        .set_scheme(Some(&if scheme == "https" { Scheme::Https } else { Scheme::Http }))
        .map_err(refused)?;
    request.set_authority(Some(authority)).map_err(refused)?;
    request.set_path_with_query(Some(path)).map_err(refused)?;
    let response = wasip3::http::client::send(request).await?;
    let status = response.get_status_code();
    let (_, done) = wit_future::new(|| Ok(()));
    let (body, _trailers) = Response::consume_body(response, done);
    let content = body.collect().await;
    Ok(format!("{status} {}", String::from_utf8_lossy(&content)))
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

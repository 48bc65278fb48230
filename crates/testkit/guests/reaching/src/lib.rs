//! A `wasi:http/incoming-handler` (0.2) that reaches outside on request: the path chooses where. What it was refused
//! is part of its answer.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::time::SystemTime;

use faults::Target;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

wasip2::http::proxy::export!(Reaching);

struct Reaching;

impl wasip2::exports::http::incoming_handler::Guest for Reaching {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let target = Target::parse(&target);
        let text = |name: &str| target.text(name).unwrap_or_default();
        let answer = match target.path {
            "/fetch" => fetching::shown(&ask(&target)),
            "/fetch-many" => fetch_many(&target),
            "/read" => show(fs::read_to_string(text("path"))),
            "/write" => show(fs::write(text("path"), text("text")).map(|()| "written".to_owned())),
            "/escape" => escape(&text("from"), &text("secret")),
            "/open-many" => open_many(&target),
            "/connect" => show(connect(&text("to"))),
            "/connect-many" => {
                let streams: Vec<_> =
                    (0..target.number("n", 1)).map(|_| TcpStream::connect(text("to"))).collect();
                streams.iter().filter(|stream| stream.is_ok()).count().to_string()
            }
            "/listen" => show(TcpListener::bind(text("at")).map(|_| "listening".to_owned())),
            "/bind-udp" => show(UdpSocket::bind(text("at")).map(|_| "bound".to_owned())),
            "/udp" => show(udp(&text("from"), &text("to"))),
            "/resolve" => show(resolve(&text("name"))),
            "/env" => format!(
                "{:?} {:?}",
                std::env::vars().collect::<Vec<_>>(),
                std::env::args().collect::<Vec<_>>()
            ),
            "/clock" => {
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                now.map(|now| now.as_secs().to_string()).unwrap_or_default()
            }
            "/random" => {
                let bytes = wasip2::random::random::get_random_bytes(16);
                format!("{bytes:02x?} {}", wasip2::random::insecure::get_insecure_random_u64())
            }
            "/print" => {
                for _ in 0..target.number("lines", 1) {
                    println!("{}", "x".repeat(usize::try_from(target.number("bytes", 99)).unwrap_or(99)));
                }
                "printed".to_owned()
            }
            _ => "no such path".to_owned(),
        };
        respond(out, &answer);
    }
}

fn show<E: std::fmt::Debug>(result: Result<String, E>) -> String {
    match result {
        Ok(text) => format!("ok: {text}"),
        Err(error) => format!("refused: {error:?}"),
    }
}

fn ask(target: &Target<'_>) -> fetching::Ask {
    fetching::Ask {
        url: target.text("url").unwrap_or_default(),
        method: target.text("method").unwrap_or_default(),
        timeout_ms: target.text("ms").and_then(|ms| ms.parse().ok()),
        body_bytes: target.number("size", 0),
    }
}

/// Holds all responses at once, unless told to let each go.
fn fetch_many(target: &Target<'_>) -> String {
    let (mut held, mut fine, mut refused) = (Vec::new(), 0, String::new());
    for _ in 0..target.number("n", 1) {
        match fetching::fetch(&ask(target)) {
            Ok(response) if target.text("hold").is_some() => {
                fine += 1;
                held.push(response);
            }
            Ok(response) => {
                fine += 1;
                let _ = fetching::read(&response);
            }
            Err(error) => refused = format!("{error:?}"),
        }
    }
    format!("{fine} fine {refused}")
}

/// Tries every way out of a directory that may be written to, to the file `secret` among others; what succeeded is listed.
fn escape(from: &str, secret: &str) -> String {
    let mut out = String::new();
    let escaped = std::cell::RefCell::new(Vec::new());
    // Nothing of what is tried is within the directory, so that every success is one too many.
    let tried = |what: &str, content: std::io::Result<String>| {
        if content.is_ok() {
            escaped.borrow_mut().push(what.to_owned());
        }
    };
    let anywhere = |path: &str| {
        tried(path, fs::read_to_string(format!("{from}/{path}")));
        tried(path, fs::read_to_string(path));
    };
    for path in [
        "../secret",
        "./../secret",
        "sub/../../secret",
        "..//secret",
        "/secret",
        "../../../../../../etc/hostname",
        "absolute",
        "relative",
        "chain",
        "dirlink/secret",
        "up/secret",
        "/proc/self/environ",
        "proc/self/root/etc/passwd",
        "sub/inner/../../../secret",
        secret,
    ] {
        anywhere(path);
    }
    for root in
        ["proc/self/root", "/proc/self/root", "../../../../../../../..", "proc/self/cwd", "up/../../.."]
    {
        anywhere(&format!("{root}{secret}"));
        anywhere(&format!("{root}/etc/hostname"));
    }
    // Directories: what is in them would be out of it too.
    for path in
        ["..", "up", "dirlink", "proc", "proc/self/fd", "proc/self/root", "sub/../..", "/proc", "/etc"]
    {
        tried(path, fs::read_dir(format!("{from}/{path}")).map(|_| String::new()));
        tried(path, fs::read_dir(path).map(|_| String::new()));
    }
    tried("/", fs::read_dir("/").map(|_| String::new()));
    // Links of its own making.
    #[cfg(target_os = "wasi")]
    for (to, name) in [("../secret", "made"), ("/etc", "made-absolute"), ("..", "made-up")] {
        let link = format!("{from}/{name}");
        if let Some((directory, base)) = preopened(from) {
            let made = directory.symlink_at(to, &format!("{base}{name}"));
            let _ = writeln!(out, "symlink to {to}: {}", if made.is_ok() { "made" } else { "refused" });
        }
        tried(&link, fs::read_to_string(&link));
        tried(&link, fs::read_to_string(format!("{link}/secret")));
        tried(&link, fs::read_to_string(format!("{link}/hostname")));
        tried(&link, fs::read_dir(&link).map(|_| String::new()));
    }
    for (old, new) in [("../secret", "stolen"), ("absolute", "stolen-2"), ("relative", "stolen-3")] {
        let new = format!("{from}/{new}");
        let _ = fs::hard_link(format!("{from}/{old}"), &new);
        tried(&new, fs::read_to_string(&new));
        let _ = fs::rename(format!("{from}/{old}"), &new);
        tried(&new, fs::read_to_string(&new));
    }
    for path in ["../planted", "up/planted", "relative", "made-up/planted"] {
        let _ = fs::write(format!("{from}/{path}"), "planted");
    }
    let _ = write!(out, "escaped: {:?}", escaped.borrow());
    out
}

/// The descriptor of a preopened directory, and the path within it.
fn preopened(at: &str) -> Option<(wasip2::filesystem::types::Descriptor, String)> {
    let found = wasip2::filesystem::preopens::get_directories().into_iter();
    let (directory, _) = found.into_iter().find(|(_, name)| name == at)?;
    Some((directory, String::new()))
}

fn open_many(target: &Target<'_>) -> String {
    let path = target.text("path").unwrap_or_default();
    let open: Vec<_> = (0..target.number("n", 1)).map(|_| fs::File::open(&path)).collect();
    let held = open.iter().filter(|file| file.is_ok()).count();
    drop(open);
    format!("{held} held, then {}", if fs::File::open(&path).is_ok() { "one more" } else { "none" })
}

fn connect(to: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(to)?;
    stream.write_all(b"GET /hello HTTP/1.1\r\nhost: x\r\n\r\n")?;
    let mut content = String::new();
    stream.read_to_string(&mut content)?;
    Ok(content)
}

fn udp(from: &str, to: &str) -> std::io::Result<String> {
    let socket = UdpSocket::bind(from)?;
    socket.send_to(b"ping", to)?;
    let mut content = [0; 64];
    let (count, _) = socket.recv_from(&mut content)?;
    Ok(String::from_utf8_lossy(&content[..count]).into_owned())
}

fn resolve(name: &str) -> std::io::Result<String> {
    let found: Vec<_> = (name, 0).to_socket_addrs()?.map(|found| found.ip().to_string()).collect();
    Ok(found.join(" "))
}

fn respond(out: ResponseOutparam, content: &str) {
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body().expect("the body is taken once");
    ResponseOutparam::set(out, Ok(response));
    let mut stream = body.write().expect("the stream is taken once");
    stream.write_all(content.as_bytes()).expect("the answer is written");
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}

//! A `wasi:http/incoming-handler` (0.2) that misbehaves on request: the path chooses how.

use std::io::{Read, Write};
use std::time::Duration;

use faults::Target;
use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::http::types::{
    Fields, IncomingBody, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

wasip2::http::proxy::export!(Chaos);

struct Chaos;

static mut COUNTER: u32 = 0;

impl wasip2::exports::http::incoming_handler::Guest for Chaos {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let target = Target::parse(&target);
        faults::maybe(&target);
        match target.path {
            "/ok" => answer(out, "ok\n"),
            "/counter" => {
                let counter = &raw mut COUNTER;
                // SAFETY: a guest has one thread and this is the only use.
                let count = unsafe {
                    *counter += 1;
                    *counter
                };
                answer(out, &count.to_string());
            }
            "/method" => answer(out, method(&request.method())),
            "/target" => answer(out, &request.path_with_query().unwrap_or_default()),
            "/authority" => answer(out, &request.authority().unwrap_or_default()),
            "/echo" => echo(&request, out),
            "/count" => count(&request, out),
            "/ignore-body" => answer(out, "ignored\n"),
            "/spin" => {
                faults::spin(Duration::from_millis(target.number("ms", 100)));
                answer(out, "spun\n");
            }
            "/sleep" => {
                // In the log, this tells a test that the request has begun.
                println!("sleeping");
                sleep(target.number("ms", 100));
                answer(out, "slept\n");
            }
            "/alloc" => answer(out, &faults::allocate(target.number("mib", 1)).to_string()),
            "/no-response" => drop(out),
            "/exit" => std::process::exit(3),
            "/drop-body-trap" => {
                let (_body, mut stream) = start(out, 200, &[]);
                stream.write_all(b"the first chunk\n").expect("the first chunk is written");
                stream.flush().expect("the first chunk is flushed");
                faults::trap();
            }
            "/trap-on-body" => {
                let incoming = request.consume().expect("the body is taken once");
                let mut input = reader(&incoming);
                let (_body, mut stream) = start(out, 200, &[]);
                stream.write_all(b"the first chunk\n").expect("the first chunk is written");
                stream.flush().expect("the first chunk is flushed");
                // The client sends this only after it has seen the first chunk.
                input.read_exact(&mut [0]).expect("the client sends a byte");
                faults::trap();
            }
            "/big" => big(&target, out),
            "/drip" => drip(&target, out),
            "/length" => length(&target, out),
            "/status" => {
                let response = OutgoingResponse::new(Fields::new());
                let code = u16::try_from(target.number("code", 200)).unwrap_or(u16::MAX);
                let verdict = if response.set_status_code(code).is_ok() { "accepted" } else { "refused" };
                respond(out, response, verdict.as_bytes());
            }
            "/env" => answer(out, &environment()),
            "/files" => answer(out, &files()),
            "/secret-write" => answer(out, &faults::secret::plant(target.number("key", 1)).to_string()),
            "/secret-read" => answer(out, &faults::secret::find(target.number("key", 1)).to_string()),
            "/monotonic" => answer(out, &monotonic(target.number("ms", 20))),
            "/stdout" => {
                println!("a line on standard output");
                eprintln!("a line on standard error");
                answer(out, "printed\n");
            }
            "/headers" => {
                let entries = request.headers().entries();
                let lines: String = entries
                    .iter()
                    .map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value)))
                    .collect();
                answer(out, &lines);
            }
            "/random" => {
                let bytes = wasip2::random::random::get_random_bytes(16);
                let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                answer(out, &hex);
            }
            "/trailers" => {
                let fields = Fields::new();
                fields.append("trailer", b"x-sum").expect("the fixture sends valid headers");
                let response = OutgoingResponse::new(fields);
                let body = response.body().expect("the body is taken once");
                ResponseOutparam::set(out, Ok(response));
                writer(&body).write_all(b"summed").expect("the client reads");
                let trailers = Fields::new();
                trailers.append("x-sum", b"1234").expect("the fixture sends valid trailers");
                OutgoingBody::finish(body, Some(trailers)).expect("the body is whole");
            }
            "/fields" => {
                let held: Vec<Fields> = (0..target.number("n", 1)).map(|_| Fields::new()).collect();
                answer(out, &held.len().to_string());
            }
            "/bad-header" => answer(out, &bad_headers()),
            _ => {
                let (body, stream) = start(out, 404, &[]);
                drop(stream);
                let _ = OutgoingBody::finish(body, None);
            }
        }
    }
}

fn start(
    out: ResponseOutparam,
    status: u16,
    headers: &[(&str, String)],
) -> (OutgoingBody, impl Write + use<>) {
    let fields = Fields::new();
    for (name, value) in headers {
        fields.append(name, value.as_bytes()).expect("the fixture sends valid headers");
    }
    let response = OutgoingResponse::new(fields);
    response.set_status_code(status).expect("the fixture sends valid statuses");
    let body = response.body().expect("the body is taken once");
    ResponseOutparam::set(out, Ok(response));
    let stream = writer(&body);
    (body, stream)
}

/// The stream of a request body, as the standard library sees it.
fn reader(body: &IncomingBody) -> impl Read + use<> {
    body.stream().expect("the stream is taken once")
}

/// The stream of a response body, as the standard library sees it.
fn writer(body: &OutgoingBody) -> impl Write + use<> {
    body.write().expect("the stream is taken once")
}

fn respond(out: ResponseOutparam, response: OutgoingResponse, content: &[u8]) {
    let body = response.body().expect("the body is taken once");
    ResponseOutparam::set(out, Ok(response));
    let mut stream = writer(&body);
    // A client that went away, and HEAD, make writing fail; neither is this guest's fault.
    let _ = stream.write_all(content).and_then(|()| stream.flush());
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}

fn answer(out: ResponseOutparam, text: &str) {
    respond(out, OutgoingResponse::new(Fields::new()), text.as_bytes());
}

fn method(method: &Method) -> &str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Connect => "CONNECT",
        Method::Options => "OPTIONS",
        Method::Trace => "TRACE",
        Method::Patch => "PATCH",
        Method::Other(name) => name,
    }
}

fn sleep(ms: u64) {
    subscribe_duration(ms * 1_000_000).block();
}

fn echo(request: &IncomingRequest, out: ResponseOutparam) {
    let body = request.consume().expect("the body is taken once");
    let mut input = reader(&body);
    let (sent, mut output) = start(out, 200, &[]);
    let mut buffer = vec![0; 64 << 10];
    loop {
        match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => output.write_all(&buffer[..length]).expect("the client reads"),
            Err(error) => panic!("the request body ended early: {error}"),
        }
    }
    output.flush().expect("the client reads");
    drop(output);
    OutgoingBody::finish(sent, None).expect("the body is whole");
}

fn count(request: &IncomingRequest, out: ResponseOutparam) {
    let body = request.consume().expect("the body is taken once");
    let mut input = reader(&body);
    let mut buffer = vec![0; 64 << 10];
    let mut total = 0;
    loop {
        match input.read(&mut buffer) {
            Ok(0) => return answer(out, &total.to_string()),
            Ok(length) => total += length,
            Err(error) => return answer(out, &format!("broken after {total}: {error}")),
        }
    }
}

fn big(target: &Target, out: ResponseOutparam) {
    let mut left = target.number("bytes", 1 << 20);
    let (body, mut stream) = start(out, 200, &[]);
    let chunk = vec![b'x'; 64 << 10];
    while left > 0 {
        let length = left.min(chunk.len() as u64);
        stream.write_all(&chunk[..length as usize]).expect("the client reads");
        left -= length;
    }
    stream.flush().expect("the client reads");
    drop(stream);
    OutgoingBody::finish(body, None).expect("the body is whole");
}

fn drip(target: &Target, out: ResponseOutparam) {
    let (body, mut stream) = start(out, 200, &[]);
    for _ in 0..target.number("chunks", 10) {
        stream.write_all(b"drop\n").expect("the client reads");
        stream.flush().expect("the client reads");
        sleep(target.number("ms", 10));
    }
    drop(stream);
    OutgoingBody::finish(body, None).expect("the body is whole");
}

/// Declares one `content-length` and sends another.
fn length(target: &Target, out: ResponseOutparam) {
    let declared = target.number("declared", 5);
    let (body, mut stream) = start(out, 200, &[("content-length", declared.to_string())]);
    let content = vec![b'y'; target.number("sent", 5) as usize];
    let _ = stream.write_all(&content).and_then(|()| stream.flush());
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}

/// What the clock shows before and after waits of so long.
fn monotonic(ms: u64) -> String {
    use wasip2::clocks::monotonic_clock::{now, subscribe_instant};
    let mut shown = vec![now(), now()];
    subscribe_duration(ms * 1_000_000).block();
    shown.push(now());
    subscribe_instant(now() + ms * 1_000_000).block();
    shown.push(now());
    format!("{shown:?}")
}

fn environment() -> String {
    use wasip2::cli::environment::{get_arguments, get_environment, initial_cwd};
    format!(
        "environment: {:?}\narguments: {:?}\ndirectory: {:?}\n",
        get_environment(),
        get_arguments(),
        initial_cwd()
    )
}

fn files() -> String {
    let preopens: Vec<String> =
        wasip2::filesystem::preopens::get_directories().into_iter().map(|(_, name)| name).collect();
    let opened = std::fs::read_to_string("/etc/passwd").is_ok() || std::fs::read_dir(".").is_ok();
    format!("preopens: {preopens:?}\nopened: {opened}\n")
}

/// What the host says to header names and values that HTTP or WASI forbid.
fn bad_headers() -> String {
    let fields = Fields::new();
    [
        ("bad name", "x"),
        ("x-bad-value", "a\r\nx-injected: 1"),
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        ("host", "example.test"),
        ("x-good", "1"),
    ]
    .map(|(name, value)| {
        let verdict = match fields.append(name, value.as_bytes()) {
            Ok(()) => "accepted",
            Err(_) => "refused",
        };
        format!("{name}: {verdict}\n")
    })
    .concat()
}

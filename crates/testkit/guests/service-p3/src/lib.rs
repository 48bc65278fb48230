//! The `wasi:http` service world of WASI 0.3, misbehaving on request: the path chooses how.

use std::future::Future as _;
use std::time::Duration;

use faults::Target;
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::{spawn_local, wit_future, wit_stream};

wasip3::http::service::export!(Service);

struct Service;

static mut COUNTER: u32 = 0;
/// Requests that are in this instance, and the most that ever were.
static mut INSIDE: u32 = 0;
static mut MOST_INSIDE: u32 = 0;

impl wasip3::exports::http::handler::Guest for Service {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let target = request.get_path_with_query().unwrap_or_default();
        let target = Target::parse(&target);
        faults::maybe(&target);
        match target.path {
            "/ok" => Ok(text(200, "ok\n")),
            "/counter" => {
                let counter = &raw mut COUNTER;
                // SAFETY: a guest has one thread and the value is read before anything is awaited.
                let count = unsafe {
                    *counter += 1;
                    *counter
                };
                Ok(text(200, &count.to_string()))
            }
            "/at-once" => {
                // SAFETY: a guest has one thread and nothing is awaited between reading and writing.
                unsafe {
                    INSIDE += 1;
                    MOST_INSIDE = MOST_INSIDE.max(INSIDE);
                }
                println!("inside");
                wasip3::clocks::monotonic_clock::wait_for(target.number("ms", 100) * 1_000_000).await;
                // SAFETY: as above.
                let most = unsafe {
                    INSIDE -= 1;
                    MOST_INSIDE
                };
                Ok(text(200, &most.to_string()))
            }
            "/echo" => Ok(echo(request)),
            "/trap-on-body" => Ok(trap_on_body(request)),
            "/drip" => Ok(drip(target.number("chunks", 10), target.number("ms", 10))),
            "/sleep" => {
                // In the log, this tells a test that the request has begun.
                println!("sleeping");
                wasip3::clocks::monotonic_clock::wait_for(target.number("ms", 100) * 1_000_000).await;
                Ok(text(200, "slept\n"))
            }
            "/monotonic" => {
                use wasip3::clocks::monotonic_clock::{now, wait_for, wait_until};
                let ns = target.number("ms", 20) * 1_000_000;
                let mut shown = vec![now(), now()];
                wait_for(ns).await;
                shown.push(now());
                wait_until(now() + ns).await;
                shown.push(now());
                Ok(text(200, &format!("{shown:?}")))
            }
            "/spin" => {
                faults::spin(Duration::from_millis(target.number("ms", 100)));
                Ok(text(200, "spun\n"))
            }
            "/secret-write" => Ok(text(200, &faults::secret::plant(target.number("key", 1)).to_string())),
            "/secret-read" => Ok(text(200, &faults::secret::find(target.number("key", 1)).to_string())),
            "/fields" => {
                let held: Vec<_> = (0..target.number("n", 1)).map(|_| Fields::new()).collect();
                Ok(text(200, &held.len().to_string()))
            }
            "/streams" => {
                let held: Vec<_> = (0..target.number("n", 1)).map(|_| wit_stream::new::<u8>()).collect();
                Ok(text(200, &held.len().to_string()))
            }
            "/waits" => {
                // Each begins, and none of them is over.
                let wait = || Box::pin(wasip3::clocks::monotonic_clock::wait_for(u64::MAX));
                let mut held: Vec<_> = (0..target.number("n", 1)).map(|_| wait()).collect();
                std::future::poll_fn(|context| {
                    for waiting in &mut held {
                        let _ = waiting.as_mut().poll(context);
                    }
                    std::task::Poll::Ready(())
                })
                .await;
                Ok(text(200, &held.len().to_string()))
            }
            "/field" => {
                let value = vec![b'x'; usize::try_from(target.number("bytes", 1)).unwrap_or_default()];
                Ok(text(200, &format!("{:?}", Fields::new().append("x-large", &value))))
            }
            "/error" => Err(ErrorCode::InternalError(Some("the fixture fails on purpose".to_owned()))),
            _ => Ok(text(404, "")),
        }
    }
}

fn text(status: u16, content: &str) -> Response {
    let (mut writer, reader) = wit_stream::new();
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (response, _sent) = Response::new(Fields::new(), Some(reader), trailers);
    response.set_status_code(status).expect("the fixture sends valid statuses");
    let content = content.as_bytes().to_vec();
    spawn_local(async move {
        // What remains when the client went away is nobody's.
        writer.write_all(content).await;
    });
    response
}

fn echo(request: Request) -> Response {
    let (_, done) = wit_future::new(|| Ok(()));
    let (mut input, _trailers) = Request::consume_body(request, done);
    let (mut writer, reader) = wit_stream::new();
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (response, _sent) = Response::new(Fields::new(), Some(reader), trailers);
    spawn_local(async move {
        loop {
            let (status, chunk) = input.read(Vec::with_capacity(64 << 10)).await;
            if !writer.write_all(chunk).await.is_empty() {
                break;
            }
            if !matches!(status, wasip3::wit_bindgen::StreamResult::Complete(_)) {
                break;
            }
        }
    });
    response
}

/// Sends a first chunk and traps once the client, which has seen it, sends something.
fn trap_on_body(request: Request) -> Response {
    let (_, done) = wit_future::new(|| Ok(()));
    let (mut input, _trailers) = Request::consume_body(request, done);
    let (mut writer, reader) = wit_stream::new();
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (response, _sent) = Response::new(Fields::new(), Some(reader), trailers);
    spawn_local(async move {
        writer.write_all(b"the first chunk\n".to_vec()).await;
        input.next().await;
        faults::trap();
    });
    response
}

fn drip(chunks: u64, ms: u64) -> Response {
    let (mut writer, reader) = wit_stream::new();
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (response, _sent) = Response::new(Fields::new(), Some(reader), trailers);
    spawn_local(async move {
        for _ in 0..chunks {
            if !writer.write_all(b"drop\n".to_vec()).await.is_empty() {
                break;
            }
            wasip3::clocks::monotonic_clock::wait_for(ms * 1_000_000).await;
        }
    });
    response
}

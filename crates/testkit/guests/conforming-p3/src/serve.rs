//! A service whose responses, and whose reading of requests, a client looks at. What the host told the guest of a response
//! is a line of its log: `transmitted …`.

use std::fmt::Debug;
use std::future::IntoFuture as _;

use faults::Target;
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::wit_bindgen::StreamResult;
use wasip3::{spawn_local, wit_future, wit_stream};

use crate::http::{no_trailers, well};
use crate::respond;

/// The answer to a request for `/serve/WHAT`.
pub async fn answer(what: &str, target: &Target<'_>, request: Request) -> Result<Response, ErrorCode> {
    match what {
        "declared" => Ok(declared(target)),
        "trailers" => Ok(trailers(target)),
        "empty" => {
            let (response, _) = Response::new(Fields::new(), None, no_trailers());
            let status = u16::try_from(target.number("status", 200)).unwrap_or(200);
            response.set_status_code(status).map_err(|()| ErrorCode::InternalError(None))?;
            Ok(response)
        }
        "parts" => Ok(parts()),
        "request" => Ok(respond(described(request).await.into_bytes())),
        "unread" => {
            drop(request);
            Ok(respond(b"unread".to_vec()))
        }
        "half-read" => {
            let (mut content, _) = Request::consume_body(request, well());
            let (_, some) = content.read(Vec::with_capacity(4)).await;
            Ok(respond(some))
        }
        "refused-body" => {
            let (verdict, res) = wit_future::new(|| Ok(()));
            let (content, _) = Request::consume_body(request, res);
            let count = content.collect().await.len();
            let _ = verdict.write(Err(ErrorCode::InternalError(Some("not this one".to_owned())))).await;
            Ok(respond(format!("{count} bytes").into_bytes()))
        }
        "passed-on" => {
            // What came goes back, without being read in between.
            let (content, trailers) = Request::consume_body(request, well());
            Ok(Response::new(Fields::new(), Some(content), trailers).0)
        }
        "error" => Err(ErrorCode::HttpRequestLengthRequired),
        "exit" => {
            let code = u8::try_from(target.number("code", 0)).unwrap_or(1);
            match target.text("how").as_deref() {
                Some("ok") => wasip3::cli::exit::exit(Ok(())),
                Some("error") => wasip3::cli::exit::exit(Err(())),
                _ => wasip3::cli::exit::exit_with_code(code),
            }
            Ok(respond(b"still there".to_vec()))
        }
        _ => Err(ErrorCode::HttpRequestUriInvalid),
    }
}

fn log<T: Debug>(what: &str, found: T) {
    println!("{what} {}", format!("{found:?}").replace("ErrorCode::", ""));
}

/// A response that declares one length and has another.
fn declared(target: &Target<'_>) -> Response {
    let fields = Fields::new();
    let length = target.number("declared", 0).to_string();
    fields.append("content-length", length.as_bytes()).expect("a length");
    let (mut writer, reader) = wit_stream::new();
    let (response, transmitted) = Response::new(fields, Some(reader), no_trailers());
    let content = vec![b'x'; usize::try_from(target.number("sent", 0)).unwrap_or_default()];
    spawn_local(async move {
        let left = writer.write_all(content).await.len();
        drop(writer);
        log(&format!("left {left}, transmitted"), transmitted.into_future().await);
    });
    response
}

fn trailers(target: &Target<'_>) -> Response {
    let kind = target.text("kind").unwrap_or_default();
    let fields = Fields::new();
    fields.append("trailer", b"x-sum").expect("a field that may be sent");
    let (mut writer, reader) = wit_stream::new();
    let (sum, trailers) = wit_future::new(|| Ok(None));
    let (response, transmitted) = Response::new(fields, Some(reader), trailers);
    spawn_local(async move {
        writer.write_all(b"summed".to_vec()).await;
        drop(writer);
        let result = match kind.as_str() {
            "some" => {
                let fields = Fields::new();
                fields.append("x-sum", b"1234").expect("a field that may be sent");
                let forbidden = fields.append("transfer-encoding", b"chunked");
                log("forbidden in trailers:", forbidden);
                Ok(Some(fields))
            }
            "none" => Ok(None),
            _ => Err(ErrorCode::InternalError(Some("given up".to_owned()))),
        };
        let taken = sum.write(result).await.is_ok();
        log(&format!("taken {taken}, transmitted"), transmitted.into_future().await);
    });
    response
}

/// A body in parts, empty ones among them.
fn parts() -> Response {
    let (mut writer, reader) = wit_stream::new();
    let (response, transmitted) = Response::new(Fields::new(), Some(reader), no_trailers());
    spawn_local(async move {
        let mut left = 0;
        for part in ["", "one", "", "", "two", ""] {
            left += writer.write_all(part.as_bytes().to_vec()).await.len();
        }
        drop(writer);
        log(&format!("left {left}, transmitted"), transmitted.into_future().await);
    });
    response
}

/// How a request's body ended, after it was read to its end.
async fn described(request: Request) -> String {
    let (mut content, trailers) = Request::consume_body(request, well());
    let (mut count, mut reads) = (0, 0);
    loop {
        let (result, chunk) = content.read(Vec::with_capacity(1_000)).await;
        count += chunk.len();
        reads += 1;
        if result == StreamResult::Dropped {
            break;
        }
    }
    let ended = trailers.await.map(|trailers| trailers.map(|trailers| trailers.copy_all()));
    let told = format!("{count} bytes, {ended:?}").replace("ErrorCode::", "");
    println!("request body: {told} in {}", if reads > 1 { "some reads" } else { "one read" });
    told
}

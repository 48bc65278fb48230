//! The client's side: its request, and the way its response goes.

use serde_json::json;

use super::wasi::http::types::{
    Fields as WasiFields, IncomingBody, IncomingRequest, Method, OutgoingBody, OutgoingResponse,
    ResponseOutparam,
};
use super::wasi::io::streams::{OutputStream, StreamError};
use super::{Gone, mark};
use crate::fields::{Fields, end_to_end};

/// A client that waits for its response.
pub(super) struct Client {
    pub(super) method: String,
    /// Path and query.
    pub(super) target: String,
    pub(super) fields: Fields,
    request: IncomingRequest,
    /// Gone once there is a response.
    out: Option<ResponseOutparam>,
}

impl Client {
    pub(super) fn new(request: IncomingRequest, out: ResponseOutparam) -> Self {
        Self {
            method: method_name(request.method()),
            target: request.path_with_query().unwrap_or_else(|| "/".to_owned()),
            fields: end_to_end(from_wasi(&request.headers())),
            request,
            out: Some(out),
        }
    }

    pub(super) fn take_body(&self) -> Option<IncomingBody> {
        self.request.consume().ok()
    }

    /// Sends a whole response. Only a GET gets the body.
    pub(super) fn respond(&mut self, status: u16, fields: &Fields, body: &[u8]) -> Result<(), Gone> {
        let mut writing = self.begin(status, fields)?;
        if self.method == "HEAD" || status == 304 {
            // `content-length` is then that of the body that is not sent, which counts as an unfinished one.
            let _ = writing.finish();
            return Ok(());
        }
        writing.write(body)?;
        writing.finish()
    }

    /// Sends a problem document (RFC 9457).
    pub(super) fn problem(&mut self, status: u16, code: &str, detail: &str) -> Result<(), Gone> {
        let title = "There is no response from the origin.";
        let body = json!({ "title": title, "status": status, "code": code, "detail": detail });
        let mut fields = vec![("content-type".to_owned(), "application/problem+json".to_owned())];
        mark(&mut fields, &format!("detail={code}"));
        self.respond(status, &fields, format!("{body}\n").as_bytes())
    }

    /// Sends the head of a response.
    pub(super) fn begin(&mut self, status: u16, fields: &Fields) -> Result<Writing, Gone> {
        let out = self.out.take().ok_or("there is a response already")?;
        let head = WasiFields::from_list(&to_wasi(fields)).map_err(|error| format!("{error:?}"))?;
        let response = OutgoingResponse::new(head);
        response.set_status_code(status).map_err(|()| format!("{status} is no status"))?;
        let body = response.body().map_err(|()| "there is no body")?;
        let stream = body.write().map_err(|()| "there is no stream")?;
        ResponseOutparam::set(out, Ok(response));
        Ok(Writing { stream, body })
    }
}

/// A body under way.
pub(super) struct Writing {
    // Given back before the body that it belongs to.
    stream: OutputStream,
    body: OutgoingBody,
}

impl Writing {
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        write(&self.stream, bytes).map_err(|error| format!("{error:?}"))
    }

    pub(super) fn finish(self) -> Result<(), Gone> {
        // A client that has all it was promised may have closed its side already.
        let _ = self.stream.blocking_flush();
        drop(self.stream);
        OutgoingBody::finish(self.body, None).map_err(|error| format!("{error:?}"))
    }
}

/// Writes all of `bytes`, as fast as they are taken.
pub(super) fn write(stream: &OutputStream, mut bytes: &[u8]) -> Result<(), StreamError> {
    while !bytes.is_empty() {
        let room = usize::try_from(stream.check_write()?).unwrap_or(usize::MAX);
        if room == 0 {
            stream.subscribe().block();
            continue;
        }
        let (now, later) = bytes.split_at(room.min(bytes.len()));
        stream.write(now)?;
        bytes = later;
    }
    Ok(())
}

fn method_name(method: Method) -> String {
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
        Method::Other(name) => return name,
    }
    .to_owned()
}

/// Each byte of a value becomes a character, and back.
pub(super) fn from_wasi(fields: &WasiFields) -> Fields {
    let latin = |value: Vec<u8>| value.into_iter().map(char::from).collect();
    fields.entries().into_iter().map(|(name, value)| (name.to_ascii_lowercase(), latin(value))).collect()
}

pub(super) fn to_wasi(fields: &Fields) -> Vec<(String, Vec<u8>)> {
    let bytes =
        |value: &str| value.chars().map(|character| u8::try_from(character).unwrap_or(b'?')).collect();
    fields.iter().map(|(name, value)| (name.clone(), bytes(value))).collect()
}

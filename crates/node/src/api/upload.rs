//! Uploads: bytes go to the disk as they come, and what has come stays when the connection breaks.

use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use std::sync::Arc;
use tenon_model::Digest;
use tenon_state::desired::{BlobError, Upload, Uploaded};

use super::authorize::Permitted;
use super::server::Reply;
use crate::node::Inner;
use crate::refused::{Answer, Refused, missing};
use crate::wire::{UPLOAD_BYTES_MAX, UPLOAD_LENGTH, UPLOAD_OFFSET};

/// Bytes that are written together.
const CHUNK_BYTES: usize = 1 << 20;

fn digest(permitted: &Permitted) -> Answer<Digest> {
    let text = permitted.said("digest");
    text.parse().map_err(|error| {
        let cut = &text[..text.floor_char_boundary(80)];
        Refused::new("admin-request", format!("`{cut}`: {error}"), "name the bytes by their SHA-256")
    })
}

/// Whether the bytes are there for this token's tenant; else how many are.
pub(super) fn head(node: &Inner, permitted: &Permitted) -> Answer<Reply> {
    let digest = digest(permitted)?;
    let length = node.blobs.length(&digest);
    if let Some(length) = length
        && node.desired.may_use(permitted.tenant(), &digest)?
    {
        return Ok(Reply::empty(StatusCode::OK).header(UPLOAD_OFFSET, length));
    }
    // How far an upload of others is says that there is one, and no more.
    Ok(Reply::of(missing("blob")).header(UPLOAD_OFFSET, node.blobs.offset(&digest)))
}

/// Takes bytes from `offset` on.
pub(super) async fn take(
    node: &Arc<Inner>,
    permitted: &Permitted,
    headers: &HeaderMap,
    body: Incoming,
    resumes: bool,
) -> Answer<Reply> {
    let digest = digest(permitted)?;
    let number =
        |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).and_then(|it| it.parse().ok());
    let said = |name: &str| {
        number(name).ok_or_else(|| {
            Refused::new(
                "admin-request",
                format!("the header field `{name}` is missing, or no number"),
                "say it in bytes",
            )
        })
    };
    let (offset, length) = match resumes {
        true => (said(UPLOAD_OFFSET)?, said(UPLOAD_LENGTH)?),
        false => (0, said(http::header::CONTENT_LENGTH.as_str())?),
    };
    if length > UPLOAD_BYTES_MAX {
        return Err(BlobError::TooLarge(UPLOAD_BYTES_MAX).into());
    }
    let opening = Arc::clone(node);
    let upload = blocking(move || opening.blobs.upload(&digest, offset, length)).await?;
    let upload = match upload {
        Ok(upload) => upload,
        Err(BlobError::Offset(there)) => {
            return Ok(Reply::of(BlobError::Offset(there).into()).header(UPLOAD_OFFSET, there));
        }
        Err(error) => return Err(error.into()),
    };
    let uploaded = receive(upload, body).await?;
    let claimed = Arc::clone(node);
    let (who, tenant) = (permitted.who().to_owned(), permitted.tenant().cloned());
    match uploaded {
        Uploaded::Part(there) => Ok(Reply::empty(StatusCode::NO_CONTENT).header(UPLOAD_OFFSET, there)),
        Uploaded::Whole => {
            blocking(move || {
                claimed.noted(claimed.desired.claim(claimed.by(&who), tenant.as_ref(), &digest))
            })
            .await??;
            Ok(Reply::empty(StatusCode::CREATED).header(UPLOAD_OFFSET, length))
        }
    }
}

/// Writes what comes. Whatever ends it, what has been written is kept.
async fn receive(mut upload: Upload, mut body: Incoming) -> Answer<Uploaded> {
    let mut gathered = Vec::with_capacity(CHUNK_BYTES);
    loop {
        let frame = body.frame().await;
        let is_over = !matches!(frame, Some(Ok(_)));
        if let Some(Ok(frame)) = frame
            && let Ok(bytes) = frame.into_data()
        {
            gathered.extend_from_slice(&bytes);
        }
        if gathered.len() >= CHUNK_BYTES || (is_over && !gathered.is_empty()) {
            let bytes = std::mem::take(&mut gathered);
            let (back, written) = blocking(move || {
                let written = upload.write(&bytes);
                (upload, written)
            })
            .await?;
            upload = back;
            written?;
        }
        if is_over {
            return Ok(blocking(move || upload.finish()).await??);
        }
    }
}

/// Does what touches the disk where nobody waits for it.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Answer<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        Refused::new(
            "internal",
            format!("the node failed: {error}"),
            "look into the node's log, and report it",
        )
    })
}

//! Uploads: bytes go to the disk as they come, and what has come stays when the connection breaks.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Incoming};
use tenon_model::{Digest, TenantId};
use tenon_state::desired::{BlobError, Upload, Uploaded, Uploading};

use super::authorize::Permitted;
use super::server::Reply;
use crate::node::Inner;
use crate::refused::{Answer, Refused, missing};
use crate::wire::{UPLOAD_BYTES_MAX, UPLOAD_LENGTH, UPLOAD_OFFSET};

/// Bytes that are written together.
const CHUNK_BYTES: usize = 1 << 20;
/// A client that sends nothing for this long has gone.
const SILENT_MAX: Duration = Duration::from_secs(30);

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
    // Of others' uploads nothing is said.
    Ok(Reply::of(missing("blob")).header(UPLOAD_OFFSET, node.blobs.offset(permitted.tenant(), &digest)))
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
    let (opening, owner) = (Arc::clone(node), permitted.tenant().cloned());
    let upload = match blocking(move || open(&opening, owner.as_ref(), &digest, offset, length)).await?? {
        Opened::Here(upload) => upload,
        Opened::At(there) => {
            return Ok(Reply::of(BlobError::Offset(there).into()).header(UPLOAD_OFFSET, there));
        }
    };
    let uploaded = node.noted_upload(receive(upload, body).await?)?;
    let claimed = Arc::clone(node);
    let tenant = permitted.tenant().cloned();
    match uploaded {
        Uploaded::Part(there) => Ok(Reply::empty(StatusCode::NO_CONTENT).header(UPLOAD_OFFSET, there)),
        Uploaded::Whole => {
            blocking(move || claimed.noted(claimed.desired.claim(tenant.as_ref(), &digest))).await??;
            Ok(Reply::empty(StatusCode::CREATED).header(UPLOAD_OFFSET, length))
        }
    }
}

/// An upload that was asked for.
enum Opened {
    /// It goes on where it was said to.
    Here(Upload),
    /// It goes on at another byte.
    At(u64),
}

fn open(
    node: &Inner,
    tenant: Option<&TenantId>,
    digest: &Digest,
    offset: u64,
    length: u64,
) -> Answer<Opened> {
    let unused = tenant.map(|tenant| node.desired.unused_by(tenant)).transpose()?.unwrap_or_default();
    let unused_bytes = unused.iter().filter_map(|digest| node.blobs.length(digest)).sum();
    let unused = unused.len();
    match node.blobs.upload(&Uploading { tenant, digest, offset, length, unused_bytes, unused }) {
        Ok(upload) => Ok(Opened::Here(upload)),
        Err(BlobError::Offset(there)) => Ok(Opened::At(there)),
        // Whether it goes well, its bytes say.
        Err(error) => node.noted_upload(Err(error)),
    }
}

/// Writes what comes. Whatever ends it, what has been written is kept; a client that sends nothing for a while has ended it.
async fn receive<B>(mut upload: Upload, mut body: B) -> Answer<Result<Uploaded, BlobError>>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut gathered = Vec::with_capacity(CHUNK_BYTES);
    loop {
        let frame = tokio::time::timeout(SILENT_MAX, body.frame()).await.unwrap_or(None);
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
            if let Err(error) = written {
                return Ok(Err(error));
            }
        }
        if is_over {
            return blocking(move || upload.finish()).await;
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use hyper::body::Frame;
    use tenon_state::BlobFolder;

    use super::*;

    /// Sends this, and then nothing, without an end.
    fn vanishing(bytes: &'static [u8]) -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        sender.try_send(Bytes::from_static(bytes)).unwrap();
        Held { _sender: sender, receiver }
    }

    struct Held {
        _sender: tokio::sync::mpsc::Sender<Bytes>,
        receiver: tokio::sync::mpsc::Receiver<Bytes>,
    }

    impl Body for Held {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            context: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.receiver.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_vanishes_gives_the_upload_free_and_what_came_stays() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = BlobFolder::open(folder.path()).unwrap();
        let digest = Digest::of(b"0123456789");
        let from = |offset| Uploading {
            tenant: None,
            digest: &digest,
            offset,
            length: 10,
            unused_bytes: 0,
            unused: 0,
        };
        let upload = blobs.upload(&from(0)).unwrap();
        let came = receive(upload, vanishing(b"0123")).await.unwrap();
        assert_eq!(came.unwrap(), Uploaded::Part(4));
        assert!(blobs.upload(&from(4)).is_ok(), "it goes on where it was");
    }
}

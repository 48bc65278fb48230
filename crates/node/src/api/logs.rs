//! The lines of an app, as they come.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;

use super::authorize::Permitted;
use super::server::Reply;
use crate::logs::TooManyFollowed;
use crate::node::Inner;
use crate::refused::{Answer, Refused, missing};
use crate::wire::{LogLine, LostLines};

/// Lines that may wait for a client that reads slowly; those beyond are left out, and it is said how many.
const WAITING_MAX: usize = 256;

/// A body whose pieces come by themselves.
pub(super) struct Stream(mpsc::Receiver<Bytes>);

impl http_body::Body for Stream {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

/// The last lines, and with `follow=true` those that come.
pub(super) fn lines(node: &Inner, permitted: &Permitted, follow: bool, last: usize) -> Answer<Reply> {
    let id = permitted.path_app()?;
    node.desired.app(&id).ok_or_else(|| missing("app"))?;
    let shown = |kept: &[LogLine]| -> Bytes {
        kept.iter().skip(kept.len().saturating_sub(last)).map(text).collect::<String>().into()
    };
    if !follow {
        return Ok(Reply::whole("application/x-ndjson", shown(&node.logs.last(&id))));
    }
    let (kept, mut coming) = node.logs.follow(&id).map_err(|TooManyFollowed| {
        Refused::new("admin-busy", "as many apps are followed as may be", "look at its last lines instead")
    })?;
    let kept = shown(&kept);
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    node.runtime.spawn(async move {
        if sender.send(kept).await.is_err() {
            return;
        }
        loop {
            let line = tokio::select! {
                line = coming.recv() => line,
                // Nobody reads any more.
                () = sender.closed() => return,
            };
            let line = match line {
                Ok(line) => text(&line),
                Err(RecvError::Lagged(lost)) => json_line(&LostLines { lost }),
                Err(RecvError::Closed) => return,
            };
            if sender.send(line.into()).await.is_err() {
                return;
            }
        }
    });
    Ok(Reply::stream("application/x-ndjson", Stream(receiver)))
}

fn text(line: &LogLine) -> String {
    json_line(line)
}

fn json_line(line: &impl serde::Serialize) -> String {
    let line = serde_json::to_string(line).unwrap_or_default();
    format!("{line}\n")
}

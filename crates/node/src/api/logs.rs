//! The lines of an app, as they come.

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use tenon_model::AppId;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::authorize::Permitted;
use super::handle::Desk;
use super::places::Place;
use super::server::Reply;
use crate::logs::TooManyFollowed;
use crate::node::Inner;
use crate::refused::{Answer, Refused, missing};
use crate::tokens::Bearer;
use crate::wire::{LogLine, LostLines};

/// Lines that may wait for a client that reads slowly; those beyond are left out, and it is said how many.
const WAITING_MAX: usize = 256;
/// How often it is looked whether who follows still may.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After so many looks without a line, an empty one: so that it is found out when nobody is there any more.
const SILENT_LOOKS_MAX: u32 = 15;

/// A body whose pieces come by themselves.
pub(super) struct Stream {
    lines: mpsc::Receiver<Bytes>,
    /// Given back when nothing is kept for the client any more.
    _place: Place,
}

impl http_body::Body for Stream {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.lines.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

/// The last lines, and with `follow=true` those that come.
pub(super) fn lines(desk: &Desk, permitted: &Permitted, follow: bool, last: usize) -> Answer<Reply> {
    let node = &desk.node;
    let id = permitted.path_app()?;
    node.desired.app(&id).ok_or_else(|| missing("app"))?;
    let shown = |kept: &[LogLine]| -> Bytes {
        kept.iter().skip(kept.len().saturating_sub(last)).map(text).collect::<String>().into()
    };
    if !follow {
        return Ok(Reply::whole("application/x-ndjson", shown(&node.logs.last(&id))));
    }
    let busy = |what: &str| Refused::new("admin-busy", what, "look at its last lines instead");
    let place = desk.followers.take(permitted.tenant());
    let place = place.ok_or_else(|| busy("as many follow the lines of apps as may"))?;
    let (kept, coming) =
        node.logs.follow(&id).map_err(|TooManyFollowed| busy("as many apps are followed as may be"))?;
    let kept = shown(&kept);
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    let follower = Follower { node: Arc::downgrade(node), id, bearer: permitted.bearer().cloned() };
    node.runtime.spawn(async move {
        // Else whoever reads has gone.
        if sender.send(kept).await.is_ok() {
            follower.follow(coming, &sender).await;
        }
    });
    Ok(Reply::stream("application/x-ndjson", Stream { lines: receiver, _place: place }))
}

/// Somebody who follows the lines of an app.
struct Follower {
    node: Weak<Inner>,
    id: AppId,
    bearer: Option<Bearer>,
}

impl Follower {
    /// Hands on what comes, until nobody reads it or who reads it may not any more.
    async fn follow(&self, mut coming: broadcast::Receiver<LogLine>, sender: &mpsc::Sender<Bytes>) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut silent_looks = 0;
        loop {
            let line = tokio::select! {
                line = coming.recv() => match line {
                    Ok(line) => text(&line),
                    Err(RecvError::Lagged(lost)) => json_line(&LostLines { lost }),
                    Err(RecvError::Closed) => return,
                },
                _ = look.tick() => {
                    if !self.may() {
                        return;
                    }
                    silent_looks += 1;
                    if silent_looks <= SILENT_LOOKS_MAX {
                        continue;
                    }
                    "\n".to_owned()
                }
                () = sender.closed() => return,
            };
            silent_looks = 0;
            if sender.send(line.into()).await.is_err() {
                return;
            }
        }
    }

    /// Whether the app is there still, and the token that was shown is valid.
    fn may(&self) -> bool {
        self.node.upgrade().is_some_and(|node| {
            let bearer = self.bearer.as_ref();
            node.desired.app(&self.id).is_some()
                && bearer.is_some_and(|bearer| bearer.is_valid(&node.desired, node.now()))
        })
    }
}

fn text(line: &LogLine) -> String {
    json_line(line)
}

fn json_line(line: &impl serde::Serialize) -> String {
    let line = serde_json::to_string(line).unwrap_or_default();
    format!("{line}\n")
}

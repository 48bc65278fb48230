//! Where records of requests and messages go: a bounded queue that drops and counts, and never waits.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Version};
use tenon_model::RevisionNumber;

use crate::app::App;
use crate::count::Outcome;
use crate::trace::TraceContext;

/// How often it is looked for records. As many as come meanwhile have to find room in the queue.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A request that is over, or an attempt to handle a message.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The app it was for; `None` when it was for none.
    pub app: Option<Arc<App>>,
    /// The revision it was for; `None` when none was chosen.
    pub revision: Option<RevisionNumber>,
    /// Its correlation id.
    pub id: Arc<str>,
    /// What it was.
    pub what: What,
    /// The status that was answered with; `None` when nobody was there any more to be answered, and for a message.
    pub status: Option<u16>,
    /// How it ended.
    pub outcome: Outcome,
    /// The stable code of what went wrong.
    pub code: Option<&'static str>,
    /// The id of the crash report, if one is written.
    pub crash: Option<Arc<str>>,
    /// When it arrived; a message: when the attempt began.
    pub arrived: Instant,
    /// From then to the guest's end.
    pub took: Duration,
    /// Time on the processor.
    pub cpu: Duration,
    /// The most memory it had, in bytes.
    pub memory_bytes: u64,
    /// Bytes of its body.
    pub received_bytes: u64,
    /// Bytes of the response's body.
    pub sent_bytes: u64,
    /// Its place in a trace, if it has one.
    pub trace: Option<TraceContext>,
}

/// What an app was given.
#[derive(Clone, Debug)]
pub enum What {
    /// A request.
    Request(RequestHead),
    /// A message.
    Message(MessageHead),
}

/// What is told of a request beside how it ended.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// The protocol that it came over.
    pub version: Version,
    /// Its method.
    pub method: Method,
    /// Its path, and what follows it.
    pub path: Option<PathAndQuery>,
    /// The host it was for, as the client wrote it; `None` where nobody observes.
    pub host: Option<HeaderValue>,
    /// Who connected.
    pub client: IpAddr,
}

/// What is told of a message beside how its handling ended.
#[derive(Clone, Debug)]
pub struct MessageHead {
    /// The topic it came by.
    pub topic: Arc<str>,
    /// Its number there.
    pub number: u64,
    /// How often its handling has been tried, with this time.
    pub attempt: u32,
}

impl Observed {
    /// How it ended, as it is called in logs: a message that went well was `handled`.
    pub fn outcome_name(&self) -> &'static str {
        match (&self.what, self.outcome) {
            (What::Message(_), Outcome::Answered) => "handled",
            (_, outcome) => outcome.name(),
        }
    }
}

/// The end of the queue that requests put their records in.
#[derive(Debug)]
pub struct Observer {
    queue: SyncSender<Observed>,
    dropped: AtomicU64,
    left_out: AtomicU64,
    sample: u32,
}

/// The end that somebody reads.
#[derive(Debug)]
pub struct Observations(Receiver<Observed>);

impl Observer {
    /// A queue of so many records. Of 10,000 requests that come without a trace, `sample` begin one.
    pub fn new(records_max: usize, sample: u32) -> (Arc<Self>, Observations) {
        let (queue, observations) = sync_channel(records_max.max(1));
        let observer = Self { queue, dropped: AtomicU64::new(0), left_out: AtomicU64::new(0), sample };
        (Arc::new(observer), Observations(observations))
    }

    /// Records that were thrown away because the queue was full, or nobody reads it any more.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Records that were not made: of refusals beyond those that are told of one tenant in a second.
    pub fn left_out(&self) -> u64 {
        self.left_out.load(Relaxed)
    }

    pub(crate) fn sample(&self) -> u32 {
        self.sample
    }

    pub(crate) fn observe(&self, observed: Observed) {
        if self.queue.try_send(observed).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Counts a record that is not made.
    pub(crate) fn leave_out(&self) {
        self.left_out.fetch_add(1, Relaxed);
    }
}

impl Observations {
    /// The next record; `None` when none came in time. It is looked for every so often and not waited for: whoever waits is woken
    /// by the next record, which is a system call of that request, and where all share a processor a change of threads.
    ///
    /// # Errors
    /// When none will come any more.
    pub fn next_within(&self, wait: Duration) -> Result<Option<Observed>, Ended> {
        let until = Instant::now() + wait;
        loop {
            match self.0.try_recv() {
                Ok(observed) => return Ok(Some(observed)),
                Err(TryRecvError::Disconnected) => return Err(Ended),
                Err(TryRecvError::Empty) => {}
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            std::thread::sleep(left.min(LOOK_EVERY));
        }
    }
}

/// No record will come any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nothing is observed any more")]
pub struct Ended;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn observed() -> Observed {
        Observed {
            app: None,
            revision: None,
            id: "id".into(),
            what: What::Request(RequestHead {
                version: Version::HTTP_11,
                method: Method::GET,
                path: None,
                host: None,
                client: IpAddr::from([127, 0, 0, 1]),
            }),
            status: Some(404),
            outcome: Outcome::Refused,
            code: Some("no-route"),
            crash: None,
            arrived: Instant::now(),
            took: Duration::ZERO,
            cpu: Duration::ZERO,
            memory_bytes: 0,
            received_bytes: 0,
            sent_bytes: 0,
            trace: None,
        }
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let (observer, observations) = Observer::new(2, 0);
        for _ in 0..5 {
            observer.observe(observed());
        }
        assert_eq!(observer.dropped(), 3);
        let next = || observations.next_within(Duration::ZERO).map(|observed| observed.is_some());
        assert_eq!([next(), next(), next()], [Ok(true), Ok(true), Ok(false)]);
        drop(observer);
        assert_eq!(observations.next_within(Duration::ZERO).map(drop), Err(Ended));
    }
}

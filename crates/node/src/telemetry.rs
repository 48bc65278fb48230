//! What goes out about what happens: metrics, traces, the access log, the log. Nothing of it can slow a request: all goes
//! through bounded queues that drop and count.

mod access;
mod log;
mod metrics;
mod otlp;
mod prometheus;
mod queue;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tenon_edge::{Observations, Observed, Observer, Outcome, What};

use crate::logs::now_us;
use crate::node::Inner;
use crate::wire::LogLine;

pub(crate) use access::AccessLog;
pub use log::{LogLines, LogWriter};
pub(crate) use otlp::{Collector, Otlp};
pub(crate) use prometheus::render;

/// Records of requests and messages that may wait to be looked at.
pub(crate) const RECORDS_MAX: usize = 16_384;
/// How long nobody looks whether the node has ended.
const LOOK: Duration = Duration::from_millis(200);

/// Where it goes, for whoever counts what was thrown away.
#[derive(Debug, Default)]
pub(crate) struct Outlets {
    pub(crate) observer: Option<Arc<Observer>>,
    pub(crate) access: Option<AccessLog>,
    pub(crate) otlp: Option<Otlp>,
    pub(crate) log: Option<LogWriter>,
}

/// Looks at each request and each message that is over, until there are no more: the access log, the trace, the app's own lines.
pub(crate) fn observe(
    node: &std::sync::Weak<Inner>,
    observations: Observations,
    outlets: Arc<Outlets>,
) -> std::io::Result<JoinHandle<()>> {
    let node = std::sync::Weak::clone(node);
    std::thread::Builder::new().name("tenon-observe".into()).spawn(move || {
        loop {
            match observations.next_within(LOOK) {
                Ok(Some(observed)) => {
                    if let Some(access) = &outlets.access {
                        access.write(&observed);
                    }
                    if let Some(otlp) =
                        outlets.otlp.as_ref().filter(|_| observed.trace.is_some_and(|it| it.sampled))
                    {
                        otlp.span(&observed);
                    }
                    if let (Some(node), Some(said)) = (node.upgrade(), said_of(&observed)) {
                        tell(&node, &observed, said);
                    }
                }
                Ok(None) if node.strong_count() == 0 => return,
                Ok(None) => {}
                Err(_) => return,
            }
        }
    })
}

/// What the app's author wants to know of a request. What fails of a message is in its lines already, out of the log.
fn said_of(observed: &Observed) -> Option<String> {
    let What::Request(head) = &observed.what else { return None };
    if matches!(observed.outcome, Outcome::Answered | Outcome::Gone) || observed.app.is_none() {
        return None;
    }
    let path = head.path.as_ref().map_or("", |path| path.path());
    let status = observed.status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
    Some(format!("{} {path}: {status}", head.method))
}

fn tell(node: &Inner, observed: &Observed, message: String) {
    let Some(app) = &observed.app else { return };
    let mut fields = BTreeMap::from([
        ("outcome".to_owned(), observed.outcome.name().to_owned()),
        ("cpu_us".to_owned(), observed.cpu.as_micros().to_string()),
        ("took_us".to_owned(), observed.took.as_micros().to_string()),
        ("memory_bytes".to_owned(), observed.memory_bytes.to_string()),
    ]);
    fields.extend(observed.code.map(|code| ("code".to_owned(), code.to_owned())));
    fields.extend(observed.crash.as_ref().map(|crash| ("crash".to_owned(), crash.to_string())));
    fields.extend(observed.revision.map(|revision| ("revision".to_owned(), revision.to_string())));
    let line = LogLine {
        at_us: now_us(),
        level: "error".into(),
        source: "request".into(),
        component: app.id().app.to_string(),
        request_id: observed.id.to_string(),
        message,
        fields,
    };
    node.logs.push(app.id().clone(), line);
}

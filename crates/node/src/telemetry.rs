//! What goes out about what happens: metrics, traces, the access log. Nothing of it can slow a request: records go through
//! bounded queues that drop and count.

mod access;
mod otlp;
mod prometheus;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tenon_edge::{Observations, Observed, Observer, Outcome};

use crate::logs::now_us;
use crate::node::Inner;
use crate::wire::LogLine;

pub(crate) use access::AccessLog;
pub(crate) use otlp::{Collector, Otlp};
pub(crate) use prometheus::render;

/// Records of requests that may wait to be looked at.
pub(crate) const RECORDS_MAX: usize = 16_384;
/// How long nobody looks whether the node has ended.
const LOOK: Duration = Duration::from_millis(200);

/// What was thrown away, for whoever counts.
#[derive(Debug, Default)]
pub(crate) struct Outlets {
    pub(crate) observer: Option<Arc<Observer>>,
    pub(crate) access: Option<AccessLog>,
    pub(crate) otlp: Option<Otlp>,
}

/// Looks at each request that is over, until there are no more: the access log, the trace, the app's own lines.
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
                    if let (Some(node), true) = (node.upgrade(), is_told(&observed)) {
                        tell(&node, &observed);
                    }
                }
                Ok(None) if node.strong_count() == 0 => return,
                Ok(None) => {}
                Err(_) => return,
            }
        }
    })
}

/// Whether the app's author wants to know of it.
fn is_told(observed: &Observed) -> bool {
    !matches!(observed.outcome, Outcome::Answered | Outcome::Gone) && observed.app.is_some()
}

fn tell(node: &Inner, observed: &Observed) {
    let Some(app) = &observed.app else { return };
    let path = observed.path.as_ref().map_or("", |path| path.path());
    let status = observed.status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
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
        message: format!("{} {path}: {status}", observed.method),
        fields,
    };
    node.logs.push(app.id().clone(), line);
}

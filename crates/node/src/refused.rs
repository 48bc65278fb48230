//! What a client of the admin API is told instead: the one table of statuses.

use tenon_model::{Diagnostic, Diagnostics, format_bytes};
use tenon_state::desired::{BlobError, ChangeError, UNUSED_BYTES_MAX, UNUSED_MAX};

use crate::wire::Problem;

/// A problem instead of an answer.
#[derive(Clone, Debug)]
pub(crate) struct Refused(pub(crate) Box<Problem>);

pub(crate) type Answer<T> = Result<T, Refused>;

impl Refused {
    pub(crate) fn new(code: &'static str, message: impl Into<String>, mend: &str) -> Self {
        Diagnostic::new(code, message).mend(mend).into()
    }

    pub(crate) fn status(&self) -> u16 {
        self.0.status
    }
}

impl From<Diagnostic> for Refused {
    fn from(diagnostic: Diagnostic) -> Self {
        Self(Box::new(problem(&diagnostic)))
    }
}

impl From<Diagnostics> for Refused {
    fn from(diagnostics: Diagnostics) -> Self {
        let mut problems = diagnostics.iter().map(problem);
        let mut first =
            problems.next().unwrap_or_else(|| problem(&Diagnostic::new("internal", "nothing is known")));
        first.more = problems.collect();
        Self(Box::new(first))
    }
}

/// A diagnostic as a client is told of it. Where nobody knows what mends it and it is the node's fault, its log is what is
/// left.
fn problem(diagnostic: &Diagnostic) -> Problem {
    let mut problem = Problem::of(status(diagnostic.code), diagnostic);
    if problem.status >= 500 && problem.mend.is_none() {
        problem.mend = Some("look into the node's log, and report it".to_owned());
    }
    problem
}

/// The status of a code. What is wrong with a component or a manifest is 422.
fn status(code: &str) -> u16 {
    match code {
        "admin-request" | "admin-name" | "admin-terms" | "admin-rollout" | "admin-route" => 400,
        "admin-token" => 401,
        "admin-forbidden" | "grant-not-allowed" => 403,
        "admin-endpoint" | "no-such-tenant" | "no-such-app" | "no-such-revision" | "no-such-token"
        | "no-such-blob" => 404,
        "admin-method" => 405,
        "app-conflict" | "tenant-conflict" | "tenant-in-use" | "route-taken" | "too-many-apps"
        | "reserve-too-large" | "no-rollout" | "rollout-routes" | "not-uploaded" | "upload-offset"
        | "upload-busy" => 409,
        "admin-too-large" | "uploads-full" => 413,
        "admin-rate" | "admin-busy" | "deploy-busy" => 429,
        "internal" | "compile-worker" | "not-served" => 500,
        "node-draining" | "memory-full" | "admin-full" => 503,
        "state-failed" | "store-unreadable" | "store-damaged" | "cannot-store-artifact" => 507,
        _ => 422,
    }
}

impl From<ChangeError> for Refused {
    fn from(error: ChangeError) -> Self {
        let what = error.to_string();
        match error {
            ChangeError::Conflict { .. } => Self::new("app-conflict", what, "look at the app again, and decide anew"),
            ChangeError::TenantConflict { .. } => {
                Self::new("tenant-conflict", what, "look at the tenant again, and decide anew")
            }
            ChangeError::Missing("such tenant") => missing("tenant"),
            ChangeError::Missing("such token") => missing("token"),
            ChangeError::Missing(_) => missing("app"),
            ChangeError::InUse { .. } => Self::new("tenant-in-use", what, "delete its apps first"),
            ChangeError::RouteTaken { route, by } => {
                let whose = by.map_or_else(|| "another tenant's".to_owned(), |by| format!("{by}'s"));
                let said = format!("requests for `{route}` are {whose}");
                Self::new("route-taken", said, "choose another host or path")
            }
            ChangeError::TooManyApps { .. } => {
                Self::new("too-many-apps", what, "delete an app, or raise the tenant's quota `apps`")
            }
            ChangeError::NotUploaded => {
                Self::new("not-uploaded", what, "upload its bytes first: `tenon deploy` does so")
            }
            ChangeError::Refused(why) => Self::new("no-rollout", why, "see how the app stands: `tenon rollout`"),
            ChangeError::HandedOver => draining(),
            ChangeError::Failed(_) => Diagnostic::new("state-failed", "the node cannot write its state, and changed nothing")
                .note("cause", what)
                .mend("see that the node's disk has room and can be written; what is deployed is served all the same")
                .into(),
            ChangeError::Unknown(_) => {
                Diagnostic::new("state-failed", "the node's disk failed, and whether anything was changed is not known")
                    .note("cause", what)
                    .mend("see that the node's disk has room and can be written, then look how it stands before you ask again")
                    .into()
            }
        }
    }
}

impl From<BlobError> for Refused {
    fn from(error: BlobError) -> Self {
        let what = error.to_string();
        match error {
            BlobError::Offset(_) => Self::new("upload-offset", what, "go on at that byte"),
            BlobError::Busy => Self::new("upload-busy", what, "wait, and ask how far it is"),
            BlobError::Unused(_) => uploads_full(what, format_bytes(UNUSED_BYTES_MAX)),
            BlobError::TooMany(_) => uploads_full(what, format!("{UNUSED_MAX} components")),
            BlobError::TooLarge(_) => Self::new("admin-too-large", what, "a component has at most 512 MiB"),
            BlobError::Digest(_) => Self::new("upload-digest", what, "upload it again from the start"),
            BlobError::Io(_) => Diagnostic::new("state-failed", "the node cannot keep what is uploaded")
                .note("cause", what)
                .mend("see that the node's disk has room and can be written")
                .into(),
        }
    }
}

fn uploads_full(what: String, limit: String) -> Refused {
    Diagnostic::new("uploads-full", what)
        .note("the limit of a tenant", limit)
        .mend("deploy what was uploaded; what nothing is made of goes a day after it was uploaded")
        .into()
}

/// The node changes nothing any more.
pub(crate) fn draining() -> Refused {
    Refused::new("node-draining", "the node is about to end", "ask again when it is back")
}

/// There is none.
pub(crate) fn missing(what: &'static str) -> Refused {
    let (code, mend) = match what {
        "tenant" => ("no-such-tenant", "make it with `tenon tenant set`"),
        "token" => ("no-such-token", "list them with `tenon token list`"),
        "revision" => ("no-such-revision", "list them with `tenon revisions`"),
        "blob" => ("no-such-blob", "upload it"),
        _ => ("no-such-app", "list them with `tenon apps`"),
    };
    Refused::new(code, format!("there is no such {what}"), mend)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_of_the_node_is_told_with_where_to_look() {
        let refused = Refused::from(Diagnostic::new("internal", "it failed"));
        assert!(refused.0.mend.is_some_and(|mend| mend.contains("log")));
        let refused = Refused::from(Diagnostic::new("state-failed", "no room").mend("make room"));
        assert_eq!((refused.status(), refused.0.mend.as_deref()), (507, Some("make room")));
    }
}

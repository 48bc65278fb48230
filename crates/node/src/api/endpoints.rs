//! The one table of what the admin API has. Routing, authorization, the OpenAPI document and the test of authorization
//! all come from it.

use http::Method;

use crate::wire::Verb;

/// Of which tenants a token has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// None is needed.
    Public,
    /// Any token will do; what is shown and what can be changed is what its tenant has.
    Own,
    /// A token of the tenant in the path, or of all.
    Tenant,
    /// A token of all tenants.
    Node,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the table's summaries say it")]
pub enum Action {
    Page,
    OpenApi,
    Live,
    Status,
    Metrics,
    Top,
    Capacity,
    ListTenants,
    GetTenant,
    PutTenant,
    DeleteTenant,
    PostToken,
    ListTokens,
    DeleteToken,
    RotateToken,
    HeadBlob,
    PatchBlob,
    PutBlob,
    ListAllApps,
    ListApps,
    GetApp,
    Deploy,
    DeleteApp,
    ListRevisions,
    GetRollout,
    Revert,
    Promote,
    Pause,
    Resume,
    Logs,
    Audit,
}

/// One endpoint.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The method.
    pub method: Method,
    /// The path; `{tenant}`, `{app}`, `{digest}` and `{token}` stand for one segment each.
    pub path: &'static str,
    /// What is done.
    pub action: Action,
    /// What the token has to allow.
    pub verb: Verb,
    /// Of which tenants the token has to be.
    pub scope: Scope,
    /// In one sentence.
    pub summary: &'static str,
    /// The type of the request's body, by its name in [`crate::wire`].
    pub request: Option<&'static str>,
    /// The type of the answer, by its name in [`crate::wire`], or a media type.
    pub response: &'static str,
}

/// Every endpoint.
pub const ENDPOINTS: &[Endpoint] = &[
    public(
        Method::GET,
        "/",
        Action::Page,
        "A page for people: what each app, and each of its components, uses.",
        "text/html",
    ),
    public(Method::GET, "/v1/openapi.json", Action::OpenApi, "This description.", "application/json"),
    public(
        Method::GET,
        "/v1/live",
        Action::Live,
        "Whether the node runs; for whoever restarts it.",
        "text/plain",
    ),
    read(Method::GET, "/v1/status", Action::Status, Scope::Own, "How the node is.", "Status"),
    read(
        Method::GET,
        "/v1/metrics",
        Action::Metrics,
        Scope::Node,
        "What was counted, for Prometheus.",
        "text/plain",
    ),
    read(Method::GET, "/metrics", Action::Metrics, Scope::Node, "The same.", "text/plain"),
    read(Method::GET, "/v1/top", Action::Top, Scope::Own, "What each revision does.", "Top"),
    read(
        Method::GET,
        "/v1/capacity",
        Action::Capacity,
        Scope::Own,
        "How many more of an app fit.",
        "Capacity",
    ),
    read(Method::GET, "/v1/tenants", Action::ListTenants, Scope::Own, "The tenants.", "Tenants"),
    read(Method::GET, "/v1/tenants/{tenant}", Action::GetTenant, Scope::Tenant, "A tenant.", "Tenant"),
    change(
        Method::PUT,
        "/v1/tenants/{tenant}",
        Action::PutTenant,
        Verb::Admin,
        Scope::Node,
        "Makes a tenant, or changes what it may use.",
        Some("PutTenant"),
        "Tenant",
    ),
    change(
        Method::DELETE,
        "/v1/tenants/{tenant}",
        Action::DeleteTenant,
        Verb::Admin,
        Scope::Node,
        "Removes a tenant that has no apps, and its tokens.",
        None,
        "",
    ),
    change(
        Method::GET,
        "/v1/tokens",
        Action::ListTokens,
        Verb::Admin,
        Scope::Own,
        "The tokens.",
        None,
        "Tokens",
    ),
    change(
        Method::POST,
        "/v1/tokens",
        Action::PostToken,
        Verb::Admin,
        Scope::Own,
        "Makes a token; its secret is shown this once.",
        Some("PostToken"),
        "NewToken",
    ),
    change(
        Method::DELETE,
        "/v1/tokens/{token}",
        Action::DeleteToken,
        Verb::Admin,
        Scope::Own,
        "Makes a token invalid.",
        None,
        "",
    ),
    change(
        Method::POST,
        "/v1/tokens/{token}/rotate",
        Action::RotateToken,
        Verb::Admin,
        Scope::Own,
        "Gives a token a new secret.",
        Some("RotateToken"),
        "NewToken",
    ),
    change(
        Method::HEAD,
        "/v1/blobs/{digest}",
        Action::HeadBlob,
        Verb::Deploy,
        Scope::Own,
        "Whether these bytes are there, or how many of them (404 with `upload-offset`).",
        None,
        "",
    ),
    change(
        Method::PATCH,
        "/v1/blobs/{digest}",
        Action::PatchBlob,
        Verb::Deploy,
        Scope::Own,
        "Uploads more bytes, from `upload-offset` on; `upload-length` says how many it will be.",
        Some("application/octet-stream"),
        "",
    ),
    change(
        Method::PUT,
        "/v1/blobs/{digest}",
        Action::PutBlob,
        Verb::Deploy,
        Scope::Own,
        "Uploads all bytes at once.",
        Some("application/octet-stream"),
        "",
    ),
    read(Method::GET, "/v1/apps", Action::ListAllApps, Scope::Own, "The apps of every tenant.", "Apps"),
    read(
        Method::GET,
        "/v1/tenants/{tenant}/apps",
        Action::ListApps,
        Scope::Tenant,
        "A tenant's apps.",
        "Apps",
    ),
    read(Method::GET, "/v1/tenants/{tenant}/apps/{app}", Action::GetApp, Scope::Tenant, "An app.", "App"),
    change(
        Method::PUT,
        "/v1/tenants/{tenant}/apps/{app}",
        Action::Deploy,
        Verb::Deploy,
        Scope::Tenant,
        "Deploys: the app is to have this content. The same content again does nothing.",
        Some("Deploy"),
        "Deployed",
    ),
    change(
        Method::DELETE,
        "/v1/tenants/{tenant}/apps/{app}",
        Action::DeleteApp,
        Verb::Deploy,
        Scope::Tenant,
        "Removes an app and its revisions. What it kept in stores stays.",
        None,
        "",
    ),
    read(
        Method::GET,
        "/v1/tenants/{tenant}/apps/{app}/revisions",
        Action::ListRevisions,
        Scope::Tenant,
        "An app's revisions.",
        "Revisions",
    ),
    read(
        Method::GET,
        "/v1/tenants/{tenant}/apps/{app}/rollout",
        Action::GetRollout,
        Scope::Tenant,
        "How the rollout stands.",
        "RolloutAnswer",
    ),
    change(
        Method::POST,
        "/v1/tenants/{tenant}/apps/{app}/revert",
        Action::Revert,
        Verb::Deploy,
        Scope::Tenant,
        "Back to an earlier revision, at once: a new one that is equal to it.",
        Some("Revert"),
        "Deployed",
    ),
    change(
        Method::POST,
        "/v1/tenants/{tenant}/apps/{app}/promote",
        Action::Promote,
        Verb::Deploy,
        Scope::Tenant,
        "Makes the candidate the stable revision now.",
        Some("Change"),
        "App",
    ),
    change(
        Method::POST,
        "/v1/tenants/{tenant}/apps/{app}/pause",
        Action::Pause,
        Verb::Deploy,
        Scope::Tenant,
        "Takes an app out of service, or holds its rollout.",
        Some("Change"),
        "App",
    ),
    change(
        Method::POST,
        "/v1/tenants/{tenant}/apps/{app}/resume",
        Action::Resume,
        Verb::Deploy,
        Scope::Tenant,
        "The opposite of `pause`.",
        Some("Change"),
        "App",
    ),
    read(
        Method::GET,
        "/v1/tenants/{tenant}/apps/{app}/logs",
        Action::Logs,
        Scope::Tenant,
        "What an app writes, and what fails: the last lines, and with `follow=true` those that come.",
        "application/x-ndjson",
    ),
    change(
        Method::GET,
        "/v1/audit",
        Action::Audit,
        Verb::Admin,
        Scope::Own,
        "Who changed what.",
        None,
        "Audit",
    ),
];

const fn public(
    method: Method,
    path: &'static str,
    action: Action,
    summary: &'static str,
    response: &'static str,
) -> Endpoint {
    let (verb, scope) = (Verb::Read, Scope::Public);
    Endpoint { method, path, action, verb, scope, summary, request: None, response }
}

const fn read(
    method: Method,
    path: &'static str,
    action: Action,
    scope: Scope,
    summary: &'static str,
    response: &'static str,
) -> Endpoint {
    Endpoint { method, path, action, verb: Verb::Read, scope, summary, request: None, response }
}

#[expect(clippy::too_many_arguments, reason = "the columns of a table")]
const fn change(
    method: Method,
    path: &'static str,
    action: Action,
    verb: Verb,
    scope: Scope,
    summary: &'static str,
    request: Option<&'static str>,
    response: &'static str,
) -> Endpoint {
    Endpoint { method, path, action, verb, scope, summary, request, response }
}

//! Who may do what: every endpoint, with every kind of token, and one row for each written by hand.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use tenon_state::Desired;
use tenon_state::desired::{By, TokenRecord};

use super::authorize::find;
use super::endpoints::{Action, ENDPOINTS, Scope};
use super::openapi;
use crate::refused::Answer;
use crate::tokens::{Fresh, verb_text};
use crate::wire::Verb;

/// What is expected, beside the table that it is compared with: a change to either needs the other.
const EXPECTED: &[(Action, Verb, Scope)] = &[
    (Action::Page, Verb::Read, Scope::Public),
    (Action::OpenApi, Verb::Read, Scope::Public),
    (Action::Live, Verb::Read, Scope::Public),
    (Action::Status, Verb::Read, Scope::Own),
    (Action::Metrics, Verb::Read, Scope::Node),
    (Action::Metrics, Verb::Read, Scope::Node),
    (Action::Top, Verb::Read, Scope::Own),
    (Action::Capacity, Verb::Read, Scope::Own),
    (Action::ListTenants, Verb::Read, Scope::Own),
    (Action::GetTenant, Verb::Read, Scope::Tenant),
    (Action::PutTenant, Verb::Admin, Scope::Node),
    (Action::DeleteTenant, Verb::Admin, Scope::Node),
    (Action::ListTokens, Verb::Admin, Scope::Own),
    (Action::PostToken, Verb::Admin, Scope::Own),
    (Action::DeleteToken, Verb::Admin, Scope::Own),
    (Action::RotateToken, Verb::Admin, Scope::Own),
    (Action::HeadBlob, Verb::Deploy, Scope::Own),
    (Action::PatchBlob, Verb::Deploy, Scope::Own),
    (Action::PutBlob, Verb::Deploy, Scope::Own),
    (Action::ListAllApps, Verb::Read, Scope::Own),
    (Action::ListApps, Verb::Read, Scope::Tenant),
    (Action::GetApp, Verb::Read, Scope::Tenant),
    (Action::Deploy, Verb::Deploy, Scope::Tenant),
    (Action::DeleteApp, Verb::Deploy, Scope::Tenant),
    (Action::ListRevisions, Verb::Read, Scope::Tenant),
    (Action::GetRollout, Verb::Read, Scope::Tenant),
    (Action::Revert, Verb::Deploy, Scope::Tenant),
    (Action::Promote, Verb::Deploy, Scope::Tenant),
    (Action::Pause, Verb::Deploy, Scope::Tenant),
    (Action::Resume, Verb::Deploy, Scope::Tenant),
    (Action::Logs, Verb::Read, Scope::Tenant),
    (Action::Audit, Verb::Admin, Scope::Own),
];

const BY: By<'static> = By { who: "test", at: 0 };

fn path(template: &str) -> String {
    template
        .replace("{tenant}", "acme")
        .replace("{app}", "shop")
        .replace("{digest}", &format!("sha256:{}", "0".repeat(64)))
        .replace("{token}", "0123")
}

/// A token, and what it is a token for.
struct Shown {
    secret: String,
    tenant: Option<&'static str>,
    verb: Verb,
}

fn tokens(desired: &Desired) -> Vec<Shown> {
    let mut tokens = Vec::new();
    for tenant in [None, Some("acme"), Some("zeta")] {
        for verb in [Verb::Read, Verb::Deploy, Verb::Admin] {
            let Fresh { id, secret, hash } = Fresh::new(None).unwrap();
            let record = TokenRecord {
                id,
                tenant: tenant.map(|tenant| tenant.parse().unwrap()),
                verb: verb_text(verb).into(),
                hash,
                before: None,
                created: 0,
                expires: None,
                note: String::new(),
            };
            desired.create_token(BY, record).unwrap();
            tokens.push(Shown { secret, tenant, verb });
        }
    }
    tokens
}

fn bearing(secret: &str) -> HeaderMap {
    HeaderMap::from_iter([(AUTHORIZATION, format!("Bearer {secret}").parse().unwrap())])
}

fn status<T>(answer: Answer<T>) -> u16 {
    answer.map_or_else(|refused| refused.status(), |_| 200)
}

#[test]
fn every_endpoint_is_for_whom_it_is_meant_and_for_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let desired = Desired::open(folder.path()).unwrap();
    for tenant in ["acme", "zeta"] {
        desired.put_tenant(BY, &tenant.parse().unwrap(), None, "{}", 1).unwrap();
    }
    let tokens = tokens(&desired);
    let mut asked = 0;
    assert_eq!(ENDPOINTS.len(), EXPECTED.len(), "each endpoint has a row");
    for (endpoint, (action, verb, scope)) in ENDPOINTS.iter().zip(EXPECTED) {
        let what = format!("{} {}", endpoint.method, endpoint.path);
        assert_eq!((endpoint.action, endpoint.verb, endpoint.scope), (*action, *verb, *scope), "{what}");
        let ask = |headers: &HeaderMap| {
            status(find(&endpoint.method, &path(endpoint.path)).unwrap().authorize(&desired, headers, 1))
        };
        let is_public = *scope == Scope::Public;
        for stranger in [HeaderMap::new(), bearing("tenon_0123_4567"), bearing("")] {
            assert_eq!(ask(&stranger), if is_public { 200 } else { 401 }, "{what}");
            asked += 1;
        }
        for token in &tokens {
            let is_theirs = match scope {
                Scope::Public | Scope::Own => true,
                Scope::Node => token.tenant.is_none(),
                Scope::Tenant => token.tenant.is_none_or(|tenant| tenant == "acme"),
            };
            let expected = if is_public || (is_theirs && token.verb >= *verb) { 200 } else { 403 };
            let who = format!("{what} as {:?} {:?}", token.tenant, token.verb);
            assert_eq!(ask(&bearing(&token.secret)), expected, "{who}");
            asked += 1;
        }
    }
    assert_eq!(asked, ENDPOINTS.len() * (3 + 9));
}

/// What has none is not read one: so a GET cannot make the node keep bytes.
#[test]
fn only_what_sends_something_has_a_body() {
    for endpoint in ENDPOINTS {
        let sends = [http::Method::PUT, http::Method::POST, http::Method::PATCH].contains(&endpoint.method);
        assert_eq!(endpoint.request.is_some(), sends, "{} {}", endpoint.method, endpoint.path);
    }
}

#[test]
fn what_is_no_endpoint_is_said_to_be_none() {
    let ask = |method: http::Method, path: &str| {
        find(&method, path).map(|_| ()).map_err(|it| (it.status(), it.0.code))
    };
    let none = Err((404, "admin-endpoint".to_owned()));
    for path in
        ["", "//", "/v1", "/v2/status", "/v1/status/", "/v1/tenants//apps", "/v1/tenants/a/apps/b/nothing"]
    {
        assert_eq!(ask(http::Method::GET, path), none, "{path}");
    }
    assert_eq!(ask(http::Method::DELETE, "/v1/status"), Err((405, "admin-method".to_owned())));
    assert_eq!(ask(http::Method::GET, "/v1/tenants/a/apps/b"), Ok(()));
}

#[test]
fn the_description_has_every_endpoint_and_every_type() {
    let document = openapi::document();
    let paths = document["paths"].as_object().unwrap();
    let operations: usize = paths.values().map(|path| path.as_object().unwrap().len()).sum();
    assert_eq!(operations, ENDPOINTS.len());
    for endpoint in ENDPOINTS {
        let operation = &paths[endpoint.path][endpoint.method.as_str().to_ascii_lowercase()];
        assert_eq!(operation["security"].is_null(), endpoint.scope == Scope::Public, "{}", endpoint.path);
    }
    // Whatever is named is there.
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let text = document.to_string();
    let named = text.split("\"#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next());
    let mut count = 0;
    for name in named {
        assert!(schemas.contains_key(name), "{name}");
        count += 1;
    }
    assert!(count > ENDPOINTS.len() && schemas["Deploy"]["properties"]["terms"].is_object(), "{count}");
}

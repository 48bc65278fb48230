//! Who may use an endpoint. What comes out is a value that every handler demands.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use tenon_model::{AppId, TenantId};
use tenon_state::Desired;

use super::endpoints::{ENDPOINTS, Endpoint, Scope};
use crate::refused::{Answer, Refused};
use crate::tokens::{Bearer, bearer};
use crate::wire::Verb;

/// An endpoint, and what its path says.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) endpoint: &'static Endpoint,
    parameters: Vec<(&'static str, String)>,
}

/// Leave to use an endpoint.
#[derive(Debug)]
pub(super) struct Permitted {
    found: Found,
    bearer: Option<Bearer>,
}

/// The endpoint that a request is for.
pub(super) fn find(method: &http::Method, path: &str) -> Answer<Found> {
    let mut allowed = Vec::new();
    for endpoint in ENDPOINTS {
        if let Some(parameters) = parameters(endpoint.path, path) {
            if endpoint.method == *method {
                return Ok(Found { endpoint, parameters });
            }
            allowed.push(endpoint.method.as_str());
        }
    }
    if allowed.is_empty() {
        return Err(Refused::new(
            "admin-endpoint",
            "there is no such endpoint",
            "see `GET /v1/openapi.json`",
        ));
    }
    let said = format!("`{method}` means nothing here");
    Err(Refused::new("admin-method", said, &format!("use {}", allowed.join(" or "))))
}

/// What a path says in the places of a template's parameters, if it fits it.
fn parameters(template: &'static str, path: &str) -> Option<Vec<(&'static str, String)>> {
    let (mut wanted, mut given) = (template.split('/'), path.split('/'));
    let mut found = Vec::new();
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(found),
            (Some(wanted), Some(given)) => {
                match wanted.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
                    Some(_) if given.is_empty() => return None,
                    Some(name) => found.push((name, given.replace("%3A", ":").replace("%3a", ":"))),
                    None if wanted == given => {}
                    None => return None,
                }
            }
            _ => return None,
        }
    }
}

impl Found {
    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(it, _)| *it == name).map(|(_, value)| value.as_str())
    }

    /// Whether whoever sent these headers may do this at that time.
    pub(super) fn authorize(self, desired: &Desired, headers: &HeaderMap, now: u64) -> Answer<Permitted> {
        let Endpoint { verb, scope, .. } = *self.endpoint;
        if scope == Scope::Public {
            return Ok(Permitted { found: self, bearer: None });
        }
        let shown = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        // The scheme's name may be written in any case (RFC 9110, section 11.1).
        let secret = shown.and_then(|value| value.split_once(' '));
        let secret =
            secret.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, it)| it.trim());
        let Some(bearer) = secret.and_then(|secret| bearer(desired, secret, now)) else {
            return Err(Refused::new(
                "admin-token",
                "a valid token is needed",
                "send `Authorization: Bearer TOKEN`; with `tenon`, `--token-file FILE` or TENON_TOKEN",
            ));
        };
        if bearer.verb < verb {
            return Err(forbidden(format!("the token `{}` is not one for this", bearer.token), verb, None));
        }
        let is_of = match scope {
            Scope::Public | Scope::Own => true,
            Scope::Node => bearer.tenant.is_none(),
            Scope::Tenant => {
                bearer.tenant.as_ref().is_none_or(|tenant| self.parameter("tenant") == Some(tenant.as_str()))
            }
        };
        if !is_of {
            let tenant = self.parameter("tenant").filter(|_| scope == Scope::Tenant);
            return Err(forbidden(format!("the token `{}` is another tenant's", bearer.token), verb, tenant));
        }
        Ok(Permitted { found: self, bearer: Some(bearer) })
    }
}

fn forbidden(what: String, verb: Verb, tenant: Option<&str>) -> Refused {
    let word = crate::tokens::verb_text(verb);
    let for_tenant = tenant.map_or_else(String::new, |tenant| format!(" --tenant {tenant}"));
    Refused::new(
        "admin-forbidden",
        what,
        &format!("have one made that is: `tenon token create --verb {word}{for_tenant}`"),
    )
}

impl Permitted {
    pub(super) fn endpoint(&self) -> &'static Endpoint {
        self.found.endpoint
    }

    /// The name of the token, for the log of changes.
    pub(super) fn who(&self) -> &str {
        self.bearer.as_ref().map_or("nobody", |bearer| bearer.token.as_str())
    }

    /// Who has shown a token; nobody where none was needed.
    pub(super) fn bearer(&self) -> Option<&Bearer> {
        self.bearer.as_ref()
    }

    /// The token's tenant; `None` for all.
    pub(super) fn tenant(&self) -> Option<&TenantId> {
        self.bearer.as_ref().and_then(|bearer| bearer.tenant.as_ref())
    }

    /// What the token allows.
    pub(super) fn verb(&self) -> Verb {
        self.bearer.as_ref().map_or(Verb::Read, |bearer| bearer.verb)
    }

    /// Whether something of this tenant may be shown.
    pub(super) fn may_see(&self, tenant: &TenantId) -> bool {
        self.tenant().is_none_or(|own| own == tenant)
    }

    /// What the path says, as text.
    pub(super) fn said(&self, name: &'static str) -> &str {
        self.found.parameter(name).unwrap_or_default()
    }

    /// The tenant of the path.
    pub(super) fn path_tenant(&self) -> Answer<TenantId> {
        parse("tenant", self.said("tenant"))
    }

    /// The app of the path.
    pub(super) fn path_app(&self) -> Answer<AppId> {
        Ok(AppId { tenant: self.path_tenant()?, app: parse("app", self.said("app"))? })
    }
}

fn parse<T: std::str::FromStr<Err = tenon_model::InvalidLabel>>(what: &str, text: &str) -> Answer<T> {
    text.parse().map_err(|error| {
        let cut = &text[..text.floor_char_boundary(80)];
        Refused::new(
            "admin-name",
            format!("`{cut}` cannot be the name of a {what}: {error}"),
            "choose another name",
        )
    })
}

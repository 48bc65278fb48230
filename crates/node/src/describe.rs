//! What a service with typed exports tells its clients of them.

use tenon_engine::{Description, Service, Shape};
use tenon_model::{Diagnostic, Diagnostics};
use tenon_wit::{ErrorStatuses, HttpApi};

/// What is known of the types of a service.
pub enum Known<'a> {
    /// The component.
    Component(&'a [u8]),
    /// What was kept of it with its compiled code.
    Contract(Option<&'a str>),
}

/// Adds the description of its typed exports to a service. Where nothing of their types was kept, they can be called
/// without being described.
///
/// # Errors
/// `errors` names what the component does not have.
pub fn describe(service: Service, known: &Known<'_>, errors: &ErrorStatuses) -> Result<Service, Diagnostics> {
    let is_typed = matches!(service.shape(), Shape::Typed { .. });
    let found = match known {
        Known::Component(bytes) if is_typed => Some(HttpApi::of(service.name(), bytes, errors)?),
        Known::Contract(Some(text)) if is_typed => Some(HttpApi::of_contract(service.name(), text, errors)?),
        _ => None,
    };
    let Some(HttpApi { document, page, statuses, .. }) = found else {
        return match errors.values().next() {
            None => Ok(service),
            Some((_, at)) => Err(Diagnostic::new("unused-errors", "[errors] means nothing for this app")
                .at(at.clone())
                .note("found", format!("`{}` answers requests itself: {}", service.name(), service.shape()))
                .mend("Remove [errors]: the handler chooses the status of each response.")
                .into()),
        };
    };
    Ok(service.described(Description {
        document: document.to_string().into(),
        page: page.html.into(),
        content_security_policy: page.content_security_policy,
        statuses,
    }))
}

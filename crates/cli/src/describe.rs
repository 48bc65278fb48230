//! What a service with typed exports tells its clients of them.

use tenon_engine::{Description, Service, Shape};
use tenon_model::{Diagnostic, Diagnostics};
use tenon_wit::{ErrorStatuses, HttpApi};

/// Adds the description of the component `bytes` to the service that was made of it. Compiled code has no bytes, and its
/// functions can be called without being described.
///
/// # Errors
/// `errors` names what the component does not have.
pub(crate) fn describe(
    service: Service,
    bytes: Option<&[u8]>,
    errors: &ErrorStatuses,
) -> Result<Service, Diagnostics> {
    let (Shape::Typed { .. }, Some(bytes)) = (service.shape(), bytes) else {
        return match errors.values().next() {
            None => Ok(service),
            Some((_, at)) => Err(Diagnostic::new("unused-errors", "[errors] means nothing for this app")
                .at(at.clone())
                .note("found", format!("`{}` answers requests itself: {}", service.name(), service.shape()))
                .mend("Remove [errors]: the handler chooses the status of each response.")
                .into()),
        };
    };
    let HttpApi { document, page, statuses, .. } = HttpApi::of(service.name(), bytes, errors)?;
    Ok(service.described(Description {
        document: document.to_string().into(),
        page: page.html.into(),
        content_security_policy: page.content_security_policy,
        statuses,
    }))
}

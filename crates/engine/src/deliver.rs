//! Messages to a component: whom they are for, and the life of one delivery.
//!
//! A component that exports `wasi:messaging/incoming-handler` is given the messages of the topics that it was granted
//! with `subscribe`. In a composition it is the grant of the part whose handler is exported: the type of the messages
//! that the handler takes says which part that is.

use std::collections::BTreeSet;
use std::sync::Arc;

use tenon_model::store::{Message, Messages, Subscription};
use tenon_model::{Authorities, Diagnostic, Diagnostics, Location, PartImport};
use wasmtime::component::types::{ComponentItem, Type};
use wasmtime::component::{Component, InstancePre};
use wasmtime::{Engine, Store};

use crate::capability::messaging::{Error, HANDLER, HANDLER_UNVERSIONED, HandlerPre};
use crate::capability::stores::TENANT;
use crate::capability::{Backends, Principals};
use crate::crash::core_dump;
use crate::failure::Failure;
use crate::host::{self, Host};
use crate::room::Tries;
use crate::stop::Stop;
use crate::store;

/// A handler of messages, linked.
pub(crate) struct Subscriber {
    handler: HandlerPre<Host>,
    /// Whom the handler acts for.
    principal: usize,
    /// Its part of the composition, or the service.
    component: String,
    topics: BTreeSet<String>,
    tenant: String,
    store: Arc<dyn Messages>,
}

/// What messages come from, and who takes them.
#[derive(Clone, Debug)]
pub struct Post {
    /// Where they wait.
    pub store: Arc<dyn Messages>,
    /// Which are taken.
    pub subscription: Subscription,
    /// The component that takes them: the part of a composition, or what is served.
    pub component: String,
}

/// What is looked at to find the subscriber.
pub(crate) struct Candidate<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) file: &'a str,
    pub(crate) component: &'a Component,
    pub(crate) instance: &'a InstancePre<Host>,
    pub(crate) principals: &'a Principals,
}

impl Subscriber {
    /// Finds who is given messages. `None` when nobody exports a handler and nobody was granted topics.
    ///
    /// # Errors
    /// A handler without topics, topics without a handler: messages would wait for ever.
    pub(crate) fn find(
        candidate: &Candidate<'_>,
        authorities: &Authorities,
        backends: &Backends,
    ) -> Result<Option<Self>, Diagnostics> {
        let Candidate { engine, file, component, instance, principals } = *candidate;
        let service = principals.service();
        let exported = component
            .component_type()
            .exports(engine)
            .map(|(name, _)| name.to_owned())
            .find(|name| name.split('@').next() == Some(HANDLER_UNVERSIONED));
        let mut findings = Vec::new();
        let principal = exported.as_deref().filter(|name| *name == HANDLER).map(|_| {
            let part = handler_part(engine, component);
            part.and_then(|part| principals.known(&part)).unwrap_or_default()
        });
        if let (Some(exported), None) = (&exported, principal) {
            findings.push(
                Diagnostic::new(
                    "handler-not-offered",
                    format!("`{service}` exports `{exported}`, to which this host delivers nothing"),
                )
                .note("delivered to", HANDLER)
                .mend("rebuild the component with bindings for that version"),
            );
        }
        // Topics that were granted to somebody who has no handler.
        let subscribed = |grants: &tenon_model::Grants| {
            grants.messaging.as_ref().map(|it| it.subscribe.clone()).filter(|topics| !topics.is_empty())
        };
        let own = principal.and_then(|index| principals.part(index));
        let parts = authorities.parts.iter().map(|(part, authority)| (Some(part.as_str()), authority));
        for (part, authority) in [(None, &authorities.whole)].into_iter().chain(parts) {
            // Of a component alone, the whole has what its only part has.
            let is_the_same = |index| part.is_none() && authority.grants == *principals.grants(index);
            let handles = principal.is_some_and(|index| part == own || is_the_same(index));
            if let (Some(topics), false, true) = (subscribed(&authority.grants), handles, findings.is_empty())
            {
                let who = part.unwrap_or(service);
                findings.push(
                    Diagnostic::new("no-message-handler", format!("`{who}` was granted the messages of {}, and has no handler for them", listed(&topics)))
                        .note("expected", format!("the export {HANDLER}"))
                        .mend("export the handler (in a composition, from this component), or remove `subscribe` from its grants"),
                );
            }
        }
        let Some(principal) = principal else {
            return Diagnostics::check(at(findings, file)).map(|()| None);
        };
        let topics = subscribed(principals.grants(principal));
        if topics.is_none() {
            let who = own.unwrap_or(service);
            let table =
                own.map_or_else(|| "[grants]".to_owned(), |part| format!("[component.{part}.grants]"));
            findings.push(
                Diagnostic::new("not-subscribed", format!("`{who}` handles messages, and was not granted those of any topic"))
                    .mend(format!(
                        "grant it topics in the manifest, or build the component without `{HANDLER_UNVERSIONED}`:\n\n{table}\n\"wasi:messaging\" = {{ subscribe = [\"orders.*\"] }}"
                    )),
            );
        }
        Diagnostics::check(at(findings, file))?;
        let handler = HandlerPre::new(instance.clone()).map_err(|error| {
            Diagnostic::new(
                "not-a-handler",
                format!("`{service}` exports `{HANDLER}` with another signature: {error:#}"),
            )
            .at(Location::file(file))
        })?;
        // Without a store nothing can have been published either.
        let (Some(topics), Some(store)) = (topics, backends.stores.messages.clone()) else { return Ok(None) };
        let component = own.unwrap_or(service).to_owned();
        let tenant = backends.tenant.as_deref().unwrap_or(TENANT).to_owned();
        Ok(Some(Self { handler, principal, component, topics, tenant, store }))
    }

    pub(crate) fn engine(&self) -> &Engine {
        self.handler.engine()
    }

    /// Where its messages come from.
    pub(crate) fn post(&self, service: &str) -> Post {
        let subscription =
            Subscription { tenant: self.tenant.clone(), app: service.into(), topics: self.topics.clone() };
        Post { store: Arc::clone(&self.store), subscription, component: self.component.clone() }
    }

    /// Gives the guest one message, and waits until it has handled it. `fresh` makes a store for it, more than one where
    /// the pool has room only once others have made some.
    pub(crate) async fn run(
        &self,
        fresh: impl Fn() -> Store<Host>,
        mut tries: Tries<'_>,
        message: Message,
        name: &str,
    ) -> Result<(), Stop> {
        let (mut store, handler) = loop {
            let mut store = fresh();
            match self.handler.instantiate_async(&mut store).await {
                Ok(handler) => break (store, handler),
                Err(error) => {
                    drop(store);
                    if !tries.again(&error).await {
                        return Err(Stop::Start(error));
                    }
                }
            }
        };
        let letter = host::called(self.principal)(store.data_mut()).letter(message, true)?;
        let called = handler.wasi_messaging_incoming_handler().call_handle(&mut store, letter).await;
        store::ended(&store);
        match called.inspect_err(|error| core_dump(error, &mut store, name))? {
            Ok(()) => Ok(()),
            Err(error) => Err(Stop::Refused(Failure::NoResponse { cause: answered_with(&error) })),
        }
    }
}

/// The part whose handler is exported; `None` when it is that of the whole.
///
/// Messages are resources of the interface that the handler's own component imports, and a part that was granted
/// messages imports it under a name of its own.
fn handler_part(engine: &Engine, component: &Component) -> Option<String> {
    let ty = component.component_type();
    let ComponentItem::ComponentInstance(handler) = ty.get_export(engine, HANDLER)?.ty else { return None };
    let ComponentItem::ComponentFunc(handle) = handler.get_export(engine, "handle")?.ty else { return None };
    let Some((_, Type::Own(message))) = handle.params().next() else { return None };
    ty.imports(engine).find_map(|(name, item)| {
        let ComponentItem::ComponentInstance(types) = item.ty else { return None };
        let is_it = |item| matches!(item, ComponentItem::Resource(resource) if resource == message);
        let has_it = types.exports(engine).any(|(_, item)| is_it(item.ty));
        has_it.then(|| PartImport::parse(name)).flatten().map(|import| import.part)
    })
}

fn listed(topics: &BTreeSet<String>) -> String {
    topics.iter().map(|topic| format!("`{topic}`")).collect::<Vec<_>>().join(", ")
}

fn at(findings: Vec<Diagnostic>, file: &str) -> Vec<Diagnostic> {
    findings.into_iter().map(|it| it.at(Location::file(file))).collect()
}

fn answered_with(error: &Error) -> String {
    format!("the handler answered with the error {error:?}")
}

//! One sandbox that is called as often as wanted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use wasmtime::Store;
use wasmtime::component::{ComponentNamedList, Func, Instance, Lift, Lower, ResourceAny, ResourceType, Type};

use super::{Callable, Function, transmit};
use crate::Running;
use crate::canonical::Callee;
use crate::crash::{Boundary, Wreck, is_reported, stack};
use crate::failure::Failure;
use crate::host::Host;
use crate::meter::{Meter, Metered};
use crate::respond::Bill;
use crate::stop::{Stop, is_lift_error, judge};
use crate::store;
use crate::value::{Handles, Val, to_wave};

/// Resources that a session holds for the person; one more is an error.
const HANDLES_MAX: usize = 10_000;

/// A sandbox that lives for as many calls as wanted, with the resources that it handed out.
///
/// Each call may take the time that a request may take; memory is counted over the whole session. A call that fails
/// ends the sandbox: the next one finds a fresh one, and no handles.
pub struct Session {
    callable: Arc<Callable>,
    id: Arc<str>,
    sandbox: Option<Sandbox>,
    handles: BTreeMap<u64, ResourceAny>,
    next_handle: u64,
    bill: Bill,
    crash: Option<Arc<str>>,
}

/// What a crash report says was called.
struct Called {
    function: String,
    text: String,
}

impl Called {
    fn of(function: &Function) -> Self {
        Self { function: function.full_name(), text: function.plain_name().to_string() }
    }
}

struct Sandbox {
    store: Store<Host>,
    instance: Instance,
}

impl Session {
    pub(super) fn new(callable: Arc<Callable>, id: Arc<str>) -> Self {
        let bill = Bill { wall: Default::default(), cpu: Default::default(), memory_bytes: 0 };
        Self { callable, id, sandbox: None, handles: BTreeMap::new(), next_handle: 1, bill, crash: None }
    }

    /// The component that is called.
    pub fn callable(&self) -> &Arc<Callable> {
        &self.callable
    }

    /// What the last call cost.
    pub fn bill(&self) -> &Bill {
        &self.bill
    }

    /// The id of the crash report about the last call, where it failed and one is written.
    pub fn crash(&self) -> Option<&str> {
        self.crash.as_deref()
    }

    /// The numbers of the resources that are held.
    pub fn handles(&self) -> impl Iterator<Item = u64> + '_ {
        self.handles.keys().copied()
    }

    /// Makes a fresh sandbox, in the place of the one there may be: to measure what that takes.
    ///
    /// Must be called inside a tokio runtime with a timer.
    ///
    /// # Errors
    /// When the sandbox cannot be made.
    pub fn instantiate(&mut self) -> Running<'_, Result<(), Failure>> {
        Box::pin(async {
            self.sandbox = None;
            self.handles.clear();
            let called = Called { function: "instantiation".into(), text: "instantiation".into() };
            self.run(&called, async |_, _| Ok(())).await
        })
    }

    /// The parameters of a function in this sandbox, which is made if there is none: the types of resources are
    /// those of the sandbox, so arguments have to be read by these types and no others.
    ///
    /// # Errors
    /// When the sandbox cannot be made.
    pub fn params<'a>(
        &'a mut self,
        function: &'a Function,
    ) -> Running<'a, Result<Vec<(String, Type)>, Failure>> {
        Box::pin(async {
            self.run(&Called::of(function), async |sandbox, _| {
                let func = func(sandbox, function)?;
                let ty = func.ty(&sandbox.store);
                Ok(ty.params().map(|(name, ty)| (name.to_owned(), ty)).collect())
            })
            .await
        })
    }

    /// Calls a function. Streams and futures in the result are read out: a stream is then the list of its elements,
    /// a future its value. Resources that are given away leave the session.
    ///
    /// Must be called inside a tokio runtime with a timer.
    ///
    /// # Errors
    /// Why there is no result; the sandbox and its handles are gone.
    pub fn call<'a>(
        &'a mut self,
        function: &'a Function,
        arguments: Vec<Val>,
    ) -> Running<'a, Result<Option<Val>, Failure>> {
        Box::pin(self.called(function, arguments))
    }

    async fn called(&mut self, function: &Function, arguments: Vec<Val>) -> Result<Option<Val>, Failure> {
        let owned = self.given_away(function, &arguments).map_err(|cause| Failure::BadRequest { cause })?;
        let concurrent = self.callable.concurrent;
        let mut called = Called::of(function);
        if self.callable.crashes.as_ref().is_some_and(|crashes| crashes.policy.keep_arguments) {
            let arguments: Vec<String> = arguments.iter().map(to_wave).collect();
            called.text = format!("{}({})", called.text, arguments.join(", "));
        }
        let result = self
            .run(&called, async |sandbox, limits| {
                let callee = Callee { func: func(sandbox, function)?, flat: function.flat };
                let called = if concurrent {
                    transmit::call(&mut sandbox.store, callee, arguments, limits).await
                } else {
                    callee.call(&mut sandbox.store, arguments).await.map_err(Stop::from)
                };
                match called {
                    // The guest ended well, and what it returned cannot be taken over.
                    Err(Stop::Engine(error)) if is_lift_error(&error) => {
                        let cause = format!("the result cannot be read: {error:#}");
                        Err(Stop::Refused(Failure::InvalidResponse { cause }))
                    }
                    called => called,
                }
            })
            .await?;
        for number in owned {
            self.handles.remove(&number);
        }
        Ok(result)
    }

    /// Calls a function whose types are known when the program is built: `P` is the tuple of its parameters, `R` of
    /// its results. Records and variants are Rust types that derive the traits in [`crate::typed`].
    ///
    /// Must be called inside a tokio runtime with a timer.
    ///
    /// # Errors
    /// When the function has other types, and why there is no result; the sandbox and its handles are gone.
    pub async fn call_typed<P, R>(&mut self, function: &Function, params: P) -> Result<R, Failure>
    where
        P: ComponentNamedList + Lower + Send + Sync + 'static,
        R: ComponentNamedList + Lift + Send + Sync + 'static,
    {
        self.run(&Called::of(function), async |sandbox, _| {
            let func = func(sandbox, function)?;
            let typed = func.typed::<P, R>(&sandbox.store).map_err(|error| {
                let cause = format!("`{}` has other types: {error:#}", function.full_name());
                Stop::Refused(Failure::BadRequest { cause })
            })?;
            typed.call_async(&mut sandbox.store, params).await.map_err(|error| {
                // The guest ended well, and what it returned cannot be taken over.
                if is_lift_error(&error) {
                    let cause = format!("the result cannot be read: {error:#}");
                    return Stop::Refused(Failure::InvalidResponse { cause });
                }
                error.into()
            })
        })
        .await
    }

    /// Drops a resource: its destructor runs, under the limits of a call. `false` when there is no such handle.
    ///
    /// # Errors
    /// When the destructor fails.
    pub fn drop_handle(&mut self, number: u64) -> Running<'_, Result<bool, Failure>> {
        Box::pin(async move {
            let Some(resource) = self.handles.remove(&number) else { return Ok(false) };
            let called = Called { function: "a destructor".into(), text: format!("drop #{number}") };
            self.run(&called, async |sandbox, _| {
                Ok(resource.resource_drop_async(&mut sandbox.store).await?)
            })
            .await?;
            Ok(true)
        })
    }

    /// Runs something in the sandbox, which is made if there is none, under a meter of its own.
    async fn run<T>(
        &mut self,
        called: &Called,
        run: impl AsyncFnOnce(&mut Sandbox, &tenon_model::Limits) -> Result<T, Stop>,
    ) -> Result<T, Failure> {
        let Callable { name, digest, limits, principals, pool, guard, parts, instance, crashes, .. } =
            &*self.callable;
        let meter = Meter::new(limits.cpu, *guard);
        let sandbox = &mut self.sandbox;
        let id = &self.id;
        let running = async {
            let sandbox = match sandbox {
                Some(sandbox) => {
                    store::renew(&mut sandbox.store, Arc::clone(&meter), id);
                    sandbox
                }
                None => {
                    let host =
                        Host::new(limits, Arc::clone(&meter), Arc::clone(id), Arc::clone(principals), None);
                    let mut store = store::fresh(instance.engine(), host, limits, Arc::clone(&meter));
                    let instance = instance.instantiate_async(&mut store).await.map_err(Stop::Start)?;
                    sandbox.insert(Sandbox { store, instance })
                }
            };
            run(sandbox, limits).await
        };
        let ended = Metered::new(running, Arc::clone(&meter), limits.wall).await;
        let stack = match &ended {
            Ok(Err(Stop::Engine(error) | Stop::Start(error))) if crashes.is_some() => {
                stack(error, name, parts)
            }
            _ => Vec::new(),
        };
        let outcome = judge(ended, limits, *pool, &meter, parts);
        let bill = Bill { wall: meter.wall(), cpu: meter.spent(), memory_bytes: meter.memory_bytes() };
        self.bill = bill;
        if outcome.is_err() {
            // What is left of the guest may be in the middle of anything. Taken down, it says what it used up.
            self.sandbox = None;
            self.handles.clear();
        }
        self.crash = outcome.as_ref().err().and_then(|failure| {
            let crashes = crashes.as_ref().filter(|crashes| is_reported(failure) && crashes.admit())?;
            let at = SystemTime::now();
            let wreck = Wreck {
                id: crashes.next_id(at),
                at,
                app: name,
                digest,
                files: &crashes.policy.files,
                function: &called.function,
                arguments: None,
                trace_id: None,
                boundary: Boundary::of_call(&self.id, called.text.clone()),
                keep_arguments: crashes.policy.keep_arguments,
                failure,
                bill: &bill,
                limits,
                used: meter.trail.take_used(),
                principals,
                parts,
                stack,
                log: meter.trail.take_lines(),
            };
            crashes.report(wreck, None)
        });
        outcome
    }

    /// The numbers of the handles that a call gives away, each at most once.
    fn given_away(&self, function: &Function, arguments: &[Val]) -> Result<Vec<u64>, String> {
        let mut owned = Vec::new();
        for (argument, (_, ty)) in arguments.iter().zip(function.ty.params()) {
            collect_owned(argument, &ty, &mut owned);
        }
        let mut numbers = Vec::new();
        for resource in owned {
            let held = self.handles.iter().find(|(_, held)| **held == resource);
            let Some((number, _)) = held else {
                return Err("a resource of another session was given".into());
            };
            if numbers.contains(number) {
                return Err(format!("#{number} can be given away only once"));
            }
            numbers.push(*number);
        }
        Ok(numbers)
    }
}

impl Handles for Session {
    fn number(&mut self, resource: ResourceAny) -> Option<u64> {
        if let Some((number, _)) = self.handles.iter().find(|(_, held)| **held == resource) {
            return Some(*number);
        }
        if self.handles.len() >= HANDLES_MAX {
            return None;
        }
        let number = self.next_handle;
        self.next_handle += 1;
        self.handles.insert(number, resource);
        Some(number)
    }

    fn resource(&mut self, number: u64, ty: &ResourceType) -> Result<ResourceAny, String> {
        let resource = self.handles.get(&number).ok_or_else(|| match self.handles.len() {
            0 => format!("there is no #{number}: no resource was handed out in this session"),
            _ => format!("there is no #{number} in this session"),
        })?;
        if resource.ty() == *ty {
            Ok(*resource)
        } else {
            Err(format!("#{number} is a resource of another type"))
        }
    }
}

fn func(sandbox: &mut Sandbox, function: &Function) -> Result<Func, Stop> {
    let found = sandbox.instance.get_func(&mut sandbox.store, function.index);
    found.ok_or_else(|| {
        Stop::Refused(Failure::Internal {
            cause: format!("`{}` cannot be found again", function.full_name()),
        })
    })
}

/// The resources in a value whose type takes them away.
fn collect_owned(value: &Val, ty: &Type, owned: &mut Vec<ResourceAny>) {
    match (value, ty) {
        (Val::Resource(resource), Type::Own(_)) => owned.push(*resource),
        (value, ty) => {
            crate::transmit::each_child(value, ty, &mut |value, ty| collect_owned(value, ty, owned));
        }
    }
}

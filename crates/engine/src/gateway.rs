//! Typed exports over HTTP: `POST` a JSON object of a function's parameters, get its result.
//!
//! Everything is worked out when the component is loaded: at which paths its functions are, their types, where they are
//! found in an instance. On the path of a request nothing looks at contracts. What a client may send and what it is
//! told is in `docs/http-json.md`.

mod answer;
mod arguments;
mod incoming;
mod problem;
mod spot;
mod stream;
mod types;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::BodyExt as _;
use tenon_model::{ErrorStatus, ExportedFunction, Limits, http_paths, nearest};
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Accessor, Component, ComponentExportIndex, Instance, InstancePre, Type};
use wasmtime::{AsContextMut, Error};
use wasmtime_wasi_http::WasiBody;

use crate::canonical::Callee;
use crate::host::Host;
use crate::received::{Counted, Lent};
use crate::respond::Body;
use crate::transmit::{collect, give_all};
use crate::value::Val;

pub(crate) use answer::Unsent;
pub(crate) use arguments::Taken;
pub(crate) use incoming::Rejected;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use incoming::{Elements, Unread};
pub(crate) use problem::Problem;
pub use problem::{ErrorCode, PROBLEMS};
pub(crate) use stream::Ended;
use types::{Form, Gives};

/// Paths that a client is shown when it asks for one that is not there.
const NEAREST_MAX: usize = 5;

/// What is told of a component's typed exports: made from its contract, which the engine does not read.
#[derive(Clone, Debug)]
pub struct Description {
    /// The OpenAPI document.
    pub document: Bytes,
    /// The page for people.
    pub page: Bytes,
    /// The `Content-Security-Policy` of the page.
    pub content_security_policy: String,
    /// The statuses of typed errors, where they are not the usual one.
    pub statuses: BTreeMap<ExportedFunction, ErrorStatus>,
}

/// The typed exports of one component, ready to be called.
pub(crate) struct Gateway {
    pub(crate) instance: InstancePre<Host>,
    functions: Vec<Callable>,
    /// Every path of every function: the function, or why it cannot be called.
    paths: HashMap<String, Result<usize, String>>,
    document: Option<Response<Bytes>>,
    page: Option<Response<Bytes>>,
}

/// A function that can be called.
pub(crate) struct Callable {
    name: ExportedFunction,
    /// The same, as people write it.
    full_name: Arc<str>,
    path: String,
    export: ComponentExportIndex,
    parameters: Vec<(String, Type)>,
    result: Option<Type>,
    /// How many core values the result is.
    flat: usize,
    takes: Form,
    gives: Gives,
    /// Whether there are streams or futures in its types.
    transmits: bool,
    status: Option<ErrorStatus>,
}

/// What a request is for.
pub(crate) enum Route<'a> {
    /// A function.
    Call(&'a Callable),
    /// Nothing that runs.
    Answer(Response<Bytes>),
    /// Nothing that is there, or not with this method.
    Refused(Problem),
}

/// How many of the functions that `component` exports can be called over HTTP.
pub(crate) fn callable(engine: &wasmtime::Engine, component: &Component) -> usize {
    exported(engine, component).iter().filter(|(_, signature)| signature.is_ok()).count()
}

/// How a function is called.
struct Signature {
    parameters: Vec<(String, Type)>,
    result: Option<Type>,
    flat: usize,
    takes: Form,
    gives: Gives,
    transmits: bool,
}

/// Every function that `component` exports, and how it is called or why it cannot be.
fn exported(
    engine: &wasmtime::Engine,
    component: &Component,
) -> Vec<(ExportedFunction, Result<Signature, String>)> {
    let mut found = Vec::new();
    for (export, item) in component.component_type().exports(engine) {
        match item.ty {
            ComponentItem::ComponentInstance(instance) => {
                for (function, item) in instance.exports(engine) {
                    if let ComponentItem::ComponentFunc(signature) = item.ty {
                        let name = ExportedFunction::new(Some(export), function);
                        let signature = types::signature(&name, &signature);
                        found.push((name, signature));
                    }
                }
            }
            ComponentItem::ComponentFunc(signature) => {
                let name = ExportedFunction::new(None, export);
                let signature = types::signature(&name, &signature);
                found.push((name, signature));
            }
            _ => {}
        }
    }
    found
}

impl Gateway {
    /// The typed exports of `component`.
    pub(crate) fn new(
        engine: &wasmtime::Engine,
        component: &Component,
        instance: InstancePre<Host>,
    ) -> Result<Self, Error> {
        let exported = exported(engine, component);
        let names: Vec<_> = exported.iter().map(|(name, _)| name.clone()).collect();
        let mut functions = Vec::new();
        let mut paths = HashMap::new();
        for ((name, signature), found_at) in exported.into_iter().zip(http_paths(&names)) {
            let target = match signature {
                Err(reason) => Err(reason),
                Ok(signature) => {
                    let Signature { parameters, result, flat, takes, gives, transmits } = signature;
                    let gone = || Error::msg(format!("the export `{name}` cannot be found again"));
                    let interface = match &name.interface {
                        Some(interface) => {
                            Some(component.get_export_index(None, interface).ok_or_else(gone)?)
                        }
                        None => None,
                    };
                    let export =
                        component.get_export_index(interface.as_ref(), &name.function).ok_or_else(gone)?;
                    let path = found_at.first().cloned().unwrap_or_default();
                    functions.push(Callable {
                        full_name: name.to_string().into(),
                        name,
                        path,
                        export,
                        parameters,
                        result,
                        flat,
                        takes,
                        gives,
                        transmits,
                        status: None,
                    });
                    Ok(functions.len() - 1)
                }
            };
            paths.extend(found_at.into_iter().map(|path| (path, target.clone())));
        }
        Ok(Self { instance, functions, paths, document: None, page: None })
    }

    /// Adds what is told of the functions.
    pub(crate) fn describe(&mut self, description: Description) {
        for function in &mut self.functions {
            function.status = description.statuses.get(&function.name).cloned();
        }
        let document = content("application/json", description.document);
        let mut page = content("text/html; charset=utf-8", description.page);
        if let Ok(policy) = HeaderValue::try_from(description.content_security_policy) {
            page.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
        }
        (self.document, self.page) = (Some(document), Some(page));
    }

    /// What a request is for.
    pub(crate) fn route(&self, method: &Method, path: &str) -> Route<'_> {
        let path = unescaped(path);
        let told = match &*path {
            "/" => Some(&self.page),
            "/openapi.json" => Some(&self.document),
            _ => None,
        };
        if let Some(told) = told {
            return match (method, told) {
                (&Method::GET | &Method::HEAD, Some(told)) => Route::Answer(told.clone()),
                (&Method::GET | &Method::HEAD, None) => Route::Refused(Problem::not_found(
                    "nothing is known of the types of this compiled code: serve the component itself",
                )),
                (&Method::OPTIONS, _) => options("GET, HEAD, OPTIONS"),
                _ => Route::Refused(Problem::method_not_allowed("GET, HEAD, OPTIONS")),
            };
        }
        match self.paths.get(&*path).map(|target| target.as_ref().map(|index| &self.functions[*index])) {
            Some(Ok(function)) => match *method {
                Method::POST => Route::Call(function),
                Method::OPTIONS => options("POST, OPTIONS"),
                _ => Route::Refused(Problem::method_not_allowed("POST, OPTIONS")),
            },
            Some(Err(reason)) => Route::Refused(Problem::not_found(&format!(
                "the function cannot be called over HTTP: {reason}"
            ))),
            None if *method == Method::OPTIONS && path == "*" => options("GET, HEAD, POST, OPTIONS"),
            None => {
                let known = self.functions.iter().map(|function| function.path.as_str());
                let near = nearest(clip(&path), known, NEAREST_MAX);
                Route::Refused(Problem::not_found("there is no such function").near(&near))
            }
        }
    }
}

/// Part of a path that is compared with the names of functions: names are shorter, and comparing takes time.
fn clip(path: &str) -> &str {
    const BYTES_MAX: usize = 200;
    &path[..path.floor_char_boundary(BYTES_MAX)]
}

/// A path without percent-encoding (RFC 3986, section 2.1): some clients encode `:` and `@`, which need not be.
fn unescaped(path: &str) -> std::borrow::Cow<'_, str> {
    if !path.contains('%') {
        return path.into();
    }
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match (byte, digits.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(decoded)) => {
                plain.push(decoded);
                rest = &after[2..];
            }
            _ => {
                plain.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned().into()
}

fn content(media_type: &'static str, bytes: Bytes) -> Response<Bytes> {
    let mut response = Response::new(bytes);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    protected(response)
}

/// Raw bytes.
fn octets<B>(body: B) -> Response<B> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(OCTETS));
    protected(response)
}

/// What a guest returns is data, whatever a browser takes it for.
fn protected<B>(mut response: Response<B>) -> Response<B> {
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn options(methods: &'static str) -> Route<'static> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    Route::Answer(response)
}

/// The media type of raw bytes.
const OCTETS: &str = "application/octet-stream";
/// The media type of one JSON value a line.
const NDJSON: &str = "application/x-ndjson";

/// The media types that a response may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Media {
    Json,
    Octets,
    Lines,
}

impl Callable {
    /// Its name: `package:name/interface@1.0.0.function`.
    pub(crate) fn full_name(&self) -> &Arc<str> {
        &self.full_name
    }

    /// What the request sends, by its `Content-Type`.
    pub(crate) fn taken(&self, headers: &http::HeaderMap) -> Result<Taken, Problem> {
        arguments::taken(headers, self.takes)
    }

    /// The arguments that a request sends whole.
    pub(crate) fn arguments(&self, taken: Taken, body: Option<Bytes>) -> Result<Vec<Val>, Problem> {
        arguments::read(&self.parameters, taken, body)
    }

    /// The argument that a request sends bit by bit. `rejected` is where it is left why it ended early.
    pub(crate) fn incoming(
        &self,
        store: impl AsContextMut<Data = Host>,
        body: Counted<Lent>,
        rejected: &Rejected,
    ) -> Result<Vec<Val>, Error> {
        let [(_, ty)] = self.parameters.as_slice() else {
            return Err(Error::msg("only one parameter can be a body"));
        };
        incoming::stream(store, ty, body, rejected).map(|value| vec![value]).map_err(Error::msg)
    }

    /// Makes the streams and futures that the arguments have in them.
    pub(crate) fn give(
        &self,
        mut store: impl AsContextMut<Data = Host>,
        arguments: &mut [Val],
    ) -> Result<(), Error> {
        let mut arguments = arguments.iter_mut().zip(&self.parameters);
        arguments
            .try_for_each(|(argument, (_, ty))| give_all(store.as_context_mut(), argument, ty))
            .map_err(Error::msg)
    }

    /// The type of the elements that a request sends bit by bit.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn element(&self) -> Option<Type> {
        match self.parameters.as_slice() {
            [(_, Type::Stream(stream))] => stream.ty(),
            _ => None,
        }
    }

    /// The function in an instance.
    pub(crate) fn callee(
        &self,
        store: impl AsContextMut<Data = Host>,
        instance: &Instance,
    ) -> Result<Callee, Error> {
        let func = instance.get_func(store, self.export);
        let func = func.ok_or_else(|| Error::msg("the export cannot be found again"))?;
        Ok(Callee { func, flat: self.flat })
    }

    /// Whether there are streams or futures, which are written or read while the function runs.
    pub(crate) fn transmits(&self) -> bool {
        self.transmits
    }

    /// The response for what the function returned, or why there is none; `bytes_max` for its body.
    pub(crate) fn answer(
        &self,
        headers: &http::HeaderMap,
        result: Option<Val>,
        bytes_max: u64,
    ) -> Result<Response<Body>, Unsent> {
        let wants = answer::wanted(headers, self.gives.form());
        answer::answer(&self.gives, self.status.as_ref(), wants, result, bytes_max).map(protected)
    }

    /// The response for a stream that the function returned; `None` when it returned something else, or the client wants
    /// the elements as one value. A raw one is to be given at once, for the function writes it as it runs on.
    pub(crate) async fn stream(
        &self,
        accessor: &Accessor<Host>,
        headers: &http::HeaderMap,
        result: Option<&Val>,
        bytes_max: u64,
    ) -> Result<Option<Streamed>, Error> {
        let (Some(ty), Some(value)) = (self.gives.good(), stream::of(result)) else { return Ok(None) };
        let form = self.gives.form();
        Ok(match (answer::wanted(headers, form), form) {
            (Media::Lines, _) => {
                let (chunks, ended) = stream::lines(accessor, value, ty)?;
                let mut response = protected(Response::new(chunks.boxed_unsync()));
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(NDJSON));
                Some(Streamed::Raw(response, ended))
            }
            (Media::Octets, _) => {
                let (chunks, ended) = stream::octets(accessor, value)?;
                Some(Streamed::Raw(octets(chunks.boxed_unsync()), ended))
            }
            (Media::Json, Form::OctetStream) => {
                let (chunks, _) = stream::octets(accessor, value)?;
                let whole = stream::whole(chunks, bytes_max).await;
                let whole = whole.and_then(|whole| answer::base64(&whole, bytes_max));
                Some(Streamed::Whole(whole.map(protected)))
            }
            (Media::Json, _) => None,
        })
    }

    /// Reads out the streams and futures in what the function returned, while it runs on.
    pub(crate) async fn collect(
        &self,
        accessor: &Accessor<Host>,
        result: Option<&mut Val>,
        limits: &Limits,
    ) -> Result<(), String> {
        match (result, &self.result) {
            (Some(result), Some(ty)) => collect(accessor, result, ty, limits).await,
            _ => Ok(()),
        }
    }
}

/// The response for a stream.
pub(crate) enum Streamed {
    /// As it is written, until it ends.
    Raw(Response<WasiBody>, Ended),
    /// All of it, or why not.
    Whole(Result<Response<Body>, Unsent>),
}

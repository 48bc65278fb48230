//! A stream that a request sends, given to the function as it comes.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use http_body::Body as _;
use wasmtime::component::Type;
use wasmtime::{AsContextMut, Error};

use super::arguments::parse;
use super::problem::Problem;
use super::types::Form;
use crate::host::Host;
use crate::received::{Counted, Lent};
use crate::transmit::{Feed, give_feed};
use crate::value::{Val, ValueError, from_json};

/// Elements that are read in one go.
const ELEMENTS_MAX: usize = 1_024;
/// Bytes that are read in one go.
const BYTES_MAX: usize = 64 << 10;

/// Why a body is not what the function takes, if it is not: found out while the function runs, so that the function is
/// ended by it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rejected(Arc<Mutex<Option<Problem>>>);

impl Rejected {
    /// Why, once.
    pub(crate) fn take(&self) -> Option<Problem> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set(&self, problem: Problem) -> Error {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(problem);
        Error::msg("the body of the request is not what the function takes")
    }
}

/// A stream of the type `ty` of what comes in.
pub(super) fn stream(
    store: impl AsContextMut<Data = Host>,
    ty: &Type,
    body: Counted<Lent>,
    rejected: &Rejected,
) -> Result<Val, String> {
    match ty {
        Type::Stream(stream) if super::types::form(ty) == Form::Lines => {
            let elements = Elements::new(stream.ty());
            let lines = Lines { body: Some(body), elements, rejected: rejected.clone() };
            give_feed(store, lines, ty)
        }
        _ => give_feed(store, Octets { body: Some(body), piece: Bytes::new() }, ty),
    }
}

/// The next bytes of a body; `None` at its end, after which it is not asked again.
fn next(body: &mut Option<Counted<Lent>>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
    let Some(receiving) = body else { return Poll::Ready(None) };
    loop {
        match ready!(Pin::new(&mut *receiving).poll_frame(context)) {
            None => {
                *body = None;
                return Poll::Ready(None);
            }
            Some(Err(error)) => {
                *body = None;
                return Poll::Ready(Some(Err(error.into())));
            }
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data()
                    && !data.is_empty()
                {
                    return Poll::Ready(Some(Ok(data)));
                }
            }
        }
    }
}

/// Bytes as they come.
struct Octets {
    body: Option<Counted<Lent>>,
    piece: Bytes,
}

impl Feed for Octets {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Val, Error>>> {
        if self.piece.is_empty() {
            match ready!(next(&mut self.body, context)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(piece)) => self.piece = piece,
            }
        }
        let piece = self.piece.split_to(self.piece.len().min(BYTES_MAX));
        Poll::Ready(Some(Ok(Val::Bytes(piece))))
    }
}

/// Lines of JSON as they come.
struct Lines {
    body: Option<Counted<Lent>>,
    elements: Elements,
    rejected: Rejected,
}

impl Feed for Lines {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Val, Error>>> {
        loop {
            match self.elements.take() {
                Ok(Some(elements)) => return Poll::Ready(Some(Ok(Val::List(elements)))),
                Ok(None) => return Poll::Ready(None),
                Err(Unread::Problem(problem)) => return Poll::Ready(Some(Err(self.rejected.set(*problem)))),
                Err(Unread::More) => {}
            }
            match ready!(next(&mut self.body, context)) {
                Some(Ok(piece)) => self.elements.push(&piece),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.elements.end(),
            }
        }
    }
}

/// The elements in lines of JSON, each in one; empty lines are passed over.
pub(crate) struct Elements {
    ty: Option<Type>,
    /// What has come and was not read. It is bounded by what a request's body may have.
    text: BytesMut,
    /// How much of it has no end of a line.
    searched: usize,
    /// Whether nothing more comes.
    ended: bool,
    /// Elements that were read.
    read: usize,
    /// A line that is none.
    problem: Option<Problem>,
}

/// Why there are no elements.
pub(crate) enum Unread {
    /// The next line is not there whole.
    More,
    /// It is none.
    Problem(Box<Problem>),
}

impl Elements {
    /// None yet, of the type `ty`.
    pub(crate) fn new(ty: Option<Type>) -> Self {
        Self { ty, text: BytesMut::new(), searched: 0, ended: false, read: 0, problem: None }
    }

    /// More of the text.
    pub(crate) fn push(&mut self, text: &[u8]) {
        self.text.extend_from_slice(text);
    }

    /// There is no more.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    /// The next elements; `None` at the end.
    pub(crate) fn take(&mut self) -> Result<Option<Vec<Val>>, Unread> {
        let mut elements = Vec::new();
        while self.problem.is_none()
            && elements.len() < ELEMENTS_MAX
            && let Some(line) = self.line()
        {
            match self.element(&line) {
                Ok(element) => elements.extend(element),
                Err(problem) => self.problem = Some(problem),
            }
        }
        // What came before a line that is none goes first: the function may have an answer without the rest.
        if !elements.is_empty() {
            return Ok(Some(elements));
        }
        match self.problem.take() {
            Some(problem) => Err(Unread::Problem(Box::new(problem))),
            None if self.ended => Ok(None),
            None => Err(Unread::More),
        }
    }

    /// The next line that is there whole. The last one needs no end.
    fn line(&mut self) -> Option<Bytes> {
        match self.text[self.searched..].iter().position(|byte| *byte == b'\n') {
            Some(more) => {
                let line = self.text.split_to(self.searched + more).freeze();
                self.text.advance(1);
                self.searched = 0;
                Some(line)
            }
            None if self.ended && !self.text.is_empty() => {
                self.searched = 0;
                Some(self.text.split().freeze())
            }
            None => {
                self.searched = self.text.len();
                None
            }
        }
    }

    /// The value of a line, if it has one. Elements are counted from nought.
    fn element(&mut self, line: &[u8]) -> Result<Option<Val>, Problem> {
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        let number = self.read.to_string();
        self.read += 1;
        let json = parse(line).map_err(|problem| problem.within(&number))?;
        let value = match &self.ty {
            Some(ty) => from_json(&json, ty),
            None if json.is_null() => Ok(Val::Tuple(Vec::new())),
            None => Err(ValueError::new("null", "another value")),
        };
        value.map(Some).map_err(|error| Problem::invalid_arguments(error.within(&number)))
    }
}

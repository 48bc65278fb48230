//! The exports of the world `normalizer`.

use exports::demo::normalizer::{handler, normalize};

use crate::problem::{Cause, Problem};
use crate::schema::{Line, Order};

wit_bindgen::generate!({ path: "../wit", world: "normalizer" });

struct Normalizer;

impl normalize::Guest for Normalizer {
    fn normalize(
        document: String,
        format: normalize::Format,
    ) -> Result<normalize::Order, normalize::Problem> {
        let format = match format {
            normalize::Format::Json => crate::Format::Json,
            normalize::Format::Xml => crate::Format::Xml,
        };
        Ok(crate::normalize(&document, format)?.into())
    }
}

impl handler::Guest for Normalizer {
    fn handle(req: handler::Request) -> handler::Response {
        let content_type = req.headers.iter().find(|(name, _)| name == "content-type");
        let content_type = content_type.map(|(_, value)| value.as_str());
        let body = req.body.unwrap_or_default();
        let answer = crate::http::answer(&req.method, &req.path, content_type, &body);
        let headers = answer.headers.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
        handler::Response {
            status: answer.status,
            headers: headers.collect(),
            body: answer.body.into_bytes(),
        }
    }
}

impl From<Order> for normalize::Order {
    fn from(Order { id, customer, currency, lines, total }: Order) -> Self {
        let lines = lines.into_iter().map(Into::into).collect();
        Self { id, customer, currency: currency.to_owned(), lines, total }
    }
}

impl From<Line> for normalize::Line {
    fn from(Line { sku, quantity, price, note }: Line) -> Self {
        Self { sku, quantity, price, note }
    }
}

impl From<Problem> for normalize::Problem {
    fn from(problem: Problem) -> Self {
        let Problem { cause, path, line, column, message } = problem;
        let cause = match cause {
            Cause::Syntax => normalize::Cause::Syntax,
            Cause::EntityRefused => normalize::Cause::EntityRefused,
            Cause::TooLarge => normalize::Cause::TooLarge,
            Cause::UnknownElement(name) => normalize::Cause::UnknownElement(name),
            Cause::MissingField(name) => normalize::Cause::MissingField(name),
            Cause::DuplicateField(name) => normalize::Cause::DuplicateField(name),
            Cause::BadNumber(text) => normalize::Cause::BadNumber(text),
            Cause::BadValue(text) => normalize::Cause::BadValue(text),
        };
        Self { cause, at: normalize::Place { path, line, column }, message }
    }
}

export!(Normalizer);

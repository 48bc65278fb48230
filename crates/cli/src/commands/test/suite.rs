//! What a person wrote in a test file, turned into types that cannot be half right.

use std::ops::Range;

use tenon_model::{Diagnostic, Diagnostics, Location};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Tests in one file; more are not read.
const TESTS_MAX: usize = 10_000;

/// A text and where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) text: String,
    pub(super) at: Location,
    /// The bytes of the file between its quotes, where it has no escapes: for places within the text.
    pub(super) span: Range<usize>,
}

/// A test file.
#[derive(Debug)]
pub(super) struct Suite {
    pub(super) file: String,
    pub(super) subjects: Vec<Implementation>,
    pub(super) mocks: Vec<Mock>,
    pub(super) tests: Vec<Test>,
    /// Functions that give back what they are given.
    pub(super) echo: Vec<Text>,
}

/// What the tests are about, once for each.
#[derive(Clone, Debug)]
pub(super) struct Implementation {
    /// What it is called in the results; `None` for the only one.
    pub(super) name: Option<String>,
    pub(super) target: Target,
}

/// Where a component is found.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// The whole composition.
    App,
    /// A component of the manifest, by its name.
    Component(Text),
    /// A file.
    Path(Text),
}

/// What stands in for an interface that is imported.
#[derive(Debug)]
pub(super) struct Mock {
    pub(super) interface: Text,
    pub(super) by: MockBy,
}

#[derive(Debug)]
pub(super) enum MockBy {
    Component(Target),
    Values(Vec<MockFunction>),
}

/// What a function that is stood in for answers.
#[derive(Debug)]
pub(super) struct MockFunction {
    pub(super) name: Text,
    pub(super) cases: Vec<MockCase>,
}

/// The first case whose arguments are those of the call is the answer.
#[derive(Debug)]
pub(super) struct MockCase {
    /// `None`: whatever is given.
    pub(super) arguments: Option<Text>,
    pub(super) answer: MockAnswer,
}

#[derive(Debug)]
pub(super) enum MockAnswer {
    Nothing,
    Value(Text),
    Trap(Text),
}

/// One test.
#[derive(Debug)]
pub(super) struct Test {
    pub(super) name: String,
    pub(super) at: Location,
    pub(super) act: Act,
}

#[derive(Debug)]
pub(super) enum Act {
    Call { before: Vec<Text>, call: Text, expect: Expect },
    Request(Box<Exchange>),
}

#[derive(Debug)]
pub(super) enum Expect {
    /// That it ends well.
    Success,
    Value(Text),
    /// An error that the function returns, or the code of a failure.
    Error(Text),
}

/// A request and what its response should be.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
    pub(super) status: Option<(u16, Option<Location>)>,
    pub(super) expected_headers: Vec<(String, Text)>,
    pub(super) expected_body: Option<Text>,
    pub(super) expected_json: Option<(serde_json::Value, Location)>,
}

type Value<'a> = Spanned<DeValue<'a>>;

/// Reads the test file `text`, which is the content of `file`.
pub(super) fn read(file: &str, text: &str) -> Result<Suite, Diagnostics> {
    let table = DeTable::parse(text).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        Diagnostic::new("invalid-test", format!("it is not TOML: {}", error.message()))
            .at(Location::span(file, text, span))
    })?;
    let mut reader = Reader { file, text, found: Vec::new() };
    let suite = reader.suite(table.get_ref());
    Diagnostics::check(reader.found)?;
    Ok(suite)
}

struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    found: Vec<Diagnostic>,
}

impl Reader<'_> {
    fn at(&self, span: Range<usize>) -> Location {
        Location::span(self.file, self.text, span)
    }

    fn wrong(&mut self, span: Range<usize>, what: impl Into<String>, mend: impl Into<String>) {
        let diagnostic = Diagnostic::new("invalid-test", what).at(self.at(span)).mend(mend);
        self.found.push(diagnostic);
    }

    /// Refuses keys that mean nothing here.
    fn known(&mut self, table: &DeTable<'_>, keys: &[&str], what: &str) {
        for key in table.keys() {
            let name = key.get_ref().as_ref();
            if !keys.contains(&name) {
                let near = tenon_wit::most_similar(name, keys.iter().copied());
                let mend = near.map_or_else(
                    || format!("{what} has {}", keys.join(", ")),
                    |near| format!("did you mean `{near}`?"),
                );
                self.wrong(key.span(), format!("`{name}` means nothing in {what}"), mend);
            }
        }
    }

    fn string(&mut self, value: &Value<'_>, what: &str) -> Option<Text> {
        match value.get_ref() {
            DeValue::String(text) => {
                Some(Text { text: text.to_string(), at: self.at(value.span()), span: value.span() })
            }
            _ => {
                self.wrong(value.span(), format!("{what} is not a text"), format!("{what} = '…'"));
                None
            }
        }
    }

    fn get(&mut self, table: &DeTable<'_>, key: &str) -> Option<Text> {
        let value = table.get(key)?;
        self.string(value, key)
    }

    fn tables<'a, 'b>(&mut self, table: &'a DeTable<'b>, key: &str) -> Vec<(&'a DeTable<'b>, Range<usize>)> {
        let Some(value) = table.get(key) else { return Vec::new() };
        let mut tables = Vec::new();
        match value.get_ref() {
            DeValue::Array(items) => {
                for item in items.iter() {
                    match item.get_ref() {
                        DeValue::Table(table) => tables.push((table, item.span())),
                        _ => self.wrong(
                            item.span(),
                            format!("{key} is a list of tables"),
                            format!("[[{key}]]"),
                        ),
                    }
                }
            }
            _ => self.wrong(value.span(), format!("{key} is a list of tables"), format!("[[{key}]]")),
        }
        tables
    }

    fn suite(&mut self, table: &DeTable<'_>) -> Suite {
        self.known(
            table,
            &["component", "path", "implementation", "mock", "test", "generate"],
            "a test file",
        );
        let mut subjects = Vec::new();
        for (table, span) in self.tables(table, "implementation") {
            self.known(table, &["name", "component", "path"], "[[implementation]]");
            let name = self.get(table, "name").map(|name| name.text);
            match self.target(table) {
                Some(target) => {
                    let own = match &target {
                        Target::Component(text) | Target::Path(text) => text.text.clone(),
                        Target::App => String::new(),
                    };
                    subjects.push(Implementation { name: Some(name.unwrap_or(own)), target });
                }
                None => {
                    self.wrong(
                        span,
                        "an implementation says not what it is",
                        "path = \"x.wasm\" or component = \"x\"",
                    );
                }
            }
        }
        match self.target(table) {
            Some(target) if subjects.is_empty() => subjects.push(Implementation { name: None, target }),
            Some(Target::Component(text) | Target::Path(text)) => {
                self.wrong(text.span, "the file says twice what is tested", "leave the [[implementation]]s");
            }
            Some(Target::App) => {}
            None if subjects.is_empty() => subjects.push(Implementation { name: None, target: Target::App }),
            None => {}
        }
        let echo = match table.get("generate").map(|value| (value.get_ref(), value.span())) {
            None => Vec::new(),
            Some((DeValue::Table(table), _)) => {
                self.known(table, &["echo"], "[generate]");
                self.strings(table, "echo")
            }
            Some((_, span)) => {
                self.wrong(span, "generate is not a table", "[generate]");
                Vec::new()
            }
        };
        Suite {
            file: self.file.to_owned(),
            subjects,
            mocks: self.mocks(table),
            tests: self.tests(table),
            echo,
        }
    }

    fn strings(&mut self, table: &DeTable<'_>, key: &str) -> Vec<Text> {
        match table.get(key).map(|value| (value.get_ref(), value.span())) {
            None => Vec::new(),
            Some((DeValue::Array(items), _)) => {
                items.iter().filter_map(|item| self.string(item, key)).collect()
            }
            Some((_, span)) => {
                self.wrong(span, format!("{key} is not a list of texts"), format!("{key} = ['…']"));
                Vec::new()
            }
        }
    }

    fn target(&mut self, table: &DeTable<'_>) -> Option<Target> {
        match (self.get(table, "component"), self.get(table, "path")) {
            (Some(_), Some(path)) => {
                self.wrong(path.span, "both `component` and `path` are given", "leave one of them");
                None
            }
            (Some(name), None) => Some(Target::Component(name)),
            (None, path) => path.map(Target::Path),
        }
    }

    fn mocks(&mut self, table: &DeTable<'_>) -> Vec<Mock> {
        let Some(value) = table.get("mock") else { return Vec::new() };
        let DeValue::Table(mocks) = value.get_ref() else {
            self.wrong(value.span(), "mock is not a table", "[mock.\"package:name/interface\"]");
            return Vec::new();
        };
        let mut read = Vec::new();
        for (key, value) in mocks.iter() {
            let interface =
                Text { text: key.get_ref().to_string(), at: self.at(key.span()), span: key.span() };
            let DeValue::Table(table) = value.get_ref() else {
                self.wrong(value.span(), "a mock is not a table", "[mock.\"package:name/interface\"]");
                continue;
            };
            let is_text =
                |key: &str| matches!(table.get(key).map(Spanned::get_ref), Some(DeValue::String(_)));
            let by = if is_text("component") || is_text("path") {
                self.known(table, &["component", "path"], "a mock by a component");
                let Some(target) = self.target(table) else { continue };
                MockBy::Component(target)
            } else {
                MockBy::Values(table.iter().map(|(name, cases)| self.mock_function(name, cases)).collect())
            };
            read.push(Mock { interface, by });
        }
        read
    }

    fn mock_function(
        &mut self,
        name: &Spanned<std::borrow::Cow<'_, str>>,
        cases: &Value<'_>,
    ) -> MockFunction {
        let name = Text { text: name.get_ref().to_string(), at: self.at(name.span()), span: name.span() };
        let cases = match cases.get_ref() {
            DeValue::Array(items) => items.iter().filter_map(|item| self.mock_case(item)).collect(),
            _ => self.mock_case(cases).into_iter().collect(),
        };
        MockFunction { name, cases }
    }

    fn mock_case(&mut self, value: &Value<'_>) -> Option<MockCase> {
        let DeValue::Table(table) = value.get_ref() else {
            self.wrong(
                value.span(),
                "a mocked function is a list of cases",
                "f = [{ arguments = '(1)', result = '2' }, { result = '0' }]",
            );
            return None;
        };
        self.known(table, &["arguments", "result", "trap"], "a case of a mock");
        let answer = match (self.get(table, "result"), self.get(table, "trap")) {
            (Some(_), Some(trap)) => {
                self.wrong(trap.span, "both `result` and `trap` are given", "leave one of them");
                return None;
            }
            (Some(value), None) => MockAnswer::Value(value),
            (None, Some(cause)) => MockAnswer::Trap(cause),
            (None, None) => MockAnswer::Nothing,
        };
        Some(MockCase { arguments: self.get(table, "arguments"), answer })
    }

    fn tests(&mut self, table: &DeTable<'_>) -> Vec<Test> {
        let tables = self.tables(table, "test");
        if let Some((_, span)) = tables.get(TESTS_MAX) {
            self.wrong(
                span.clone(),
                format!("there are more than {TESTS_MAX} tests"),
                "make two files of it",
            );
        }
        let mut names = std::collections::BTreeSet::new();
        tables
            .into_iter()
            .take(TESTS_MAX)
            .filter_map(|(table, span)| {
                let keys = ["name", "call", "before", "expect", "expect-error", "request"];
                self.known(table, &keys, "[[test]]");
                let given = self.get(table, "name");
                let act = match (self.get(table, "call"), table.get("request")) {
                    (Some(call), None) => self.call(table, call),
                    (None, Some(request)) => self.request(table, request)?,
                    _ => {
                        let mend = "call = 'function(1, \"a\")' or request = { path = \"/\" }";
                        self.wrong(span, "a test has one of `call` and `request`", mend);
                        return None;
                    }
                };
                let name = given.as_ref().map_or_else(|| described(&act), |name| name.text.clone());
                if let Some(given) = given.filter(|_| !names.insert(name.clone())) {
                    self.wrong(given.span, format!("two tests are called `{name}`"), "choose another name");
                }
                Some(Test { name, at: self.at(span), act })
            })
            .collect()
    }

    fn call(&mut self, table: &DeTable<'_>, call: Text) -> Act {
        let expect = match (table.get("expect"), table.get("expect-error")) {
            (Some(_), Some(error)) => {
                let mend = "leave one of them; `expect = 'err(…)'` is a result too";
                self.wrong(error.span(), "both `expect` and `expect-error` are given", mend);
                Expect::Success
            }
            (Some(value), None) => self.string(value, "expect").map_or(Expect::Success, Expect::Value),
            (None, Some(error)) => self.string(error, "expect-error").map_or(Expect::Success, Expect::Error),
            (None, None) => Expect::Success,
        };
        Act::Call { before: self.strings(table, "before"), call, expect }
    }

    fn request(&mut self, table: &DeTable<'_>, request: &Value<'_>) -> Option<Act> {
        let DeValue::Table(asked) = request.get_ref() else {
            self.wrong(
                request.span(),
                "request is not a table",
                "request = { method = \"GET\", path = \"/\" }",
            );
            return None;
        };
        for key in ["before", "expect-error"] {
            if let Some(value) = table.get(key) {
                self.wrong(
                    value.span(),
                    format!("`{key}` means nothing for a request"),
                    "expect = { status = 500 }",
                );
            }
        }
        self.known(asked, &["method", "path", "headers", "body", "json"], "request");
        let mut exchange = Exchange {
            method: self.get(asked, "method").map_or_else(|| "GET".into(), |text| text.text),
            path: self.get(asked, "path").map_or_else(|| "/".into(), |text| text.text),
            headers: self.headers(asked).into_iter().map(|(name, value)| (name, value.text)).collect(),
            body: self.get(asked, "body").map(|text| text.text).unwrap_or_default(),
            ..Exchange::default()
        };
        if let Some(value) = asked.get("json") {
            exchange.body = self.json(value).to_string();
            exchange.headers.push(("content-type".into(), "application/json".into()));
        }
        let Some(expect) = table.get("expect") else { return Some(Act::Request(Box::new(exchange))) };
        let DeValue::Table(expected) = expect.get_ref() else {
            self.wrong(
                expect.span(),
                "what a response should be is not a table",
                "expect = { status = 200 }",
            );
            return None;
        };
        self.known(expected, &["status", "headers", "body", "json"], "expect");
        if let Some(value) = expected.get("status") {
            let status = match value.get_ref() {
                DeValue::Integer(number) => {
                    number.as_str().parse().ok().filter(|it| (100..1000).contains(it))
                }
                _ => None,
            };
            match status {
                Some(status) => exchange.status = Some((status, Some(self.at(value.span())))),
                None => self.wrong(value.span(), "it is no status", "status = 200"),
            }
        }
        exchange.expected_headers = self.headers(expected);
        exchange.expected_body = self.get(expected, "body");
        exchange.expected_json = expected.get("json").map(|value| (self.json(value), self.at(value.span())));
        Some(Act::Request(Box::new(exchange)))
    }

    fn headers(&mut self, table: &DeTable<'_>) -> Vec<(String, Text)> {
        match table.get("headers").map(|value| (value.get_ref(), value.span())) {
            None => Vec::new(),
            Some((DeValue::Table(headers), _)) => headers
                .iter()
                .filter_map(|(name, value)| {
                    let text = self.string(value, "a header")?;
                    Some((name.get_ref().to_ascii_lowercase(), text))
                })
                .collect(),
            Some((_, span)) => {
                self.wrong(span, "headers is not a table", "headers = { accept = \"text/html\" }");
                Vec::new()
            }
        }
    }

    /// TOML as JSON; a text that looks like an object or a list of JSON is one.
    fn json(&mut self, value: &Value<'_>) -> serde_json::Value {
        match value.get_ref() {
            DeValue::String(text) if text.trim_start().starts_with(['{', '[']) => serde_json::from_str(text)
                .unwrap_or_else(|error| {
                    self.wrong(value.span(), format!("it is not JSON: {error}"), "json = '{ \"a\": 1 }'");
                    serde_json::Value::Null
                }),
            DeValue::String(text) => text.as_ref().into(),
            DeValue::Boolean(truth) => (*truth).into(),
            DeValue::Integer(number) => {
                let digits = number.as_str().replace('_', "");
                i64::from_str_radix(&digits, number.radix()).map_or(serde_json::Value::Null, Into::into)
            }
            DeValue::Float(number) => {
                number.as_str().replace('_', "").parse::<f64>().map_or(serde_json::Value::Null, Into::into)
            }
            DeValue::Datetime(date) => date.to_string().into(),
            DeValue::Array(items) => items.iter().map(|item| self.json(item)).collect(),
            DeValue::Table(table) => serde_json::Value::Object(
                table.iter().map(|(key, value)| (key.get_ref().to_string(), self.json(value))).collect(),
            ),
        }
    }
}

/// What a test without a name is called.
fn described(act: &Act) -> String {
    match act {
        Act::Call { call, .. } => call.text.clone(),
        Act::Request(exchange) => format!("{} {}", exchange.method, exchange.path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> Vec<(String, String)> {
        let found = read("t.toml", text).unwrap_err();
        found.iter().map(|one| (one.at.as_ref().unwrap().to_string(), one.message.clone())).collect()
    }

    #[test]
    fn a_suite_is_read() {
        let suite = read(
            "t.toml",
            "component = \"auth\"\n[mock.\"a:b/c\"]\nf = [{ arguments = '(1)', result = '2' }, { trap = 'no' }]\n\
             [mock.\"a:b/d\"]\ncomponent = \"d\"\n\
             [[test]]\ncall = 'f(1)'\nexpect = '2'\n\
             [[test]]\nname = \"http\"\nrequest = { path = \"/x\", json = { a = 1 } }\nexpect = { status = 201, json = '[1]' }\n",
        )
        .unwrap();
        assert_eq!((suite.mocks.len(), suite.tests.len(), suite.subjects.len()), (2, 2, 1));
        assert_eq!(suite.tests[0].name, "f(1)");
        let Act::Request(exchange) = &suite.tests[1].act else { panic!("a request") };
        assert_eq!((exchange.method.as_str(), exchange.body.as_str()), ("GET", "{\"a\":1}"));
        assert_eq!(exchange.expected_json.as_ref().unwrap().0, serde_json::json!([1]));
    }

    #[test]
    fn everything_wrong_is_said_with_its_place() {
        let found = wrong(
            "[[test]]\ncal = 'f()'\n[[test]]\ncall = 7\n[[test]]\nrequest = {}\nexpect = { status = 7 }\n",
        );
        assert_eq!(found[0], ("t.toml:2:1".into(), "`cal` means nothing in [[test]]".into()));
        assert!(found.contains(&("t.toml:4:8".into(), "call is not a text".into())), "{found:?}");
        assert!(found.contains(&("t.toml:7:21".into(), "it is no status".into())), "{found:?}");
        assert_eq!(wrong("a = ")[0].0, "t.toml:1:5");
    }
}

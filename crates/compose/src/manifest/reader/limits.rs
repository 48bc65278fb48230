//! `[limits]`, `[component.NAME.limits]`, and `[reuse]`.

use std::time::Duration;

use tenon_model::{
    Authority, InvalidQuantity, Limits, OutsideLimits, Reuse, format_bytes, parse_bytes, parse_duration,
};
use toml::de::DeValue;

use super::{Reader, Table};

/// The limits of a request.
pub(in super::super) const LIMIT_KEYS: [&str; 19] = [
    "wall",
    "cpu",
    "memory",
    "table-elements",
    "instances",
    "stack",
    "handles",
    "host-call-bytes",
    "request-body",
    "response-body",
    "header-bytes",
    "concurrency",
    "queue",
    "queue-wait",
    "outbound-requests",
    "outbound-connections",
    "open-files",
    "key-value-bytes",
    "log-bytes",
];
/// The limits that one component of a composition may have for itself.
pub(in super::super) const COMPONENT_LIMIT_KEYS: [&str; 6] =
    ["memory", "outbound-requests", "outbound-connections", "open-files", "key-value-bytes", "log-bytes"];

/// How often one sandbox is used.
pub(in super::super) const REUSE_KEYS: [&str; 2] = ["requests", "concurrent"];

impl Reader<'_> {
    /// How often a sandbox is used; where nothing is said, once.
    pub(super) fn reuse(&mut self, top: &Table<'_>) -> Reuse {
        let mut reuse = Reuse::default();
        let Some(table) = self.table(top, "reuse") else { return reuse };
        let all_known = self.known_keys(table, &REUSE_KEYS, "in `reuse`");
        let mut count = |key, most: u32, into: &mut u32| {
            let number = self.number(table, key, 1, most.into());
            if let Some(number) = number.and_then(|number| u32::try_from(number).ok()) {
                *into = number;
            }
        };
        count("requests", Reuse::REQUESTS_MAX, &mut reuse.requests);
        count("concurrent", Reuse::CONCURRENT_MAX, &mut reuse.concurrent);
        if all_known && !table.contains_key("requests") {
            let span = top.get("reuse").map_or(0..0, toml::Spanned::span);
            self.missing_key(span, "requests", "`reuse`", "requests = 100");
        }
        reuse
    }

    pub(super) fn limits(&mut self, top: &Table<'_>) -> Limits {
        let mut limits = Limits::default();
        let Some(table) = self.table(top, "limits") else {
            return limits;
        };
        self.known_keys(table, &LIMIT_KEYS, "in [limits]");
        self.time(table, "wall", "30s", 1, &mut limits.wall);
        self.time(table, "cpu", "5s", 1, &mut limits.cpu);
        self.size(table, "memory", "128MiB", 1, &mut limits.memory_bytes);
        self.count(table, "table-elements", 1, &mut limits.table_elements);
        self.count(table, "instances", 1, &mut limits.instances);
        self.size(table, "stack", "512KiB", 1, &mut limits.stack_bytes);
        self.count(table, "handles", 1, &mut limits.handles);
        self.size(table, "host-call-bytes", "64MiB", 1, &mut limits.host_call_bytes);
        self.size(table, "request-body", "8MiB", 0, &mut limits.request_body_bytes);
        self.size(table, "response-body", "64MiB", 0, &mut limits.response_body_bytes);
        self.size(table, "header-bytes", "48KiB", 1, &mut limits.header_bytes);
        self.count(table, "concurrency", 1, &mut limits.concurrency);
        self.count(table, "queue", 0, &mut limits.queue);
        self.time(table, "queue-wait", "1s", 0, &mut limits.queue_wait);
        self.outside(table, &mut limits.outside);
        limits
    }

    /// The limits of the component `name` alone, over those of the request.
    pub(super) fn component_limits(
        &mut self,
        name: &str,
        component: &Table<'_>,
        request: &Limits,
        authority: &mut Authority,
    ) {
        let Some(table) = self.table(component, "limits") else { return };
        self.known_keys(table, &COMPONENT_LIMIT_KEYS, &format!("in [component.{name}.limits]"));
        self.outside(table, &mut authority.outside);
        let mut memory_bytes = 0;
        self.size(table, "memory", "32MiB", 1, &mut memory_bytes);
        if memory_bytes > request.memory_bytes {
            let span = table.get("memory").map_or(0..0, toml::Spanned::span);
            self.bad_value(
                span,
                format!(
                    "`{name}` may have more memory ({}) than the whole request ({})",
                    format_bytes(memory_bytes),
                    format_bytes(request.memory_bytes)
                ),
                format!("Lower it, or raise `memory` in [limits] to {}.", format_bytes(memory_bytes)),
            );
        }
        authority.memory_bytes = (memory_bytes > 0).then_some(memory_bytes);
    }

    fn outside(&mut self, table: &Table<'_>, limits: &mut OutsideLimits) {
        self.count(table, "outbound-requests", 0, &mut limits.outbound_requests);
        self.count(table, "outbound-connections", 0, &mut limits.outbound_connections);
        self.count(table, "open-files", 0, &mut limits.open_files);
        self.size(table, "key-value-bytes", "64MiB", 0, &mut limits.key_value_bytes);
        self.size(table, "log-bytes", "16KiB", 0, &mut limits.log_bytes);
    }

    /// A time of at least `least` microseconds.
    pub(super) fn time(
        &mut self,
        table: &Table<'_>,
        key: &str,
        example: &str,
        least: u128,
        into: &mut Duration,
    ) {
        let enough = |time: &Duration| time.as_micros() >= least;
        self.quantity(table, key, example, "a time", parse_duration, enough, into);
    }

    /// A size of at least `least` bytes.
    fn size(&mut self, table: &Table<'_>, key: &str, example: &str, least: u64, into: &mut u64) {
        self.quantity(table, key, example, "a size", parse_bytes, |bytes| *bytes >= least, into);
    }

    #[expect(clippy::too_many_arguments, reason = "two callers above, which name them")]
    fn quantity<T>(
        &mut self,
        table: &Table<'_>,
        key: &str,
        example: &str,
        what: &str,
        parse: impl Fn(&str) -> Result<T, InvalidQuantity>,
        enough: impl Fn(&T) -> bool,
        into: &mut T,
    ) {
        let Some(value) = table.get(key) else { return };
        let DeValue::String(text) = value.get_ref() else {
            let diagnostic =
                self.type_diagnostic(&format!("`{key}`"), "a string with a number and a unit", value);
            let mend = format!("Write the unit, in quotes: `{key} = \"{example}\"`.");
            self.found.push(diagnostic.mend(mend));
            return;
        };
        let message = match parse(text) {
            Ok(quantity) if enough(&quantity) => {
                *into = quantity;
                return;
            }
            Ok(_) => format!("{what} of nothing would refuse every request"),
            Err(error) => error.to_string(),
        };
        self.bad_value(
            value.span(),
            format!("`{key}`: {message}"),
            format!("For example `{key} = \"{example}\"`."),
        );
    }

    /// A number of at least `least`.
    pub(super) fn count<T: TryFrom<u64> + Bounded>(
        &mut self,
        table: &Table<'_>,
        key: &str,
        least: u64,
        into: &mut T,
    ) {
        let number = self.number(table, key, least, T::MOST);
        if let Some(number) = number.and_then(|number| T::try_from(number).ok()) {
            *into = number;
        }
    }
}

/// The largest number of a type, as a manifest may say it.
pub(super) trait Bounded {
    const MOST: u64;
}

impl Bounded for u32 {
    const MOST: u64 = u32::MAX as u64;
}

impl Bounded for u64 {
    const MOST: u64 = u64::MAX;
}

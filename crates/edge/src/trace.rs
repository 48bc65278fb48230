//! Trace context (W3C Trace Context, version 00): taken over from the client, handed to the guest and to what it calls.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use http::{HeaderMap, HeaderName, HeaderValue};

/// The header that carries it.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// `00-`, 32 digits, `-`, 16 digits, `-`, 2 digits (section 3.2).
const BYTES: usize = 55;

/// A request's place in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace_id: u128,
    /// The request's own span.
    pub span_id: u64,
    /// The span of whoever asked.
    pub parent_id: Option<u64>,
    /// Whether it is to be recorded.
    pub sampled: bool,
}

impl TraceContext {
    /// The context that a `traceparent` header names, as the parent of a span of its own.
    fn parse(value: &[u8], span_id: u64) -> Option<Self> {
        let fields = value.get(..BYTES)?;
        // A later version may have more after a further dash; version 255 is none (section 3.2.2.1).
        let version = hex(&fields[..2])?;
        if version == 255
            || (version == 0 && value.len() != BYTES)
            || !matches!(value.get(BYTES), None | Some(b'-'))
        {
            return None;
        }
        let dashes = [2, 35, 52].iter().all(|at| fields[*at] == b'-');
        let trace_id = hex(&fields[3..35]).filter(|id| dashes && *id != 0)?;
        let parent_id = u64::try_from(hex(&fields[36..52])?).ok().filter(|id| *id != 0)?;
        let sampled = hex(&fields[53..55])? & 1 == 1;
        Some(Self { trace_id, span_id, parent_id: Some(parent_id), sampled })
    }

    /// What is handed on.
    pub fn header(&self) -> HeaderValue {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        digits(&mut text[3..35], self.trace_id);
        digits(&mut text[36..52], u128::from(self.span_id));
        text[54] = b'0' + u8::from(self.sampled);
        HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

/// Lower-case digits only (section 3.2.1).
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0_u128, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

/// The last digits of a number, as many as there is room for.
pub(crate) fn digits(into: &mut [u8], mut number: u128) {
    for place in into.iter_mut().rev() {
        *place = b"0123456789abcdef"[usize::try_from(number & 15).unwrap_or(0)];
        number >>= 4;
    }
}

/// Numbers that differ, for ids and shares: nothing that must not be guessed. One for each worker.
#[derive(Debug)]
pub(crate) struct Draw(AtomicU64);

impl Draw {
    pub(crate) fn new() -> Result<Self, getrandom::Error> {
        Ok(Self(AtomicU64::new(getrandom::u64()?)))
    }

    /// The next one (SplitMix64: every number comes once before any comes again).
    pub(crate) fn next(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(STEP, Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `below`, which is not large.
    pub(crate) fn below(&self, below: u32) -> u32 {
        let scaled = u128::from(self.next()) * u128::from(below);
        u32::try_from(scaled >> 64).unwrap_or(0)
    }

    fn id(&self) -> u64 {
        self.next().max(1)
    }
}

/// The request's context: the client's, or a new one for `sample` of 10,000 requests that come without. A client's
/// context that cannot be read is taken away, so that nobody behind goes on with it.
pub(crate) fn trace(headers: &mut HeaderMap, draw: &Draw, sample: u32) -> Option<TraceContext> {
    let found = match headers.get(&TRACEPARENT) {
        None => None,
        Some(value) => {
            let one = headers.get_all(&TRACEPARENT).iter().count() == 1;
            let parsed = one.then(|| TraceContext::parse(value.as_bytes(), draw.id())).flatten();
            if parsed.is_none() {
                headers.remove(&TRACEPARENT);
                headers.remove(&TRACESTATE);
            }
            parsed
        }
    };
    let context = found.or_else(|| begin(draw, sample))?;
    headers.insert(TRACEPARENT, context.header());
    Some(context)
}

/// A new trace, for `sample` of 10,000.
pub(crate) fn begin(draw: &Draw, sample: u32) -> Option<TraceContext> {
    let is_sampled = sample > 0 && draw.below(10_000) < sample;
    is_sampled.then(|| {
        let trace_id = u128::from(draw.id()) << 64 | u128::from(draw.id());
        TraceContext { trace_id, span_id: draw.id(), parent_id: None, sampled: true }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn traced(value: &str, sample: u32) -> (Option<TraceContext>, HeaderMap) {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, value.parse().unwrap());
        headers.insert(TRACESTATE, HeaderValue::from_static("a=b"));
        (trace(&mut headers, &Draw::new().unwrap(), sample), headers)
    }

    #[test]
    fn a_clients_trace_goes_on_under_a_span_of_its_own() {
        let (context, headers) = traced(PARENT, 0);
        let context = context.unwrap();
        assert_eq!(context.trace_id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!((context.parent_id, context.sampled), (Some(0x00f0_67aa_0ba9_02b7), true));
        assert_eq!(headers[TRACEPARENT], context.header());
        assert_ne!(headers[TRACEPARENT], PARENT);
        assert!(headers[TRACEPARENT].to_str().unwrap().starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"));
        assert_eq!(headers[TRACESTATE], "a=b");
        let (context, headers) = traced(&PARENT.replace("-01", "-00"), 10_000);
        assert!(!context.unwrap().sampled, "who asked has decided");
        assert!(headers[TRACEPARENT].to_str().unwrap().ends_with("-00"));
        let later = format!("01{}-what-comes-later", &PARENT[2..]);
        assert!(traced(&later, 0).0.is_some());
    }

    #[test]
    fn what_is_no_context_is_taken_away() {
        let zero = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
        let none = "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01";
        for bad in [
            "",
            "00",
            zero,
            none,
            &PARENT.to_uppercase(),
            &format!("{PARENT}-x"),
            &PARENT[1..],
            &format!("ff{}", &PARENT[2..]),
            &PARENT.replace('-', "_"),
        ] {
            let (context, headers) = traced(bad, 0);
            assert_eq!(context, None, "{bad}");
            assert!(headers.is_empty(), "{bad}");
        }
        let mut twice = HeaderMap::new();
        twice.append(TRACEPARENT, HeaderValue::from_static(PARENT));
        twice.append(TRACEPARENT, HeaderValue::from_static(PARENT));
        assert_eq!(trace(&mut twice, &Draw::new().unwrap(), 0), None);
    }

    #[test]
    fn of_those_that_come_without_so_many_are_sampled() {
        let draw = Draw::new().unwrap();
        let sampled =
            |sample| (0..20_000).filter(|_| trace(&mut HeaderMap::new(), &draw, sample).is_some()).count();
        assert_eq!(sampled(0), 0);
        assert_eq!(sampled(10_000), 20_000);
        assert!((500..3_500).contains(&sampled(1_000)));
    }
}

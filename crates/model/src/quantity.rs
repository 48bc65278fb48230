//! Sizes and durations as people write them: `128MiB`, `30s`.

use std::time::Duration;

/// The text is not a number and a unit.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{text}` is not {expected}")]
pub struct InvalidQuantity {
    text: String,
    expected: &'static str,
}

const BYTE_UNITS: [(&str, u64); 7] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

const TIME_UNITS: [(&str, u64); 4] = [("us", 1), ("ms", 1_000), ("min", 60_000_000), ("s", 1_000_000)];

/// Reads a size: digits and a unit, `64KiB`, `128MiB`, `1GiB`, `500kB`, `1MB`, `512B`.
///
/// # Errors
/// When the text is anything else, or the size does not fit.
pub fn parse_bytes(text: &str) -> Result<u64, InvalidQuantity> {
    parse(text, &BYTE_UNITS, "a size such as `64KiB`, `128MiB` or `1GiB`")
}

/// Reads a duration: digits and a unit, `500us`, `20ms`, `30s`, `2min`.
///
/// # Errors
/// When the text is anything else, or the duration does not fit.
pub fn parse_duration(text: &str) -> Result<Duration, InvalidQuantity> {
    parse(text, &TIME_UNITS, "a duration such as `500us`, `20ms`, `30s` or `2min`").map(Duration::from_micros)
}

fn parse(text: &str, units: &[(&str, u64)], expected: &'static str) -> Result<u64, InvalidQuantity> {
    let wrong = || InvalidQuantity { text: text.to_owned(), expected };
    let (unit, factor) = units.iter().find(|(unit, _)| text.ends_with(unit)).ok_or_else(wrong)?;
    let digits = text[..text.len() - unit.len()].trim_end();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    digits.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor)).ok_or_else(wrong)
}

/// Writes a size the way [`parse_bytes`] reads it where it is a whole number of a unit, else rounded to one
/// decimal place.
pub fn format_bytes(bytes: u64) -> String {
    const STEPS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    for (unit, factor) in STEPS {
        if bytes >= factor {
            return if bytes.is_multiple_of(factor) {
                format!("{}{unit}", bytes / factor)
            } else {
                #[expect(clippy::cast_precision_loss, reason = "one decimal place is shown")]
                let value = bytes as f64 / factor as f64;
                format!("{value:.1}{unit}")
            };
        }
    }
    format!("{bytes}B")
}

/// Writes a duration in the unit a person would choose.
pub fn format_duration(duration: Duration) -> String {
    let micros = duration.as_micros();
    match micros {
        0..1_000 => format!("{micros}us"),
        1_000..10_000_000 if !micros.is_multiple_of(1_000) => {
            format!("{:.1}ms", duration.as_secs_f64() * 1e3)
        }
        1_000..1_000_000 => format!("{}ms", micros / 1_000),
        _ if micros.is_multiple_of(1_000_000) => format!("{}s", micros / 1_000_000),
        _ => format!("{:.1}s", duration.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        assert_eq!(parse_bytes("128MiB"), Ok(128 << 20));
        assert_eq!(parse_bytes("500kB"), Ok(500_000));
        assert_eq!(parse_bytes("7B"), Ok(7));
        assert_eq!(parse_duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_duration("20ms"), Ok(Duration::from_millis(20)));
        assert_eq!(parse_duration("2min"), Ok(Duration::from_secs(120)));
    }

    #[test]
    fn refuses_the_rest() {
        for text in ["", "MiB", "-1MiB", "1.5MiB", "12", "99999999999999999999B", "18446744073709551615KiB"] {
            assert!(parse_bytes(text).is_err(), "{text}");
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn writes_what_it_reads() {
        for bytes in [0, 7, 1 << 10, 128 << 20, 3 << 30] {
            assert_eq!(parse_bytes(&format_bytes(bytes)), Ok(bytes));
        }
        for duration in [Duration::from_micros(5), Duration::from_millis(20), Duration::from_secs(30)] {
            assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }
    }
}

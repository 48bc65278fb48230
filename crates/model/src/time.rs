//! Points in time as people write them: `2026-01-01T00:00:00Z` (RFC 3339).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY_SECONDS: u64 = 86_400;

/// The text is not a point in time that a guest's clock can show.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a time such as `2026-01-01T00:00:00Z`, from 1970 on")]
pub struct InvalidTime(String);

/// Reads a time of RFC 3339, with its offset from UTC, from 1970 on.
///
/// # Errors
/// When the text is anything else: a date alone, a time without an offset, a day or second that does not exist.
pub fn parse_time(text: &str) -> Result<SystemTime, InvalidTime> {
    parse(text).ok_or_else(|| InvalidTime(text.to_owned()))
}

fn parse(text: &str) -> Option<SystemTime> {
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let (time, offset_seconds) = offset(rest)?;
    let (time, nanos) = match time.split_once('.') {
        Some((time, fraction)) => (time, nanos(fraction)?),
        None => (time, 0),
    };
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let days_in_month = match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if day == 0 || day > days_in_month || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = i64::try_from(days_from_epoch(year, month, day)?).ok()?;
    let of_day = i64::try_from(hour * 3_600 + minute * 60 + second).ok()?;
    let seconds = days * i64::try_from(DAY_SECONDS).ok()? + of_day - offset_seconds;
    UNIX_EPOCH.checked_add(Duration::new(u64::try_from(seconds).ok()?, nanos))
}

/// Splits off `Z` or `+02:00`; the offset in seconds east of UTC.
fn offset(text: &str) -> Option<(&str, i64)> {
    if let Some(time) = text.strip_suffix(['Z', 'z']) {
        return Some((time, 0));
    }
    let at = text.rfind(['+', '-'])?;
    let (time, offset) = text.split_at(at);
    let [hours, minutes] = numbers(&offset[1..], ':', [2, 2])?;
    if hours > 23 || minutes > 59 {
        return None;
    }
    let seconds = i64::try_from(hours * 3_600 + minutes * 60).ok()?;
    Some((time, if offset.starts_with('-') { -seconds } else { seconds }))
}

fn numbers<const N: usize>(text: &str, separator: char, digits: [usize; N]) -> Option<[u64; N]> {
    let mut found = [0; N];
    let mut parts = text.split(separator);
    for (number, digits) in found.iter_mut().zip(digits) {
        let part = parts.next()?;
        if part.len() != digits || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(found)
}

fn nanos(fraction: &str) -> Option<u32> {
    if fraction.is_empty() || fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    format!("{fraction:0<9}").parse().ok()
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

/// Days from 1970-01-01, in the Gregorian calendar. Years are counted from March, so that the day of a leap year
/// comes last.
fn days_from_epoch(year: u64, month: u64, day: u64) -> Option<u64> {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    // 0000-03-01 is that many days before 1970-01-01.
    days.checked_sub(719_468)
}

/// Writes a time the way [`parse_time`] reads it, in UTC. A time before 1970 is written as 1970.
pub fn format_time(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, of_day) = (since.as_secs() / DAY_SECONDS, since.as_secs() % DAY_SECONDS);
    // The inverse of the above, over the 146,097 days of 400 years.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = match month {
        0..=9 => (era * 400 + year_of_era, month + 3),
        _ => (era * 400 + year_of_era + 1, month - 9),
    };
    let fraction = match since.subsec_nanos() {
        0 => String::new(),
        nanos => format!(".{}", format!("{nanos:09}").trim_end_matches('0')),
    };
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> u64 {
        parse_time(text).unwrap().duration_since(UNIX_EPOCH).unwrap().as_secs()
    }

    #[test]
    fn reads_rfc_3339() {
        assert_eq!(seconds("1970-01-01T00:00:00Z"), 0);
        assert_eq!(seconds("2000-02-29T12:00:00Z"), 951_825_600);
        assert_eq!(seconds("2026-01-01T00:00:00Z"), 1_767_225_600);
        assert_eq!(seconds("2026-01-01T02:00:00+02:00"), 1_767_225_600);
        assert_eq!(seconds("2025-12-31 18:30:00-05:30"), 1_767_225_600);
        let half = parse_time("1970-01-01T00:00:00.5z").unwrap();
        assert_eq!(half.duration_since(UNIX_EPOCH).unwrap(), Duration::from_millis(500));
    }

    #[test]
    fn refuses_the_rest() {
        for text in [
            "",
            "now",
            "2026-01-01",
            "2026-01-01T00:00:00",
            "2026-13-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:60Z",
            "2026-1-1T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+01:00",
            "2026-01-01T00:00:00.Z",
            "0000-01-01T00:00:00Z",
            "2026-01-01T00:00:00+99:00",
            "-026-01-01T00:00:00Z",
            "2026-01-01T00:00:00Z ",
        ] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn writes_what_it_reads() {
        for text in [
            "1970-01-01T00:00:00Z",
            "1999-12-31T23:59:59Z",
            "2000-02-29T00:00:00Z",
            "2024-03-01T01:02:03.25Z",
            "9999-12-31T23:59:59.999999999Z",
        ] {
            assert_eq!(format_time(parse_time(text).unwrap()), text);
        }
        for day in 0..40_000 {
            let time = UNIX_EPOCH + Duration::from_secs(day * DAY_SECONDS);
            assert_eq!(parse_time(&format_time(time)), Ok(time));
        }
    }
}

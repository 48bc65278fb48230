//! Receipts: what was paid, when, and a digest that ties these together.

use core::fmt;

use sha2::{Digest as _, Sha256};

use crate::money::Money;

/// A payment that was taken.
///
/// Its text is `AMOUNT CURRENCY TIME NONCE sha256:DIGEST`. The digest is of everything before it, so anybody can check
/// that a receipt was not mistyped or cut, and it is an id: the nonce makes two payments of the same amount in the same
/// second different, and impossible to guess. It is no signature: who writes a receipt of their own can compute it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// What was paid.
    pub money: Money,
    /// When: seconds since 1970-01-01T00:00:00Z.
    pub seconds: u64,
    /// 128 random bits.
    pub nonce: [u64; 2],
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [high, low] = self.nonce;
        let statement = alloc::format!("{} {} {high:016x}{low:016x}", self.money, Time(self.seconds));
        write!(f, "{statement} sha256:")?;
        Sha256::digest(statement.as_bytes()).iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A time in UTC, as RFC 3339 writes it.
struct Time(u64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.0 / 86_400, self.0 % 86_400);
        // The calendar repeats every 400 years of 146,097 days. Years are counted from March, so that the day that comes
        // and goes is the last one (H. Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`).
        let days = days + 719_468;
        let (era, day) = (days / 146_097, days % 146_097);
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = era * 400 + year + u64::from(month <= 2);
        let (hour, minute) = (second / 3_600, second / 60 % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}Z", second % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt() -> Receipt {
        let money = Money::exactly(12.5, "EUR").unwrap();
        Receipt { money, seconds: 1_795_000_000, nonce: [1, 0xabc] }
    }

    #[test]
    fn the_digest_is_of_everything_before_it() {
        // From `printf '%s' "…" | sha256sum`.
        let expected = "12.50 EUR 2026-11-18T11:06:40Z 00000000000000010000000000000abc \
                        sha256:2229b6df6f9780347f409c6b465679bbf5f593ec9fa3b6a8c46d229ab2089ed9";
        assert_eq!(receipt().to_string(), expected);
    }

    #[test]
    fn every_part_changes_it() {
        let id = |receipt: Receipt| receipt.to_string().rsplit_once(':').unwrap().1.to_owned();
        let first = receipt();
        let others = [
            Receipt { money: Money::exactly(12.51, "EUR").unwrap(), ..first },
            Receipt { money: Money::exactly(12.5, "USD").unwrap(), ..first },
            Receipt { seconds: first.seconds + 1, ..first },
            Receipt { nonce: [1, 0xabd], ..first },
        ];
        for other in others {
            assert_ne!(id(other), id(first), "{other:?}");
        }
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(Time(seconds).to_string(), text);
        }
    }
}

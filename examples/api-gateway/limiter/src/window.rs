//! Fixed windows: all of a key's requests in the same `seconds` count together.

use alloc::format;
use alloc::string::String;

/// One window of time, by its number since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub number: u64,
    /// Seconds until the next.
    pub left_seconds: u32,
}

impl Window {
    /// The window at `now`, in seconds since 1970.
    pub fn at(now: u64, seconds: u32) -> Self {
        let seconds = u64::from(seconds.max(1));
        let left = seconds - now % seconds;
        Self { number: now / seconds, left_seconds: u32::try_from(left).unwrap_or(u32::MAX) }
    }

    /// Where the requests of `key` in this window are counted. A number is no part of a key's name, so no two meet.
    pub fn counter(self, key: &str) -> String {
        format!("{key} {}", self.number)
    }

    /// The window before.
    pub fn before(self) -> Self {
        Self { number: self.number.saturating_sub(1), ..self }
    }
}

/// Requests that are left after the `count`th; none when it was one too many.
pub fn left(count: i64, agreed: u32) -> Option<u32> {
    u32::try_from(i64::from(agreed) - count).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_ends_when_the_next_begins() {
        assert_eq!(Window::at(119, 60), Window { number: 1, left_seconds: 1 });
        assert_eq!(Window::at(120, 60), Window { number: 2, left_seconds: 60 });
        assert_eq!(Window::at(5, 0).left_seconds, 1);
        assert_eq!(Window::at(120, 60).before().counter("web shop"), "web shop 1");
    }

    #[test]
    fn the_agreed_number_is_taken_and_no_more() {
        assert_eq!((left(1, 2), left(2, 2), left(3, 2), left(1, 0)), (Some(1), Some(0), None, None));
    }
}

//! How often one sandbox is used.

/// The opposite of a fresh sandbox for each request, where somebody asked for it: how many requests one answers before
/// it is thrown away, and how many of them at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reuse {
    /// Requests that a sandbox answers in all; with 1, each has its own.
    pub requests: u32,
    /// Requests that it answers at once.
    pub concurrent: u32,
}

impl Reuse {
    /// The most requests that one sandbox answers in all: what it leaks, it leaks no longer than that.
    pub const REQUESTS_MAX: u32 = 1_000_000;
    /// The most requests that one sandbox answers at once.
    pub const CONCURRENT_MAX: u32 = 128;

    /// Whether a sandbox is used more than once.
    pub fn is_on(&self) -> bool {
        self.requests > 1
    }
}

impl Default for Reuse {
    fn default() -> Self {
        Self { requests: 1, concurrent: 1 }
    }
}

impl std::fmt::Display for Reuse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self { requests: 0 | 1, .. } => f.write_str("a fresh sandbox for each request"),
            Self { requests, concurrent: 1 } => {
                write!(f, "a sandbox answers up to {requests} requests, one after another")
            }
            Self { requests, concurrent } => {
                write!(f, "a sandbox answers up to {requests} requests, up to {concurrent} at once")
            }
        }
    }
}

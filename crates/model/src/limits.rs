//! What one request may use up.

use std::time::Duration;

/// The limits of one invocation. Each is enforced; none is advice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Time from the moment the request is admitted to the end of its response body.
    pub wall: Duration,
    /// Time the guest may spend on the processor; waiting is free.
    pub cpu: Duration,
    /// All linear memories of the request together, in bytes.
    pub memory_bytes: u64,
    /// A request body handed to a plain handler whole, in bytes.
    pub request_body_bytes: u64,
    /// Requests of one app that may run at once; what comes on top is refused.
    pub concurrency: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            wall: Duration::from_secs(30),
            cpu: Duration::from_secs(5),
            memory_bytes: 128 << 20,
            request_body_bytes: 8 << 20,
            concurrency: 512,
        }
    }
}

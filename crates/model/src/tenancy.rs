//! Who an app belongs to, what it is called, and what its tenant may use over time.

use std::fmt;
use std::str::FromStr;

/// The longest name of a tenant or an app, in bytes: that of a DNS label (RFC 1035, section 2.3.4).
pub const LABEL_BYTES_MAX: usize = 63;

/// The text is not a name of a tenant or an app.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a name has 1 to 63 lower-case letters, digits and hyphens, and begins and ends with a letter or digit"
)]
pub struct InvalidLabel;

/// A name that can stand in a host name, a path and a log line without being quoted.
fn label(text: &str) -> Result<Box<str>, InvalidLabel> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let fits = (1..=LABEL_BYTES_MAX).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-');
    if fits { Ok(text.into()) } else { Err(InvalidLabel) }
}

macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidLabel;

            fn from_str(text: &str) -> Result<Self, InvalidLabel> {
                label(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

labels! {
    /// Whose apps, quotas and tokens something is one of.
    TenantId;
    /// What an app is called; unique within its tenant.
    AppName;
}

/// An app of a tenant, as people write it: `tenant/app`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppId {
    /// Whose it is.
    pub tenant: TenantId,
    /// What it is called.
    pub app: AppName,
}

impl fmt::Display for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.app)
    }
}

/// Which state of an app: 1 is the first, each deploy and each revert makes the next. Printed as `r7`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RevisionNumber(pub u64);

impl fmt::Display for RevisionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.0)
    }
}

impl FromStr for RevisionNumber {
    type Err = std::num::ParseIntError;

    /// `r7` or `7`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.strip_prefix('r').unwrap_or(text).parse().map(Self)
    }
}

/// What a tenant may use, over all of its apps on one node. What is over it is refused with the name of the quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Requests a second, on average; twice as many may come within one second.
    pub requests_per_second: u32,
    /// Time on the processor that its guests may use in a second, in microseconds, on average.
    pub cpu_us_per_second: u64,
    /// Bytes of request and response bodies a second, on average.
    pub bytes_per_second: u64,
    /// Linear memory of all its running requests together, in bytes.
    pub memory_bytes: u64,
    /// Requests that may run at once.
    pub concurrency: u32,
    /// Requests that may wait for their turn; what comes on top is refused.
    pub queue: u32,
    /// Sandboxes of the node's pool that nobody else can take.
    pub reserved_instances: u32,
    /// Apps it may have.
    pub apps: u32,
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            requests_per_second: 10_000,
            cpu_us_per_second: 1_000_000,
            bytes_per_second: 256 << 20,
            memory_bytes: 4 << 30,
            concurrency: 512,
            queue: 512,
            reserved_instances: 0,
            apps: 1_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_labels() {
        for good in ["a", "shop-2", "0", &"a".repeat(LABEL_BYTES_MAX)] {
            assert_eq!(good.parse::<TenantId>().unwrap().as_str(), good);
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a/b", "ä", "a b", &"a".repeat(LABEL_BYTES_MAX + 1)] {
            assert_eq!(bad.parse::<AppName>(), Err(InvalidLabel), "{bad:?}");
        }
    }

    #[test]
    fn revisions_are_read_as_they_are_printed() {
        assert_eq!(RevisionNumber(7).to_string().parse(), Ok(RevisionNumber(7)));
        assert_eq!("7".parse(), Ok(RevisionNumber(7)));
        assert!("r".parse::<RevisionNumber>().is_err());
    }
}

//! What compiled code is to be good for.

/// What the core modules of a component are optimised for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Few bytes.
    Size,
    /// Little time.
    Speed,
}

impl Goal {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Size, Self::Speed];

    /// The word for it in a manifest.
    pub fn name(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Speed => "speed",
        }
    }

    /// The goal that a manifest calls `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|goal| goal.name() == name)
    }
}

//! What a person is shown while something runs.

/// Told what is being done. Several components are built at once, so every call names its subject.
pub trait Progress: Sync {
    /// A step begins: `auth`, `cargo build`.
    fn step(&self, subject: &str, step: &str);

    /// A line that a program printed during the step.
    fn line(&self, subject: &str, line: &str);
}

/// Shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn step(&self, _: &str, _: &str) {}
    fn line(&self, _: &str, _: &str) {}
}

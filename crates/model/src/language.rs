//! The languages components are built from.

use std::fmt;

/// A guest language that Tenon has a toolchain for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Language {
    /// Rust, with `cargo` and the target `wasm32-wasip2`.
    Rust,
    /// Go, with the standard compiler.
    Go,
    /// TypeScript, type-checked.
    TypeScript,
    /// JavaScript.
    JavaScript,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Rust, Self::Go, Self::TypeScript, Self::JavaScript];

    /// The name in a manifest: `rust`, `go`, `typescript`, `javascript`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Go => "go",
            Self::TypeScript => "typescript",
            Self::JavaScript => "javascript",
        }
    }

    /// The language that a manifest calls `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|language| language.name() == name)
    }
}

impl fmt::Display for Language {
    /// The name as people write it in prose.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rust => "Rust",
            Self::Go => "Go",
            Self::TypeScript => "TypeScript",
            Self::JavaScript => "JavaScript",
        })
    }
}

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
    /// Python, with `componentize-py`.
    Python,
    /// C, with the clang in `zig`.
    C,
    /// C++, with the same.
    Cpp,
    /// AssemblyScript.
    AssemblyScript,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Rust,
        Self::Go,
        Self::TypeScript,
        Self::JavaScript,
        Self::Python,
        Self::C,
        Self::Cpp,
        Self::AssemblyScript,
    ];

    /// The name in a manifest: `rust`, `go`, `typescript`, `javascript`, `python`, `c`, `cpp`,
    /// `assemblyscript`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Go => "go",
            Self::TypeScript => "typescript",
            Self::JavaScript => "javascript",
            Self::Python => "python",
            Self::C => "c",
            Self::Cpp => "cpp",
            Self::AssemblyScript => "assemblyscript",
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
            Self::Python => "Python",
            Self::C => "C",
            Self::Cpp => "C++",
            Self::AssemblyScript => "AssemblyScript",
        })
    }
}

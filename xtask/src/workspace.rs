//! Where things are.

use std::env;
use std::path::{Path, PathBuf};

use crate::command::Cmd;
use crate::failure::{Failure, Result};

/// The repository and its folders.
pub(crate) struct Workspace {
    /// The root of the repository.
    pub(crate) root: PathBuf,
    /// The target folder that this very program was built into, so that everything shares it.
    pub(crate) target: PathBuf,
    /// Which program the tasks run.
    program: Program,
}

/// The `tenon` that is run; each lies in a folder of the target folder.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    /// What cargo builds.
    Release,
    /// What counts how often it comes where.
    Counting,
    /// What is shipped: compiled with those counts.
    Shipped,
}

impl Workspace {
    /// Finds the repository this program was built from.
    pub(crate) fn find() -> Result<Self> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = here.parent().filter(|root| root.join("Cargo.toml").is_file()).ok_or_else(|| {
            Failure::new(format!("{} is not inside the repository any more", here.display()))
                .mend("run `cargo xtask` in the repository")
        })?;
        let program = env::current_exe().map_err(|error| Failure::new(format!("own path: {error}")))?;
        // TARGET/debug/xtask
        let target = program.ancestors().nth(2).map_or_else(|| root.join("target"), Path::to_path_buf);
        Ok(Self { root: root.to_path_buf(), target, program: Program::Release })
    }

    /// Guest toolchains and the programs of the harness.
    pub(crate) fn tools(&self) -> PathBuf {
        self.root.join(".tools")
    }

    /// The data directory that the demo and the measurements use.
    pub(crate) fn data(&self) -> PathBuf {
        self.root.join(".tenon/data")
    }

    /// The example that the demo serves.
    pub(crate) fn storefront(&self) -> PathBuf {
        self.root.join("examples/storefront")
    }

    /// The same, whose tasks run that program.
    pub(crate) fn running(&self, program: Program) -> Self {
        Self { root: self.root.clone(), target: self.target.clone(), program }
    }

    /// How that was built, for reports.
    pub(crate) fn program(&self) -> &'static str {
        match self.program {
            Program::Release => "built with `cargo build --release`",
            Program::Counting => "built to count",
            Program::Shipped => "built with `cargo xtask ship`",
        }
    }

    /// The `tenon` binary that the tasks run.
    pub(crate) fn tenon(&self) -> PathBuf {
        let folder = match self.program {
            Program::Release => "release",
            Program::Counting => "counting",
            Program::Shipped => "shipped",
        };
        self.target.join(folder).join("tenon")
    }

    /// `cargo …` in the root of the repository, with this target folder.
    pub(crate) fn cargo<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Cmd {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let cargo = Cmd::new(cargo).shown_as("cargo").args(arguments).cwd(&self.root);
        // Said only where it differs from what cargo would choose: then it is part of rerunning by hand.
        if self.target == self.root.join("target") {
            cargo
        } else {
            cargo.env("CARGO_TARGET_DIR", &self.target)
        }
    }

    /// Builds these programs of the workspace, optimised; not `tenon`, where that is not run. The workspace is named and not their
    /// packages: what crates are made of depends on that, and the engine would be built once more beside the one that the tests
    /// have.
    ///
    /// # Errors
    /// When one does not compile.
    pub(crate) fn build_programs(&self, programs: &[&str]) -> Result<()> {
        let here = |program: &&&str| **program != "tenon" || self.program == Program::Release;
        let programs: Vec<&str> =
            programs.iter().filter(here).flat_map(|program| ["--bin", program]).collect();
        if programs.is_empty() {
            return Ok(());
        }
        self.cargo(["build", "--release", "--workspace"].into_iter().chain(programs)).run()
    }

    /// `tenon …`, with the project's own tools and data.
    pub(crate) fn run_tenon<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Cmd {
        Cmd::new(self.tenon())
            .args(arguments)
            .cwd(&self.root)
            .env("TENON_TOOLS", self.tools())
            .env("TENON_DATA", self.data())
    }
}

//! What a command is given to run: a component file, compiled code, or a folder's composition.

use std::path::Path;
use std::sync::Arc;

use tenon_compose::manifest::Deploy;
use tenon_engine::{Artifacts, CrashPolicy, Crashes, Engine, Pool, Stored};
use tenon_model::{Authorities, Diagnostic, Limits, Reuse};
use tenon_wit::ErrorStatuses;

use crate::commands::{build, compile};
use crate::error::CommandError;
use crate::project::{COMPONENT_BYTES_MAX, DependencyFile, Project, is_manifest, read};
use crate::settings::Settings;
use crate::terminal::Terminal;

/// What is served or called, before it is compiled.
pub(crate) struct App {
    pub(crate) name: String,
    pub(crate) limits: Limits,
    pub(crate) reuse: Reuse,
    pub(crate) authorities: Authorities,
    pub(crate) errors: ErrorStatuses,
    /// What the manifest says of deploying it.
    pub(crate) deploy: Deploy,
    code: Code,
    /// The component files it comes from.
    files: Vec<std::path::PathBuf>,
}

enum Code {
    Component(Vec<u8>),
    /// Compiled already, by this node.
    Artifact(std::path::PathBuf),
}

impl App {
    pub(crate) fn find(
        target: &Path,
        dependencies: &[DependencyFile],
        settings: &Settings,
        terminal: &Terminal,
    ) -> Result<Self, CommandError> {
        let extension = target.extension().and_then(|extension| extension.to_str());
        if is_manifest(target) {
            let project = Project::open_with(target, dependencies)?;
            build::build_project(&project, settings, terminal)?;
            let composed = project.composed_to_serve()?;
            let components = project.manifest.components.iter().map(|component| project.path(component));
            let optimized = project.manifest.optimize.then(|| project.served_file());
            let files = components.chain(optimized).collect();
            return Ok(Self {
                name: project.name(),
                limits: project.manifest.limits,
                reuse: project.manifest.reuse,
                authorities: project.authorities()?,
                errors: project.manifest.errors,
                deploy: project.manifest.deploy,
                code: Code::Component(composed),
                files,
            });
        }
        let name =
            target.file_stem().map_or_else(|| "app".into(), |name| name.to_string_lossy().into_owned());
        let code = match extension {
            Some("cwasm") if target.is_file() => Code::Artifact(target.to_owned()),
            _ => {
                let bytes = read(target, COMPONENT_BYTES_MAX)?;
                tenon_wit::require_component(&target.display().to_string(), &bytes)?;
                tenon_wit::require_released_wasi(&target.display().to_string(), &bytes)?;
                Code::Component(bytes)
            }
        };
        Ok(Self {
            name,
            limits: Limits::default(),
            reuse: Reuse::default(),
            authorities: Authorities::default(),
            errors: ErrorStatuses::new(),
            deploy: Deploy::default(),
            code,
            files: vec![target.to_path_buf()],
        })
    }

    /// The component, where it is not compiled code only.
    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        match &self.code {
            Code::Component(bytes) => Some(bytes),
            Code::Artifact(_) => None,
        }
    }

    /// Where failures are reported to, of which the last `keep` are kept, and the component that the reports will be
    /// about.
    pub(crate) fn crashes(
        &self,
        keep: u32,
        keep_arguments: bool,
        data: &Path,
    ) -> Result<Option<Arc<Crashes>>, CommandError> {
        if keep == 0 {
            return Ok(None);
        }
        let absolute = |file: &std::path::PathBuf| {
            std::path::absolute(file).unwrap_or_else(|_| file.clone()).display().to_string()
        };
        let policy = CrashPolicy {
            keep: keep as usize,
            keep_arguments,
            files: self.files.iter().map(absolute).collect(),
        };
        let crashes = Crashes::open(data, policy).map_err(|error| {
            Diagnostic::new(
                "data-directory",
                format!("crash reports cannot be kept: {error}: {}", error.source),
            )
            .mend("choose another data directory with `--data DIR` or TENON_DATA, or `--crash-reports 0`")
        })?;
        if let Code::Component(bytes) = &self.code
            && let Err(error) = crashes.keep_component(bytes)
        {
            // Reports are written all the same; they need the file to be shown with source lines.
            tracing::warn!(%error, "the component is not kept for its crash reports");
        }
        Ok(Some(crashes))
    }

    pub(crate) fn stored(
        &self,
        engine: &Engine,
        artifacts: &Artifacts,
        terminal: &Terminal,
    ) -> Result<Stored, CommandError> {
        match &self.code {
            Code::Component(bytes) => compile::compiled(engine, artifacts, &self.name, bytes, terminal),
            Code::Artifact(path) => Ok(artifacts.adopt(engine, Path::new(path))?),
        }
    }
}

/// Limits that a component can use, and that any server takes.
pub(crate) fn addressable(limits: Limits) -> Result<Limits, Diagnostic> {
    limits.check_header_bytes()?;
    if limits.memory_bytes <= Pool::MEMORY_BYTES_MAX {
        return Ok(limits);
    }
    let what = "the memory limit is larger than a component can address";
    Err(Diagnostic::new("exceeds-limits", what).mend("choose at most 4GiB"))
}

//! The journey of one component from source to file, and of several at once.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tenon_model::{Diagnostic, Digest, Standing, standing};

use crate::component;
use crate::contract::Contract;
use crate::doctor::{doctor_optimizer, missing_for_build};
use crate::error::BuildError;
use crate::fingerprint::{Inputs, Record};
use crate::host::Host;
use crate::language::detect;
use crate::optimizer::{optimize, optimizer_recipe};
use crate::progress::Progress;
use crate::snapshot::Initialize;
use crate::toolbox::Toolbox;
use crate::toolchain::{Site, Toolchain, toolchain_of};
use tenon_model::{Goal, Language};

/// One component to build.
#[derive(Clone, Debug)]
pub struct Job {
    /// The component's name; names its files in `work`, so it is one path segment.
    pub name: String,
    /// The folder of its source.
    pub source: PathBuf,
    /// Its language; told from the files in `source` when absent.
    pub language: Option<Language>,
    /// The folder of the contracts.
    pub wit: PathBuf,
    /// The world it targets; may be absent when the contracts have one only.
    pub world: Option<String>,
    /// What its core modules are optimised for; not at all where it says nothing.
    pub optimize: Option<Goal>,
    /// The file to write.
    pub output: PathBuf,
    /// The project's folder for build products, `.tenon`; made when it is not there.
    pub work: PathBuf,
    /// Whether what its runtime does at its start is done at build time, where that can be.
    pub snapshot: bool,
}

/// With what to build.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    /// The guest toolchains.
    pub toolbox: &'a Toolbox,
    /// The machine.
    pub host: &'a Host,
    /// Told what is going on.
    pub progress: &'a dyn Progress,
    /// Starts core modules, for languages whose runtime can be started at build time; without it, none is.
    pub initialize: Option<Initialize<'a>>,
    /// Links the core modules of a component to one, for languages whose toolchain makes many; without it, none are.
    pub link: Option<Link<'a>>,
}

/// Links the core modules of a component to one, or says, for people, why that cannot be done. Composition does this, which
/// this room does not know.
pub type Link<'a> = &'a (dyn Fn(&[u8]) -> Result<Vec<u8>, String> + Sync);

/// A component that is built.
#[derive(Clone, Debug)]
pub struct Built {
    /// The component's name.
    pub name: String,
    /// What it is written in.
    pub language: Language,
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Its digest.
    pub digest: Digest,
    /// Whether it was built already, and nothing has changed since.
    pub skipped: bool,
    /// How long that took.
    pub duration: Duration,
}

/// Builds several components at the same time. The results come in the order of the jobs; a component that does not
/// build does not keep the others from being built.
pub fn build_project(jobs: &[Job], setting: Setting<'_>) -> Vec<Result<Built, BuildError>> {
    std::thread::scope(|scope| {
        let running: Vec<_> = jobs.iter().map(|job| scope.spawn(move || build(job, setting))).collect();
        running
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

/// Builds one component, unless it is built already.
///
/// # Errors
/// When the source, the contract or the toolchain is not as it should be, or the compiler refuses.
pub fn build(job: &Job, setting: Setting<'_>) -> Result<Built, BuildError> {
    let started = Instant::now();
    let job = &job.at_absolute_paths()?;
    let language = job.language.map_or_else(|| detect(&job.source), Ok)?;
    let toolchain = toolchain_of(language);
    fs::create_dir_all(&job.work).map_err(BuildError::io("make the folder", &job.work))?;
    // Held until the end: of two builds of a component at once, the second finds that it is built.
    let _lock = job.lock()?;

    let made = |bytes: &[u8], digest, skipped| Built {
        name: job.name.clone(),
        language,
        path: job.output.clone(),
        bytes: bytes.len() as u64,
        digest,
        skipped,
        duration: started.elapsed(),
    };
    let before = Record::read(&job.record_path());
    if let Some(record) = &before
        && let Ok(bytes) = fs::read(&job.output)
        && Digest::of(&bytes) == record.output
        && job.inputs(language, toolchain, &record.also, None)? == record.inputs
    {
        return Ok(made(&bytes, record.output, true));
    }

    // Toolchains write bindings into the source: of two components from the same one, one is built at a time.
    let _source = lock(&job.source)?;
    let mut checks = missing_for_build(setting.toolbox, setting.host, language);
    if job.optimize.is_some() {
        let needed = doctor_optimizer(setting.toolbox, setting.host, language);
        checks.extend(needed.into_iter().filter(|check| !check.is_good()));
    }
    if !checks.is_empty() {
        return Err(BuildError::Toolchain { component: job.name.clone(), language, checks });
    }
    let contract = Contract::load(&job.wit, job.world.as_deref())?;
    // Taken before the toolchain runs: what is saved meanwhile makes the next build build again.
    // A lock file that the tool is about to write is none of that.
    let without = toolchain.writes_once().filter(|file| !job.source.join(file).exists());
    let inputs_before = job.inputs(language, toolchain, &[], without)?;
    let site = Site {
        component: &job.name,
        language,
        source: &job.source,
        wit: &job.wit,
        contract: &contract,
        work: &job.work,
        toolbox: setting.toolbox,
        host: setting.host,
        progress: setting.progress,
        initialize: setting.initialize.filter(|_| job.snapshot),
        link: setting.link,
    };
    let mut product = toolchain.build(&site)?;
    if let Some(goal) = job.optimize {
        product.bytes = optimize(&site, &product.bytes, goal)?;
    }
    let mut undeclared = component::check(&job.name, &contract, &product.bytes)?;
    // What every standard library imports, and the host offers to everybody, is no news.
    undeclared.retain(|import| standing(import) != Standing::Inert);
    if !undeclared.is_empty() {
        let what = format!("imports that the world does not name: {}", undeclared.join(", "));
        setting.progress.line(&job.name, &what);
    }
    let bytes = tenon_wit::with_docs(&product.bytes, &contract.resolve);
    let tools = product.tools.iter().map(|(tool, version)| (*tool, version.as_str()));
    let tools: Vec<_> = tools.chain([("tenon", env!("CARGO_PKG_VERSION"))]).collect();
    let bytes = component::with_tools(bytes, &tools);
    let bytes = tenon_wit::with_language(&bytes, &language.to_string());
    let digest = Digest::of(&bytes);
    write_whole(&job.output, &bytes)?;
    if job.inputs(language, toolchain, &[], without)? == inputs_before {
        let inputs = job.inputs(language, toolchain, &product.also, None)?;
        let record = Record { inputs, output: digest, also: product.also };
        write_whole(&job.record_path(), record.text().as_bytes())?;
    }
    Ok(made(&bytes, digest, false))
}

/// Waits until nobody else has this file or folder locked; it is locked for as long as what comes back is there.
fn lock(path: &Path) -> Result<File, BuildError> {
    let file = File::open(path).map_err(BuildError::io("open", path))?;
    file.lock().map_err(BuildError::io("lock", path))?;
    Ok(file)
}

impl Job {
    fn at_absolute_paths(&self) -> Result<Self, BuildError> {
        let name = Path::new(&self.name);
        if name.components().count() != 1 || name.file_name() != Some(name.as_os_str()) {
            let what = format!("`{}` cannot be a component's name: files are named after it", self.name);
            return Err(Diagnostic::new("component-name", what)
                .mend("use letters, digits and dashes")
                .into());
        }
        let absolute = |path: &Path| {
            // What is there by its real name, so that it compares equal to what compilers report.
            path.canonicalize().or_else(|_| std::path::absolute(path)).map_err(BuildError::io("find", path))
        };
        let source = absolute(&self.source)?;
        if !source.is_dir() {
            // Says that the folder is missing.
            detect(&self.source)?;
        }
        Ok(Self {
            source,
            wit: absolute(&self.wit)?,
            output: absolute(&self.output)?,
            work: absolute(&self.work)?,
            ..self.clone()
        })
    }

    fn record_path(&self) -> PathBuf {
        self.work.join(format!("{}.fingerprint", self.name))
    }

    fn lock(&self) -> Result<File, BuildError> {
        let path = self.work.join(format!("{}.lock", self.name));
        File::create(&path).map_err(BuildError::io("write", &path))?;
        lock(&path)
    }

    fn inputs(
        &self,
        language: Language,
        toolchain: &dyn Toolchain,
        also: &[PathBuf],
        without: Option<&str>,
    ) -> Result<Digest, BuildError> {
        let recipe = format!(
            "tenon-build {} 2\n{}\n{}\nworld {}\nsnapshot {}\n{}",
            env!("CARGO_PKG_VERSION"),
            language.name(),
            toolchain.recipe(),
            self.world.as_deref().unwrap_or(""),
            self.snapshot,
            self.optimize.map(optimizer_recipe).unwrap_or_default()
        );
        let inputs = Inputs {
            source: &self.source,
            wit: &self.wit,
            generated: toolchain.generates(),
            without,
            recipe: &recipe,
        };
        match inputs.digest(also) {
            Ok(digest) => Ok(digest),
            // Contract::load says this better.
            Err((path, _)) if path == self.wit => Ok(Digest::of(b"no contracts")),
            Err((path, source)) => Err(BuildError::Io { action: "read", path, source }),
        }
    }
}

/// Writes a file so that nobody ever sees half of it.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), BuildError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(BuildError::io("make the folder", folder))?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(BuildError::io("write in", folder))?;
    file.write_all(bytes).map_err(BuildError::io("write", path))?;
    // Others may read what was built, as if it had been written in place.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let readable = fs::Permissions::from_mode(0o644);
        file.as_file().set_permissions(readable).map_err(BuildError::io("write", path))?;
    }
    file.persist(path).map_err(|error| BuildError::io("write", path)(error.error))?;
    Ok(())
}

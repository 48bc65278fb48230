//! The command line.

mod limits;
mod node;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use limits::{LimitArgs, ReuseArgs};
pub(crate) use node::*;

use crate::project::DependencyFile;

/// Compose WebAssembly components written in different languages into one typed service, and serve it, each
/// request in a fresh sandbox.
#[derive(Debug, Parser)]
#[command(name = "tenon", version, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Print results and errors as JSON, one value a line.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print results and errors only.
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Begin a component: a folder with a contract, source that answers requests, and a manifest.
    New(NewArgs),
    /// Build components from source, each with its own language's toolchain; what has not changed is skipped.
    Build(BuildArgs),
    /// Join components by their contracts into one component.
    Compose(ComposeArgs),
    /// Draw a composition: its components, what they import from one another, what is left open, what is exported.
    Graph(GraphArgs),
    /// Compile a component to native code, ahead of time.
    Compile(CompileArgs),
    /// Make a component of a core module: embed its world, adapt WASI preview 1, check the result.
    Componentize(ComponentizeArgs),
    /// Show what is in a component: world, imports, exports, nested components, sizes, producers.
    Inspect(InspectArgs),
    /// Say what each component may touch outside its sandbox, and whether a new version asks for more.
    Authority(AuthorityArgs),
    /// Call a function that a component exports, with typed values; without a function, list them.
    Call(CallArgs),
    /// Serve a component, or a folder's composition, over HTTP.
    Serve(ServeArgs),
    /// Serve a folder while it is edited: what is saved is built, composed and served, without losing a request.
    Dev(DevArgs),
    /// Serve the apps of many tenants: deployed, replaced and watched while they run.
    Node(NodeArgs),
    /// Deploy a component, or a folder's composition, to a node.
    Deploy(DeployArgs),
    /// List the apps of a node.
    Apps(AppsArgs),
    /// List an app's revisions.
    Revisions(AppArgs),
    /// Show how an app's rollout stands.
    Rollout(RolloutArgs),
    /// Take an app back to an earlier revision, at once.
    Revert(RevertArgs),
    /// Give a rollout's new revision all requests now.
    Promote(PromoteArgs),
    /// Take an app out of service, or hold its rollout.
    Pause(ChangeArgs),
    /// Undo `pause`.
    Resume(ChangeArgs),
    /// Remove an app and its revisions; what it kept in stores stays.
    Delete(AppArgs),
    /// Tenants, and what each may use.
    Tenant(TenantArgs),
    /// Tokens: who may do what with a node.
    Token(TokenArgs),
    /// Say how many more of an app fit on a node, and what is used up first.
    Capacity(CapacityArgs),
    /// Watch what the apps of a node do.
    Top(TopArgs),
    /// Show what an app writes, and what fails.
    Logs(LogsArgs),
    /// Say how a node is.
    Status(StatusArgs),
    /// Show who changed what on a node.
    Audit(AuditArgs),
    /// Run contract tests: calls and requests with what should come back, imports mocked, values generated.
    Test(TestArgs),
    /// Lay out contracts, and write pages about them.
    Wit(WitArgs),
    /// Show what failed requests left behind.
    Crash(CrashArgs),
    /// Say what is missing on this machine, for which language, and the command that mends it.
    Doctor(DoctorArgs),
    /// Compile for a node, in a process of its own.
    #[command(hide = true)]
    CompileWorker,
    /// Print the reference of every command, manifest key, limit and error code, as Markdown.
    #[command(hide = true)]
    Reference,
}

#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    /// A folder with a `tenon.toml` or `composition.toml`, or with the source of one component.
    #[arg(default_value = ".")]
    pub(crate) dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct NewArgs {
    /// The folder to make; its name is the component's.
    #[arg(value_name = "NAME")]
    pub(crate) folder: PathBuf,
    /// The language to write it in.
    #[arg(long, value_name = "LANG", value_enum)]
    pub(crate) lang: LanguageName,
    /// The world to write it for: a WIT file or a folder of them, with `#WORLD` behind it when there are several; or
    /// `wasi:http/proxy`, `wasi:http/service` (WASI 0.3) or `wasi:cli/command`. Default: a world with a handler that answers
    /// requests.
    #[arg(long, value_name = "WIT[#WORLD]")]
    pub(crate) world: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LanguageName {
    Rust,
    Go,
    #[value(name = "typescript", alias = "ts")]
    TypeScript,
    #[value(name = "javascript", alias = "js")]
    JavaScript,
    Python,
    C,
    #[value(alias = "c++")]
    Cpp,
    #[value(name = "assemblyscript")]
    AssemblyScript,
}

impl From<LanguageName> for tenon_build::Language {
    fn from(name: LanguageName) -> Self {
        match name {
            LanguageName::Rust => Self::Rust,
            LanguageName::Go => Self::Go,
            LanguageName::TypeScript => Self::TypeScript,
            LanguageName::JavaScript => Self::JavaScript,
            LanguageName::Python => Self::Python,
            LanguageName::C => Self::C,
            LanguageName::Cpp => Self::Cpp,
            LanguageName::AssemblyScript => Self::AssemblyScript,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ComposeArgs {
    /// The manifest (TOML or WAC) that says what is joined to what, or a folder with one.
    #[arg(long, value_name = "FILE", default_value = ".")]
    pub(crate) config: PathBuf,
    #[command(flatten)]
    pub(crate) dependencies: DependencyArgs,
    /// Fail when the lock beside the manifest does not say the same; write nothing then.
    #[arg(long)]
    pub(crate) locked: bool,
    /// Make the components smaller and quicker to instantiate, as `optimize = true` in the manifest does, and say what
    /// it saved. Names and debug information go to OUT.debug, where `tenon crash` finds them.
    #[arg(long)]
    pub(crate) optimize: bool,
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// Component files that stand in for a component's `path`, matched by file name.
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Where to write the composed component.
    #[arg(long, short, value_name = "OUT")]
    pub(crate) output: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct DependencyArgs {
    /// Where the component of a package is that a WAC file instantiates; default: in the folder `deps` beside the file.
    /// May be given several times.
    #[arg(id = "dep", long, value_name = "NAMESPACE:NAME=FILE")]
    pub(crate) files: Vec<DependencyFile>,
}

#[derive(Debug, Args)]
pub(crate) struct GraphArgs {
    /// A manifest (TOML or WAC), a folder with one, or a component.
    #[arg(default_value = ".")]
    pub(crate) target: PathBuf,
    /// Draw it into an SVG file.
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) dependencies: DependencyArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DataArgs {
    /// The data directory: compiled artifacts and the node's key. Default: `$TENON_DATA`, else the user's data
    /// directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct CompileArgs {
    /// The component.
    pub(crate) file: PathBuf,
    /// Also write the artifact here. Only this node runs it: `tenon serve OUT`.
    #[arg(long, short, value_name = "OUT")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ComponentizeArgs {
    /// The core module.
    #[arg(value_name = "MODULE")]
    pub(crate) file: PathBuf,
    /// Where to write the component. Default: `NAME.component.wasm` beside the module.
    #[arg(long, short, value_name = "OUT")]
    pub(crate) output: Option<PathBuf>,
    /// A folder or file of contracts with the module's world, when the module does not carry it.
    #[arg(long, value_name = "DIR")]
    pub(crate) wit: Option<PathBuf>,
    /// The world in it. Default: the only one.
    #[arg(long, value_name = "NAME")]
    pub(crate) world: Option<String>,
    /// What stands between the module and WASI 0.2. Default: what fits the module.
    #[arg(long, value_name = "ADAPTER", value_enum)]
    pub(crate) adapter: Option<AdapterName>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AdapterName {
    /// For a program with `_start`.
    Command,
    /// For a library.
    Reactor,
    /// For a library that serves HTTP and needs neither files nor an environment.
    Proxy,
}

#[derive(Debug, Args)]
pub(crate) struct CrashArgs {
    #[command(subcommand)]
    pub(crate) command: CrashCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CrashCommand {
    /// List the reports that are kept, newest first.
    List(CrashListArgs),
    /// Show a report: what failed, where in the source, with which limits and arguments.
    Show(CrashShowArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CrashListArgs {
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

#[derive(Debug, Args)]
pub(crate) struct CrashShowArgs {
    /// A report's id, the beginning of one, or a request's id. Default: the newest report.
    pub(crate) id: Option<String>,
    /// The component that failed, where it is no longer kept.
    #[arg(long, value_name = "FILE")]
    pub(crate) component: Option<PathBuf>,
    /// A component or module as it was before it was stripped; matched by build id or by code. May be given several times.
    /// `NAME.wasm.debug` beside a served `NAME.wasm` is found by itself.
    #[arg(long, value_name = "FILE")]
    pub(crate) debug_info: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// The component.
    pub(crate) file: PathBuf,
    /// Print its contract as WIT.
    #[arg(long)]
    pub(crate) wit: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AuthorityArgs {
    /// A component (`.wasm`), a manifest, or a folder with one.
    #[arg(default_value = ".")]
    pub(crate) target: PathBuf,
    /// Fail when it asks for more than this: a component, a manifest, a folder, or a report printed with `--json`.
    #[arg(long, value_name = "BASE")]
    pub(crate) deny_growth: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct CallArgs {
    /// A component (`.wasm`), a compiled artifact of this node (`.cwasm`), a manifest, or a folder with one.
    pub(crate) target: PathBuf,
    /// The function and its arguments in WAVE: `add(1, 2)`, or `package:name/interface.add(1, 2)`.
    #[arg(value_name = "CALL", conflicts_with = "session")]
    pub(crate) call: Option<String>,
    /// Read one call a line from standard input, all in one sandbox: resources are handles (`#1`) until the end.
    #[arg(long)]
    pub(crate) session: bool,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    /// Crash reports that are kept; 0 for none.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub(crate) crash_reports: u32,
    /// Keep the arguments of a call that failed in its crash report, not only the function.
    #[arg(long)]
    pub(crate) keep_arguments: bool,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// A component (`.wasm`), a compiled artifact of this node (`.cwasm`), a manifest (TOML or WAC), or a folder with one.
    #[arg(default_value = ".")]
    pub(crate) target: PathBuf,
    #[command(flatten)]
    pub(crate) dependencies: DependencyArgs,
    /// The address to listen on; port 0 picks a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,
    /// Threads that serve requests. Default: one for each core.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) workers: Option<u16>,
    /// Sandboxes alive at once, over all requests.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) pool: u32,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    #[command(flatten)]
    pub(crate) reuse: ReuseArgs,
    /// Crash reports that are kept; 0 for none.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub(crate) crash_reports: u32,
    /// Keep values of queries and header fields in crash reports, not only their names; never those of credentials.
    #[arg(long)]
    pub(crate) keep_arguments: bool,
    /// Write a core dump of each guest that fails beside its crash report. A failure then costs a copy of its memory.
    #[arg(long)]
    pub(crate) core_dumps: bool,
    /// The form of the log, which goes to standard error.
    #[arg(long, value_name = "FORM", value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    /// Log every request, not only those that failed.
    #[arg(long)]
    pub(crate) access_log: bool,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DevArgs {
    /// A folder with a `tenon.toml` or `composition.toml`, or with the source of one component.
    #[arg(default_value = ".")]
    pub(crate) dir: PathBuf,
    /// The address to listen on; port 0 picks a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,
    /// Look at the files twice a second instead of asking the system: for folders whose system tells of no changes, as
    /// those shared with a virtual machine.
    #[arg(long)]
    pub(crate) poll: bool,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// A test file, or a folder with a `tenon.test.toml` or `tests/*.toml`.
    #[arg(default_value = ".")]
    pub(crate) target: PathBuf,
    /// Also call every function with N generated values: none may trap, and those named in `[generate]` give back what
    /// they are given.
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = "100", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) generate: Option<u32>,
    /// Where the generated values begin: the same seed makes the same values.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Also write the results as JUnit's XML.
    #[arg(long, value_name = "FILE")]
    pub(crate) junit: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

#[derive(Debug, Args)]
pub(crate) struct WitArgs {
    #[command(subcommand)]
    pub(crate) command: WitCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum WitCommand {
    /// Lay out WIT files; only whitespace changes, and every comment stays.
    Fmt(WitFmtArgs),
    /// Write a page for each package, as HTML and as Markdown.
    Docs(WitDocsArgs),
    /// Copy packages that a contract depends on into `deps`, and lock them.
    Deps(WitDepsArgs),
    /// Show or write the code that a language's toolchain makes of a world.
    Bindgen(WitBindgenArgs),
}

#[derive(Debug, Args)]
pub(crate) struct WitDepsArgs {
    #[command(subcommand)]
    pub(crate) command: WitDepsCommand,
    /// The folder of the contracts.
    #[arg(long, value_name = "DIR", default_value = "wit", global = true)]
    pub(crate) wit: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum WitDepsCommand {
    /// Copy the packages of these sources into `deps`, with what they use, and lock them.
    Add {
        /// A WIT file, a folder of them, a component, or a package of WASI in a release that comes with Tenon:
        /// `wasi:http@0.2.12`.
        #[arg(value_name = "SOURCE", required = true)]
        sources: Vec<String>,
    },
    /// Write the lock of what is in `deps`.
    Lock {
        /// Write nothing; fail when the lock says something else.
        #[arg(long)]
        locked: bool,
    },
    /// Copy every locked package from its source again.
    Vendor {
        /// Fail when a source is no longer what was locked.
        #[arg(long)]
        locked: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct WitBindgenArgs {
    /// A folder of contracts, or a file.
    #[arg(default_value = "wit")]
    pub(crate) dir: PathBuf,
    /// The language.
    #[arg(long, value_name = "LANG", value_enum)]
    pub(crate) lang: LanguageName,
    /// The world. Default: the only one.
    #[arg(long, value_name = "NAME")]
    pub(crate) world: Option<String>,
    /// The folder to write to. Default: all files are printed.
    #[arg(long, short, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct WitFmtArgs {
    /// Files, and folders with files; what is in `deps` is left as it is.
    #[arg(value_name = "PATH", default_value = "wit")]
    pub(crate) paths: Vec<PathBuf>,
    /// Write nothing; fail when a file would change.
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Debug, Args)]
pub(crate) struct WitDocsArgs {
    /// A folder of contracts, or a file.
    #[arg(default_value = "wit")]
    pub(crate) dir: PathBuf,
    /// The folder to write to.
    #[arg(long, short, value_name = "OUT")]
    pub(crate) output: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object a line.
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// A folder whose components' languages are looked at. Default: all languages.
    pub(crate) dir: Option<PathBuf>,
    /// Install what is missing and can be installed without root.
    #[arg(long)]
    pub(crate) fix: bool,
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::error::ErrorKind;

    use super::*;

    /// The words of a command as a shell reads it, up to what is the shell's: a pipe, a redirection, a comment.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
        for character in line.chars() {
            match (quote, character) {
                (Some(open), _) if open == character => quote = None,
                (Some(_), _) => word.get_or_insert_default().push(character),
                (None, '\'' | '"') => {
                    quote = Some(character);
                    word.get_or_insert_default();
                }
                (None, ' ') => words.extend(word.take()),
                (None, '|' | '>' | '&' | ';' | '\\') => break,
                (None, '#') if word.is_none() => break,
                (None, _) => word.get_or_insert_default().push(character),
            }
        }
        words.extend(word);
        words
    }

    /// The commands of a page that a person would type, those of root too, without what they set for them.
    fn commands(page: &str) -> Vec<Vec<String>> {
        let shells = page.split("\n```console\n").skip(1).map(|rest| rest.split("\n```").next().unwrap());
        let typed = shells
            .flat_map(str::lines)
            .filter_map(|line| line.strip_prefix("$ ").or_else(|| line.strip_prefix("# ")));
        let said = typed.map(|line| words(line.trim_start_matches("sudo -u tenon ")));
        said.map(|words| words.into_iter().skip_while(|word| word.contains('=')).collect())
            .filter(|words: &Vec<String>| words.first().is_some_and(|word| word == "tenon"))
            .collect()
    }

    #[test]
    fn a_command_is_what_a_shell_makes_of_a_line() {
        let page = "\n```console\n$ A=b tenon call x.wasm 'f(1, \"#\")' --json > y  # why\nsaid\n# sudo -u tenon B=c tenon status\n```\n\
                    $ tenon nothing\n";
        assert_eq!(
            commands(page),
            [&["tenon", "call", "x.wasm", "f(1, \"#\")", "--json"][..], &["tenon", "status"]]
        );
    }

    #[test]
    fn every_command_of_the_documentation_is_one() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut pages = vec![root.join("README.md")];
        let listing = |folder: &str| std::fs::read_dir(root.join(folder)).unwrap();
        pages.extend(listing("docs").map(|entry| entry.unwrap().path()));
        pages.extend(listing("examples").map(|entry| entry.unwrap().path().join("README.md")));
        let mut count = 0;
        for page in pages.iter().filter(|page| page.extension().is_some_and(|it| it == "md")) {
            let Ok(text) = std::fs::read_to_string(page) else { continue };
            for command in commands(&text) {
                count += 1;
                let read = Cli::try_parse_from(&command);
                let shown = [ErrorKind::DisplayHelp, ErrorKind::DisplayVersion];
                if let Err(error) = read.map_err(|error| (error.kind(), error.to_string()))
                    && !shown.contains(&error.0)
                {
                    panic!("{}: `{}`: {}", page.display(), command.join(" "), error.1);
                }
            }
        }
        assert!(count > 50, "only {count} commands were found");
    }
}

//! The `tenon` command: the only room that knows the terminal, the environment and the home directory.
//!
//! `main` reads both once, hands what it read to one command (a file each under `commands`), and turns what comes
//! back into output and an exit code.

mod admin;
mod app;
mod args;
mod commands;
mod composition;
mod error;
mod log;
mod process;
mod project;
mod settings;
mod stores;
mod table;
mod terminal;

use std::process::ExitCode;

use args::{Cli, Command};
use clap::Parser as _;
use settings::Settings;
use terminal::Terminal;

/// About as quick as the GNU system's for requests, quicker to compile with, and the same on systems whose own is slow.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // A panic has printed itself; what is left is to say that it was our fault.
    std::panic::catch_unwind(run).unwrap_or(ExitCode::from(error::OURS))
}

fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => {
            // Help and version are not errors; clap knows which is which, and where each is printed.
            let _ = usage.print();
            return ExitCode::from(if usage.use_stderr() { error::USAGE } else { 0 });
        }
    };
    let terminal = Terminal::new(cli.json, cli.quiet);
    let settings = Settings::from_environment();
    let done = match cli.command {
        Command::New(args) => commands::new::run(&args, &terminal),
        Command::Build(args) => commands::build::run(&args, &settings, &terminal),
        Command::Compose(args) => commands::compose::run(&args, &settings, &terminal),
        Command::Graph(args) => commands::graph::run(&args, &terminal),
        Command::Compile(args) => commands::compile::run(&args, &settings, &terminal),
        Command::Componentize(args) => commands::componentize::run(&args, &terminal),
        Command::Crash(args) => commands::crash::run(&args, &settings, &terminal),
        Command::Inspect(args) => commands::inspect::run(&args, &terminal),
        Command::Authority(args) => commands::authority::run(&args, &terminal),
        Command::Call(args) => commands::call::run(&args, &settings, &terminal),
        Command::Serve(args) => commands::serve::run(&args, &settings, &terminal),
        Command::Dev(args) => commands::dev::run(&args, &settings, &terminal),
        Command::Node(args) => commands::node::run(&args, &settings, &terminal),
        Command::CompileWorker => commands::compile_worker::run(),
        Command::Deploy(args) => commands::deploy::run(&args, &settings, &terminal),
        Command::Apps(args) => commands::apps::list(&args, &settings, &terminal),
        Command::Revisions(args) => commands::apps::revisions(&args, &settings, &terminal),
        Command::Rollout(args) => commands::rollout::run(&args, &settings, &terminal),
        Command::Revert(args) => commands::change::revert(&args, &settings, &terminal),
        Command::Promote(args) => commands::change::promote(&args, &settings, &terminal),
        Command::Pause(args) => commands::change::pause(&args, &settings, &terminal),
        Command::Resume(args) => commands::change::resume(&args, &settings, &terminal),
        Command::Delete(args) => commands::change::delete(&args, &settings, &terminal),
        Command::Tenant(args) => commands::tenant::run(&args, &settings, &terminal),
        Command::Token(args) => commands::token::run(&args, &settings, &terminal),
        Command::Capacity(args) => commands::status::capacity(&args, &settings, &terminal),
        Command::Top(args) => commands::top::run(&args, &settings, &terminal),
        Command::Logs(args) => commands::logs::run(&args, &settings, &terminal),
        Command::Status(args) => commands::status::status(&args, &settings, &terminal),
        Command::Audit(args) => commands::status::audit(&args, &settings, &terminal),
        Command::Test(args) => commands::test::run(&args, &settings, &terminal),
        Command::Wit(args) => commands::wit::run(&args, &settings, &terminal),
        Command::Doctor(args) => commands::doctor::run(&args, &settings, &terminal),
        Command::Reference => commands::reference::run(&terminal),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            terminal.error(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

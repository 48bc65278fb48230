//! What a developer runs: `cargo xtask demo`, `test`, `bench` and `reference`.

mod bench;
mod command;
mod counts;
mod demo;
mod failure;
mod http;
mod reference;
mod rules;
mod scan;
mod signals;
mod stamp;
mod steps;
mod test;
mod tools;
mod usage;
mod workspace;

use std::process::ExitCode;

use failure::Failure;
use usage::Task;
use workspace::{Program, Workspace};

/// A command line that was not understood.
const USAGE_ERROR: u8 = 2;

fn main() -> ExitCode {
    let task = match usage::parse(lexopt::Parser::from_env()) {
        Ok(task) => task,
        Err(error) => {
            eprintln!("error: {error}\n\n{}", usage::TEXT);
            return ExitCode::from(USAGE_ERROR);
        }
    };
    let outcome = Workspace::find().and_then(|workspace| match task {
        Task::Help => {
            println!("{}", usage::TEXT);
            Ok(ExitCode::SUCCESS)
        }
        Task::Demo(options) => demo::run(&workspace, &options),
        Task::Test(options) => test::run(&workspace, &options),
        Task::Bench(options) => bench::run(&measured(&workspace, options.shipped)?, &options),
        Task::NodeBench(options) => bench::node::run(&measured(&workspace, options.shipped)?, &options),
        Task::AuthoringBench(options) => {
            bench::authoring::run(&measured(&workspace, options.shipped)?, &options)
        }
        Task::Ship => bench::ship::run(&workspace),
        Task::Reference => reference::write(&workspace).map(|()| ExitCode::SUCCESS),
    });
    outcome.unwrap_or_else(|failure: Failure| {
        eprintln!("\n{failure}");
        ExitCode::FAILURE
    })
}

/// Where the program is that is measured.
fn measured(workspace: &Workspace, shipped: bool) -> Result<Workspace, Failure> {
    let program = if shipped { Program::Shipped } else { Program::Release };
    let workspace = workspace.running(program);
    if shipped && !workspace.tenon().is_file() {
        return Err(Failure::new(format!("there is no {}", workspace.tenon().display()))
            .mend("build it: `cargo xtask ship`"));
    }
    Ok(workspace)
}

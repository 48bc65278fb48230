//! Builds components from the command line: `build TOOLS WORK WIT (NAME SOURCE WORLD)…`, the room without the rest of
//! Tenon. `build TOOLS --doctor` and `build TOOLS --fix` show and mend what is missing.
#![expect(clippy::unwrap_used, reason = "an example of the calls, not of their failures")]

use std::path::PathBuf;

use tenon_build::{Host, Job, Language, Progress, Setting, Toolbox, build_project, doctor};

struct Print;

impl Progress for Print {
    fn step(&self, subject: &str, step: &str) {
        println!("{subject}: {step}");
    }
    fn line(&self, subject: &str, line: &str) {
        println!("{subject}| {line}");
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let toolbox = Toolbox::new(std::path::absolute(&arguments[0]).unwrap());
    let host = Host::new(std::env::vars_os());
    let setting = Setting { toolbox: &toolbox, host: &host, progress: &Print, initialize: None, link: None };
    if let "--doctor" | "--fix" = arguments[1].as_str() {
        for language in Language::ALL {
            if arguments[1] == "--fix" {
                toolbox.install(language, &host, &Print).unwrap();
            }
            for check in doctor(&toolbox, &host, language) {
                println!("{language}: {}: {} ({})", check.what, check.state, check.mend);
            }
        }
        return;
    }
    let work = PathBuf::from(&arguments[1]);
    let jobs: Vec<Job> = arguments[3..]
        .chunks_exact(3)
        .map(|job| Job {
            name: job[0].clone(),
            source: job[1].clone().into(),
            language: None,
            wit: arguments[2].clone().into(),
            world: Some(job[2].clone()),
            optimize: None,
            output: work.join(format!("{}.wasm", job[0])),
            work: work.clone(),
            snapshot: true,
        })
        .collect();
    for result in build_project(&jobs, setting) {
        match result {
            Ok(built) => println!(
                "{} ({}): {} bytes, {}, skipped: {}, {:?}",
                built.name, built.language, built.bytes, built.digest, built.skipped, built.duration
            ),
            Err(error) => println!("{}", error.diagnostics()),
        }
    }
}

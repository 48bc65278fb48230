//! A program with plugins: it loads the component named on its command line, gives it numbers and prints its answer.
//!
//! The plugin is `examples/metrics-app/app`. It imports a log and mathematics, and this program offers both itself;
//! nothing else of the machine can be reached, and each call is bounded in time and memory.

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use tenon_engine::call::Callable;
use tenon_engine::value::Val;
use tenon_engine::{Artifacts, Backends, Engine, HostFunctions, Pool, Source, Terms};
use tenon_model::{Authorities, Limits};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::args().nth(1).ok_or("usage: plugin-host PLUGIN.wasm < NUMBERS")?;
    let bytes = std::fs::read(&file)?;
    let mut input = Vec::new();
    std::io::stdin().take(1 << 20).read_to_end(&mut input)?;

    // What a call may use up, and what the plugin may touch: nothing but these two functions.
    let limits = Limits { cpu: Duration::from_secs(1), memory_bytes: 64 << 20, ..Limits::default() };
    let functions = HostFunctions::default()
        .with("demo:metrics/logging@1.0.0", "log", |arguments| match arguments {
            [Val::Enum(level), Val::String(message)] => {
                eprintln!("plugin: {level}: {message}");
                Ok(vec![])
            }
            _ => Err("log takes a level and a message".into()),
        })
        .with("demo:metrics/math-ops@1.0.0", "calculate-metric", |arguments| match arguments {
            [Val::List(data)] => {
                let sum: f64 = data.iter().map(|it| if let Val::Float64(it) = it { *it } else { 0.0 }).sum();
                Ok(vec![Val::Float64(sum / data.len() as f64)])
            }
            _ => Err("calculate-metric takes a list of numbers".into()),
        });
    let backends = Backends { functions, ..Backends::default() };

    // Compiled once, kept for the next start, and checked before it is trusted.
    let engine = Engine::new(Pool::of(4, &limits))?;
    let artifacts = Artifacts::open(&std::env::temp_dir().join("plugin-host"))?;
    let stored = artifacts
        .get(&engine, &Source { name: "plugin", bytes: &bytes, parts: &Vec::new, contract: &|| None })?;
    let nothing = Authorities::default();
    let terms = Terms { name: "plugin", file: &file, limits, authorities: &nothing, backends: &backends };
    let plugin = Arc::new(Callable::new(&engine, stored, &terms)?);

    let function = plugin.find("process-data")?.clone();
    let mut session = plugin.session("1".into());
    let (answer,): (String,) = session.call_typed(&function, (input,)).await?;
    println!("{answer}");
    Ok(())
}

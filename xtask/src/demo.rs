//! `cargo xtask demo`: from a fresh clone to a served service of three languages, and a few requests to it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::command::Server;
use crate::failure::{Failure, Result};
use crate::http::{Request, Response};
use crate::signals;
use crate::stamp::Stamp;
use crate::steps::{Outcome, Steps, seconds};
use crate::tools;
use crate::usage;
use crate::workspace::Workspace;

/// How long `serve` may take to say that it serves, should it have to compile first.
const SERVING_MAX: Duration = Duration::from_secs(120);
/// How often a running service is looked at.
const WATCH: Duration = Duration::from_millis(100);
/// Most characters of a body that are shown.
const SHOWN_MAX: usize = 240;

/// Does all of it.
pub(crate) fn run(workspace: &Workspace, options: &usage::Demo) -> Result<ExitCode> {
    let mut steps = Steps::new(7);
    build_tenon(workspace, &mut steps)?;
    let composed = build_storefront(workspace, &mut steps)?;
    steps.run("compile ahead of time", || {
        once(workspace, "compile", &[workspace.tenon(), composed.clone()], true, || {
            workspace.run_tenon(["compile"]).arg(&composed).run().map(|()| Outcome::Done)
        })
    })?;

    signals::listen()?;
    let mut server = None;
    let mut address = None;
    steps.run("serve", || {
        let (started, at) = serve(workspace, options.listen)?;
        let took = seconds(started.started.elapsed());
        server = Some(started);
        address = Some(at);
        Ok(Outcome::Said(format!("accepts connections {took} after its start")))
    })?;
    let (Some(mut server), Some(address)) = (server, address) else {
        return Err(Failure::new("the service was not started"));
    };
    steps.run("requests", || send_requests(address).map(|sent| Outcome::Said(format!("{sent} sent"))))?;
    steps.print_table("Done:");

    if !options.once {
        println!(
            "\nServing on http://{address} until Ctrl-C. Try:\n  curl -i http://{address}/\n  \
             curl -i -X POST http://{address}/login -d '{LOGIN}'"
        );
        while !signals::asked_to_stop() {
            server.check()?;
            thread::sleep(WATCH);
        }
    }
    println!("\nStopping.");
    let status = server.stop()?;
    if status.success() {
        Ok(ExitCode::SUCCESS)
    } else {
        Err(Failure::new(format!("tenon serve ended with {status}")))
    }
}

/// Builds the `tenon` binary as it is released, unless nothing has changed since the last time.
pub(crate) fn build_tenon(workspace: &Workspace, steps: &mut Steps) -> Result<()> {
    steps.run("build tenon", || {
        let inputs = tenon_inputs(workspace);
        let stamp = Stamp::of(workspace.target.join("xtask/tenon.stamp"), &inputs)?;
        if stamp.is_current() && workspace.tenon().is_file() {
            return Ok(Outcome::Skipped("nothing has changed".into()));
        }
        workspace.build_programs(&["tenon"])?;
        // Of the inputs as they are now: cargo may have completed the lock file.
        Stamp::of(workspace.target.join("xtask/tenon.stamp"), &inputs)?.set()?;
        Ok(Outcome::Done)
    })
}

fn tenon_inputs(workspace: &Workspace) -> Vec<PathBuf> {
    ["Cargo.toml", "Cargo.lock", "crates"].iter().map(|name| workspace.root.join(name)).collect()
}

/// Completes the guest toolchains, builds the three components and composes them; returns the composed component.
pub(crate) fn build_storefront(workspace: &Workspace, steps: &mut Steps) -> Result<PathBuf> {
    let storefront = workspace.storefront();
    // Beside the components, under a name none of them has.
    let composed = storefront.join(".tenon/composed.wasm");
    steps.run("toolchains", || complete_toolchains(workspace))?;
    steps.run("build the components", || {
        workspace.run_tenon(["build"]).arg(&storefront).run().map(|()| Outcome::Done)
    })?;
    steps.run("compose", || {
        let manifest = storefront.join("composition.toml");
        let mut inputs = vec![workspace.tenon(), manifest.clone()];
        inputs.extend(COMPONENTS.map(|name| storefront.join(format!(".tenon/{name}.wasm"))));
        once(workspace, "compose", &inputs, composed.is_file(), || {
            let compose = workspace.run_tenon(["compose", "--config"]).arg(manifest).arg("-o").arg(&composed);
            compose.run().map(|()| Outcome::Said(size_of(&composed)))
        })
    })?;
    Ok(composed)
}

/// The components of the storefront.
const COMPONENTS: [&str; 3] = ["auth", "routing", "storefront"];

/// Does something unless it was done since `inputs` last changed, and what it made is there.
fn once(
    workspace: &Workspace,
    what: &str,
    inputs: &[PathBuf],
    is_there: bool,
    work: impl FnOnce() -> Result<Outcome>,
) -> Result<Outcome> {
    let stamp = Stamp::of(workspace.target.join(format!("xtask/{what}.stamp")), inputs)?;
    if is_there && stamp.is_current() {
        return Ok(Outcome::Skipped("nothing has changed".into()));
    }
    let outcome = work()?;
    stamp.set()?;
    Ok(outcome)
}

fn size_of(file: &Path) -> String {
    file.metadata().map_or_else(|error| error.to_string(), |metadata| format!("{} bytes", metadata.len()))
}

/// Installs the toolchains of all languages, which the tests build guests with.
pub(crate) fn complete_all_toolchains(workspace: &Workspace) -> Result<Outcome> {
    tools::complete_rust(workspace)?;
    // What is there already is left alone, which takes a second to tell.
    workspace.run_tenon(["doctor", "--fix", "--quiet"]).run().map(|()| Outcome::Done)
}

/// Installs what `tenon doctor` finds missing for the example, unless it was complete before.
pub(crate) fn complete_toolchains(workspace: &Workspace) -> Result<Outcome> {
    // What the doctor looks at: the manifest, and which toolchains are there. Not their thousands of files.
    let stamp = || {
        let tools = workspace.tools();
        let mut inputs = tenon_inputs(workspace);
        inputs.push(workspace.storefront().join("composition.toml"));
        let entries = std::fs::read_dir(&tools).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
        names.sort();
        Stamp::of(workspace.target.join("xtask/doctor.stamp"), &inputs).map(|stamp| stamp.with(&names))
    };
    if stamp()?.is_current() {
        return Ok(Outcome::Skipped("complete".into()));
    }
    let mut added = tools::complete_rust(workspace)?.join(", ");
    workspace.run_tenon(["doctor"]).arg(workspace.storefront()).arg("--fix").run()?;
    stamp()?.set()?;
    if !added.is_empty() {
        added.insert_str(0, "added ");
        return Ok(Outcome::Said(added));
    }
    Ok(Outcome::Done)
}

/// Starts the service and waits until it accepts connections.
fn serve(workspace: &Workspace, listen: SocketAddr) -> Result<(Server, SocketAddr)> {
    let command =
        workspace.run_tenon(["serve"]).arg(workspace.storefront()).arg("--listen").arg(listen.to_string());
    println!("  $ {}", command.line());
    let mut server = command.start()?;
    let line = server.wait_for_line("serving ", SERVING_MAX)?;
    println!("  {line}");
    let address =
        line.rsplit_once("http://").and_then(|(_, address)| address.trim_end_matches('/').parse().ok());
    let address = address.ok_or_else(|| Failure::new(format!("no address in {line:?}")))?;
    Ok((server, address))
}

/// Who the demo signs in as.
const LOGIN: &str = r#"{"user":"ada"}"#;

/// Sends the requests, shows them and what came back, and checks each status: a demo that shows a failure as if it
/// were none would be worse than none. Returns how many were sent.
fn send_requests(address: SocketAddr) -> Result<usize> {
    let login = Request { method: "POST", path: "/login", headers: json(), body: Some(LOGIN.as_bytes()) };
    let signed_in = exchange("sign in: auth (Rust) signs a token", &login, address, 200)?;
    let answer: Value = serde_json::from_slice(&signed_in.body)
        .map_err(|error| Failure::new(format!("the answer to the login is not JSON: {error}")))?;
    let token =
        answer["token"].as_str().ok_or_else(|| Failure::new("the answer to the login has no token"))?;

    let bearer = |token: &str| vec![("authorization", format!("Bearer {token}"))];
    let mut order_headers = bearer(token);
    order_headers.extend(json());
    let forged = forge(token);
    let others = [
        ("a path with a parameter: routing (Go) finds it", "GET", "/products/saw", vec![], None, 200),
        ("a good token", "GET", "/orders", bearer(token), None, 200),
        ("a forged token: auth refuses it", "GET", "/orders", bearer(&forged), None, 401),
        ("no token", "GET", "/orders", vec![], None, 401),
        ("a body: the logic (TypeScript) makes an order", "POST", "/orders", order_headers, Some(ORDER), 201),
        ("an unknown route", "GET", "/nowhere", vec![], None, 404),
        ("a known route, another method", "DELETE", "/products", vec![], None, 405),
    ];
    let sent = others.len() + 1;
    for (what, method, path, headers, body, status) in others {
        let request = Request { method, path, headers, body: body.map(str::as_bytes) };
        exchange(what, &request, address, status)?;
    }
    Ok(sent)
}

/// What the demo orders.
const ORDER: &str = r#"{"lines":[{"product":"saw","quantity":2},{"product":"glue","quantity":1}]}"#;

fn json() -> Vec<(&'static str, String)> {
    vec![("content-type", "application/json".to_owned())]
}

/// The token with another signature: its first character differs, because of the last one not every bit counts.
fn forge(token: &str) -> String {
    match token.rsplit_once('.') {
        Some((signed, signature)) => {
            let first = if signature.starts_with('A') { 'B' } else { 'A' };
            format!("{signed}.{first}{}", signature.get(1..).unwrap_or_default())
        }
        None => format!("{token}x"),
    }
}

fn exchange(what: &str, request: &Request<'_>, address: SocketAddr, expected: u16) -> Result<Response> {
    signals::check()?;
    println!("\n  # {what}\n  > {} {}", request.method, request.path);
    for (name, value) in &request.headers {
        println!("  > {name}: {}", shortened(value));
    }
    if let Some(body) = request.body {
        println!("  > {}", shortened(&String::from_utf8_lossy(body)));
    }
    let response = request.send(address)?;
    println!("  < {}  in {}", response.status, seconds(response.took));
    for name in ["content-type", "allow", "www-authenticate", "x-request-id", "x-error-code"] {
        if let Some(value) = response.header(name) {
            println!("  < {name}: {value}");
        }
    }
    for line in shortened(&response.text()).lines() {
        println!("  < {line}");
    }
    if response.status == expected {
        return Ok(response);
    }
    Err(Failure::new(format!(
        "{} {}: expected {expected}, got {}",
        request.method, request.path, response.status
    ))
    .mend("the log above says what the service did"))
}

fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(SHOWN_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forged_token_differs_in_its_signature_only() {
        assert_eq!(forge("a.b.Axy"), "a.b.Bxy");
        assert_eq!(forge("a.b.zxy"), "a.b.Axy");
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(shortened("short"), "short");
        assert_eq!(shortened(&"ä".repeat(SHOWN_MAX + 5)).chars().count(), SHOWN_MAX + 1);
    }
}

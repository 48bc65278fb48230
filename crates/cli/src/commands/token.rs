//! `tenon token`: who may do what with a node.

use http::Method;
use serde_json::json;
use tenon_node::wire;

use crate::admin::Admin;
use crate::args::{TokenArgs, TokenCommand, TokenCreateArgs, TokenRotateArgs, VerbName};
use crate::commands::apps::time;
use crate::error::CommandError;
use crate::settings::Settings;
use crate::table::Table;
use crate::terminal::Terminal;

const DAY_SECONDS: u64 = 86_400;

pub(crate) fn run(args: &TokenArgs, settings: &Settings, terminal: &Terminal) -> Result<(), CommandError> {
    match &args.command {
        TokenCommand::List(args) => list(&Admin::open(&args.client, settings)?, terminal),
        TokenCommand::Create(args) => create(args, &Admin::open(&args.client, settings)?, terminal),
        TokenCommand::Rotate(args) => rotate(args, &Admin::open(&args.client, settings)?, terminal),
        TokenCommand::Delete(args) => {
            let token = segment(&args.token);
            Admin::open(&args.client, settings)?.delete(&format!("/v1/tokens/{token}"))?;
            terminal.result(
                format_args!("{} is no longer valid", args.token),
                || json!({ "deleted": args.token }),
            );
            Ok(())
        }
    }
}

fn list(admin: &Admin, terminal: &Terminal) -> Result<(), CommandError> {
    let found: wire::Tokens = admin.get("/v1/tokens")?;
    let mut table = Table::new(&["token", "tenant", "verb", "made", "valid until", "note"]);
    for one in &found.tokens {
        table.row([
            one.token.clone(),
            one.tenant.clone().unwrap_or_else(|| "(all)".to_owned()),
            verb(one.verb).to_owned(),
            time(one.created),
            one.expires.map_or_else(String::new, time),
            one.note.clone(),
        ]);
    }
    terminal.result(table, || json!(found));
    Ok(())
}

fn create(args: &TokenCreateArgs, admin: &Admin, terminal: &Terminal) -> Result<(), CommandError> {
    let body = wire::PostToken {
        tenant: args.tenant.as_ref().map(ToString::to_string),
        verb: match args.verb {
            VerbName::Read => wire::Verb::Read,
            VerbName::Deploy => wire::Verb::Deploy,
            VerbName::Admin => wire::Verb::Admin,
        },
        lifetime_s: args.days.map(|days| days * DAY_SECONDS),
        note: args.note.clone(),
    };
    let made: wire::NewToken = admin.send(Method::POST, "/v1/tokens", &body)?;
    show(&made, terminal);
    Ok(())
}

fn rotate(args: &TokenRotateArgs, admin: &Admin, terminal: &Terminal) -> Result<(), CommandError> {
    let body = wire::RotateToken { grace_s: args.grace.as_secs() };
    let path = format!("/v1/tokens/{}/rotate", segment(&args.token));
    let made: wire::NewToken = admin.send(Method::POST, &path, &body)?;
    show(&made, terminal);
    Ok(())
}

/// The secret alone goes to standard output, so that it can be piped where it belongs.
fn show(made: &wire::NewToken, terminal: &Terminal) {
    let whose = made.token.tenant.as_deref().unwrap_or("all tenants");
    terminal.step("token", format_args!("{}: {} for {whose}", made.token.token, verb(made.token.verb)));
    terminal.step("keep it", "this is the only time that it is shown");
    terminal.result(&made.secret, || json!(made));
}

fn verb(verb: wire::Verb) -> &'static str {
    match verb {
        wire::Verb::Read => "read",
        wire::Verb::Deploy => "deploy",
        wire::Verb::Admin => "admin",
    }
}

/// A token's name as one segment of a path.
fn segment(text: &str) -> String {
    text.bytes().fold(String::new(), |mut path, byte| {
        match byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            true => path.push(char::from(byte)),
            false => path.push_str(&format!("%{byte:02X}")),
        }
        path
    })
}

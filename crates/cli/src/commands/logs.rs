//! `tenon logs`: what an app writes, and what fails.

use std::ops::ControlFlow;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::json;
use tenon_model::format_time;
use tenon_node::wire::{LogLine, LostLines};

use crate::admin::Admin;
use crate::args::LogsArgs;
use crate::error::CommandError;
use crate::settings::Settings;
use crate::terminal::Terminal;

pub(crate) fn run(args: &LogsArgs, settings: &Settings, terminal: &Terminal) -> Result<(), CommandError> {
    let admin = Admin::open(&args.client, settings)?;
    let follow = if args.follow { "?follow=true" } else { "" };
    let path = format!("/v1/tenants/{}/apps/{}/logs{follow}", args.app.tenant, args.app.app);
    admin.lines(&path, |line| {
        show(line, terminal);
        ControlFlow::Continue(())
    })?;
    if args.follow {
        terminal
            .step("ended", "by the node: it stops, or the app is gone, or the token is not valid any more");
    }
    Ok(())
}

fn show(line: &str, terminal: &Terminal) {
    // An empty line only says that the node is still there.
    if let Ok(line) = serde_json::from_str::<LogLine>(line) {
        terminal.result(describe(&line), || json!(line));
    } else if let Ok(gap) = serde_json::from_str::<LostLines>(line) {
        terminal.result(describe_gap(gap), || json!(gap));
    }
}

fn describe_gap(gap: LostLines) -> String {
    format!("… {} lines came faster than they were read, and are not shown", gap.lost)
}

fn describe(line: &LogLine) -> String {
    let at = UNIX_EPOCH.checked_add(Duration::from_micros(line.at_us)).map(format_time);
    let mut text = format!("{} {:<5}", at.unwrap_or_default(), line.level);
    for (name, value) in [("", &line.component), ("", &line.message)] {
        if !value.is_empty() {
            text.push_str(&format!(" {name}{}", printable(value)));
        }
    }
    for (name, value) in &line.fields {
        text.push_str(&format!(" {name}={}", printable(value)));
    }
    if !line.request_id.is_empty() {
        text.push_str(&format!(" request={}", printable(&line.request_id)));
    }
    text
}

/// A guest wrote this: nothing of it may steer the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_were_lost_are_said_to_be() {
        let gap: LostLines = serde_json::from_str("{\"lost\":7}").unwrap();
        assert!(describe_gap(gap).contains("7 lines"));
        assert!(serde_json::from_str::<LogLine>("{\"lost\":7}").is_err());
    }

    #[test]
    fn a_guest_cannot_steer_the_terminal() {
        let line = LogLine {
            at_us: 0,
            level: "info".into(),
            source: "guest".into(),
            component: "auth".into(),
            request_id: "r-1".into(),
            message: "\u{1b}[2J gone".into(),
            fields: [("code".to_owned(), "trap".to_owned())].into(),
        };
        let text = describe(&line);
        assert!(text.ends_with(" info  auth \u{fffd}[2J gone code=trap request=r-1"), "{text}");
        assert!(!text.contains('\u{1b}'));
    }
}

//! Starting the next node and leaving it running: what systemd runs to replace a node has to return, and what it started is the
//! node from then on.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use serde_json::Value;
use tenon_model::Diagnostic;

use crate::error::CommandError;
use crate::terminal::Terminal;

/// The flag that the next node is not given.
const FLAG: &str = "--detach";

/// Runs this very command without the flag, and returns once that serves. What it says goes where this process's words go.
pub(super) fn run(terminal: &Terminal) -> Result<(), CommandError> {
    let program = std::env::current_exe()
        .map_err(|error| CommandError::ours("this program does not know where it lies", &error))?;
    let mut next = Command::new(program)
        .args(std::env::args_os().skip(1).filter(|argument| argument != FLAG))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| CommandError::ours("the next node could not be started", &error))?;
    let lines = next.stdout.take().into_iter().flat_map(|said| BufReader::new(said).lines());
    for line in lines.map_while(Result::ok) {
        terminal.result(&line, || serde_json::from_str(&line).unwrap_or(Value::Null));
        if says_that_it_serves(&line) {
            return Ok(());
        }
    }
    let ended = next.wait().map_err(|error| CommandError::ours("the next node is gone", &error))?;
    Err(Diagnostic::new("node-not-replaced", format!("the next node ended before it served: {ended}"))
        .mend("it has said why; the node that runs goes on")
        .into())
}

/// The one line that a node says on standard output, for people or as a value.
fn says_that_it_serves(line: &str) -> bool {
    let is_event =
        |line: &str| serde_json::from_str::<Value>(line).is_ok_and(|value| value["event"] == "serving");
    line.starts_with("serving ") || is_event(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_serves_is_told_from_one_that_failed() {
        assert!(says_that_it_serves("serving 3 apps on http://127.0.0.1:8080"));
        assert!(says_that_it_serves(r#"{"event":"serving","name":"node","apps":3}"#));
        assert!(!says_that_it_serves(r#"{"diagnostics":[{"code":"node-not-replaced"}]}"#));
        assert!(!says_that_it_serves("error[node-not-replaced]: serving"));
    }
}

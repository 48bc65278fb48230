//! `wasi:random` and `wasi:cli`.

use wasip2::cli::{environment, stderr, stdin, stdout, terminal_stdin, terminal_stdout};
use wasip2::random::{insecure, insecure_seed, random};

use faults::Checks;

pub fn check(checks: &mut Checks) {
    checks.same("as many random bytes as asked for", random::get_random_bytes(1_000).len(), 1_000);
    checks.same("no random bytes", random::get_random_bytes(0).len(), 0);
    checks.holds("random bytes differ", random::get_random_bytes(32) != random::get_random_bytes(32), "same");
    checks.holds("random numbers differ", random::get_random_u64() != random::get_random_u64(), "same");
    checks.same("as many insecure bytes as asked for", insecure::get_insecure_random_bytes(77).len(), 77);
    checks.holds(
        "insecure numbers differ",
        insecure::get_insecure_random_u64() != insecure::get_insecure_random_u64(),
        "same",
    );
    checks.same("the seed stays", insecure_seed::insecure_seed(), insecure_seed::insecure_seed());

    checks.same(
        "the environment is the granted one",
        environment::get_environment(),
        vec![("A".to_owned(), "b".to_owned())],
    );
    checks.same("so are the arguments", environment::get_arguments(), vec!["x".to_owned(), "y".to_owned()]);
    checks.same("no directory to begin in", environment::initial_cwd(), None);
    checks.holds(
        "no terminal",
        terminal_stdin::get_terminal_stdin().is_none() && terminal_stdout::get_terminal_stdout().is_none(),
        "there is one",
    );
    let input = stdin::get_stdin();
    let read = input.blocking_read(10);
    checks.holds(
        "standard input is at its end",
        matches!(read, Err(wasip2::io::streams::StreamError::Closed)),
        &format!("{read:?}"),
    );
    for (name, stream) in [("output", stdout::get_stdout()), ("error", stderr::get_stderr())] {
        let written = stream.blocking_write_and_flush(b"a line\n");
        checks.holds(&format!("standard {name} takes a line"), written.is_ok(), &format!("{written:?}"));
    }
}

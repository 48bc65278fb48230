//! `wasi:clocks` and `wasi:io/poll`.

use wasip2::clocks::{monotonic_clock, wall_clock};
use wasip2::io::poll::poll;

use faults::Checks;

const MS: u64 = 1_000_000;

pub fn check(checks: &mut Checks) {
    let times: Vec<_> = (0..100).map(|_| monotonic_clock::now()).collect();
    checks.holds("the monotonic clock does not go back", times.is_sorted(), "it does");
    checks.holds("the monotonic clock has a resolution", monotonic_clock::resolution() > 0, "0");
    let wall = wall_clock::now();
    checks.holds("nanoseconds are below a second", wall.nanoseconds < 1_000_000_000, "they are not");
    checks.holds(
        "the wall clock tells this century",
        wall.seconds > 1_600_000_000,
        &wall.seconds.to_string(),
    );
    let resolution = wall_clock::resolution();
    checks.holds(
        "the wall clock has a resolution",
        resolution.seconds + u64::from(resolution.nanoseconds) > 0,
        "0",
    );

    checks.holds(
        "a wait of nothing is over",
        ready_soon(&monotonic_clock::subscribe_duration(0)),
        "it is not",
    );
    checks.holds("an instant that is past is over", ready_soon(&monotonic_clock::subscribe_instant(0)), "no");
    let far = monotonic_clock::subscribe_duration(3_600_000 * MS);
    checks.same("a wait of an hour is not over", far.ready(), false);
    let never = monotonic_clock::subscribe_duration(u64::MAX);
    checks.same("the longest wait is not over", never.ready(), false);
    let began = monotonic_clock::now();
    monotonic_clock::subscribe_duration(20 * MS).block();
    checks.holds(
        "a wait lasts as long as it was asked to",
        monotonic_clock::now() - began >= 20 * MS,
        "shorter",
    );
    let began = monotonic_clock::now();
    monotonic_clock::subscribe_instant(began + 20 * MS).block();
    checks.holds(
        "a wait for an instant lasts until then",
        monotonic_clock::now() >= began + 20 * MS,
        "shorter",
    );

    let (later, sooner) =
        (monotonic_clock::subscribe_duration(2_000 * MS), monotonic_clock::subscribe_duration(10 * MS));
    checks.same("the shorter wait is over first", poll(&[&later, &sooner]), vec![1]);
    let (one, two) = (monotonic_clock::subscribe_duration(0), monotonic_clock::subscribe_duration(0));
    checks.same("poll lists all that is ready", poll(&[&one, &far, &two]), vec![0, 2]);
    checks.same("a pollable may stand twice in a list", poll(&[&one, &one]), vec![0, 1]);
    checks.same("what was ready stays ready", (one.ready(), one.ready()), (true, true));
}

fn ready_soon(pollable: &wasip2::io::poll::Pollable) -> bool {
    let began = monotonic_clock::now();
    pollable.block();
    monotonic_clock::now() - began < 1_000 * MS && pollable.ready()
}

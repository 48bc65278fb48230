//! `wasi:clocks`.

use std::cell::RefCell;
use std::pin::pin;

use faults::Checks;
use wasip3::clocks::{monotonic_clock, system_clock};

use crate::wait::{both, now, soon};

const MS: u64 = 1_000_000;

pub async fn check(checks: &mut Checks) {
    let times: Vec<_> = (0..100).map(|_| monotonic_clock::now()).collect();
    checks.holds("the monotonic clock does not go back", times.is_sorted(), "it does");
    checks.holds("the monotonic clock has a resolution", monotonic_clock::get_resolution() > 0, "0");
    let time = system_clock::now();
    checks.holds("nanoseconds are below a second", time.nanoseconds < 1_000_000_000, "they are not");
    checks.holds(
        "the system clock tells this century",
        time.seconds > 1_600_000_000,
        &time.seconds.to_string(),
    );
    checks.holds("the system clock has a resolution", system_clock::get_resolution() > 0, "0");

    checks.same("a wait of nothing is over", soon(monotonic_clock::wait_for(0)).await, Some(()));
    checks.same("a mark that is past is over", soon(monotonic_clock::wait_until(0)).await, Some(()));
    let mark = monotonic_clock::now();
    checks.same("and so is one that is now", soon(monotonic_clock::wait_until(mark)).await, Some(()));
    let began = monotonic_clock::now();
    monotonic_clock::wait_for(20 * MS).await;
    checks.holds(
        "a wait lasts as long as it was asked to",
        monotonic_clock::now() - began >= 20 * MS,
        "shorter",
    );
    let mark = monotonic_clock::now() + 20 * MS;
    monotonic_clock::wait_until(mark).await;
    checks.holds("a wait for a mark lasts until then", monotonic_clock::now() >= mark, "shorter");

    let order = RefCell::new(Vec::new());
    let wait = async |ms: u64| {
        monotonic_clock::wait_for(ms * MS).await;
        order.borrow_mut().push(ms);
    };
    both(wait(400), both(wait(1), wait(200))).await;
    checks.same("waits end in the order of their lengths", order.take(), vec![1, 200, 400]);

    {
        let (mut hour, mut longest) =
            (pin!(monotonic_clock::wait_for(3_600_000 * MS)), pin!(monotonic_clock::wait_for(u64::MAX)));
        let mut last = pin!(monotonic_clock::wait_until(u64::MAX));
        checks.same("a wait of an hour is not over", now(hour.as_mut()).await, None);
        checks.same("the longest wait is not over", now(longest.as_mut()).await, None);
        checks.same("nor is that for the last mark", now(last.as_mut()).await, None);
    }
    checks.same(
        "waits that were given up hold nothing up",
        soon(monotonic_clock::wait_for(MS)).await,
        Some(()),
    );
}

//! `wasi:random`. Unlike in 0.2, fewer bytes may come than were asked for.

use faults::Checks;
use wasip3::random::{insecure, insecure_seed, random};

pub fn check(checks: &mut Checks) {
    for (name, bytes) in [
        ("random", random::get_random_bytes as fn(u64) -> Vec<u8>),
        ("insecure", insecure::get_insecure_random_bytes as fn(u64) -> Vec<u8>),
    ] {
        checks.same(&format!("no {name} bytes"), bytes(0).len(), 0);
        let some = bytes(1_000).len();
        checks.holds(
            &format!("some {name} bytes, and no more than asked for"),
            (1..=1_000).contains(&some),
            &some.to_string(),
        );
        let all = bytes(u64::MAX).len();
        checks.holds(&format!("as many {name} bytes as the host gives"), all > 0, &all.to_string());
        let (one, two) = (bytes(32), bytes(32));
        checks.holds(&format!("{name} bytes differ"), one != two, "same");
        let zeros = bytes(64).iter().filter(|byte| **byte == 0).count();
        checks.holds(&format!("{name} bytes are not all zero"), zeros < 32, &zeros.to_string());
    }
    checks.holds("random numbers differ", random::get_random_u64() != random::get_random_u64(), "same");
    checks.holds(
        "insecure numbers differ",
        insecure::get_insecure_random_u64() != insecure::get_insecure_random_u64(),
        "same",
    );
    checks.same("the seed stays", insecure_seed::get_insecure_seed(), insecure_seed::get_insecure_seed());
    checks.holds("and is a number of its own", insecure_seed::get_insecure_seed() != (0, 0), "0");
}

//! The export of the world `rate-limiter`, on top of `window`.

use alloc::format;
use alloc::string::String;

use demo::gateway::rate;
use exports::demo::gateway::limiter::{Guest, Refusal, Standing};
use wasi::clocks::wall_clock;
use wasi::keyvalue::{atomics, store};

use crate::window::{Window, left};

wit_bindgen::generate!({ path: "../wit", world: "rate-limiter", generate_all });

/// The bucket that it was granted.
const BUCKET: &str = "rate";

struct Limiter;

impl Guest for Limiter {
    fn take(key: String) -> Result<Standing, Refusal> {
        let unavailable = |error: store::Error| Refusal::Unavailable(format!("{error:?}"));
        let agreed = rate::agreed();
        let window = Window::at(wall_clock::now().seconds, agreed.seconds);
        let bucket = store::open(BUCKET).map_err(unavailable)?;
        let count = atomics::increment(&bucket, &window.counter(&key), 1).map_err(unavailable)?;
        if count == 1 {
            // The first of a window clears the one before, or counters would pile up. If that fails they do, once.
            let _ = bucket.delete(&window.before().counter(&key));
        }
        match left(count, agreed.requests) {
            Some(left) => Ok(Standing { left, reset_seconds: window.left_seconds }),
            None => Err(Refusal::Exhausted(window.left_seconds)),
        }
    }
}

export!(Limiter);

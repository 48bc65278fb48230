//! `wasi:cli`, `wasi:clocks` and `wasi:random`: there for everybody, and filled by grants.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rand_core::TryRng;
use tenon_model::Grants;
use wasmtime_wasi::{HostWallClock, WasiCtx};

use super::Caller;
use super::clocks::Steady;
use super::output::Stdio;

/// Random bytes one call may ask for.
const RANDOM_BYTES_MAX: u64 = 1 << 20;

/// What a component finds: no variables, no arguments, a log for its output, the true time and true randomness,
/// except where its grants say otherwise.
pub(crate) fn context(caller: &Arc<Caller>, steady: Option<Steady>) -> WasiCtx {
    let Grants { environment, arguments, clock, seed, .. } = caller.grants();
    let mut builder = WasiCtx::builder();
    builder
        .stdout(Stdio::new("stdout", caller))
        .stderr(Stdio::new("stderr", caller))
        .max_random_size(RANDOM_BYTES_MAX)
        .args(arguments);
    for (name, value) in environment {
        builder.env(name, value);
    }
    if let Some(time) = clock {
        builder.wall_clock(Stopped(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()));
    }
    if let Some(steady) = steady {
        builder.monotonic_clock(steady);
    }
    if let Some(seed) = seed {
        // Two streams, so that what is drawn from one does not move the other.
        builder
            .secure_random(seeded(*seed, b"secure"))
            .insecure_random(seeded(*seed, b"insecure"))
            .insecure_random_seed(u128::from(*seed));
    }
    builder.build()
}

/// A clock that stands still.
struct Stopped(Duration);

impl HostWallClock for Stopped {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(1)
    }

    fn now(&self) -> Duration {
        self.0
    }
}

/// Randomness from a seed: the same numbers in every request.
struct Seeded(blake3::OutputReader);

fn seeded(seed: u64, stream: &[u8]) -> Seeded {
    Seeded(blake3::Hasher::new().update(&seed.to_le_bytes()).update(stream).finalize_xof())
}

impl TryRng for Seeded {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_and_another_gives_others() {
        let draw = |seed, stream: &[u8]| seeded(seed, stream).try_next_u64();
        assert_eq!(draw(42, b"a"), draw(42, b"a"));
        assert_ne!(draw(42, b"a"), draw(43, b"a"));
        assert_ne!(draw(42, b"a"), draw(42, b"b"));
        let mut rng = seeded(42, b"a");
        assert_ne!(rng.try_next_u64(), rng.try_next_u64());
    }
}

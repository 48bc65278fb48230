//! What the tests of every other room stand on: guests built from source, the `tenon` process, an HTTP client.
//!
//! Nothing outside tests depends on this room. It knows no other room either: it drives `tenon` from the
//! outside and gives engine tests components to run.
//!
//! A fixture that cannot be set up is a failed test, so these functions panic with the reason instead of
//! returning errors nobody could handle.

pub mod client;
pub mod differential;
pub mod fixtures;
mod guests;
pub mod http3;
pub mod peer;
mod process;
mod random;
mod redis;
pub mod tls;
mod wait;

pub use guests::Guests;
pub use process::{DEADLINE, Finished, Serve, Serving, Tenon, Watched};
pub use random::Random;
pub use redis::RedisServer;
pub use wait::until;

use std::path::Path;

/// The folder of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("this crate lies two folders deep")
}

/// Lets a project whose products are in `products` compile Rust where all test programs do, in `tmp`: the bindings generator is most
/// of the work of a first build, and the same for each.
///
/// # Panics
/// When the folders cannot be made.
pub fn share_cargo(tmp: &Path, products: &Path) {
    let (shared, link) = (tmp.join("guest-cargo"), products.join("cargo"));
    if !link.exists() {
        std::fs::create_dir_all(&shared).expect("the folder of test products can be written");
        std::fs::create_dir_all(products).expect("the test's folder can be written");
        std::os::unix::fs::symlink(shared, link).expect("nothing is in the link's place");
    }
}

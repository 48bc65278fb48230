//! The component `processor`: PNG, JPEG and WebP pictures in another size or format.
//!
//! A picture is a stranger's file. Nothing of it is unpacked before [`bounds`] has seen its head, and every refusal says
//! what is wrong with it.

pub mod bounds;
pub mod resize;

// Only the above is built for the machine the tests run on.
#[cfg(target_family = "wasm")]
mod component;

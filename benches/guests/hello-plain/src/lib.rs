//! The plain handler: one exported function from a request record to a response record. Without `std`, so that the
//! component imports nothing at all: what is measured is the sandbox, not interfaces nobody calls.

#![no_std]

extern crate alloc;

// The heap, the panic handler and `cabi_realloc`.
use bench_heap as _;

use alloc::vec::Vec;

wit_bindgen::generate!({ world: "hello", path: "wit" });

use exports::bench::plain::handler::{Guest, Request, Response};

struct Hello;
export!(Hello);

impl Guest for Hello {
    fn handle(_request: Request) -> Response {
        Response { status: 200, headers: Vec::new(), body: b"Hello, world!\n".to_vec() }
    }
}

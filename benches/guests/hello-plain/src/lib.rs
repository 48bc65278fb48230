//! The plain handler: one exported function from a request record to a response record. Without `std`, so that the
//! component imports nothing at all: what is measured is the sandbox, not interfaces nobody calls.

#![no_std]

extern crate alloc;

use alloc::alloc::{Layout, alloc, realloc};
use alloc::vec::Vec;

wit_bindgen::generate!({ world: "hello", path: "wit" });

use exports::bench::plain::handler::{Guest, Request, Response};

#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}

/// The allocation function of the Canonical ABI, which otherwise comes with `std`.
///
/// # Safety
/// Called by lifted and lowered values only, with what an earlier call returned or null.
#[unsafe(no_mangle)]
unsafe extern "C" fn cabi_realloc(old: *mut u8, old_len: usize, align: usize, new_len: usize) -> *mut u8 {
    if new_len == 0 {
        return core::ptr::without_provenance_mut(align);
    }
    // SAFETY: `align` is a power of two by the Canonical ABI; a non-empty `old` came from this allocator with the
    // same layout; sizes are not zero.
    let new = unsafe {
        if old_len == 0 {
            alloc(Layout::from_size_align_unchecked(new_len, align))
        } else {
            realloc(old, Layout::from_size_align_unchecked(old_len, align), new_len)
        }
    };
    if new.is_null() {
        core::arch::wasm32::unreachable()
    }
    new
}

struct Hello;
export!(Hello);

impl Guest for Hello {
    fn handle(_request: Request) -> Response {
        Response { status: 200, headers: Vec::new(), body: b"Hello, world!\n".to_vec() }
    }
}

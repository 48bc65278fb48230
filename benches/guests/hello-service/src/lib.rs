//! The `wasi:http` 0.3 service world: says hello. Without `std`, so that it imports `wasi:http` alone.

#![no_std]

extern crate alloc;

use alloc::alloc::{Layout, alloc, realloc};

use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::{wit_bindgen, wit_future, wit_stream};

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
wasip3::http::service::export!(Hello);

impl Guest for Hello {
    async fn handle(_request: Request) -> Result<Response, ErrorCode> {
        let (mut body, body_reader) = wit_stream::new();
        let (trailers, trailers_reader) = wit_future::new(|| Ok(None));
        let (response, _sent) = Response::new(Fields::new(), Some(body_reader), trailers_reader);
        drop(trailers);
        wit_bindgen::spawn_local(async move {
            let _unsent = body.write_all(b"Hello, world!\n".to_vec()).await;
        });
        Ok(response)
    }
}

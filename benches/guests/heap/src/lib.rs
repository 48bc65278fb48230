//! The heap of the guests that are built without `std`: what a component's own language brings along otherwise.
//!
//! It begins in the memory that the component starts with, as libc's does. A guest that needs no more never calls
//! `memory.grow`, which costs the host two changes of page protection a request.

#![no_std]

use core::alloc::{GlobalAlloc, Layout};
use core::arch::wasm32;
use core::cell::{Cell, UnsafeCell};

use dlmalloc::{Allocator, Dlmalloc};

/// A page of linear memory.
const PAGE_BYTES: usize = 64 << 10;

#[repr(align(16))]
struct FirstPage(UnsafeCell<[u8; PAGE_BYTES]>);

// SAFETY: a component without shared memory has one thread.
unsafe impl Sync for FirstPage {}

static FIRST_PAGE: FirstPage = FirstPage(UnsafeCell::new([0; PAGE_BYTES]));

/// Hands out the first page once, then grows.
struct Pages {
    first_taken: Cell<bool>,
}

// SAFETY: every region is handed out once, zeroed and `size` bytes long: the first page while the flag is down, after
// it pages that `memory.grow` made.
unsafe impl Allocator for Pages {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        if size <= PAGE_BYTES && !self.first_taken.replace(true) {
            return (FIRST_PAGE.0.get().cast(), PAGE_BYTES, 0);
        }
        let pages = size.div_ceil(PAGE_BYTES);
        match wasm32::memory_grow::<0>(pages) {
            usize::MAX => (core::ptr::null_mut(), 0, 0),
            // Not the last bytes of the address space: a region may not end at its very end.
            before => ((before * PAGE_BYTES) as *mut u8, pages * PAGE_BYTES - 16, 0),
        }
    }

    fn remap(&self, _: *mut u8, _: usize, _: usize, _: bool) -> *mut u8 {
        core::ptr::null_mut()
    }

    fn free_part(&self, _: *mut u8, _: usize, _: usize) -> bool {
        false
    }

    fn free(&self, _: *mut u8, _: usize) -> bool {
        false
    }

    fn can_release_part(&self, _: u32) -> bool {
        false
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        PAGE_BYTES
    }
}

struct Heap(UnsafeCell<Dlmalloc<Pages>>);

// SAFETY: a component without shared memory has one thread.
unsafe impl Sync for Heap {}

#[global_allocator]
static HEAP: Heap =
    Heap(UnsafeCell::new(Dlmalloc::new_with_allocator(Pages { first_taken: Cell::new(false) })));

// SAFETY: everything is handed on to an allocator that keeps the contract; it is entered by one thread, and never
// by itself.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: see above.
        unsafe { (*self.0.get()).malloc(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: see above.
        unsafe { (*self.0.get()).free(pointer, layout.size(), layout.align()) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: see above.
        unsafe { (*self.0.get()).realloc(pointer, layout.size(), layout.align(), size) }
    }
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    wasm32::unreachable()
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
            HEAP.alloc(Layout::from_size_align_unchecked(new_len, align))
        } else {
            HEAP.realloc(old, Layout::from_size_align_unchecked(old_len, align), new_len)
        }
    };
    if new.is_null() {
        wasm32::unreachable()
    }
    new
}

//! What every component here needs and the standard library otherwise brings. They are built without it, so that each
//! imports what its world names and nothing else.

#![cfg_attr(target_family = "wasm", no_std)]

#[cfg(target_family = "wasm")]
mod wasm {
    extern crate alloc;

    use core::alloc::Layout;
    use core::panic::PanicInfo;

    #[global_allocator]
    static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

    /// A panic ends the request: the host sees a trap, answers for us and throws the instance away.
    #[panic_handler]
    fn panic(_: &PanicInfo<'_>) -> ! {
        core::arch::wasm32::unreachable()
    }

    /// Where the host puts the arguments of a call: `realloc` of the Canonical ABI.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn cabi_realloc(
        old: *mut u8,
        old_size: usize,
        align: usize,
        new_size: usize,
    ) -> *mut u8 {
        // SAFETY: `align` is a power of two and `old` came from here with `old_size` and `align`, as that ABI says.
        let place = unsafe {
            match (old_size, new_size) {
                (0, 0) => return core::ptr::without_provenance_mut(align),
                (0, _) => alloc::alloc::alloc(Layout::from_size_align_unchecked(new_size, align)),
                _ => alloc::alloc::realloc(old, Layout::from_size_align_unchecked(old_size, align), new_size),
            }
        };
        if place.is_null() { core::arch::wasm32::unreachable() } else { place }
    }

    // The compiler calls `memcpy` and its kin; on this target they are in the C library, which then links nothing else.
    #[link(name = "c")]
    unsafe extern "C" {}
}

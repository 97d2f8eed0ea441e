//! The allocator of both programs: the system's, except that memory is wiped when it is given back. Secrets
//! pass through buffers of libraries (JSON, HTTP, TLS) that do not wipe; this catches all of them.

use std::alloc::{GlobalAlloc, Layout, System};

/// The system's allocator with wiping.
pub struct Wiping;

// JUSTIFICATION: buffers of libraries cannot be reached in any other way.
// SAFETY: every call is handed on to the system's allocator with the caller's own arguments, so its
// contract holds; memory is only written to while it is still the caller's.
unsafe impl GlobalAlloc for Wiping {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the block is `layout.size()` bytes, still allocated, and nobody else uses it any more. The
        // barrier keeps the compiler from dropping the write as dead.
        unsafe {
            std::ptr::write_bytes(pointer, 0, layout.size());
            std::hint::black_box(pointer);
            System.dealloc(pointer, layout);
        }
    }
}

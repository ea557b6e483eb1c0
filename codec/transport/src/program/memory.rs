//! How the allocator treats memory that was freed.

/// Has glibc's allocator keep up to about 2 MiB of freed memory (for each of its arenas) that it would otherwise give
/// back to the kernel at once. To be called first in `main`; with other allocators it does nothing.
///
/// A link at full speed allocates and frees one message of some 90 KiB after the other. By default the allocator
/// returns it when 128 KiB are free at the end of the heap, and the kernel clears new pages for the next message:
/// that costs more than all else that is done to the message.
pub fn keep_freed_memory() {
    // A block that is freed after it had a mapping of its own raises the limits: such blocks come from the heap from
    // now on, and twice as much may stay free at its end (mallopt(3), M_MMAP_THRESHOLD).
    drop(std::hint::black_box(Vec::<u8>::with_capacity(LARGE)));
}

/// Above the largest block that is common, and above the 128 KiB where glibc begins.
const LARGE: usize = 1024 * 1024;

//! Whether this thread is inside the real NCCL.
//!
//! NCCL calls some of its own public functions, and the dynamic linker brings those calls to us. They belong to a call that
//! is already under way, so they must be forwarded without a second look.

use std::cell::Cell;

thread_local! {
    // Constant and without a destructor: reading it neither allocates nor registers anything.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Runs a call into the real NCCL. The call cannot unwind, so the depth is restored on every way out.
#[inline(always)]
pub(super) fn inside<R>(call: impl FnOnce() -> R) -> R {
    DEPTH.with(|depth| {
        depth.set(depth.get() + 1);
        let result = call();
        depth.set(depth.get() - 1);
        result
    })
}

/// True when the current call comes from within the real NCCL, on the thread that called into it.
#[inline(always)]
pub fn is_inside() -> bool {
    DEPTH.get() != 0
}

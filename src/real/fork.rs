//! Whether this process is a child of fork whose parent already used NCCL.
//!
//! Such a child has the parent's memory but neither its threads nor its CUDA: it may only forward. A handler notes the
//! fork, because asking for the process id at each call would be a system call.

use std::sync::atomic::{AtomicBool, Ordering};

static FORKED: AtomicBool = AtomicBool::new(false);

unsafe extern "C" {
    // Of the C library. It ties the handler to this library, which is never unmapped.
    fn pthread_atfork(
        prepare: Option<unsafe extern "C" fn()>,
        parent: Option<unsafe extern "C" fn()>,
        child: Option<unsafe extern "C" fn()>,
    ) -> std::ffi::c_int;
}

unsafe extern "C" fn note_fork() {
    FORKED.store(true, Ordering::Relaxed);
}

/// From now on forks are noted. Called once, when the real NCCL has been found.
pub(super) fn watch() {
    // SAFETY: the handler only stores to an atomic, which is allowed between fork and exec.
    let failed = unsafe { pthread_atfork(None, None, Some(note_fork)) } != 0;
    if failed {
        // Out of memory. Without the note a child could use the parent's CUDA state, so act as if this were one.
        note_only_forward();
    }
}

fn note_only_forward() {
    FORKED.store(true, Ordering::Relaxed);
    ::log::warn!("forks cannot be noted: every call is forwarded");
}

/// True in a child of fork whose parent had called NCCL before.
#[inline]
pub fn is_forked_child() -> bool {
    FORKED.load(Ordering::Relaxed)
}

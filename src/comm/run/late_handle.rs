//! A handle that NCCL writes from a thread of its own: that of a part of a non-blocking communicator.

use std::ffi::c_void;
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::nccl::ncclComm_t;

/// Reads a handle that another thread may be writing.
///
/// # Safety
/// The pointer is valid.
pub unsafe fn read(out: *const ncclComm_t) -> ncclComm_t {
    // SAFETY: the caller's contract; NCCL stores the handle whole.
    unsafe { AtomicPtr::from_ptr(out.cast_mut().cast::<*mut c_void>()) }.load(Ordering::Acquire).cast()
}

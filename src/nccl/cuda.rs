//! The handles of the CUDA runtime that NCCL's functions take.

use std::ffi::c_void;

/// A CUDA stream.
pub type cudaStream_t = *mut c_void;
/// A CUDA event.
pub type cudaEvent_t = *mut c_void;

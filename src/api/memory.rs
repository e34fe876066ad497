//! Memory that NCCL allocates, and buffers registered with a communicator.

use std::ffi::c_void;

use crate::api::boundary::boundary;
use crate::nccl::{ncclComm_t, ncclInternalError, ncclResult_t};
use crate::real;

/// Allocates at least `size` bytes on the current device, fit for all that NCCL can do with a buffer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclMemAlloc(ptr: *mut *mut c_void, size: usize) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclMemAlloc(ptr, size) })
}

/// Same as ncclMemAlloc, for profilers that put their own ncclMemAlloc before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclMemAlloc(ptr: *mut *mut c_void, size: usize) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclMemAlloc(ptr, size) })
}

/// Frees what ncclMemAlloc allocated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclMemFree(ptr: *mut c_void) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclMemFree(ptr) })
}

/// Same as ncclMemFree, for profilers that put their own ncclMemFree before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclMemFree(ptr: *mut c_void) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclMemFree(ptr) })
}

/// Registers `size` bytes at `buff` for transfers without a copy and writes a handle for ncclCommDeregister.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommRegister(
    comm: ncclComm_t,
    buff: *mut c_void,
    size: usize,
    handle: *mut *mut c_void,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclCommRegister(comm, buff, size, handle) })
}

/// Same as ncclCommRegister, for profilers that put their own ncclCommRegister before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclCommRegister(
    comm: ncclComm_t,
    buff: *mut c_void,
    size: usize,
    handle: *mut *mut c_void,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclCommRegister(comm, buff, size, handle) })
}

/// Ends a registration by ncclCommRegister.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommDeregister(comm: ncclComm_t, handle: *mut c_void) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclCommDeregister(comm, handle) })
}

/// Same as ncclCommDeregister, for profilers that put their own ncclCommDeregister before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclCommDeregister(comm: ncclComm_t, handle: *mut c_void) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclCommDeregister(comm, handle) })
}

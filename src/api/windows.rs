//! Windows: memory that the ranks of a communicator register together.

use std::ffi::{c_int, c_void};

use crate::api::boundary::boundary;
use crate::nccl::{ncclComm_t, ncclInternalError, ncclResult_t, ncclWindow_t};
use crate::real;

/// Registers `size` bytes at `buff` as this rank's part of a window. All ranks call it. `winFlags` combines
/// `NCCL_WIN_*`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommWindowRegister(
    comm: ncclComm_t,
    buff: *mut c_void,
    size: usize,
    win: *mut ncclWindow_t,
    winFlags: c_int,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclCommWindowRegister(comm, buff, size, win, winFlags) })
}

/// Same as ncclCommWindowRegister, for profilers that put their own ncclCommWindowRegister before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclCommWindowRegister(
    comm: ncclComm_t,
    buff: *mut c_void,
    size: usize,
    win: *mut ncclWindow_t,
    winFlags: c_int,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclCommWindowRegister(comm, buff, size, win, winFlags) })
}

/// Ends a window. The memory stays the caller's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommWindowDeregister(comm: ncclComm_t, win: ncclWindow_t) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclCommWindowDeregister(comm, win) })
}

/// Same as ncclCommWindowDeregister, for profilers that put their own ncclCommWindowDeregister before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclCommWindowDeregister(comm: ncclComm_t, win: ncclWindow_t) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclCommWindowDeregister(comm, win) })
}

/// Writes the address under which this rank registered its part of a window.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclWinGetUserPtr(
    comm: ncclComm_t,
    win: ncclWindow_t,
    outUserPtr: *mut *mut c_void,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclWinGetUserPtr(comm, win, outUserPtr) })
}

/// Same as ncclWinGetUserPtr, for profilers that put their own ncclWinGetUserPtr before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclWinGetUserPtr(
    comm: ncclComm_t,
    win: ncclWindow_t,
    outUserPtr: *mut *mut c_void,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclWinGetUserPtr(comm, win, outUserPtr) })
}

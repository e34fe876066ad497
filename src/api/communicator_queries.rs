//! What can be asked of a communicator.

use std::ffi::c_int;

use crate::api::boundary::boundary;
use crate::comm::setup::beacon;
use crate::nccl::{ncclComm_t, ncclCommMemStat_t, ncclInProgress, ncclInternalError, ncclResult_t, ncclSuccess};
use crate::real;

/// Writes the error that a communicator has met since it was made, ncclSuccess, or ncclInProgress while a call is at
/// work.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommGetAsyncError(comm: ncclComm_t, asyncError: *mut ncclResult_t) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || {
        // SAFETY: as above.
        let result = unsafe { real::ncclCommGetAsyncError(comm, asyncError) };
        if result == ncclSuccess {
            // SAFETY: NCCL has just written to the pointer.
            let state = unsafe { &mut *asyncError };
            if *state == ncclSuccess {
                beacon::ready(comm);
                *state = crate::comm::async_error(comm);
            } else if *state != ncclInProgress {
                beacon::failed(comm);
            }
        }
        result
    })
}

/// Same as ncclCommGetAsyncError, for profilers that put their own ncclCommGetAsyncError before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclCommGetAsyncError(comm: ncclComm_t, asyncError: *mut ncclResult_t) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || {
        // SAFETY: as above.
        let result = unsafe { real::ncclCommGetAsyncError(comm, asyncError) };
        if result == ncclSuccess {
            // SAFETY: NCCL has just written to the pointer.
            let state = unsafe { &mut *asyncError };
            if *state == ncclSuccess {
                beacon::ready(comm);
                *state = crate::comm::async_error(comm);
            } else if *state != ncclInProgress {
                beacon::failed(comm);
            }
        }
        result
    })
}

/// Writes the number of ranks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommCount(comm: ncclComm_t, count: *mut c_int) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclCommCount(comm, count) })
}

/// Same as ncclCommCount, for profilers that put their own ncclCommCount before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclCommCount(comm: ncclComm_t, count: *mut c_int) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclCommCount(comm, count) })
}

/// Writes the CUDA device of this rank.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommCuDevice(comm: ncclComm_t, device: *mut c_int) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclCommCuDevice(comm, device) })
}

/// Same as ncclCommCuDevice, for profilers that put their own ncclCommCuDevice before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclCommCuDevice(comm: ncclComm_t, device: *mut c_int) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclCommCuDevice(comm, device) })
}

/// Writes the number of this rank.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommUserRank(comm: ncclComm_t, rank: *mut c_int) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclCommUserRank(comm, rank) })
}

/// Same as ncclCommUserRank, for profilers that put their own ncclCommUserRank before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclCommUserRank(comm: ncclComm_t, rank: *mut c_int) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclCommUserRank(comm, rank) })
}

/// Writes one number about the memory of a communicator, in bytes unless `stat` says otherwise.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommMemStats(comm: ncclComm_t, stat: ncclCommMemStat_t, value: *mut u64) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclCommMemStats(comm, stat, value) })
}

/// Same as ncclCommMemStats, for profilers that put their own ncclCommMemStats before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclCommMemStats(comm: ncclComm_t, stat: ncclCommMemStat_t, value: *mut u64) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclCommMemStats(comm, stat, value) })
}

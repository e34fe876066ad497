//! Groups: operations between a start and its end are issued together. Groups nest; only the outermost end acts.

use crate::api::boundary::boundary;
use crate::comm;
use crate::nccl::{ncclInternalError, ncclResult_t, ncclSimInfo_t};
use crate::real;

/// Opens a group on this thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclGroupStart() -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || {
        // SAFETY: no arguments.
        let result = unsafe { real::ncclGroupStart() };
        comm::group_started(result);
        result
    })
}

/// Same as ncclGroupStart, for profilers that put their own ncclGroupStart before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclGroupStart() -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || {
        // SAFETY: no arguments.
        let result = unsafe { real::ncclGroupStart() };
        comm::group_started(result);
        result
    })
}

/// Closes a group on this thread. The outermost one issues what the group holds and returns the first error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclGroupEnd() -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { comm::group_ended(real::ncclGroupEnd()) })
}

/// Same as ncclGroupEnd, for profilers that put their own ncclGroupEnd before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclGroupEnd() -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { comm::group_ended(real::ncclGroupEnd()) })
}

/// Closes a group without issuing what it holds, and writes what that would have cost.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclGroupSimulateEnd(simInfo: *mut ncclSimInfo_t) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || {
        // SAFETY: as above.
        let result = unsafe { real::ncclGroupSimulateEnd(simInfo) };
        comm::group_simulated(result);
        result
    })
}

/// Same as ncclGroupSimulateEnd, for profilers that put their own ncclGroupSimulateEnd before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclGroupSimulateEnd(simInfo: *mut ncclSimInfo_t) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || {
        // SAFETY: as above.
        let result = unsafe { real::ncclGroupSimulateEnd(simInfo) };
        comm::group_simulated(result);
        result
    })
}

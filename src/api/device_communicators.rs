//! Device communicators: what kernels of the application communicate through. Host side.

use std::ffi::c_int;

use crate::api::boundary::boundary;
use crate::nccl::{
    ncclComm_t, ncclCommProperties_t, ncclDevComm_t, ncclDevCommRequirements_t, ncclDevResourceRequirements,
    ncclDevResourceRequirements_t, ncclGinBarrierHandle_t, ncclGinInboxA2AHandle, ncclGinOutboxHandle,
    ncclInternalError, ncclLLA2AHandle_t, ncclLsaBarrierHandle_t, ncclResult_t, ncclTeam, ncclTeam_t,
};
use crate::real;

/// Writes what a communicator can do. `props` starts from `NCCL_COMM_PROPERTIES_INITIALIZER`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommQueryProperties(comm: ncclComm_t, props: *mut ncclCommProperties_t) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclCommQueryProperties(comm, props) })
}

/// Same as ncclCommQueryProperties, for profilers that put their own ncclCommQueryProperties before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclCommQueryProperties(comm: ncclComm_t, props: *mut ncclCommProperties_t) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclCommQueryProperties(comm, props) })
}

/// Makes a device communicator that meets the requirements. All ranks call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclDevCommCreate(
    comm: ncclComm_t,
    reqs: *const ncclDevCommRequirements_t,
    outDevComm: *mut ncclDevComm_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclDevCommCreate(comm, reqs, outDevComm) })
}

/// Same as ncclDevCommCreate, for profilers that put their own ncclDevCommCreate before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclDevCommCreate(
    comm: ncclComm_t,
    reqs: *const ncclDevCommRequirements_t,
    outDevComm: *mut ncclDevComm_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclDevCommCreate(comm, reqs, outDevComm) })
}

/// Frees a device communicator.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclDevCommDestroy(comm: ncclComm_t, devComm: *const ncclDevComm_t) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclDevCommDestroy(comm, devComm) })
}

/// Same as ncclDevCommDestroy, for profilers that put their own ncclDevCommDestroy before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclDevCommDestroy(comm: ncclComm_t, devComm: *const ncclDevComm_t) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclDevCommDestroy(comm, devComm) })
}

/// Describes the resource behind `nBarriers` barriers of a team whose ranks load from and store to each other.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclLsaBarrierCreateRequirement(
    team: ncclTeam_t,
    nBarriers: c_int,
    outHandle: *mut ncclLsaBarrierHandle_t,
    outReq: *mut ncclDevResourceRequirements_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclLsaBarrierCreateRequirement(team, nBarriers, outHandle, outReq) })
}

/// Same as ncclLsaBarrierCreateRequirement, for profilers that put their own ncclLsaBarrierCreateRequirement before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclLsaBarrierCreateRequirement(
    team: ncclTeam_t,
    nBarriers: c_int,
    outHandle: *mut ncclLsaBarrierHandle_t,
    outReq: *mut ncclDevResourceRequirements_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclLsaBarrierCreateRequirement(team, nBarriers, outHandle, outReq) })
}

/// Describes the resource behind `nBarriers` barriers of a team over GPU-initiated networking.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclGinBarrierCreateRequirement(
    comm: ncclComm_t,
    team: ncclTeam_t,
    nBarriers: c_int,
    outHandle: *mut ncclGinBarrierHandle_t,
    outReq: *mut ncclDevResourceRequirements_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        real::ncclGinBarrierCreateRequirement(comm, team, nBarriers, outHandle, outReq)
    })
}

/// Same as ncclGinBarrierCreateRequirement, for profilers that put their own ncclGinBarrierCreateRequirement before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclGinBarrierCreateRequirement(
    comm: ncclComm_t,
    team: ncclTeam_t,
    nBarriers: c_int,
    outHandle: *mut ncclGinBarrierHandle_t,
    outReq: *mut ncclDevResourceRequirements_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        real::ncclGinBarrierCreateRequirement(comm, team, nBarriers, outHandle, outReq)
    })
}

/// Describes the resource behind the sending side of mailboxes of 2 to the `size_log2` bytes, one for each of `nBlocks`
/// thread blocks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclGinOutboxCreateRequirement(
    nBlocks: c_int,
    size_log2: c_int,
    outHandle: *mut ncclGinOutboxHandle,
    outReq: *mut ncclDevResourceRequirements,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        real::ncclGinOutboxCreateRequirement(nBlocks, size_log2, outHandle, outReq)
    })
}

/// Same as ncclGinOutboxCreateRequirement, for profilers that put their own ncclGinOutboxCreateRequirement before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclGinOutboxCreateRequirement(
    nBlocks: c_int,
    size_log2: c_int,
    outHandle: *mut ncclGinOutboxHandle,
    outReq: *mut ncclDevResourceRequirements,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        real::ncclGinOutboxCreateRequirement(nBlocks, size_log2, outHandle, outReq)
    })
}

/// Describes the resource behind the receiving side of all-to-all mailboxes of 2 to the `size_log2` bytes among
/// `peers`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclGinInboxA2ACreateRequirement(
    peers: ncclTeam,
    nBlocks: c_int,
    size_log2: c_int,
    outHandle: *mut ncclGinInboxA2AHandle,
    outReq: *mut ncclDevResourceRequirements,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        real::ncclGinInboxA2ACreateRequirement(peers, nBlocks, size_log2, outHandle, outReq)
    })
}

/// Same as ncclGinInboxA2ACreateRequirement, for profilers that put their own ncclGinInboxA2ACreateRequirement before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclGinInboxA2ACreateRequirement(
    peers: ncclTeam,
    nBlocks: c_int,
    size_log2: c_int,
    outHandle: *mut ncclGinInboxA2AHandle,
    outReq: *mut ncclDevResourceRequirements,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        real::ncclGinInboxA2ACreateRequirement(peers, nBlocks, size_log2, outHandle, outReq)
    })
}

/// Slots that an all-to-all of at most `maxElts` elements of at most `maxEltSize` bytes needs. -1 when NCCL lacks the
/// function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclLLA2ACalcSlots(maxElts: c_int, maxEltSize: c_int) -> c_int {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(-1, || unsafe { real::ncclLLA2ACalcSlots(maxElts, maxEltSize) })
}

/// Same as ncclLLA2ACalcSlots, for profilers that put their own ncclLLA2ACalcSlots before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclLLA2ACalcSlots(maxElts: c_int, maxEltSize: c_int) -> c_int {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(-1, || unsafe { real::ncclLLA2ACalcSlots(maxElts, maxEltSize) })
}

/// Describes the resource behind an all-to-all of small messages: `nSlots` for each of `nBlocks` thread blocks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclLLA2ACreateRequirement(
    nBlocks: c_int,
    nSlots: c_int,
    outHandle: *mut ncclLLA2AHandle_t,
    outReq: *mut ncclDevResourceRequirements_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclLLA2ACreateRequirement(nBlocks, nSlots, outHandle, outReq) })
}

/// Same as ncclLLA2ACreateRequirement, for profilers that put their own ncclLLA2ACreateRequirement before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclLLA2ACreateRequirement(
    nBlocks: c_int,
    nSlots: c_int,
    outHandle: *mut ncclLLA2AHandle_t,
    outReq: *mut ncclDevResourceRequirements_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclLLA2ACreateRequirement(nBlocks, nSlots, outHandle, outReq) })
}

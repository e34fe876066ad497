//! Where a window lies for the device: addresses and CFT link endpoints. Offsets are in bytes.

use std::ffi::{c_int, c_void};

use crate::api::boundary::boundary;
use crate::nccl::{ncclCftLeId, ncclInternalError, ncclMultimemHandle_t, ncclResult_t, ncclTeam_t, ncclWindow_t};
use crate::real;

/// Writes the address at which a store reaches the window of every rank of the load-store team.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclGetLsaMultimemDevicePointer(
    window: ncclWindow_t,
    offset: usize,
    outPtr: *mut *mut c_void,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclGetLsaMultimemDevicePointer(window, offset, outPtr) })
}

/// Same as ncclGetLsaMultimemDevicePointer, for profilers that put their own ncclGetLsaMultimemDevicePointer before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclGetLsaMultimemDevicePointer(
    window: ncclWindow_t,
    offset: usize,
    outPtr: *mut *mut c_void,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclGetLsaMultimemDevicePointer(window, offset, outPtr) })
}

/// Writes the address at which a store reaches the window of every rank behind a multicast mapping.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclGetMultimemDevicePointer(
    window: ncclWindow_t,
    offset: usize,
    multimem: ncclMultimemHandle_t,
    outPtr: *mut *mut c_void,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclGetMultimemDevicePointer(window, offset, multimem, outPtr) })
}

/// Same as ncclGetMultimemDevicePointer, for profilers that put their own ncclGetMultimemDevicePointer before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclGetMultimemDevicePointer(
    window: ncclWindow_t,
    offset: usize,
    multimem: ncclMultimemHandle_t,
    outPtr: *mut *mut c_void,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclGetMultimemDevicePointer(window, offset, multimem, outPtr) })
}

/// Writes the address of the window of rank `lsaRank` of the load-store team.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclGetLsaDevicePointer(
    window: ncclWindow_t,
    offset: usize,
    lsaRank: c_int,
    outPtr: *mut *mut c_void,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclGetLsaDevicePointer(window, offset, lsaRank, outPtr) })
}

/// Same as ncclGetLsaDevicePointer, for profilers that put their own ncclGetLsaDevicePointer before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclGetLsaDevicePointer(
    window: ncclWindow_t,
    offset: usize,
    lsaRank: c_int,
    outPtr: *mut *mut c_void,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclGetLsaDevicePointer(window, offset, lsaRank, outPtr) })
}

/// Writes the address of the window of rank `peer` of the communicator, or NULL when it cannot be reached by load and
/// store.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclGetPeerDevicePointer(
    window: ncclWindow_t,
    offset: usize,
    peer: c_int,
    outPtr: *mut *mut c_void,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclGetPeerDevicePointer(window, offset, peer, outPtr) })
}

/// Same as ncclGetPeerDevicePointer, for profilers that put their own ncclGetPeerDevicePointer before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclGetPeerDevicePointer(
    window: ncclWindow_t,
    offset: usize,
    peer: c_int,
    outPtr: *mut *mut c_void,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclGetPeerDevicePointer(window, offset, peer, outPtr) })
}

/// Writes the link endpoint that reaches the window of all ranks, and the offset there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclGetMultimemDeviceLeInfo(
    window: ncclWindow_t,
    offset: usize,
    leId: *mut ncclCftLeId,
    leOffset: *mut usize,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclGetMultimemDeviceLeInfo(window, offset, leId, leOffset) })
}

/// Same as ncclGetMultimemDeviceLeInfo, for profilers that put their own ncclGetMultimemDeviceLeInfo before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclGetMultimemDeviceLeInfo(
    window: ncclWindow_t,
    offset: usize,
    leId: *mut ncclCftLeId,
    leOffset: *mut usize,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclGetMultimemDeviceLeInfo(window, offset, leId, leOffset) })
}

/// Writes the link endpoint that reaches the window of rank `peerCft` of a team, and the offset there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclGetCftDeviceLeInfo(
    window: ncclWindow_t,
    offset: usize,
    peerCft: c_int,
    cftTeam: ncclTeam_t,
    leId: *mut ncclCftLeId,
    leOffset: *mut usize,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        real::ncclGetCftDeviceLeInfo(window, offset, peerCft, cftTeam, leId, leOffset)
    })
}

/// Same as ncclGetCftDeviceLeInfo, for profilers that put their own ncclGetCftDeviceLeInfo before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclGetCftDeviceLeInfo(
    window: ncclWindow_t,
    offset: usize,
    peerCft: c_int,
    cftTeam: ncclTeam_t,
    leId: *mut ncclCftLeId,
    leOffset: *mut usize,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        real::ncclGetCftDeviceLeInfo(window, offset, peerCft, cftTeam, leId, leOffset)
    })
}

/// Writes the link endpoint that reaches the window of rank `peerWorld` of the communicator, and the offset there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclGetPeerDeviceLeInfo(
    window: ncclWindow_t,
    offset: usize,
    peerWorld: c_int,
    leId: *mut ncclCftLeId,
    leOffset: *mut usize,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclGetPeerDeviceLeInfo(window, offset, peerWorld, leId, leOffset) })
}

/// Same as ncclGetPeerDeviceLeInfo, for profilers that put their own ncclGetPeerDeviceLeInfo before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclGetPeerDeviceLeInfo(
    window: ncclWindow_t,
    offset: usize,
    peerWorld: c_int,
    leId: *mut ncclCftLeId,
    leOffset: *mut usize,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclGetPeerDeviceLeInfo(window, offset, peerWorld, leId, leOffset) })
}

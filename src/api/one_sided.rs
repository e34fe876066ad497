//! Operations that one rank makes on another's memory, and the signals that tell of them.

use std::ffi::{c_int, c_uint, c_void};

use crate::api::boundary::boundary;
use crate::nccl::{
    cudaStream_t, ncclComm_t, ncclDataType_t, ncclInternalError, ncclResult_t, ncclWaitSignalDesc_t, ncclWindow_t,
};
use crate::real;

/// Writes `count` elements into the window of rank `peer`, `peerWinOffset` bytes from its start, and then signals that
/// rank.
///
/// `sigIdx` and `ctx` choose the signal. `flags` is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclPutSignal(
    localbuff: *const c_void,
    count: usize,
    datatype: ncclDataType_t,
    peer: c_int,
    peerWin: ncclWindow_t,
    peerWinOffset: usize,
    sigIdx: c_int,
    ctx: c_int,
    flags: c_uint,
    comm: ncclComm_t,
    stream: cudaStream_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        real::ncclPutSignal(localbuff, count, datatype, peer, peerWin, peerWinOffset, sigIdx, ctx, flags, comm, stream)
    })
}

/// Same as ncclPutSignal, for profilers that put their own ncclPutSignal before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclPutSignal(
    localbuff: *const c_void,
    count: usize,
    datatype: ncclDataType_t,
    peer: c_int,
    peerWin: ncclWindow_t,
    peerWinOffset: usize,
    sigIdx: c_int,
    ctx: c_int,
    flags: c_uint,
    comm: ncclComm_t,
    stream: cudaStream_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        real::ncclPutSignal(localbuff, count, datatype, peer, peerWin, peerWinOffset, sigIdx, ctx, flags, comm, stream)
    })
}

/// Signals rank `peer` without writing anything. `flags` is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclSignal(
    peer: c_int,
    sigIdx: c_int,
    ctx: c_int,
    flags: c_uint,
    comm: ncclComm_t,
    stream: cudaStream_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclSignal(peer, sigIdx, ctx, flags, comm, stream) })
}

/// Same as ncclSignal, for profilers that put their own ncclSignal before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclSignal(
    peer: c_int,
    sigIdx: c_int,
    ctx: c_int,
    flags: c_uint,
    comm: ncclComm_t,
    stream: cudaStream_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclSignal(peer, sigIdx, ctx, flags, comm, stream) })
}

/// Waits on the stream for the signals that the `nDesc` descriptors list.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclWaitSignal(
    nDesc: c_int,
    signalDescs: *mut ncclWaitSignalDesc_t,
    comm: ncclComm_t,
    stream: cudaStream_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclWaitSignal(nDesc, signalDescs, comm, stream) })
}

/// Same as ncclWaitSignal, for profilers that put their own ncclWaitSignal before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclWaitSignal(
    nDesc: c_int,
    signalDescs: *mut ncclWaitSignalDesc_t,
    comm: ncclComm_t,
    stream: cudaStream_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclWaitSignal(nDesc, signalDescs, comm, stream) })
}

//! The collectives. Counts are in elements; the work is done on `stream`, after what was enqueued there before.

use std::ffi::{c_int, c_void};

use crate::api::boundary::boundary;
use crate::comm;
use crate::nccl::AllReduce;
use crate::nccl::{cudaStream_t, ncclComm_t, ncclDataType_t, ncclInternalError, ncclRedOp_t, ncclResult_t};
use crate::real;

/// Combines the `count` elements at `sendbuff` of all ranks and leaves the result at `recvbuff` of every rank.
///
/// In place when `sendbuff` and `recvbuff` are equal.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclAllReduce(
    sendbuff: *const c_void,
    recvbuff: *mut c_void,
    count: usize,
    datatype: ncclDataType_t,
    op: ncclRedOp_t,
    comm: ncclComm_t,
    stream: cudaStream_t,
) -> ncclResult_t {
    boundary(ncclInternalError, || {
        let call = AllReduce { input: sendbuff, output: recvbuff, count, datatype, op, comm, stream };
        // SAFETY: the caller has the contract of ncclAllReduce.
        unsafe { comm::all_reduce(call) }
    })
}

/// Same as ncclAllReduce, for profilers that put their own ncclAllReduce before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclAllReduce(
    sendbuff: *const c_void,
    recvbuff: *mut c_void,
    count: usize,
    datatype: ncclDataType_t,
    op: ncclRedOp_t,
    comm: ncclComm_t,
    stream: cudaStream_t,
) -> ncclResult_t {
    boundary(ncclInternalError, || {
        let call = AllReduce { input: sendbuff, output: recvbuff, count, datatype, op, comm, stream };
        // SAFETY: the caller has the contract of ncclAllReduce.
        unsafe { comm::all_reduce(call) }
    })
}

/// Combines the `count` elements at `sendbuff` of all ranks and leaves the result at `recvbuff` of rank `root`.
///
/// In place when `sendbuff` and `recvbuff` are equal. On other ranks `recvbuff` is not used.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclReduce(
    sendbuff: *const c_void,
    recvbuff: *mut c_void,
    count: usize,
    datatype: ncclDataType_t,
    op: ncclRedOp_t,
    root: c_int,
    comm: ncclComm_t,
    stream: cudaStream_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        real::ncclReduce(sendbuff, recvbuff, count, datatype, op, root, comm, stream)
    })
}

/// Same as ncclReduce, for profilers that put their own ncclReduce before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclReduce(
    sendbuff: *const c_void,
    recvbuff: *mut c_void,
    count: usize,
    datatype: ncclDataType_t,
    op: ncclRedOp_t,
    root: c_int,
    comm: ncclComm_t,
    stream: cudaStream_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        real::ncclReduce(sendbuff, recvbuff, count, datatype, op, root, comm, stream)
    })
}

/// Copies the `count` elements at `sendbuff` of rank `root` to `recvbuff` of every rank.
///
/// In place when `sendbuff` and `recvbuff` are equal. On other ranks `sendbuff` is not used.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclBroadcast(
    sendbuff: *const c_void,
    recvbuff: *mut c_void,
    count: usize,
    datatype: ncclDataType_t,
    root: c_int,
    comm: ncclComm_t,
    stream: cudaStream_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        real::ncclBroadcast(sendbuff, recvbuff, count, datatype, root, comm, stream)
    })
}

/// Same as ncclBroadcast, for profilers that put their own ncclBroadcast before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclBroadcast(
    sendbuff: *const c_void,
    recvbuff: *mut c_void,
    count: usize,
    datatype: ncclDataType_t,
    root: c_int,
    comm: ncclComm_t,
    stream: cudaStream_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        real::ncclBroadcast(sendbuff, recvbuff, count, datatype, root, comm, stream)
    })
}

/// ncclBroadcast in place, under its old name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclBcast(
    buff: *mut c_void,
    count: usize,
    datatype: ncclDataType_t,
    root: c_int,
    comm: ncclComm_t,
    stream: cudaStream_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclBcast(buff, count, datatype, root, comm, stream) })
}

/// Same as ncclBcast, for profilers that put their own ncclBcast before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclBcast(
    buff: *mut c_void,
    count: usize,
    datatype: ncclDataType_t,
    root: c_int,
    comm: ncclComm_t,
    stream: cudaStream_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclBcast(buff, count, datatype, root, comm, stream) })
}

/// Copies the `sendcount` elements at `sendbuff` of rank i to element i * `sendcount` of `recvbuff`, on every rank.
///
/// In place when `sendbuff` is this rank's part of `recvbuff`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclAllGather(
    sendbuff: *const c_void,
    recvbuff: *mut c_void,
    sendcount: usize,
    datatype: ncclDataType_t,
    comm: ncclComm_t,
    stream: cudaStream_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        real::ncclAllGather(sendbuff, recvbuff, sendcount, datatype, comm, stream)
    })
}

/// Same as ncclAllGather, for profilers that put their own ncclAllGather before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclAllGather(
    sendbuff: *const c_void,
    recvbuff: *mut c_void,
    sendcount: usize,
    datatype: ncclDataType_t,
    comm: ncclComm_t,
    stream: cudaStream_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        real::ncclAllGather(sendbuff, recvbuff, sendcount, datatype, comm, stream)
    })
}

/// Combines the elements at `sendbuff` of all ranks; rank i gets those from i * `recvcount` on, `recvcount` of them.
///
/// In place when `recvbuff` is this rank's part of `sendbuff`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclReduceScatter(
    sendbuff: *const c_void,
    recvbuff: *mut c_void,
    recvcount: usize,
    datatype: ncclDataType_t,
    op: ncclRedOp_t,
    comm: ncclComm_t,
    stream: cudaStream_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        real::ncclReduceScatter(sendbuff, recvbuff, recvcount, datatype, op, comm, stream)
    })
}

/// Same as ncclReduceScatter, for profilers that put their own ncclReduceScatter before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclReduceScatter(
    sendbuff: *const c_void,
    recvbuff: *mut c_void,
    recvcount: usize,
    datatype: ncclDataType_t,
    op: ncclRedOp_t,
    comm: ncclComm_t,
    stream: cudaStream_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        real::ncclReduceScatter(sendbuff, recvbuff, recvcount, datatype, op, comm, stream)
    })
}

/// Sends `count` elements from element j * `count` of `sendbuff` to rank j, where rank i's arrive at element i *
/// `count` of `recvbuff`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclAlltoAll(
    sendbuff: *const c_void,
    recvbuff: *mut c_void,
    count: usize,
    datatype: ncclDataType_t,
    comm: ncclComm_t,
    stream: cudaStream_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclAlltoAll(sendbuff, recvbuff, count, datatype, comm, stream) })
}

/// Same as ncclAlltoAll, for profilers that put their own ncclAlltoAll before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclAlltoAll(
    sendbuff: *const c_void,
    recvbuff: *mut c_void,
    count: usize,
    datatype: ncclDataType_t,
    comm: ncclComm_t,
    stream: cudaStream_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclAlltoAll(sendbuff, recvbuff, count, datatype, comm, stream) })
}

/// Copies the `count` elements at `sendbuff` of rank i to element i * `count` of `recvbuff` on rank `root`.
///
/// On other ranks `recvbuff` is not used.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclGather(
    sendbuff: *const c_void,
    recvbuff: *mut c_void,
    count: usize,
    datatype: ncclDataType_t,
    root: c_int,
    comm: ncclComm_t,
    stream: cudaStream_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclGather(sendbuff, recvbuff, count, datatype, root, comm, stream) })
}

/// Same as ncclGather, for profilers that put their own ncclGather before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclGather(
    sendbuff: *const c_void,
    recvbuff: *mut c_void,
    count: usize,
    datatype: ncclDataType_t,
    root: c_int,
    comm: ncclComm_t,
    stream: cudaStream_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclGather(sendbuff, recvbuff, count, datatype, root, comm, stream) })
}

/// Copies `count` elements from element i * `count` of `sendbuff` on rank `root` to `recvbuff` of rank i.
///
/// On other ranks `sendbuff` is not used.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclScatter(
    sendbuff: *const c_void,
    recvbuff: *mut c_void,
    count: usize,
    datatype: ncclDataType_t,
    root: c_int,
    comm: ncclComm_t,
    stream: cudaStream_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        real::ncclScatter(sendbuff, recvbuff, count, datatype, root, comm, stream)
    })
}

/// Same as ncclScatter, for profilers that put their own ncclScatter before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclScatter(
    sendbuff: *const c_void,
    recvbuff: *mut c_void,
    count: usize,
    datatype: ncclDataType_t,
    root: c_int,
    comm: ncclComm_t,
    stream: cudaStream_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        real::ncclScatter(sendbuff, recvbuff, count, datatype, root, comm, stream)
    })
}

//! Messages between two ranks.

use std::ffi::{c_int, c_void};

use crate::api::boundary::boundary;
use crate::nccl::{cudaStream_t, ncclComm_t, ncclDataType_t, ncclInternalError, ncclResult_t};
use crate::real;

/// Sends `count` elements to rank `peer`, which calls ncclRecv with the same count and type.
///
/// Sends and receives that must progress together belong into one group.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclSend(
    sendbuff: *const c_void,
    count: usize,
    datatype: ncclDataType_t,
    peer: c_int,
    comm: ncclComm_t,
    stream: cudaStream_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclSend(sendbuff, count, datatype, peer, comm, stream) })
}

/// Same as ncclSend, for profilers that put their own ncclSend before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclSend(
    sendbuff: *const c_void,
    count: usize,
    datatype: ncclDataType_t,
    peer: c_int,
    comm: ncclComm_t,
    stream: cudaStream_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclSend(sendbuff, count, datatype, peer, comm, stream) })
}

/// Receives `count` elements from rank `peer`, which calls ncclSend with the same count and type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclRecv(
    recvbuff: *mut c_void,
    count: usize,
    datatype: ncclDataType_t,
    peer: c_int,
    comm: ncclComm_t,
    stream: cudaStream_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclRecv(recvbuff, count, datatype, peer, comm, stream) })
}

/// Same as ncclRecv, for profilers that put their own ncclRecv before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclRecv(
    recvbuff: *mut c_void,
    count: usize,
    datatype: ncclDataType_t,
    peer: c_int,
    comm: ncclComm_t,
    stream: cudaStream_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclRecv(recvbuff, count, datatype, peer, comm, stream) })
}

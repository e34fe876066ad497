//! The collectives with a configuration of the single call.

use std::ffi::{c_int, c_void};

use crate::api::boundary::boundary;
use crate::nccl::{
    cudaStream_t, ncclCollConfig_t, ncclComm_t, ncclDataType_t, ncclInternalError, ncclRedOp_t, ncclResult_t,
};
use crate::real;

/// As ncclAllReduce, configured by `config`, which is equal on all ranks. NULL: exactly as ncclAllReduce.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclAllReduceConfig(
    sendbuff: *const c_void,
    recvbuff: *mut c_void,
    count: usize,
    datatype: ncclDataType_t,
    op: ncclRedOp_t,
    comm: ncclComm_t,
    stream: cudaStream_t,
    config: *const ncclCollConfig_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        real::ncclAllReduceConfig(sendbuff, recvbuff, count, datatype, op, comm, stream, config)
    })
}

/// Same as ncclAllReduceConfig, for profilers that put their own ncclAllReduceConfig before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclAllReduceConfig(
    sendbuff: *const c_void,
    recvbuff: *mut c_void,
    count: usize,
    datatype: ncclDataType_t,
    op: ncclRedOp_t,
    comm: ncclComm_t,
    stream: cudaStream_t,
    config: *const ncclCollConfig_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        real::ncclAllReduceConfig(sendbuff, recvbuff, count, datatype, op, comm, stream, config)
    })
}

/// As ncclReduce, configured by `config`, which is equal on all ranks. NULL: exactly as ncclReduce.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclReduceConfig(
    sendbuff: *const c_void,
    recvbuff: *mut c_void,
    count: usize,
    datatype: ncclDataType_t,
    op: ncclRedOp_t,
    root: c_int,
    comm: ncclComm_t,
    stream: cudaStream_t,
    config: *const ncclCollConfig_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        real::ncclReduceConfig(sendbuff, recvbuff, count, datatype, op, root, comm, stream, config)
    })
}

/// Same as ncclReduceConfig, for profilers that put their own ncclReduceConfig before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclReduceConfig(
    sendbuff: *const c_void,
    recvbuff: *mut c_void,
    count: usize,
    datatype: ncclDataType_t,
    op: ncclRedOp_t,
    root: c_int,
    comm: ncclComm_t,
    stream: cudaStream_t,
    config: *const ncclCollConfig_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        real::ncclReduceConfig(sendbuff, recvbuff, count, datatype, op, root, comm, stream, config)
    })
}

/// As ncclBroadcast, configured by `config`, which is equal on all ranks. NULL: exactly as ncclBroadcast.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclBroadcastConfig(
    sendbuff: *const c_void,
    recvbuff: *mut c_void,
    count: usize,
    datatype: ncclDataType_t,
    root: c_int,
    comm: ncclComm_t,
    stream: cudaStream_t,
    config: *const ncclCollConfig_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        real::ncclBroadcastConfig(sendbuff, recvbuff, count, datatype, root, comm, stream, config)
    })
}

/// Same as ncclBroadcastConfig, for profilers that put their own ncclBroadcastConfig before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclBroadcastConfig(
    sendbuff: *const c_void,
    recvbuff: *mut c_void,
    count: usize,
    datatype: ncclDataType_t,
    root: c_int,
    comm: ncclComm_t,
    stream: cudaStream_t,
    config: *const ncclCollConfig_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        real::ncclBroadcastConfig(sendbuff, recvbuff, count, datatype, root, comm, stream, config)
    })
}

/// As ncclAllGather, configured by `config`, which is equal on all ranks. NULL: exactly as ncclAllGather.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclAllGatherConfig(
    sendbuff: *const c_void,
    recvbuff: *mut c_void,
    sendcount: usize,
    datatype: ncclDataType_t,
    comm: ncclComm_t,
    stream: cudaStream_t,
    config: *const ncclCollConfig_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        real::ncclAllGatherConfig(sendbuff, recvbuff, sendcount, datatype, comm, stream, config)
    })
}

/// Same as ncclAllGatherConfig, for profilers that put their own ncclAllGatherConfig before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclAllGatherConfig(
    sendbuff: *const c_void,
    recvbuff: *mut c_void,
    sendcount: usize,
    datatype: ncclDataType_t,
    comm: ncclComm_t,
    stream: cudaStream_t,
    config: *const ncclCollConfig_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        real::ncclAllGatherConfig(sendbuff, recvbuff, sendcount, datatype, comm, stream, config)
    })
}

/// As ncclReduceScatter, configured by `config`, which is equal on all ranks. NULL: exactly as ncclReduceScatter.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclReduceScatterConfig(
    sendbuff: *const c_void,
    recvbuff: *mut c_void,
    recvcount: usize,
    datatype: ncclDataType_t,
    op: ncclRedOp_t,
    comm: ncclComm_t,
    stream: cudaStream_t,
    config: *const ncclCollConfig_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        real::ncclReduceScatterConfig(sendbuff, recvbuff, recvcount, datatype, op, comm, stream, config)
    })
}

/// Same as ncclReduceScatterConfig, for profilers that put their own ncclReduceScatterConfig before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclReduceScatterConfig(
    sendbuff: *const c_void,
    recvbuff: *mut c_void,
    recvcount: usize,
    datatype: ncclDataType_t,
    op: ncclRedOp_t,
    comm: ncclComm_t,
    stream: cudaStream_t,
    config: *const ncclCollConfig_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        real::ncclReduceScatterConfig(sendbuff, recvbuff, recvcount, datatype, op, comm, stream, config)
    })
}

/// As ncclAlltoAll, configured by `config`, which is equal on all ranks. NULL: exactly as ncclAlltoAll.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclAlltoAllConfig(
    sendbuff: *const c_void,
    recvbuff: *mut c_void,
    count: usize,
    datatype: ncclDataType_t,
    comm: ncclComm_t,
    stream: cudaStream_t,
    config: *const ncclCollConfig_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        real::ncclAlltoAllConfig(sendbuff, recvbuff, count, datatype, comm, stream, config)
    })
}

/// Same as ncclAlltoAllConfig, for profilers that put their own ncclAlltoAllConfig before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclAlltoAllConfig(
    sendbuff: *const c_void,
    recvbuff: *mut c_void,
    count: usize,
    datatype: ncclDataType_t,
    comm: ncclComm_t,
    stream: cudaStream_t,
    config: *const ncclCollConfig_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        real::ncclAlltoAllConfig(sendbuff, recvbuff, count, datatype, comm, stream, config)
    })
}

/// As ncclGather, configured by `config`, which is equal on all ranks. NULL: exactly as ncclGather.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclGatherConfig(
    sendbuff: *const c_void,
    recvbuff: *mut c_void,
    count: usize,
    datatype: ncclDataType_t,
    root: c_int,
    comm: ncclComm_t,
    stream: cudaStream_t,
    config: *const ncclCollConfig_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        real::ncclGatherConfig(sendbuff, recvbuff, count, datatype, root, comm, stream, config)
    })
}

/// Same as ncclGatherConfig, for profilers that put their own ncclGatherConfig before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclGatherConfig(
    sendbuff: *const c_void,
    recvbuff: *mut c_void,
    count: usize,
    datatype: ncclDataType_t,
    root: c_int,
    comm: ncclComm_t,
    stream: cudaStream_t,
    config: *const ncclCollConfig_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        real::ncclGatherConfig(sendbuff, recvbuff, count, datatype, root, comm, stream, config)
    })
}

/// As ncclScatter, configured by `config`, which is equal on all ranks. NULL: exactly as ncclScatter.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclScatterConfig(
    sendbuff: *const c_void,
    recvbuff: *mut c_void,
    count: usize,
    datatype: ncclDataType_t,
    root: c_int,
    comm: ncclComm_t,
    stream: cudaStream_t,
    config: *const ncclCollConfig_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        real::ncclScatterConfig(sendbuff, recvbuff, count, datatype, root, comm, stream, config)
    })
}

/// Same as ncclScatterConfig, for profilers that put their own ncclScatterConfig before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclScatterConfig(
    sendbuff: *const c_void,
    recvbuff: *mut c_void,
    count: usize,
    datatype: ncclDataType_t,
    root: c_int,
    comm: ncclComm_t,
    stream: cudaStream_t,
    config: *const ncclCollConfig_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        real::ncclScatterConfig(sendbuff, recvbuff, count, datatype, root, comm, stream, config)
    })
}

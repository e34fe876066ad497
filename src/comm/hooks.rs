//! The hooks of ncclAllReduce, ncclAllReduceConfig, the groups and ncclGetLastError. [`crate::comm::creation`] has the
//! hooks around the making and the end of a communicator.
//!
//! A hook has the prototype and the safety contract of NCCL's function. The hooks of this file look at no argument; some
//! in `creation` look at flags, a color or a parent.

use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::comm::run::{self, call_config, group_end};
use crate::host::error;
use crate::nccl::{
    AllReduce, Text, cudaStream_t, ncclCollConfig_t, ncclComm_t, ncclDataType_t, ncclRedOp_t, ncclResult_t,
    ncclSimInfo_t,
};
use crate::real::{self, Function};
use crate::route::Reason;

/// The hook of ncclAllReduce.
///
/// # Safety
/// As ncclAllReduce.
#[inline(always)]
pub unsafe fn all_reduce(
    sendbuff: *const c_void,
    recvbuff: *mut c_void,
    count: usize,
    datatype: ncclDataType_t,
    op: ncclRedOp_t,
    comm: ncclComm_t,
    stream: cudaStream_t,
) -> ncclResult_t {
    let call = AllReduce { input: sendbuff, output: recvbuff, count, datatype, op, comm, stream, config: ptr::null() };
    // SAFETY: the caller's contract.
    unsafe { run::all_reduce::all_reduce(call) }
}

/// The hook of ncclAllReduceConfig: as ncclAllReduce, if its configuration asks for nothing that Dime lacks. Without a
/// configuration NCCL takes it for ncclAllReduce.
///
/// # Safety
/// As ncclAllReduceConfig.
#[inline(always)]
pub unsafe fn all_reduce_config(
    sendbuff: *const c_void,
    recvbuff: *mut c_void,
    count: usize,
    datatype: ncclDataType_t,
    op: ncclRedOp_t,
    comm: ncclComm_t,
    stream: cudaStream_t,
    config: *const ncclCollConfig_t,
) -> ncclResult_t {
    if config.is_null() && NCCL_HAS_CONFIGURED.load(Ordering::Relaxed) {
        // SAFETY: the caller's contract.
        return unsafe { all_reduce(sendbuff, recvbuff, count, datatype, op, comm, stream) };
    }
    let call = AllReduce { input: sendbuff, output: recvbuff, count, datatype, op, comm, stream, config };
    // SAFETY: the caller's contract.
    unsafe { configured(&call) }
}

/// NCCL has ncclAllReduceConfig. Kept here, since it costs fewer instructions than to ask each time.
static NCCL_HAS_CONFIGURED: AtomicBool = AtomicBool::new(false);

/// A call with a configuration, or the first without one.
///
/// # Safety
/// As ncclAllReduceConfig.
#[inline(never)]
unsafe fn configured(call: &AllReduce) -> ncclResult_t {
    // SAFETY: the caller's contract.
    unsafe {
        if !real::has(Function::ncclAllReduceConfig) {
            // The error of a function that NCCL lacks.
            let AllReduce { input, output, count, datatype, op, comm, stream, config } = *call;
            return real::ncclAllReduceConfig(input, output, count, datatype, op, comm, stream, config);
        }
        NCCL_HAS_CONFIGURED.store(true, Ordering::Relaxed);
        if call.config.is_null() || call_config::most_blocks(call.config).is_some() {
            run::all_reduce::all_reduce(*call)
        } else {
            run::dispatch::count_and_forward(call, Reason::CallConfig)
        }
    }
}

/// The hook of ncclGroupStart.
///
/// # Safety
/// As ncclGroupStart.
#[inline(always)]
pub unsafe fn group_start() -> ncclResult_t {
    // SAFETY: the caller's contract.
    let result = unsafe { real::ncclGroupStart() };
    group_end::group_started(result);
    result
}

/// The hook of ncclGroupEnd.
///
/// # Safety
/// As ncclGroupEnd.
#[inline(always)]
pub unsafe fn group_end() -> ncclResult_t {
    // SAFETY: the caller's contract, and that of each call in the group.
    unsafe { group_end::group_ended(real::ncclGroupEnd()) }
}

/// The hook of ncclGroupSimulateEnd.
///
/// # Safety
/// As ncclGroupSimulateEnd.
#[inline(always)]
pub unsafe fn group_simulate_end(info: *mut ncclSimInfo_t) -> ncclResult_t {
    // SAFETY: the caller's contract.
    let result = unsafe { real::ncclGroupSimulateEnd(info) };
    group_end::group_simulated(result);
    result
}

/// The hook of ncclGetLastError.
///
/// # Safety
/// As ncclGetLastError.
#[inline(always)]
pub unsafe fn last_error(comm: ncclComm_t) -> Text {
    // SAFETY: the caller's contract.
    error::kept().unwrap_or_else(|| unsafe { real::ncclGetLastError(comm) })
}

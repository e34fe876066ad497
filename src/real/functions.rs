//! The functions of the real NCCL: the release that first has each, and a Rust function that calls it.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

use crate::host::thread::inside_nccl;
use crate::nccl::{
    Nothing, Text, cudaStream_t, ncclCftLeId, ncclCftTeamMode_t, ncclCollConfig_t, ncclComm_t, ncclCommMemStat_t,
    ncclCommProperties_t, ncclConfig_t, ncclDataType_t, ncclDevComm_t, ncclDevCommRequirements_t,
    ncclDevResourceRequirements, ncclDevResourceRequirements_t, ncclEncryptionConfig_t, ncclGinBarrierHandle_t,
    ncclGinInboxA2AHandle, ncclGinOutboxHandle, ncclLLA2AHandle_t, ncclLsaBarrierHandle_t, ncclMultimemHandle_t,
    ncclParamHandle_t, ncclRedOp_t, ncclResult_t, ncclScalarResidence_t, ncclSimInfo_t, ncclSuccess, ncclTeam,
    ncclTeam_t, ncclUniqueId, ncclWaitSignalDesc_t, ncclWindow_t,
};
use crate::real::library;
use crate::real::library::Address;

/// Makes from each line the function's place in [`Function`], its entry in [`FUNCTIONS`], and a Rust function of its name that
/// forwards to it.
macro_rules! functions {
    ($($since:literal fn $name:ident($($argument:ident: $type:ty),*) -> $result:ident;)*) => {
        /// The functions by name.
        #[derive(Clone, Copy, Debug)]
        #[allow(missing_docs)]
        pub enum Function { $($name),* }

        /// Name of each function and the first release that has it.
        pub(super) const FUNCTIONS: &[(&CStr, &str)] = &[$(
            (
                // The name is written without the zero that a C string ends with, so add it here.
                match CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                    Ok(name) => name,
                    Err(_) => unreachable!(),
                },
                $since,
            )
        ),*];

        $(
            #[doc = concat!("Calls ", stringify!($name), " of the real NCCL (first in ", $since, ").")]
            ///
            /// # Safety
            /// The arguments meet the contract that NCCL has for them.
            #[inline(always)]
            pub unsafe fn $name($($argument: $type),*) -> $result {
                /// # Safety
                /// `address` is that of the function; the arguments meet its contract.
                #[inline(always)]
                unsafe fn call(address: Address $(, $argument: $type)*) -> $result {
                    // SAFETY: the real NCCL exports this address under this name, and NCCL has never changed the prototype of
                    // a function.
                    let function = unsafe {
                        std::mem::transmute::<Address, unsafe extern "C" fn($($type),*) -> $result>(address)
                    };
                    // SAFETY: the caller answers for the arguments.
                    inside_nccl(|| unsafe { function($($argument),*) }, |_returned| is_failure!($result, _returned))
                }

                // Apart, and with all the arguments, so that the usual way need not save them across a call that it does
                // not make.
                #[cold]
                #[inline(never)]
                unsafe fn first_call($($argument: $type),*) -> $result {
                    match library::find(Function::$name as usize) {
                        // SAFETY: found under this name; the caller answers for the arguments.
                        Ok(address) => unsafe { call(address $(, $argument)*) },
                        Err(code) => failure!($result, code),
                    }
                }

                match library::known(Function::$name as usize) {
                    // SAFETY: found under this name; the caller answers for the arguments.
                    Some(address) => unsafe { call(address $(, $argument)*) },
                    // SAFETY: the caller answers for the arguments.
                    None => unsafe { first_call($($argument),*) },
                }
            }
        )*
    };
}

/// Whether what a function returned is a failure of NCCL's, which replaces one of ours as the last.
macro_rules! is_failure {
    (ncclResult_t, $returned:ident) => {
        $returned != ncclSuccess
    };
    ($other:ident, $returned:ident) => {
        false
    };
}

/// What a function of each return type returns when NCCL or the function is missing.
macro_rules! failure {
    (ncclResult_t, $code:ident) => {
        $code
    };
    (c_int, $code:ident) => {{
        let _ = $code;
        -1
    }};
    (ncclTeam_t, $code:ident) => {{
        let _ = $code;
        ncclTeam_t { nRanks: 0, rank: 0, stride: 0 }
    }};
    (Text, $code:ident) => {{
        let _ = $code;
        c"NCCL is not loaded: the log of Dime says why".as_ptr()
    }};
    (Nothing, $code:ident) => {{
        let _ = $code;
    }};
}

functions! {
    // library
    "2.13.4" fn ncclGetVersion(version: *mut c_int) -> ncclResult_t;
    "2.13.4" fn ncclGetErrorString(result: ncclResult_t) -> Text;
    "2.13.4" fn ncclGetLastError(comm: ncclComm_t) -> Text;
    "2.24.3" fn ncclResetDebugInit() -> Nothing;
    "2.28.3" fn ncclResetDebugInitInternal() -> Nothing;
    "2.32.3" fn ncclSetEncryption(config: *const ncclEncryptionConfig_t) -> ncclResult_t;
    // communicators
    "2.13.4" fn ncclGetUniqueId(uniqueId: *mut ncclUniqueId) -> ncclResult_t;
    "2.13.4" fn ncclCommInitRank(comm: *mut ncclComm_t, nranks: c_int, commId: ncclUniqueId, rank: c_int) -> ncclResult_t;
    "2.14.3" fn ncclCommInitRankConfig(comm: *mut ncclComm_t, nranks: c_int, commId: ncclUniqueId, rank: c_int, config: *mut ncclConfig_t) -> ncclResult_t;
    "2.23.4" fn ncclCommInitRankScalable(newcomm: *mut ncclComm_t, nranks: c_int, myrank: c_int, nId: c_int, commIds: *mut ncclUniqueId, config: *mut ncclConfig_t) -> ncclResult_t;
    "2.13.4" fn ncclCommInitAll(comm: *mut ncclComm_t, ndev: c_int, devlist: *const c_int) -> ncclResult_t;
    "2.14.3" fn ncclCommFinalize(comm: ncclComm_t) -> ncclResult_t;
    "2.13.4" fn ncclCommDestroy(comm: ncclComm_t) -> ncclResult_t;
    "2.13.4" fn ncclCommAbort(comm: ncclComm_t) -> ncclResult_t;
    "2.28.9" fn ncclCommRevoke(comm: ncclComm_t, revokeFlags: c_int) -> ncclResult_t;
    "2.18.3" fn ncclCommSplit(comm: ncclComm_t, color: c_int, key: c_int, newcomm: *mut ncclComm_t, config: *mut ncclConfig_t) -> ncclResult_t;
    "2.27.5" fn ncclCommShrink(comm: ncclComm_t, excludeRanksList: *mut c_int, excludeRanksCount: c_int, newcomm: *mut ncclComm_t, config: *mut ncclConfig_t, shrinkFlags: c_int) -> ncclResult_t;
    "2.29.2" fn ncclCommGetUniqueId(comm: ncclComm_t, uniqueId: *mut ncclUniqueId) -> ncclResult_t;
    "2.29.2" fn ncclCommGrow(comm: ncclComm_t, nRanks: c_int, uniqueId: *const ncclUniqueId, rank: c_int, newcomm: *mut ncclComm_t, config: *mut ncclConfig_t) -> ncclResult_t;
    "2.29.7" fn ncclCommSuspend(comm: ncclComm_t, flags: c_int) -> ncclResult_t;
    "2.29.7" fn ncclCommResume(comm: ncclComm_t) -> ncclResult_t;
    // communicator queries
    "2.13.4" fn ncclCommGetAsyncError(comm: ncclComm_t, asyncError: *mut ncclResult_t) -> ncclResult_t;
    "2.13.4" fn ncclCommCount(comm: ncclComm_t, count: *mut c_int) -> ncclResult_t;
    "2.13.4" fn ncclCommCuDevice(comm: ncclComm_t, device: *mut c_int) -> ncclResult_t;
    "2.13.4" fn ncclCommUserRank(comm: ncclComm_t, rank: *mut c_int) -> ncclResult_t;
    "2.29.7" fn ncclCommMemStats(comm: ncclComm_t, stat: ncclCommMemStat_t, value: *mut u64) -> ncclResult_t;
    // memory
    "2.19.3" fn ncclMemAlloc(ptr: *mut *mut c_void, size: usize) -> ncclResult_t;
    "2.19.3" fn ncclMemFree(ptr: *mut c_void) -> ncclResult_t;
    "2.19.3" fn ncclCommRegister(comm: ncclComm_t, buff: *mut c_void, size: usize, handle: *mut *mut c_void) -> ncclResult_t;
    "2.19.3" fn ncclCommDeregister(comm: ncclComm_t, handle: *mut c_void) -> ncclResult_t;
    // windows
    "2.27.5" fn ncclCommWindowRegister(comm: ncclComm_t, buff: *mut c_void, size: usize, win: *mut ncclWindow_t, winFlags: c_int) -> ncclResult_t;
    "2.27.5" fn ncclCommWindowDeregister(comm: ncclComm_t, win: ncclWindow_t) -> ncclResult_t;
    "2.29.2" fn ncclWinGetUserPtr(comm: ncclComm_t, win: ncclWindow_t, outUserPtr: *mut *mut c_void) -> ncclResult_t;
    // reduction ops
    "2.13.4" fn ncclRedOpCreatePreMulSum(op: *mut ncclRedOp_t, scalar: *mut c_void, datatype: ncclDataType_t, residence: ncclScalarResidence_t, comm: ncclComm_t) -> ncclResult_t;
    "2.13.4" fn ncclRedOpDestroy(op: ncclRedOp_t, comm: ncclComm_t) -> ncclResult_t;
    // collectives
    "2.13.4" fn ncclAllReduce(sendbuff: *const c_void, recvbuff: *mut c_void, count: usize, datatype: ncclDataType_t, op: ncclRedOp_t, comm: ncclComm_t, stream: cudaStream_t) -> ncclResult_t;
    "2.13.4" fn ncclReduce(sendbuff: *const c_void, recvbuff: *mut c_void, count: usize, datatype: ncclDataType_t, op: ncclRedOp_t, root: c_int, comm: ncclComm_t, stream: cudaStream_t) -> ncclResult_t;
    "2.13.4" fn ncclBroadcast(sendbuff: *const c_void, recvbuff: *mut c_void, count: usize, datatype: ncclDataType_t, root: c_int, comm: ncclComm_t, stream: cudaStream_t) -> ncclResult_t;
    "2.13.4" fn ncclBcast(buff: *mut c_void, count: usize, datatype: ncclDataType_t, root: c_int, comm: ncclComm_t, stream: cudaStream_t) -> ncclResult_t;
    "2.13.4" fn ncclAllGather(sendbuff: *const c_void, recvbuff: *mut c_void, sendcount: usize, datatype: ncclDataType_t, comm: ncclComm_t, stream: cudaStream_t) -> ncclResult_t;
    "2.13.4" fn ncclReduceScatter(sendbuff: *const c_void, recvbuff: *mut c_void, recvcount: usize, datatype: ncclDataType_t, op: ncclRedOp_t, comm: ncclComm_t, stream: cudaStream_t) -> ncclResult_t;
    "2.28.3" fn ncclAlltoAll(sendbuff: *const c_void, recvbuff: *mut c_void, count: usize, datatype: ncclDataType_t, comm: ncclComm_t, stream: cudaStream_t) -> ncclResult_t;
    "2.28.3" fn ncclGather(sendbuff: *const c_void, recvbuff: *mut c_void, count: usize, datatype: ncclDataType_t, root: c_int, comm: ncclComm_t, stream: cudaStream_t) -> ncclResult_t;
    "2.28.3" fn ncclScatter(sendbuff: *const c_void, recvbuff: *mut c_void, count: usize, datatype: ncclDataType_t, root: c_int, comm: ncclComm_t, stream: cudaStream_t) -> ncclResult_t;
    // configured collectives
    "2.31.2" fn ncclAllReduceConfig(sendbuff: *const c_void, recvbuff: *mut c_void, count: usize, datatype: ncclDataType_t, op: ncclRedOp_t, comm: ncclComm_t, stream: cudaStream_t, config: *const ncclCollConfig_t) -> ncclResult_t;
    "2.31.2" fn ncclReduceConfig(sendbuff: *const c_void, recvbuff: *mut c_void, count: usize, datatype: ncclDataType_t, op: ncclRedOp_t, root: c_int, comm: ncclComm_t, stream: cudaStream_t, config: *const ncclCollConfig_t) -> ncclResult_t;
    "2.31.2" fn ncclBroadcastConfig(sendbuff: *const c_void, recvbuff: *mut c_void, count: usize, datatype: ncclDataType_t, root: c_int, comm: ncclComm_t, stream: cudaStream_t, config: *const ncclCollConfig_t) -> ncclResult_t;
    "2.31.2" fn ncclAllGatherConfig(sendbuff: *const c_void, recvbuff: *mut c_void, sendcount: usize, datatype: ncclDataType_t, comm: ncclComm_t, stream: cudaStream_t, config: *const ncclCollConfig_t) -> ncclResult_t;
    "2.31.2" fn ncclReduceScatterConfig(sendbuff: *const c_void, recvbuff: *mut c_void, recvcount: usize, datatype: ncclDataType_t, op: ncclRedOp_t, comm: ncclComm_t, stream: cudaStream_t, config: *const ncclCollConfig_t) -> ncclResult_t;
    "2.31.2" fn ncclAlltoAllConfig(sendbuff: *const c_void, recvbuff: *mut c_void, count: usize, datatype: ncclDataType_t, comm: ncclComm_t, stream: cudaStream_t, config: *const ncclCollConfig_t) -> ncclResult_t;
    "2.31.2" fn ncclGatherConfig(sendbuff: *const c_void, recvbuff: *mut c_void, count: usize, datatype: ncclDataType_t, root: c_int, comm: ncclComm_t, stream: cudaStream_t, config: *const ncclCollConfig_t) -> ncclResult_t;
    "2.31.2" fn ncclScatterConfig(sendbuff: *const c_void, recvbuff: *mut c_void, count: usize, datatype: ncclDataType_t, root: c_int, comm: ncclComm_t, stream: cudaStream_t, config: *const ncclCollConfig_t) -> ncclResult_t;
    // point to point
    "2.13.4" fn ncclSend(sendbuff: *const c_void, count: usize, datatype: ncclDataType_t, peer: c_int, comm: ncclComm_t, stream: cudaStream_t) -> ncclResult_t;
    "2.13.4" fn ncclRecv(recvbuff: *mut c_void, count: usize, datatype: ncclDataType_t, peer: c_int, comm: ncclComm_t, stream: cudaStream_t) -> ncclResult_t;
    // one sided
    "2.29.2" fn ncclPutSignal(localbuff: *const c_void, count: usize, datatype: ncclDataType_t, peer: c_int, peerWin: ncclWindow_t, peerWinOffset: usize, sigIdx: c_int, ctx: c_int, flags: c_uint, comm: ncclComm_t, stream: cudaStream_t) -> ncclResult_t;
    "2.29.2" fn ncclSignal(peer: c_int, sigIdx: c_int, ctx: c_int, flags: c_uint, comm: ncclComm_t, stream: cudaStream_t) -> ncclResult_t;
    "2.29.2" fn ncclWaitSignal(nDesc: c_int, signalDescs: *mut ncclWaitSignalDesc_t, comm: ncclComm_t, stream: cudaStream_t) -> ncclResult_t;
    // groups
    "2.13.4" fn ncclGroupStart() -> ncclResult_t;
    "2.13.4" fn ncclGroupEnd() -> ncclResult_t;
    "2.22.3" fn ncclGroupSimulateEnd(simInfo: *mut ncclSimInfo_t) -> ncclResult_t;
    // params
    "2.30.3" fn ncclParamBind(out: *mut ncclParamHandle_t, key: *const c_char) -> ncclResult_t;
    "2.30.3" fn ncclParamGetI8(h: ncclParamHandle_t, out: *mut i8) -> ncclResult_t;
    "2.30.3" fn ncclParamGetI16(h: ncclParamHandle_t, out: *mut i16) -> ncclResult_t;
    "2.30.3" fn ncclParamGetI32(h: ncclParamHandle_t, out: *mut i32) -> ncclResult_t;
    "2.30.3" fn ncclParamGetI64(h: ncclParamHandle_t, out: *mut i64) -> ncclResult_t;
    "2.30.3" fn ncclParamGetU8(h: ncclParamHandle_t, out: *mut u8) -> ncclResult_t;
    "2.30.3" fn ncclParamGetU16(h: ncclParamHandle_t, out: *mut u16) -> ncclResult_t;
    "2.30.3" fn ncclParamGetU32(h: ncclParamHandle_t, out: *mut u32) -> ncclResult_t;
    "2.30.3" fn ncclParamGetU64(h: ncclParamHandle_t, out: *mut u64) -> ncclResult_t;
    "2.30.3" fn ncclParamGetStr(h: ncclParamHandle_t, out: *mut *const c_char) -> ncclResult_t;
    "2.30.3" fn ncclParamGet(h: ncclParamHandle_t, out: *mut c_void, maxLen: c_int, len: *mut c_int) -> ncclResult_t;
    "2.30.3" fn ncclParamGetParameter(key: *const c_char, value: *mut *const c_char, valueLen: *mut c_int) -> ncclResult_t;
    "2.30.3" fn ncclParamGetAllParameterKeys(table: *mut *mut *const c_char, tableLen: *mut c_int) -> ncclResult_t;
    "2.30.3" fn ncclParamDumpAll() -> Nothing;
    // device communicators
    "2.29.2" fn ncclCommQueryProperties(comm: ncclComm_t, props: *mut ncclCommProperties_t) -> ncclResult_t;
    "2.28.3" fn ncclDevCommCreate(comm: ncclComm_t, reqs: *const ncclDevCommRequirements_t, outDevComm: *mut ncclDevComm_t) -> ncclResult_t;
    "2.28.3" fn ncclDevCommDestroy(comm: ncclComm_t, devComm: *const ncclDevComm_t) -> ncclResult_t;
    "2.28.3" fn ncclLsaBarrierCreateRequirement(team: ncclTeam_t, nBarriers: c_int, outHandle: *mut ncclLsaBarrierHandle_t, outReq: *mut ncclDevResourceRequirements_t) -> ncclResult_t;
    "2.28.9" fn ncclGinBarrierCreateRequirement(comm: ncclComm_t, team: ncclTeam_t, nBarriers: c_int, outHandle: *mut ncclGinBarrierHandle_t, outReq: *mut ncclDevResourceRequirements_t) -> ncclResult_t;
    "2.29.7" fn ncclGinOutboxCreateRequirement(nBlocks: c_int, size_log2: c_int, outHandle: *mut ncclGinOutboxHandle, outReq: *mut ncclDevResourceRequirements) -> ncclResult_t;
    "2.29.7" fn ncclGinInboxA2ACreateRequirement(peers: ncclTeam, nBlocks: c_int, size_log2: c_int, outHandle: *mut ncclGinInboxA2AHandle, outReq: *mut ncclDevResourceRequirements) -> ncclResult_t;
    "2.28.3" fn ncclLLA2ACalcSlots(maxElts: c_int, maxEltSize: c_int) -> c_int;
    "2.28.3" fn ncclLLA2ACreateRequirement(nBlocks: c_int, nSlots: c_int, outHandle: *mut ncclLLA2AHandle_t, outReq: *mut ncclDevResourceRequirements_t) -> ncclResult_t;
    // device pointers
    "2.29.2" fn ncclGetLsaMultimemDevicePointer(window: ncclWindow_t, offset: usize, outPtr: *mut *mut c_void) -> ncclResult_t;
    "2.29.2" fn ncclGetMultimemDevicePointer(window: ncclWindow_t, offset: usize, multimem: ncclMultimemHandle_t, outPtr: *mut *mut c_void) -> ncclResult_t;
    "2.29.2" fn ncclGetLsaDevicePointer(window: ncclWindow_t, offset: usize, lsaRank: c_int, outPtr: *mut *mut c_void) -> ncclResult_t;
    "2.29.2" fn ncclGetPeerDevicePointer(window: ncclWindow_t, offset: usize, peer: c_int, outPtr: *mut *mut c_void) -> ncclResult_t;
    "2.31.2" fn ncclGetMultimemDeviceLeInfo(window: ncclWindow_t, offset: usize, leId: *mut ncclCftLeId, leOffset: *mut usize) -> ncclResult_t;
    "2.31.2" fn ncclGetCftDeviceLeInfo(window: ncclWindow_t, offset: usize, peerCft: c_int, cftTeam: ncclTeam_t, leId: *mut ncclCftLeId, leOffset: *mut usize) -> ncclResult_t;
    "2.31.2" fn ncclGetPeerDeviceLeInfo(window: ncclWindow_t, offset: usize, peerWorld: c_int, leId: *mut ncclCftLeId, leOffset: *mut usize) -> ncclResult_t;
    // teams
    "2.28.3" fn ncclTeamWorld(comm: ncclComm_t) -> ncclTeam_t;
    "2.28.3" fn ncclTeamLsa(comm: ncclComm_t) -> ncclTeam_t;
    "2.28.3" fn ncclTeamRail(comm: ncclComm_t) -> ncclTeam_t;
    "2.31.2" fn ncclTeamCft(comm: ncclComm_t, mode: ncclCftTeamMode_t) -> ncclTeam_t;
    "2.31.2" fn ncclTeamCftMultimem(comm: ncclComm_t) -> ncclTeam_t;
    "2.28.3" fn ncclTeamRankToWorld(comm: ncclComm_t, team: ncclTeam_t, rank: c_int) -> c_int;
    "2.28.3" fn ncclTeamRankToLsa(comm: ncclComm_t, team: ncclTeam_t, rank: c_int) -> c_int;
}

/// Whether the NCCL that was loaded, if any was, has a function.
pub fn has(function: Function) -> bool {
    library::known(function as usize).is_some()
}

/// Number of functions.
pub(super) const COUNT: usize = FUNCTIONS.len();

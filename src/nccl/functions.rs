//! NCCL's functions: the one place where a name, a prototype and its documentation are written.
//!
//! An entry of the table looks like this:
//!
//! ```text
//! /// What the function does.
//! "2.13.4" fn ncclX / pncclX(argument: type, ...) -> ncclResult_t => hook;
//! ```
//!
//! | part | |
//! | --- | --- |
//! | documentation | goes into include/ and into the Rust documentation |
//! | `"2.13.4"` | the first release of NCCL that has the function |
//! | `/ pncclX` | its twin; one function has none |
//! | `-> ncclResult_t` | or `c_int`, `ncclTeam_t`, `Text` (`const char *`), `Nothing` (`void`) |
//! | `=> hook` | the function that is called instead of NCCL's, with the same arguments; without it the call is forwarded |
//!
//! `in "FILE" { ... }` names the header of include/ that declares the functions inside, in this order.
//!
//! [`nccl_functions`] hands the whole table to the macro that it is given the name of. There are such macros: in
//! the floor `real` for the names and the calls into the real NCCL, in the floor `api` for the exported functions, and in
//! tools/headers, which compiles this file too, for include/.

/// Calls the macro `$make` with the whole table.
#[rustfmt::skip]
macro_rules! nccl_functions { ($make:ident) => { $make! {

in "nccl.h" {

    // The library itself: version, error texts, logging, encryption.

    /// Writes the version of the NCCL library behind this one: major * 10000 + minor * 100 + patch.
    ///
    /// Programs decide by this number which calls they may make, so it is never this library's own. `dimeVersionNumber` is
    /// that. Fails with ncclInvalidArgument when `version` is NULL.
    "2.13.4" fn ncclGetVersion / pncclGetVersion(version: *mut c_int) -> ncclResult_t;

    /// A short text for a result, for people to read. Never NULL; the text is static.
    "2.13.4" fn ncclGetErrorString / pncclGetErrorString(result: ncclResult_t) -> Text;

    /// What went wrong last, in more words than a result has. `comm` is not used and may be NULL.
    ///
    /// When the last failure on this thread was this library's own, the text is its own too and stays valid until the next
    /// one.
    "2.13.4" fn ncclGetLastError / pncclGetLastError(comm: ncclComm_t) -> Text => hooks::last_error;

    /// Makes NCCL read the environment variables that govern its logging again. Deprecated by NCCL.
    "2.24.3" fn ncclResetDebugInit / pncclResetDebugInit() -> Nothing;

    /// What ncclResetDebugInit calls. Exported by NCCL, but in no header of it; it has no `pnccl` twin.
    "2.28.3" fn ncclResetDebugInitInternal() -> Nothing;

    /// Has NCCL's TCP sockets encrypted. To be called before the first communicator is made.
    "2.32.3" fn ncclSetEncryption / pncclSetEncryption(config: *const ncclEncryptionConfig_t) -> ncclResult_t;

    // The life of a communicator: how it is made, split, changed and ended.

    /// Makes an id that brings the ranks of one new communicator together. One rank calls this and sends the id to all
    /// others.
    "2.13.4" fn ncclGetUniqueId / pncclGetUniqueId(uniqueId: *mut ncclUniqueId) -> ncclResult_t => creation::get_unique_id;

    /// Makes a communicator of `nranks` ranks, of which the caller is number `rank`, on the current CUDA device.
    ///
    /// Waits for all ranks: threads of one process call it in parallel or between ncclGroupStart and ncclGroupEnd. Inside a
    /// group the handle is written at once but may be used only after the group's end.
    "2.13.4" fn ncclCommInitRank / pncclCommInitRank(
        comm: *mut ncclComm_t, nranks: c_int, commId: ncclUniqueId, rank: c_int,
    ) -> ncclResult_t => creation::init_rank;

    /// As ncclCommInitRank, with a configuration. `config` may be NULL.
    ///
    /// With `blocking` 0 it returns ncclInProgress, and the handle may be used once ncclCommGetAsyncError reports
    /// ncclSuccess.
    "2.14.3" fn ncclCommInitRankConfig / pncclCommInitRankConfig(
        comm: *mut ncclComm_t, nranks: c_int, commId: ncclUniqueId, rank: c_int, config: *mut ncclConfig_t,
    ) -> ncclResult_t => creation::init_rank_config;

    /// As ncclCommInitRankConfig, with `nId` ids to spread the work of finding each other over several ranks.
    "2.23.4" fn ncclCommInitRankScalable / pncclCommInitRankScalable(
        newcomm: *mut ncclComm_t, nranks: c_int, myrank: c_int, nId: c_int, commIds: *mut ncclUniqueId,
        config: *mut ncclConfig_t,
    ) -> ncclResult_t => creation::init_rank_scalable;

    /// Makes a communicator among `ndev` devices of this process and writes `ndev` handles to `comm`.
    ///
    /// Rank i is device `devlist[i]`, or device i when `devlist` is NULL.
    "2.13.4" fn ncclCommInitAll / pncclCommInitAll(
        comm: *mut ncclComm_t, ndev: c_int, devlist: *const c_int,
    ) -> ncclResult_t => creation::init_all;

    /// Completes all operations of a communicator, after which only ncclCommDestroy may follow. All ranks call it.
    "2.14.3" fn ncclCommFinalize / pncclCommFinalize(comm: ncclComm_t) -> ncclResult_t => creation::finalize;

    /// Frees a communicator. NULL is allowed and does nothing.
    "2.13.4" fn ncclCommDestroy / pncclCommDestroy(comm: ncclComm_t) -> ncclResult_t => creation::destroy;

    /// Stops what a communicator is doing and frees it. Waits for no other rank, so it also works when one has died.
    "2.13.4" fn ncclCommAbort / pncclCommAbort(comm: ncclComm_t) -> ncclResult_t => creation::abort;

    /// Stops what a communicator is doing and refuses further operations, but leaves it there to be shrunk or destroyed.
    ///
    /// `revokeFlags` is NCCL_REVOKE_DEFAULT.
    "2.28.9" fn ncclCommRevoke / pncclCommRevoke(
        comm: ncclComm_t, revokeFlags: c_int,
    ) -> ncclResult_t => creation::revoke;

    /// Makes one new communicator for each `color`; ranks are ordered by `key`. All ranks call it.
    ///
    /// A rank with color NCCL_SPLIT_NOCOLOR joins none and gets NULL. `config` may be NULL: the parent's is used.
    "2.18.3" fn ncclCommSplit / pncclCommSplit(
        comm: ncclComm_t, color: c_int, key: c_int, newcomm: *mut ncclComm_t, config: *mut ncclConfig_t,
    ) -> ncclResult_t => creation::split;

    /// Makes a new communicator without the `excludeRanksCount` ranks listed. The ranks that stay call it.
    ///
    /// `shrinkFlags` is NCCL_SHRINK_DEFAULT, or NCCL_SHRINK_ABORT to stop first what the parent is doing.
    "2.27.5" fn ncclCommShrink / pncclCommShrink(
        comm: ncclComm_t, excludeRanksList: *mut c_int, excludeRanksCount: c_int, newcomm: *mut ncclComm_t,
        config: *mut ncclConfig_t, shrinkFlags: c_int,
    ) -> ncclResult_t => creation::shrink;

    /// Makes an id by which new ranks join a communicator in ncclCommGrow.
    "2.29.2" fn ncclCommGetUniqueId / pncclCommGetUniqueId(
        comm: ncclComm_t, uniqueId: *mut ncclUniqueId,
    ) -> ncclResult_t => creation::comm_get_unique_id;

    /// Makes a communicator of `nRanks` ranks out of an existing one and new ranks.
    ///
    /// Existing ranks pass their communicator and `rank` -1; new ones pass NULL, the id and the rank they are to have.
    "2.29.2" fn ncclCommGrow / pncclCommGrow(
        comm: ncclComm_t, nRanks: c_int, uniqueId: *const ncclUniqueId, rank: c_int, newcomm: *mut ncclComm_t,
        config: *mut ncclConfig_t,
    ) -> ncclResult_t => creation::grow;

    /// Gives back resources of an idle communicator: with NCCL_SUSPEND_MEM its memory on the GPU, NCCL's and this library's.
    /// All ranks call it. All-reduces are refused until ncclCommResume.
    "2.29.7" fn ncclCommSuspend / pncclCommSuspend(
        comm: ncclComm_t, flags: c_int,
    ) -> ncclResult_t => creation::suspend;

    /// Takes back what ncclCommSuspend gave up. All ranks call it.
    "2.29.7" fn ncclCommResume / pncclCommResume(comm: ncclComm_t) -> ncclResult_t => creation::resume;

    // What can be asked of a communicator.

    /// Writes the error that a communicator has met since it was made, ncclSuccess, or ncclInProgress while a call is at
    /// work.
    "2.13.4" fn ncclCommGetAsyncError / pncclCommGetAsyncError(
        comm: ncclComm_t, asyncError: *mut ncclResult_t,
    ) -> ncclResult_t => creation::get_async_error;

    /// Writes the number of ranks.
    "2.13.4" fn ncclCommCount / pncclCommCount(comm: ncclComm_t, count: *mut c_int) -> ncclResult_t;

    /// Writes the CUDA device of this rank.
    "2.13.4" fn ncclCommCuDevice / pncclCommCuDevice(comm: ncclComm_t, device: *mut c_int) -> ncclResult_t;

    /// Writes the number of this rank.
    "2.13.4" fn ncclCommUserRank / pncclCommUserRank(comm: ncclComm_t, rank: *mut c_int) -> ncclResult_t;

    /// Writes one number about the memory of a communicator, in bytes unless `stat` says otherwise.
    "2.29.7" fn ncclCommMemStats / pncclCommMemStats(
        comm: ncclComm_t, stat: ncclCommMemStat_t, value: *mut u64,
    ) -> ncclResult_t;

    // Memory that NCCL allocates, and buffers registered with a communicator.

    /// Allocates at least `size` bytes on the current device, fit for all that NCCL can do with a buffer.
    "2.19.3" fn ncclMemAlloc / pncclMemAlloc(ptr: *mut *mut c_void, size: usize) -> ncclResult_t;

    /// Frees what ncclMemAlloc allocated.
    "2.19.3" fn ncclMemFree / pncclMemFree(ptr: *mut c_void) -> ncclResult_t;

    /// Registers `size` bytes at `buff` for transfers without a copy and writes a handle for ncclCommDeregister.
    "2.19.3" fn ncclCommRegister / pncclCommRegister(
        comm: ncclComm_t, buff: *mut c_void, size: usize, handle: *mut *mut c_void,
    ) -> ncclResult_t;

    /// Ends a registration by ncclCommRegister.
    "2.19.3" fn ncclCommDeregister / pncclCommDeregister(comm: ncclComm_t, handle: *mut c_void) -> ncclResult_t;

    // Windows: memory that the ranks of a communicator register together.

    /// Registers `size` bytes at `buff` as this rank's part of a window. All ranks call it. `winFlags` combines
    /// `NCCL_WIN_*`.
    "2.27.5" fn ncclCommWindowRegister / pncclCommWindowRegister(
        comm: ncclComm_t, buff: *mut c_void, size: usize, win: *mut ncclWindow_t, winFlags: c_int,
    ) -> ncclResult_t;

    /// Ends a window. The memory stays the caller's.
    "2.27.5" fn ncclCommWindowDeregister / pncclCommWindowDeregister(
        comm: ncclComm_t, win: ncclWindow_t,
    ) -> ncclResult_t;

    /// Writes the address under which this rank registered its part of a window.
    "2.29.2" fn ncclWinGetUserPtr / pncclWinGetUserPtr(
        comm: ncclComm_t, win: ncclWindow_t, outUserPtr: *mut *mut c_void,
    ) -> ncclResult_t;

    // Reduction operations made by the application.

    /// Makes an operation that multiplies this rank's values by `*scalar` and then sums over the ranks.
    ///
    /// It is good for `comm` and `datatype` only. `residence` says where the scalar lies and when it is read.
    "2.13.4" fn ncclRedOpCreatePreMulSum / pncclRedOpCreatePreMulSum(
        op: *mut ncclRedOp_t, scalar: *mut c_void, datatype: ncclDataType_t, residence: ncclScalarResidence_t,
        comm: ncclComm_t,
    ) -> ncclResult_t;

    /// Ends an operation. Collectives that were issued with it are not affected.
    "2.13.4" fn ncclRedOpDestroy / pncclRedOpDestroy(op: ncclRedOp_t, comm: ncclComm_t) -> ncclResult_t;

    // The collectives. Counts are in elements; the work is done on `stream`, after what was enqueued there before.

    /// Combines the `count` elements at `sendbuff` of all ranks and leaves the result at `recvbuff` of every rank.
    ///
    /// In place when `sendbuff` and `recvbuff` are equal.
    "2.13.4" fn ncclAllReduce / pncclAllReduce(
        sendbuff: *const c_void, recvbuff: *mut c_void, count: usize, datatype: ncclDataType_t, op: ncclRedOp_t,
        comm: ncclComm_t, stream: cudaStream_t,
    ) -> ncclResult_t => hooks::all_reduce;

    /// Combines the `count` elements at `sendbuff` of all ranks and leaves the result at `recvbuff` of rank `root`.
    ///
    /// In place when `sendbuff` and `recvbuff` are equal. On other ranks `recvbuff` is not used.
    "2.13.4" fn ncclReduce / pncclReduce(
        sendbuff: *const c_void, recvbuff: *mut c_void, count: usize, datatype: ncclDataType_t, op: ncclRedOp_t,
        root: c_int, comm: ncclComm_t, stream: cudaStream_t,
    ) -> ncclResult_t;

    /// Copies the `count` elements at `sendbuff` of rank `root` to `recvbuff` of every rank.
    ///
    /// In place when `sendbuff` and `recvbuff` are equal. On other ranks `sendbuff` is not used.
    "2.13.4" fn ncclBroadcast / pncclBroadcast(
        sendbuff: *const c_void, recvbuff: *mut c_void, count: usize, datatype: ncclDataType_t, root: c_int,
        comm: ncclComm_t, stream: cudaStream_t,
    ) -> ncclResult_t;

    /// ncclBroadcast in place, under its old name.
    "2.13.4" fn ncclBcast / pncclBcast(
        buff: *mut c_void, count: usize, datatype: ncclDataType_t, root: c_int, comm: ncclComm_t, stream: cudaStream_t,
    ) -> ncclResult_t;

    /// Copies the `sendcount` elements at `sendbuff` of rank i to element i * `sendcount` of `recvbuff`, on every rank.
    ///
    /// In place when `sendbuff` is this rank's part of `recvbuff`.
    "2.13.4" fn ncclAllGather / pncclAllGather(
        sendbuff: *const c_void, recvbuff: *mut c_void, sendcount: usize, datatype: ncclDataType_t, comm: ncclComm_t,
        stream: cudaStream_t,
    ) -> ncclResult_t;

    /// Combines the elements at `sendbuff` of all ranks; rank i gets those from i * `recvcount` on, `recvcount` of them.
    ///
    /// In place when `recvbuff` is this rank's part of `sendbuff`.
    "2.13.4" fn ncclReduceScatter / pncclReduceScatter(
        sendbuff: *const c_void, recvbuff: *mut c_void, recvcount: usize, datatype: ncclDataType_t, op: ncclRedOp_t,
        comm: ncclComm_t, stream: cudaStream_t,
    ) -> ncclResult_t;

    /// Sends `count` elements from element j * `count` of `sendbuff` to rank j, where rank i's arrive at element i *
    /// `count` of `recvbuff`.
    "2.28.3" fn ncclAlltoAll / pncclAlltoAll(
        sendbuff: *const c_void, recvbuff: *mut c_void, count: usize, datatype: ncclDataType_t, comm: ncclComm_t,
        stream: cudaStream_t,
    ) -> ncclResult_t;

    /// Copies the `count` elements at `sendbuff` of rank i to element i * `count` of `recvbuff` on rank `root`.
    ///
    /// On other ranks `recvbuff` is not used.
    "2.28.3" fn ncclGather / pncclGather(
        sendbuff: *const c_void, recvbuff: *mut c_void, count: usize, datatype: ncclDataType_t, root: c_int,
        comm: ncclComm_t, stream: cudaStream_t,
    ) -> ncclResult_t;

    /// Copies `count` elements from element i * `count` of `sendbuff` on rank `root` to `recvbuff` of rank i.
    ///
    /// On other ranks `sendbuff` is not used.
    "2.28.3" fn ncclScatter / pncclScatter(
        sendbuff: *const c_void, recvbuff: *mut c_void, count: usize, datatype: ncclDataType_t, root: c_int,
        comm: ncclComm_t, stream: cudaStream_t,
    ) -> ncclResult_t;

    // The collectives with a configuration of the single call.

    /// As ncclAllReduce, configured by `config`, which is equal on all ranks. NULL: exactly as ncclAllReduce.
    "2.31.2" fn ncclAllReduceConfig / pncclAllReduceConfig(
        sendbuff: *const c_void, recvbuff: *mut c_void, count: usize, datatype: ncclDataType_t, op: ncclRedOp_t,
        comm: ncclComm_t, stream: cudaStream_t, config: *const ncclCollConfig_t,
    ) -> ncclResult_t => hooks::all_reduce_config;

    /// As ncclReduce, configured by `config`, which is equal on all ranks. NULL: exactly as ncclReduce.
    "2.31.2" fn ncclReduceConfig / pncclReduceConfig(
        sendbuff: *const c_void, recvbuff: *mut c_void, count: usize, datatype: ncclDataType_t, op: ncclRedOp_t,
        root: c_int, comm: ncclComm_t, stream: cudaStream_t, config: *const ncclCollConfig_t,
    ) -> ncclResult_t;

    /// As ncclBroadcast, configured by `config`, which is equal on all ranks. NULL: exactly as ncclBroadcast.
    "2.31.2" fn ncclBroadcastConfig / pncclBroadcastConfig(
        sendbuff: *const c_void, recvbuff: *mut c_void, count: usize, datatype: ncclDataType_t, root: c_int,
        comm: ncclComm_t, stream: cudaStream_t, config: *const ncclCollConfig_t,
    ) -> ncclResult_t;

    /// As ncclAllGather, configured by `config`, which is equal on all ranks. NULL: exactly as ncclAllGather.
    "2.31.2" fn ncclAllGatherConfig / pncclAllGatherConfig(
        sendbuff: *const c_void, recvbuff: *mut c_void, sendcount: usize, datatype: ncclDataType_t, comm: ncclComm_t,
        stream: cudaStream_t, config: *const ncclCollConfig_t,
    ) -> ncclResult_t;

    /// As ncclReduceScatter, configured by `config`, which is equal on all ranks. NULL: exactly as ncclReduceScatter.
    "2.31.2" fn ncclReduceScatterConfig / pncclReduceScatterConfig(
        sendbuff: *const c_void, recvbuff: *mut c_void, recvcount: usize, datatype: ncclDataType_t, op: ncclRedOp_t,
        comm: ncclComm_t, stream: cudaStream_t, config: *const ncclCollConfig_t,
    ) -> ncclResult_t;

    /// As ncclAlltoAll, configured by `config`, which is equal on all ranks. NULL: exactly as ncclAlltoAll.
    "2.31.2" fn ncclAlltoAllConfig / pncclAlltoAllConfig(
        sendbuff: *const c_void, recvbuff: *mut c_void, count: usize, datatype: ncclDataType_t, comm: ncclComm_t,
        stream: cudaStream_t, config: *const ncclCollConfig_t,
    ) -> ncclResult_t;

    /// As ncclGather, configured by `config`, which is equal on all ranks. NULL: exactly as ncclGather.
    "2.31.2" fn ncclGatherConfig / pncclGatherConfig(
        sendbuff: *const c_void, recvbuff: *mut c_void, count: usize, datatype: ncclDataType_t, root: c_int,
        comm: ncclComm_t, stream: cudaStream_t, config: *const ncclCollConfig_t,
    ) -> ncclResult_t;

    /// As ncclScatter, configured by `config`, which is equal on all ranks. NULL: exactly as ncclScatter.
    "2.31.2" fn ncclScatterConfig / pncclScatterConfig(
        sendbuff: *const c_void, recvbuff: *mut c_void, count: usize, datatype: ncclDataType_t, root: c_int,
        comm: ncclComm_t, stream: cudaStream_t, config: *const ncclCollConfig_t,
    ) -> ncclResult_t;

    // Messages between two ranks.

    /// Sends `count` elements to rank `peer`, which calls ncclRecv with the same count and type.
    ///
    /// Sends and receives that must progress together belong into one group.
    "2.13.4" fn ncclSend / pncclSend(
        sendbuff: *const c_void, count: usize, datatype: ncclDataType_t, peer: c_int, comm: ncclComm_t,
        stream: cudaStream_t,
    ) -> ncclResult_t;

    /// Receives `count` elements from rank `peer`, which calls ncclSend with the same count and type.
    "2.13.4" fn ncclRecv / pncclRecv(
        recvbuff: *mut c_void, count: usize, datatype: ncclDataType_t, peer: c_int, comm: ncclComm_t,
        stream: cudaStream_t,
    ) -> ncclResult_t;

    // Operations that one rank makes on another's memory, and the signals that tell of them.

    /// Writes `count` elements into the window of rank `peer`, `peerWinOffset` bytes from its start, and then signals that
    /// rank.
    ///
    /// `sigIdx` and `ctx` choose the signal. `flags` is 0.
    "2.29.2" fn ncclPutSignal / pncclPutSignal(
        localbuff: *const c_void, count: usize, datatype: ncclDataType_t, peer: c_int, peerWin: ncclWindow_t,
        peerWinOffset: usize, sigIdx: c_int, ctx: c_int, flags: c_uint, comm: ncclComm_t, stream: cudaStream_t,
    ) -> ncclResult_t;

    /// Signals rank `peer` without writing anything. `flags` is 0.
    "2.29.2" fn ncclSignal / pncclSignal(
        peer: c_int, sigIdx: c_int, ctx: c_int, flags: c_uint, comm: ncclComm_t, stream: cudaStream_t,
    ) -> ncclResult_t;

    /// Waits on the stream for the signals that the `nDesc` descriptors list.
    "2.29.2" fn ncclWaitSignal / pncclWaitSignal(
        nDesc: c_int, signalDescs: *mut ncclWaitSignalDesc_t, comm: ncclComm_t, stream: cudaStream_t,
    ) -> ncclResult_t;

    // Groups: operations between a start and its end are issued together. Groups nest; only the outermost end acts.

    /// Opens a group on this thread.
    "2.13.4" fn ncclGroupStart / pncclGroupStart() -> ncclResult_t => hooks::group_start;

    /// Closes a group on this thread. The outermost one issues what the group holds and returns the first error.
    "2.13.4" fn ncclGroupEnd / pncclGroupEnd() -> ncclResult_t => hooks::group_end;

    /// Closes a group without issuing what it holds, and writes what that would have cost.
    "2.22.3" fn ncclGroupSimulateEnd / pncclGroupSimulateEnd(
        simInfo: *mut ncclSimInfo_t,
    ) -> ncclResult_t => hooks::group_simulate_end;

    // NCCL's parameters: by handle with a type, or by name as text.

    /// Writes a handle for the parameter named `key`. NCCL owns it.
    "2.30.3" fn ncclParamBind / pncclParamBind(out: *mut ncclParamHandle_t, key: *const c_char) -> ncclResult_t;

    /// Writes the value of a parameter as a signed integer of 8 bits.
    "2.30.3" fn ncclParamGetI8 / pncclParamGetI8(h: ncclParamHandle_t, out: *mut i8) -> ncclResult_t;

    /// Writes the value of a parameter as a signed integer of 16 bits.
    "2.30.3" fn ncclParamGetI16 / pncclParamGetI16(h: ncclParamHandle_t, out: *mut i16) -> ncclResult_t;

    /// Writes the value of a parameter as a signed integer of 32 bits.
    "2.30.3" fn ncclParamGetI32 / pncclParamGetI32(h: ncclParamHandle_t, out: *mut i32) -> ncclResult_t;

    /// Writes the value of a parameter as a signed integer of 64 bits.
    "2.30.3" fn ncclParamGetI64 / pncclParamGetI64(h: ncclParamHandle_t, out: *mut i64) -> ncclResult_t;

    /// Writes the value of a parameter as an unsigned integer of 8 bits.
    "2.30.3" fn ncclParamGetU8 / pncclParamGetU8(h: ncclParamHandle_t, out: *mut u8) -> ncclResult_t;

    /// Writes the value of a parameter as an unsigned integer of 16 bits.
    "2.30.3" fn ncclParamGetU16 / pncclParamGetU16(h: ncclParamHandle_t, out: *mut u16) -> ncclResult_t;

    /// Writes the value of a parameter as an unsigned integer of 32 bits.
    "2.30.3" fn ncclParamGetU32 / pncclParamGetU32(h: ncclParamHandle_t, out: *mut u32) -> ncclResult_t;

    /// Writes the value of a parameter as an unsigned integer of 64 bits.
    "2.30.3" fn ncclParamGetU64 / pncclParamGetU64(h: ncclParamHandle_t, out: *mut u64) -> ncclResult_t;

    /// Writes the value of a parameter as text. NCCL owns it; it is valid until the next such call on this thread.
    "2.30.3" fn ncclParamGetStr / pncclParamGetStr(h: ncclParamHandle_t, out: *mut *const c_char) -> ncclResult_t;

    /// Copies the value of a parameter as bytes: at most `maxLen` of them to `out`, and how many to `len`.
    "2.30.3" fn ncclParamGet / pncclParamGet(
        h: ncclParamHandle_t, out: *mut c_void, maxLen: c_int, len: *mut c_int,
    ) -> ncclResult_t;

    /// Writes the value of the parameter named `key` as text, and its length in bytes. NCCL owns the text; it is valid
    /// until the next such call on this thread.
    "2.30.3" fn ncclParamGetParameter / pncclParamGetParameter(
        key: *const c_char, value: *mut *const c_char, valueLen: *mut c_int,
    ) -> ncclResult_t;

    /// Writes the names of all parameters and how many they are. NCCL owns the table; it is valid until the next such call
    /// on this thread.
    "2.30.3" fn ncclParamGetAllParameterKeys / pncclParamGetAllParameterKeys(
        table: *mut *mut *const c_char, tableLen: *mut c_int,
    ) -> ncclResult_t;

    /// Has NCCL log all its parameters.
    "2.30.3" fn ncclParamDumpAll / pncclParamDumpAll() -> Nothing;
}

in "nccl_device_host.h" {

    // Device communicators: what kernels of the application communicate through. Host side.

    /// Writes what a communicator can do. `props` starts from `NCCL_COMM_PROPERTIES_INITIALIZER`.
    "2.29.2" fn ncclCommQueryProperties / pncclCommQueryProperties(
        comm: ncclComm_t, props: *mut ncclCommProperties_t,
    ) -> ncclResult_t;

    /// Makes a device communicator that meets the requirements. All ranks call it.
    "2.28.3" fn ncclDevCommCreate / pncclDevCommCreate(
        comm: ncclComm_t, reqs: *const ncclDevCommRequirements_t, outDevComm: *mut ncclDevComm_t,
    ) -> ncclResult_t;

    /// Frees a device communicator.
    "2.28.3" fn ncclDevCommDestroy / pncclDevCommDestroy(
        comm: ncclComm_t, devComm: *const ncclDevComm_t,
    ) -> ncclResult_t;

    /// Describes the resource behind `nBarriers` barriers of a team whose ranks load from and store to each other.
    "2.28.3" fn ncclLsaBarrierCreateRequirement / pncclLsaBarrierCreateRequirement(
        team: ncclTeam_t, nBarriers: c_int, outHandle: *mut ncclLsaBarrierHandle_t,
        outReq: *mut ncclDevResourceRequirements_t,
    ) -> ncclResult_t;

    /// Describes the resource behind `nBarriers` barriers of a team over GPU-initiated networking.
    "2.28.9" fn ncclGinBarrierCreateRequirement / pncclGinBarrierCreateRequirement(
        comm: ncclComm_t, team: ncclTeam_t, nBarriers: c_int, outHandle: *mut ncclGinBarrierHandle_t,
        outReq: *mut ncclDevResourceRequirements_t,
    ) -> ncclResult_t;

    /// Describes the resource behind the sending side of mailboxes of 2 to the `size_log2` bytes, one for each of `nBlocks`
    /// thread blocks.
    "2.29.7" fn ncclGinOutboxCreateRequirement / pncclGinOutboxCreateRequirement(
        nBlocks: c_int, size_log2: c_int, outHandle: *mut ncclGinOutboxHandle, outReq: *mut ncclDevResourceRequirements,
    ) -> ncclResult_t;

    /// Describes the resource behind the receiving side of all-to-all mailboxes of 2 to the `size_log2` bytes among
    /// `peers`.
    "2.29.7" fn ncclGinInboxA2ACreateRequirement / pncclGinInboxA2ACreateRequirement(
        peers: ncclTeam, nBlocks: c_int, size_log2: c_int, outHandle: *mut ncclGinInboxA2AHandle,
        outReq: *mut ncclDevResourceRequirements,
    ) -> ncclResult_t;

    /// Slots that an all-to-all of at most `maxElts` elements of at most `maxEltSize` bytes needs. -1 when NCCL lacks the
    /// function.
    "2.28.3" fn ncclLLA2ACalcSlots / pncclLLA2ACalcSlots(maxElts: c_int, maxEltSize: c_int) -> c_int;

    /// Describes the resource behind an all-to-all of small messages: `nSlots` for each of `nBlocks` thread blocks.
    "2.28.3" fn ncclLLA2ACreateRequirement / pncclLLA2ACreateRequirement(
        nBlocks: c_int, nSlots: c_int, outHandle: *mut ncclLLA2AHandle_t, outReq: *mut ncclDevResourceRequirements_t,
    ) -> ncclResult_t;

    // Where a window lies for the device: addresses and CFT link endpoints. Offsets are in bytes.

    /// Writes the address at which a store reaches the window of every rank of the load-store team.
    "2.29.2" fn ncclGetLsaMultimemDevicePointer / pncclGetLsaMultimemDevicePointer(
        window: ncclWindow_t, offset: usize, outPtr: *mut *mut c_void,
    ) -> ncclResult_t;

    /// Writes the address at which a store reaches the window of every rank behind a multicast mapping.
    "2.29.2" fn ncclGetMultimemDevicePointer / pncclGetMultimemDevicePointer(
        window: ncclWindow_t, offset: usize, multimem: ncclMultimemHandle_t, outPtr: *mut *mut c_void,
    ) -> ncclResult_t;

    /// Writes the address of the window of rank `lsaRank` of the load-store team.
    "2.29.2" fn ncclGetLsaDevicePointer / pncclGetLsaDevicePointer(
        window: ncclWindow_t, offset: usize, lsaRank: c_int, outPtr: *mut *mut c_void,
    ) -> ncclResult_t;

    /// Writes the address of the window of rank `peer` of the communicator, or NULL when it cannot be reached by load and
    /// store.
    "2.29.2" fn ncclGetPeerDevicePointer / pncclGetPeerDevicePointer(
        window: ncclWindow_t, offset: usize, peer: c_int, outPtr: *mut *mut c_void,
    ) -> ncclResult_t;

    /// Writes the link endpoint that reaches the window of all ranks, and the offset there.
    "2.31.2" fn ncclGetMultimemDeviceLeInfo / pncclGetMultimemDeviceLeInfo(
        window: ncclWindow_t, offset: usize, leId: *mut ncclCftLeId, leOffset: *mut usize,
    ) -> ncclResult_t;

    /// Writes the link endpoint that reaches the window of rank `peerCft` of a team, and the offset there.
    "2.31.2" fn ncclGetCftDeviceLeInfo / pncclGetCftDeviceLeInfo(
        window: ncclWindow_t, offset: usize, peerCft: c_int, cftTeam: ncclTeam_t, leId: *mut ncclCftLeId,
        leOffset: *mut usize,
    ) -> ncclResult_t;

    /// Writes the link endpoint that reaches the window of rank `peerWorld` of the communicator, and the offset there.
    "2.31.2" fn ncclGetPeerDeviceLeInfo / pncclGetPeerDeviceLeInfo(
        window: ncclWindow_t, offset: usize, peerWorld: c_int, leId: *mut ncclCftLeId, leOffset: *mut usize,
    ) -> ncclResult_t;

    // Teams: sets of ranks of a communicator. Where the loaded NCCL lacks a function, a team is all zeros and a rank
    // is -1.

    /// All ranks.
    "2.28.3" fn ncclTeamWorld / pncclTeamWorld(comm: ncclComm_t) -> ncclTeam_t;

    /// The ranks that this one can reach by load and store.
    "2.28.3" fn ncclTeamLsa / pncclTeamLsa(comm: ncclComm_t) -> ncclTeam_t;

    /// The ranks that have this one's place in their load-store team.
    "2.28.3" fn ncclTeamRail / pncclTeamRail(comm: ncclComm_t) -> ncclTeam_t;

    /// The ranks that this one can reach by CFT.
    "2.31.2" fn ncclTeamCft / pncclTeamCft(comm: ncclComm_t, mode: ncclCftTeamMode_t) -> ncclTeam_t;

    /// The ranks that this one can reach by CFT multicast.
    "2.31.2" fn ncclTeamCftMultimem / pncclTeamCftMultimem(comm: ncclComm_t) -> ncclTeam_t;

    /// The rank in the communicator of rank `rank` of a team.
    "2.28.3" fn ncclTeamRankToWorld / pncclTeamRankToWorld(comm: ncclComm_t, team: ncclTeam_t, rank: c_int) -> c_int;

    /// The rank in the load-store team of rank `rank` of a team.
    "2.28.3" fn ncclTeamRankToLsa / pncclTeamRankToLsa(comm: ncclComm_t, team: ncclTeam_t, rank: c_int) -> c_int;
}

} } }

pub(crate) use nccl_functions;

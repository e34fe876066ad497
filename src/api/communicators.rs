//! The life of a communicator: how it is made, split, changed and ended.

use std::ffi::c_int;
use std::ptr;

use crate::api::boundary::boundary;
use crate::comm::run::graph_usage::GraphUsage;
use crate::comm::setup::beacon;
use crate::nccl::header::{NCCL_REVOKE_DEFAULT, NCCL_SHRINK_ABORT, NCCL_SPLIT_NOCOLOR};
use crate::nccl::{ncclComm_t, ncclConfig_t, ncclInternalError, ncclResult_t, ncclSuccess, ncclUniqueId};
use crate::real;
use crate::real::Function;

/// The bytes of `count` ids; none where there cannot be any.
///
/// # Safety
/// The ids are there, or NULL.
unsafe fn bytes_of<'a>(ids: *const ncclUniqueId, count: c_int) -> &'a [u8] {
    match usize::try_from(count) {
        // SAFETY: the caller's contract; ids are plain bytes.
        Ok(count) if !ids.is_null() => unsafe {
            std::slice::from_raw_parts(ids.cast(), count * size_of::<ncclUniqueId>())
        },
        _ => &[],
    }
}

/// The handles that NCCL has written.
///
/// # Safety
/// They are there, or `comm` is NULL.
unsafe fn handles_of<'a>(comm: *const ncclComm_t, count: c_int) -> &'a [ncclComm_t] {
    match usize::try_from(count) {
        // SAFETY: the caller's contract.
        Ok(count) if !comm.is_null() => unsafe { std::slice::from_raw_parts(comm, count) },
        _ => &[],
    }
}

/// After NCCL was asked for so many communicators.
///
/// # Safety
/// `place` is what NCCL was given for their handles.
unsafe fn made(usage: GraphUsage, place: *const ncclComm_t, count: usize, result: ncclResult_t) {
    // SAFETY: the caller's contract.
    unsafe { usage.made(place, count, result) };
    // It logs what it makes.
    crate::observe::log::nccl_may_have_opened_its_log();
}

/// Makes an id that brings the ranks of one new communicator together. One rank calls this and sends the id to all
/// others.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclGetUniqueId(uniqueId: *mut ncclUniqueId) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || {
        // SAFETY: as above.
        let result = unsafe { real::ncclGetUniqueId(uniqueId) };
        crate::observe::log::nccl_may_have_opened_its_log();
        result
    })
}

/// Same as ncclGetUniqueId, for profilers that put their own ncclGetUniqueId before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclGetUniqueId(uniqueId: *mut ncclUniqueId) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || {
        // SAFETY: as above.
        let result = unsafe { real::ncclGetUniqueId(uniqueId) };
        crate::observe::log::nccl_may_have_opened_its_log();
        result
    })
}

/// Makes a communicator of `nranks` ranks, of which the caller is number `rank`, on the current CUDA device.
///
/// Waits for all ranks: threads of one process call it in parallel or between ncclGroupStart and ncclGroupEnd. Inside a
/// group the handle is written at once but may be used only after the group's end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommInitRank(
    comm: *mut ncclComm_t,
    nranks: c_int,
    commId: ncclUniqueId,
    rank: c_int,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        let usage = GraphUsage::of(ptr::null());
        let arrival = beacon::arrive(bytes_of(&commId, 1), nranks, rank);
        let result = real::ncclCommInitRank(comm, nranks, commId, rank);
        arrival.made(comm, result);
        made(usage, comm, 1, result);
        result
    })
}

/// Same as ncclCommInitRank, for profilers that put their own ncclCommInitRank before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclCommInitRank(
    comm: *mut ncclComm_t,
    nranks: c_int,
    commId: ncclUniqueId,
    rank: c_int,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        let usage = GraphUsage::of(ptr::null());
        let arrival = beacon::arrive(bytes_of(&commId, 1), nranks, rank);
        let result = real::ncclCommInitRank(comm, nranks, commId, rank);
        arrival.made(comm, result);
        made(usage, comm, 1, result);
        result
    })
}

/// As ncclCommInitRank, with a configuration. `config` may be NULL.
///
/// With `blocking` 0 it returns ncclInProgress, and the handle may be used once ncclCommGetAsyncError reports
/// ncclSuccess.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommInitRankConfig(
    comm: *mut ncclComm_t,
    nranks: c_int,
    commId: ncclUniqueId,
    rank: c_int,
    config: *mut ncclConfig_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        let usage = GraphUsage::of(config);
        let arrival = beacon::arrive(bytes_of(&commId, 1), nranks, rank);
        let result = real::ncclCommInitRankConfig(comm, nranks, commId, rank, config);
        arrival.made(comm, result);
        made(usage, comm, 1, result);
        result
    })
}

/// Same as ncclCommInitRankConfig, for profilers that put their own ncclCommInitRankConfig before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclCommInitRankConfig(
    comm: *mut ncclComm_t,
    nranks: c_int,
    commId: ncclUniqueId,
    rank: c_int,
    config: *mut ncclConfig_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        let usage = GraphUsage::of(config);
        let arrival = beacon::arrive(bytes_of(&commId, 1), nranks, rank);
        let result = real::ncclCommInitRankConfig(comm, nranks, commId, rank, config);
        arrival.made(comm, result);
        made(usage, comm, 1, result);
        result
    })
}

/// As ncclCommInitRankConfig, with `nId` ids to spread the work of finding each other over several ranks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommInitRankScalable(
    newcomm: *mut ncclComm_t,
    nranks: c_int,
    myrank: c_int,
    nId: c_int,
    commIds: *mut ncclUniqueId,
    config: *mut ncclConfig_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        let usage = GraphUsage::of(config);
        let arrival = beacon::arrive(bytes_of(commIds, nId), nranks, myrank);
        let result = real::ncclCommInitRankScalable(newcomm, nranks, myrank, nId, commIds, config);
        arrival.made(newcomm, result);
        made(usage, newcomm, 1, result);
        result
    })
}

/// Same as ncclCommInitRankScalable, for profilers that put their own ncclCommInitRankScalable before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclCommInitRankScalable(
    newcomm: *mut ncclComm_t,
    nranks: c_int,
    myrank: c_int,
    nId: c_int,
    commIds: *mut ncclUniqueId,
    config: *mut ncclConfig_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        let usage = GraphUsage::of(config);
        let arrival = beacon::arrive(bytes_of(commIds, nId), nranks, myrank);
        let result = real::ncclCommInitRankScalable(newcomm, nranks, myrank, nId, commIds, config);
        arrival.made(newcomm, result);
        made(usage, newcomm, 1, result);
        result
    })
}

/// Makes a communicator among `ndev` devices of this process and writes `ndev` handles to `comm`.
///
/// Rank i is device `devlist[i]`, or device i when `devlist` is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommInitAll(comm: *mut ncclComm_t, ndev: c_int, devlist: *const c_int) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        let usage = GraphUsage::of(ptr::null());
        let result = real::ncclCommInitAll(comm, ndev, devlist);
        if result == ncclSuccess {
            beacon::all_made(handles_of(comm, ndev));
        }
        made(usage, comm, usize::try_from(ndev).unwrap_or(0), result);
        result
    })
}

/// Same as ncclCommInitAll, for profilers that put their own ncclCommInitAll before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclCommInitAll(comm: *mut ncclComm_t, ndev: c_int, devlist: *const c_int) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        let usage = GraphUsage::of(ptr::null());
        let result = real::ncclCommInitAll(comm, ndev, devlist);
        if result == ncclSuccess {
            beacon::all_made(handles_of(comm, ndev));
        }
        made(usage, comm, usize::try_from(ndev).unwrap_or(0), result);
        result
    })
}

/// Completes all operations of a communicator, after which only ncclCommDestroy may follow. All ranks call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommFinalize(comm: ncclComm_t) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || {
        let ending = crate::comm::finalize(comm);
        // SAFETY: as above.
        let result = unsafe { real::ncclCommFinalize(comm) };
        ending.close();
        result
    })
}

/// Same as ncclCommFinalize, for profilers that put their own ncclCommFinalize before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclCommFinalize(comm: ncclComm_t) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || {
        let ending = crate::comm::finalize(comm);
        // SAFETY: as above.
        let result = unsafe { real::ncclCommFinalize(comm) };
        ending.close();
        result
    })
}

/// Frees a communicator. NULL is allowed and does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommDestroy(comm: ncclComm_t) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || {
        let ending = crate::comm::destroy(comm);
        // SAFETY: as above.
        let result = unsafe { real::ncclCommDestroy(comm) };
        ending.close();
        result
    })
}

/// Same as ncclCommDestroy, for profilers that put their own ncclCommDestroy before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclCommDestroy(comm: ncclComm_t) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || {
        let ending = crate::comm::destroy(comm);
        // SAFETY: as above.
        let result = unsafe { real::ncclCommDestroy(comm) };
        ending.close();
        result
    })
}

/// Stops what a communicator is doing and frees it. Waits for no other rank, so it also works when one has died.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommAbort(comm: ncclComm_t) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || {
        let ending = crate::comm::abort(comm);
        // SAFETY: as above.
        let result = unsafe { real::ncclCommAbort(comm) };
        ending.close();
        result
    })
}

/// Same as ncclCommAbort, for profilers that put their own ncclCommAbort before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclCommAbort(comm: ncclComm_t) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || {
        let ending = crate::comm::abort(comm);
        // SAFETY: as above.
        let result = unsafe { real::ncclCommAbort(comm) };
        ending.close();
        result
    })
}

/// Stops what a communicator is doing and refuses further operations, but leaves it there to be shrunk or destroyed.
///
/// `revokeFlags` is NCCL_REVOKE_DEFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommRevoke(comm: ncclComm_t, revokeFlags: c_int) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || {
        if revokeFlags == NCCL_REVOKE_DEFAULT && real::has(Function::ncclCommRevoke) {
            crate::comm::revoke(comm);
        }
        // SAFETY: as above.
        unsafe { real::ncclCommRevoke(comm, revokeFlags) }
    })
}

/// Same as ncclCommRevoke, for profilers that put their own ncclCommRevoke before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclCommRevoke(comm: ncclComm_t, revokeFlags: c_int) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || {
        if revokeFlags == NCCL_REVOKE_DEFAULT && real::has(Function::ncclCommRevoke) {
            crate::comm::revoke(comm);
        }
        // SAFETY: as above.
        unsafe { real::ncclCommRevoke(comm, revokeFlags) }
    })
}

/// Makes one new communicator for each `color`; ranks are ordered by `key`. All ranks call it.
///
/// A rank with color NCCL_SPLIT_NOCOLOR joins none and gets NULL. `config` may be NULL: the parent's is used.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommSplit(
    comm: ncclComm_t,
    color: c_int,
    key: c_int,
    newcomm: *mut ncclComm_t,
    config: *mut ncclConfig_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        let part = color.to_le_bytes();
        let usage = GraphUsage::of_part(comm, config);
        let arrival = beacon::arrive_from(comm, (color != NCCL_SPLIT_NOCOLOR).then_some(&part));
        let result = real::ncclCommSplit(comm, color, key, newcomm, config);
        arrival.made(newcomm, result);
        made(usage, newcomm, 1, result);
        result
    })
}

/// Same as ncclCommSplit, for profilers that put their own ncclCommSplit before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclCommSplit(
    comm: ncclComm_t,
    color: c_int,
    key: c_int,
    newcomm: *mut ncclComm_t,
    config: *mut ncclConfig_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        let part = color.to_le_bytes();
        let usage = GraphUsage::of_part(comm, config);
        let arrival = beacon::arrive_from(comm, (color != NCCL_SPLIT_NOCOLOR).then_some(&part));
        let result = real::ncclCommSplit(comm, color, key, newcomm, config);
        arrival.made(newcomm, result);
        made(usage, newcomm, 1, result);
        result
    })
}

/// Makes a new communicator without the `excludeRanksCount` ranks listed. The ranks that stay call it.
///
/// `shrinkFlags` is NCCL_SHRINK_DEFAULT, or NCCL_SHRINK_ABORT to stop first what the parent is doing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommShrink(
    comm: ncclComm_t,
    excludeRanksList: *mut c_int,
    excludeRanksCount: c_int,
    newcomm: *mut ncclComm_t,
    config: *mut ncclConfig_t,
    shrinkFlags: c_int,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || {
        if shrinkFlags & NCCL_SHRINK_ABORT != 0 && real::has(Function::ncclCommShrink) {
            crate::comm::revoke(comm);
        }
        // SAFETY: as above.
        unsafe {
            let usage = GraphUsage::of_part(comm, config);
            let arrival = beacon::arrive_from(comm, Some(b"shrunk"));
            let result = real::ncclCommShrink(comm, excludeRanksList, excludeRanksCount, newcomm, config, shrinkFlags);
            arrival.made(newcomm, result);
            made(usage, newcomm, 1, result);
            result
        }
    })
}

/// Same as ncclCommShrink, for profilers that put their own ncclCommShrink before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclCommShrink(
    comm: ncclComm_t,
    excludeRanksList: *mut c_int,
    excludeRanksCount: c_int,
    newcomm: *mut ncclComm_t,
    config: *mut ncclConfig_t,
    shrinkFlags: c_int,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || {
        if shrinkFlags & NCCL_SHRINK_ABORT != 0 && real::has(Function::ncclCommShrink) {
            crate::comm::revoke(comm);
        }
        // SAFETY: as above.
        unsafe {
            let usage = GraphUsage::of_part(comm, config);
            let arrival = beacon::arrive_from(comm, Some(b"shrunk"));
            let result = real::ncclCommShrink(comm, excludeRanksList, excludeRanksCount, newcomm, config, shrinkFlags);
            arrival.made(newcomm, result);
            made(usage, newcomm, 1, result);
            result
        }
    })
}

/// Makes an id by which new ranks join a communicator in ncclCommGrow.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommGetUniqueId(comm: ncclComm_t, uniqueId: *mut ncclUniqueId) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        let result = real::ncclCommGetUniqueId(comm, uniqueId);
        if result == ncclSuccess {
            beacon::grows_by(comm, bytes_of(uniqueId, 1));
        }
        result
    })
}

/// Same as ncclCommGetUniqueId, for profilers that put their own ncclCommGetUniqueId before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclCommGetUniqueId(comm: ncclComm_t, uniqueId: *mut ncclUniqueId) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        let result = real::ncclCommGetUniqueId(comm, uniqueId);
        if result == ncclSuccess {
            beacon::grows_by(comm, bytes_of(uniqueId, 1));
        }
        result
    })
}

/// Makes a communicator of `nRanks` ranks out of an existing one and new ranks.
///
/// Existing ranks pass their communicator and `rank` -1; new ones pass NULL, the id and the rank they are to have.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommGrow(
    comm: ncclComm_t,
    nRanks: c_int,
    uniqueId: *const ncclUniqueId,
    rank: c_int,
    newcomm: *mut ncclComm_t,
    config: *mut ncclConfig_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        let usage = GraphUsage::of_grown(comm, config);
        let arrival = if comm.is_null() {
            beacon::arrive_in_growing(bytes_of(uniqueId, 1), nRanks, rank)
        } else {
            beacon::arrive_growing(comm, nRanks)
        };
        let result = real::ncclCommGrow(comm, nRanks, uniqueId, rank, newcomm, config);
        arrival.made(newcomm, result);
        made(usage, newcomm, 1, result);
        result
    })
}

/// Same as ncclCommGrow, for profilers that put their own ncclCommGrow before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclCommGrow(
    comm: ncclComm_t,
    nRanks: c_int,
    uniqueId: *const ncclUniqueId,
    rank: c_int,
    newcomm: *mut ncclComm_t,
    config: *mut ncclConfig_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe {
        let usage = GraphUsage::of_grown(comm, config);
        let arrival = if comm.is_null() {
            beacon::arrive_in_growing(bytes_of(uniqueId, 1), nRanks, rank)
        } else {
            beacon::arrive_growing(comm, nRanks)
        };
        let result = real::ncclCommGrow(comm, nRanks, uniqueId, rank, newcomm, config);
        arrival.made(newcomm, result);
        made(usage, newcomm, 1, result);
        result
    })
}

/// Gives back resources of an idle communicator: with NCCL_SUSPEND_MEM its memory on the GPU. All ranks call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommSuspend(comm: ncclComm_t, flags: c_int) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclCommSuspend(comm, flags) })
}

/// Same as ncclCommSuspend, for profilers that put their own ncclCommSuspend before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclCommSuspend(comm: ncclComm_t, flags: c_int) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclCommSuspend(comm, flags) })
}

/// Takes back what ncclCommSuspend gave up. All ranks call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommResume(comm: ncclComm_t) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclCommResume(comm) })
}

/// Same as ncclCommResume, for profilers that put their own ncclCommResume before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclCommResume(comm: ncclComm_t) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclCommResume(comm) })
}

//! NCCL's calls that make, change or end a communicator or ask for its state, with what Dime does before and after each.
//!
//! A function has the prototype and the safety contract of NCCL's function that it names. It calls that function once, with
//! the arguments as they came, unless the communicator has failed. Some arguments decide what Dime does: the flags of
//! ncclCommShrink, ncclCommRevoke and ncclCommSuspend, the color of ncclCommSplit, and whether ncclCommGrow has a parent.
//!
//! The order of the steps:
//!
//! 1. Before NCCL makes a communicator: read the configuration, which may be gone after the call. Then bind this rank's
//!    [`beacon`], since NCCL may return as soon as every rank has called it. Before NCCL ends one: stop this rank's kernels
//!    or wait for them ([`ending`]).
//! 2. NCCL.
//! 3. After NCCL: note what it made, or close the communicator that it ended.

use std::ffi::c_int;
use std::{ptr, slice};

use crate::comm::life::suspension::Change;
use crate::comm::life::{ending, suspension};
use crate::comm::run::declared::Declaration;
use crate::comm::setup::beacon;
use crate::comm::setup::beacon::Arrival;
use crate::nccl::header::{NCCL_REVOKE_DEFAULT, NCCL_SHRINK_ABORT, NCCL_SPLIT_NOCOLOR, NCCL_SUSPEND_MEM};
use crate::nccl::{ncclComm_t, ncclConfig_t, ncclInProgress, ncclResult_t, ncclSuccess, ncclUniqueId};
use crate::observe::log;
use crate::real;
use crate::real::Function;

/// What is noted of a communicator before NCCL is asked for it. The fields are in the order in which they are made.
struct Request {
    declaration: Declaration,
    arrival: Arrival,
}

impl Request {
    /// After NCCL was asked for it.
    ///
    /// # Safety
    /// `place` is what NCCL was given for the handle.
    unsafe fn made(self, place: *mut ncclComm_t, result: ncclResult_t) -> ncclResult_t {
        // SAFETY: the caller's contract.
        unsafe { self.arrival.made(place, result) };
        // SAFETY: the caller's contract.
        unsafe { made(self.declaration, place, 1, result) };
        result
    }
}

/// After NCCL was asked for so many communicators.
///
/// # Safety
/// `place` is what NCCL was given for their handles.
unsafe fn made(declaration: Declaration, place: *const ncclComm_t, count: usize, result: ncclResult_t) {
    // SAFETY: the caller's contract.
    unsafe { declaration.made(place, count, result) };
    // It logs what it makes.
    log::nccl_may_have_opened_its_log();
}

/// The bytes of `count` ids; none where there cannot be any.
///
/// # Safety
/// The ids are there, or NULL.
unsafe fn bytes_of<'a>(ids: *const ncclUniqueId, count: c_int) -> &'a [u8] {
    match usize::try_from(count) {
        // SAFETY: the caller's contract; ids are plain bytes.
        Ok(count) if !ids.is_null() => unsafe { slice::from_raw_parts(ids.cast(), count * size_of::<ncclUniqueId>()) },
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
        Ok(count) if !comm.is_null() => unsafe { slice::from_raw_parts(comm, count) },
        _ => &[],
    }
}

/// The hook of ncclGetUniqueId.
///
/// # Safety
/// As ncclGetUniqueId.
pub unsafe fn get_unique_id(id: *mut ncclUniqueId) -> ncclResult_t {
    // SAFETY: the caller's contract.
    let result = unsafe { real::ncclGetUniqueId(id) };
    log::nccl_may_have_opened_its_log();
    result
}

/// The hook of ncclCommInitRank.
///
/// # Safety
/// As ncclCommInitRank.
pub unsafe fn init_rank(place: *mut ncclComm_t, ranks: c_int, id: ncclUniqueId, rank: c_int) -> ncclResult_t {
    // SAFETY: the caller's contract; there is no configuration.
    unsafe {
        let request = Request {
            declaration: Declaration::of(ptr::null()),
            arrival: beacon::arrive(bytes_of(&id, 1), ranks, rank),
        };
        request.made(place, real::ncclCommInitRank(place, ranks, id, rank))
    }
}

/// The hook of ncclCommInitRankConfig.
///
/// # Safety
/// As ncclCommInitRankConfig.
pub unsafe fn init_rank_config(
    place: *mut ncclComm_t,
    ranks: c_int,
    id: ncclUniqueId,
    rank: c_int,
    config: *mut ncclConfig_t,
) -> ncclResult_t {
    // SAFETY: the caller's contract.
    unsafe {
        let request =
            Request { declaration: Declaration::of(config), arrival: beacon::arrive(bytes_of(&id, 1), ranks, rank) };
        request.made(place, real::ncclCommInitRankConfig(place, ranks, id, rank, config))
    }
}

/// The hook of ncclCommInitRankScalable.
///
/// # Safety
/// As ncclCommInitRankScalable.
pub unsafe fn init_rank_scalable(
    place: *mut ncclComm_t,
    ranks: c_int,
    rank: c_int,
    id_count: c_int,
    ids: *mut ncclUniqueId,
    config: *mut ncclConfig_t,
) -> ncclResult_t {
    // SAFETY: the caller's contract.
    unsafe {
        let request = Request {
            declaration: Declaration::of(config),
            arrival: beacon::arrive(bytes_of(ids, id_count), ranks, rank),
        };
        request.made(place, real::ncclCommInitRankScalable(place, ranks, rank, id_count, ids, config))
    }
}

/// The hook of ncclCommInitAll.
///
/// # Safety
/// As ncclCommInitAll.
pub unsafe fn init_all(place: *mut ncclComm_t, devices: c_int, device_list: *const c_int) -> ncclResult_t {
    // SAFETY: the caller's contract; there is no configuration.
    unsafe {
        let declaration = Declaration::of(ptr::null());
        let result = real::ncclCommInitAll(place, devices, device_list);
        if result == ncclSuccess {
            beacon::all_made(handles_of(place, devices));
        }
        made(declaration, place, usize::try_from(devices).unwrap_or(0), result);
        result
    }
}

/// The hook of ncclCommSplit.
///
/// # Safety
/// As ncclCommSplit.
pub unsafe fn split(
    parent: ncclComm_t,
    color: c_int,
    key: c_int,
    place: *mut ncclComm_t,
    config: *mut ncclConfig_t,
) -> ncclResult_t {
    let part = color.to_le_bytes();
    // SAFETY: the caller's contract.
    unsafe {
        let request = Request {
            declaration: Declaration::of_part(parent, config),
            arrival: beacon::arrive_from(parent, (color != NCCL_SPLIT_NOCOLOR).then_some(&part)),
        };
        request.made(place, real::ncclCommSplit(parent, color, key, place, config))
    }
}

/// The hook of ncclCommShrink.
///
/// # Safety
/// As ncclCommShrink.
pub unsafe fn shrink(
    parent: ncclComm_t,
    excluded_ranks: *mut c_int,
    excluded_count: c_int,
    place: *mut ncclComm_t,
    config: *mut ncclConfig_t,
    flags: c_int,
) -> ncclResult_t {
    if flags & NCCL_SHRINK_ABORT != 0 && real::has(Function::ncclCommShrink) {
        ending::revoke(parent);
    }
    // SAFETY: the caller's contract.
    unsafe {
        let request = Request {
            declaration: Declaration::of_part(parent, config),
            arrival: beacon::arrive_from(parent, Some(b"shrunk")),
        };
        request.made(place, real::ncclCommShrink(parent, excluded_ranks, excluded_count, place, config, flags))
    }
}

/// The hook of ncclCommGetUniqueId.
///
/// # Safety
/// As ncclCommGetUniqueId.
pub unsafe fn comm_get_unique_id(parent: ncclComm_t, id: *mut ncclUniqueId) -> ncclResult_t {
    // SAFETY: the caller's contract.
    let result = unsafe { real::ncclCommGetUniqueId(parent, id) };
    if result == ncclSuccess {
        // SAFETY: NCCL has just written the id.
        beacon::grows_by(parent, unsafe { bytes_of(id, 1) });
    }
    result
}

/// The hook of ncclCommGrow.
///
/// # Safety
/// As ncclCommGrow.
pub unsafe fn grow(
    parent: ncclComm_t,
    ranks: c_int,
    id: *const ncclUniqueId,
    rank: c_int,
    place: *mut ncclComm_t,
    config: *mut ncclConfig_t,
) -> ncclResult_t {
    // SAFETY: the caller's contract.
    unsafe {
        let request = Request {
            declaration: Declaration::of_grown(parent, config),
            // A new rank has no parent.
            arrival: if parent.is_null() {
                beacon::arrive_in_growing(bytes_of(id, 1), ranks, rank)
            } else {
                beacon::arrive_growing(parent, ranks)
            },
        };
        request.made(place, real::ncclCommGrow(parent, ranks, id, rank, place, config))
    }
}

/// The hook of ncclCommFinalize.
///
/// # Safety
/// As ncclCommFinalize.
pub unsafe fn finalize(handle: ncclComm_t) -> ncclResult_t {
    let ending = ending::finalize(handle);
    // SAFETY: the caller's contract.
    let result = unsafe { real::ncclCommFinalize(handle) };
    ending.close();
    result
}

/// The hook of ncclCommDestroy.
///
/// # Safety
/// As ncclCommDestroy.
pub unsafe fn destroy(handle: ncclComm_t) -> ncclResult_t {
    let ending = ending::destroy(handle);
    // SAFETY: the caller's contract.
    let result = unsafe { real::ncclCommDestroy(handle) };
    ending.close();
    result
}

/// The hook of ncclCommAbort.
///
/// # Safety
/// As ncclCommAbort.
pub unsafe fn abort(handle: ncclComm_t) -> ncclResult_t {
    let ending = ending::abort(handle);
    // SAFETY: the caller's contract.
    let result = unsafe { real::ncclCommAbort(handle) };
    ending.close();
    result
}

/// The hook of ncclCommRevoke.
///
/// # Safety
/// As ncclCommRevoke.
pub unsafe fn revoke(handle: ncclComm_t, flags: c_int) -> ncclResult_t {
    if flags == NCCL_REVOKE_DEFAULT && real::has(Function::ncclCommRevoke) {
        ending::revoke(handle);
    }
    // SAFETY: the caller's contract.
    unsafe { real::ncclCommRevoke(handle, flags) }
}

/// The hook of ncclCommSuspend.
///
/// # Safety
/// As ncclCommSuspend.
pub unsafe fn suspend(handle: ncclComm_t, flags: c_int) -> ncclResult_t {
    if let Some(refused) = suspension::refusal(handle) {
        return refused;
    }
    // SAFETY: the caller's contract.
    let result = unsafe { real::ncclCommSuspend(handle, flags) };
    if flags & NCCL_SUSPEND_MEM == 0 { result } else { suspension::changed(Change::Suspend, handle, result) }
}

/// The hook of ncclCommResume.
///
/// # Safety
/// As ncclCommResume.
pub unsafe fn resume(handle: ncclComm_t) -> ncclResult_t {
    if let Some(refused) = suspension::refusal(handle) {
        return refused;
    }
    // SAFETY: the caller's contract.
    let result = unsafe { real::ncclCommResume(handle) };
    suspension::changed(Change::Resume, handle, result)
}

/// The hook of ncclCommGetAsyncError.
///
/// # Safety
/// As ncclCommGetAsyncError.
#[inline(always)]
pub unsafe fn get_async_error(handle: ncclComm_t, state: *mut ncclResult_t) -> ncclResult_t {
    // SAFETY: the caller's contract.
    let result = unsafe { real::ncclCommGetAsyncError(handle, state) };
    if result == ncclSuccess {
        // SAFETY: NCCL has just written to the pointer.
        let state = unsafe { &mut *state };
        if *state == ncclSuccess {
            beacon::ready(handle);
            *state = ending::async_error(handle);
        } else if *state != ncclInProgress {
            beacon::failed(handle);
        }
    }
    result
}

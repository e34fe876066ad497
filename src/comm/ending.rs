//! How communicators end: destroyed, finalized, aborted, revoked; and what is told of one that failed.

use std::time::Duration;

use super::state::{Comm, Status};
use super::{graph_usage, leftovers, presence, state, table, watchdog};
use crate::api::abi::{ncclComm_t, ncclResult_t, ncclSuccess};
use crate::real;

/// How long an aborted communicator's kernels may take to notice.
const ABORT_LIMIT: Duration = Duration::from_secs(1);

/// The communicator of a handle, unless NCCL asks itself.
fn known(handle: ncclComm_t) -> Option<&'static Comm> {
    if real::thread::is_inside_nccl() { None } else { table::find(handle as usize) }
}

/// Before NCCL destroys a communicator: waits for our work on it and gives back what it owns.
///
/// # Safety
/// The handle is a communicator, or NULL.
pub unsafe fn destroy(handle: ncclComm_t) {
    if !real::thread::is_inside_nccl() {
        presence::forget(handle);
        graph_usage::forget(handle);
    }
    let Some(comm) = known(handle) else { return };
    let mut device = 0;
    // SAFETY: the handle is the application's; the out pointer is ours.
    let has_device = unsafe { real::ncclCommCuDevice(handle, &mut device) } == ncclSuccess;
    if is_hopeless(comm) {
        // What spins may spin for good.
        comm.raise_abort();
    }
    await_work(comm, handle);
    if is_hopeless(comm) {
        comm.raise_abort();
    }
    let limit = comm.is_aborted().then_some(ABORT_LIMIT);
    give_back(comm, limit);
    table::remove(comm);
    if has_device && limit.is_none() {
        leftovers::sweep(device);
    }
}

/// Before NCCL finalizes a communicator: waits for our work on it.
pub fn finalize(handle: ncclComm_t) {
    if let Some(comm) = known(handle) {
        await_work(comm, handle);
    }
}

/// Whether what is enqueued on it may never end: it failed, or was aborted.
fn is_hopeless(comm: &Comm) -> bool {
    matches!(comm.status(), Status::Poisoned(_))
}

/// Waits for our work on a communicator; where that is hopeless, now or on the way, not for long. The watchdog still looks.
fn await_work(comm: &'static Comm, handle: ncclComm_t) {
    // An abort from another thread, which ends the waiting, waits for us in turn.
    let Some(busy) = comm.begin(handle as usize) else { return };
    let Some(fast) = busy.fast() else { return };
    let waited = if is_hopeless(comm) {
        fast.await_idle(Some(ABORT_LIMIT), || false)
    } else {
        fast.await_idle(None, || is_hopeless(comm))
    };
    if let Err(error) = waited {
        log::warn!("cannot wait for a communicator's work: {error}");
    }
}

fn give_back(comm: &'static Comm, limit: Option<Duration>) {
    watchdog::end(comm);
    if let Some(fast) = comm.take_fast()
        && let Err(error) = fast.close(limit)
    {
        log::warn!("not everything of a communicator could be given back: {error}");
    }
}

/// Before NCCL stops what runs on a communicator without ending it: our kernels stop spinning, and no further one begins. What is
/// called on it from now on is NCCL's to refuse; so one that we have not seen is noted, lest it be set up.
pub fn revoke(handle: ncclComm_t) {
    if real::thread::is_inside_nccl() || handle.is_null() {
        return;
    }
    if let Some(comm) = table::find_or_add(handle as usize) {
        comm.raise_revoke();
    }
}

/// A communicator that NCCL is aborting.
#[must_use]
pub struct Aborted(Option<&'static Comm>);

/// Before NCCL aborts a communicator: our kernels stop spinning, no further one begins, and the handle is forgotten.
pub fn abort(handle: ncclComm_t) -> Aborted {
    if !real::thread::is_inside_nccl() {
        presence::forget(handle);
        graph_usage::forget(handle);
    }
    let comm = known(handle);
    if let Some(comm) = comm {
        comm.raise_abort();
        table::hide(comm);
    }
    Aborted(comm)
}

impl Aborted {
    /// After NCCL aborted it, which ends calls of other threads that waited in it: gives back what it owns.
    pub fn close(self) {
        let Some(comm) = self.0 else { return };
        if !comm.await_calls(ABORT_LIMIT) {
            log::warn!("a thread is still in a call on an aborted communicator: what it owns stays allocated");
            return;
        }
        comm.raise_abort();
        give_back(comm, Some(ABORT_LIMIT));
        table::remove(comm);
    }
}

/// Our part of the state of a communicator that NCCL says is well.
pub fn async_error(handle: ncclComm_t) -> ncclResult_t {
    if !state::ever_poisoned() || real::thread::is_inside_nccl() {
        return ncclSuccess;
    }
    match table::find(handle as usize).map(|comm| (comm.status(), comm.is_revoked())) {
        Some((Status::Poisoned(failure), false)) => failure,
        _ => ncclSuccess,
    }
}

//! How communicators end: destroy, finalize, abort, revoke; and the error that a failed one reports.
//!
//! Nothing here waits for the GPU as a whole or for another communicator's work, which may be aborted next. Only a
//! communicator's own work is waited for. What it owned goes to [`deferred_free`], which frees it later. In a group,
//! NCCL ends communicators at the group's end, after all that the group aborts have been told to stop. Dime's part
//! follows NCCL's.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use crate::comm::life::deferred_free::After;
use crate::comm::life::{deferred_free, watchdog};
use crate::comm::run::{declared, group};
use crate::comm::setup::beacon;
use crate::comm::table;
use crate::comm::table::fast;
use crate::comm::table::fast::{Comm, Status};
use crate::gpu::CUdevice;
use crate::gpu::driver::DriverResult;
use crate::host::thread;
use crate::nccl::{ncclComm_t, ncclResult_t, ncclSuccess};
use crate::real;

/// How long calls of other threads may take to see that their communicator was aborted.
const ABORT_LIMIT: Duration = Duration::from_secs(1);

/// How long to wait for kernels that were told to stop. They poll about once in a millisecond.
const STOP_LIMIT: Duration = Duration::from_millis(100);

thread_local! {
    /// What is left to do at the end of this thread's open group.
    static AT_GROUP_END: RefCell<Vec<Ending>> = const { RefCell::new(Vec::new()) };
}

/// Takes what is left to do for communicators that NCCL ends at the end of the group that this thread has just
/// closed.
pub fn take_at_group_end() -> Vec<Ending> {
    AT_GROUP_END.take()
}

/// A communicator that NCCL is asked to end. In a group, NCCL and Dime end it at the group's end.
#[must_use]
pub struct Ending {
    how: How,
    handle: ncclComm_t,
    /// None: it is not in the table.
    comm: Option<&'static Comm>,
    /// Its device, if it is known.
    device: Option<CUdevice>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// Nothing is to be done.
    NotAtAll,
    /// It lives on; Dime's work on it is waited for.
    Finalized,
    Destroyed,
    /// In a group: Dime's work on it has not been waited for.
    DestroyedInGroup,
    Aborted,
}

impl Ending {
    fn begin(how: How, handle: ncclComm_t) -> Self {
        if thread::is_inside_nccl() || handle.is_null() {
            return Self { how: How::NotAtAll, handle, comm: None, device: None };
        }
        if how != How::Finalized {
            beacon::forget(handle);
            declared::forget(handle);
        }
        let comm = table::find(handle as usize);
        let known = comm.and_then(Comm::begin_unless_hidden).and_then(|busy| busy.fast().map(|fast| fast.device()));
        let device = known.or_else(|| {
            let mut device = 0;
            // A communicator that is to be aborted is not queried: NCCL may log an error.
            // SAFETY: the handle is the application's; the out pointer is ours.
            let is_told = how == How::Destroyed
                && comm.is_some()
                && unsafe { real::ncclCommCuDevice(handle, &mut device) } == ncclSuccess;
            is_told.then_some(device)
        });
        Self { how, handle, comm, device }
    }

    /// Takes the handle off the table. Another thread may have done so in an abort, and then that thread ends the
    /// communicator.
    fn hide(&mut self) {
        let handle = self.handle as usize;
        self.comm = self.comm.filter(|comm| table::hide(comm, handle));
    }

    /// Whether this ends the communicator of this handle.
    pub fn is_of(&self, handle: ncclComm_t) -> bool {
        !matches!(self.how, How::NotAtAll | How::Finalized) && self.handle == handle
    }

    /// Call after NCCL was asked to end it.
    pub fn close(self) {
        match self.how {
            How::NotAtAll => {}
            _ if group::is_open() => {
                group::acts_at_end();
                AT_GROUP_END.with_borrow_mut(|endings| endings.push(self));
            }
            // Its work has been waited for.
            How::Finalized => {}
            _ => close_all(vec![self], true),
        }
    }
}

/// Call after NCCL has ended these communicators, which also ends other threads' calls that waited inside NCCL.
/// `is_done`: NCCL succeeded and has finished; else nothing is freed now.
pub fn close_all(endings: Vec<Ending>, is_done: bool) {
    let deadline = Instant::now() + ABORT_LIMIT;
    let (mut devices, mut is_any_over, mut are_sound) = (Vec::new(), false, true);
    for Ending { how, handle, comm, device } in endings {
        match (how, comm) {
            (How::NotAtAll, _) => continue,
            (How::Finalized, comm) => {
                comm.into_iter().for_each(|comm| await_work(comm, handle));
                continue;
            }
            (how, Some(comm)) => are_sound &= defer_resources(comm, how, deadline),
            (how, None) => are_sound &= how != How::Aborted,
        }
        if how == How::DestroyedInGroup {
            deferred_free::left_group();
        }
        is_any_over = true;
        devices.extend(device);
    }
    if is_any_over && is_done {
        deferred_free::sweep(if are_sound { After::Destroy(&devices) } else { After::Abort(&devices) });
    }
}

/// Takes out what a communicator owns and defers its freeing. False: the communicator had failed or was aborted.
fn defer_resources(comm: &'static Comm, how: How, deadline: Instant) -> bool {
    // Another thread may be asking for a moment whether it is idle. That is waited for even after the deadline.
    if !comm.await_calls(deadline.saturating_duration_since(Instant::now()).max(STOP_LIMIT)) {
        log::warn!(
            "a thread is still in a call on a communicator that was ended: its memory stays allocated until the process ends"
        );
        return false;
    }
    // A setup that ended after the abort may have made it fast.
    if how == How::Aborted || is_hopeless(comm) {
        comm.raise_abort();
    }
    let fast = comm.take_fast();
    if how == How::DestroyedInGroup
        && let Some(fast) = fast.as_ref().filter(|_| !comm.is_aborted())
    {
        warn_if_failed(fast.await_eager_lane(None, || is_hopeless(comm)));
        if is_hopeless(comm) {
            fast.stop();
        }
    }
    let is_sound = !comm.is_aborted() && !is_hopeless(comm);
    watchdog::end(comm);
    if let Some(fast) = fast {
        if !is_sound {
            // So that the GPU is usually free when the call returns. What is queued behind other work ends later.
            warn_if_failed(fast.await_eager_lane(Some(STOP_LIMIT), || false));
        }
        deferred_free::defer(fast, is_sound);
    }
    table::remove(comm);
    is_sound
}

/// Call before NCCL destroys a communicator: waits for Dime's work on it.
pub fn destroy(handle: ncclComm_t) -> Ending {
    let mut ending = Ending::begin(How::Destroyed, handle);
    if let Some(comm) = ending.comm {
        if is_hopeless(comm) {
            // Its kernels may spin for ever.
            stop(comm, handle);
        }
        if group::is_open() {
            ending.how = How::DestroyedInGroup;
            deferred_free::destroyed_in_group();
        } else {
            await_work(comm, handle);
        }
        if is_hopeless(comm) {
            stop(comm, handle);
        }
        ending.hide();
    }
    ending
}

/// Call before NCCL finalizes a communicator: waits for Dime's work on it.
pub fn finalize(handle: ncclComm_t) -> Ending {
    let ending = Ending::begin(How::Finalized, handle);
    if let Some(comm) = ending.comm
        && !group::is_open()
    {
        await_work(comm, handle);
    }
    ending
}

/// Whether its enqueued work may never end: it has failed or was aborted.
fn is_hopeless(comm: &Comm) -> bool {
    matches!(comm.status(), Status::Poisoned(_))
}

/// Stops the kernels of this handle's communicator, and stops further ones from beginning. It counts as a call, since
/// another thread may be ending the communicator.
fn stop(comm: &'static Comm, handle: ncclComm_t) {
    if let Some(_busy) = comm.begin(handle as usize) {
        comm.raise_abort();
    }
}

/// Waits for Dime's work on a communicator. If the work may never end, now or later, waits for a short time only. The
/// watchdog still watches meanwhile.
fn await_work(comm: &'static Comm, handle: ncclComm_t) {
    // An abort from another thread ends this wait, and in turn waits for this call.
    let Some(busy) = comm.begin(handle as usize) else { return };
    let Some(fast) = busy.fast() else { return };
    warn_if_failed(if is_hopeless(comm) {
        fast.await_eager_lane(Some(STOP_LIMIT), || false)
    } else {
        fast.await_eager_lane(None, || is_hopeless(comm))
    });
}

fn warn_if_failed(waited: DriverResult<bool>) {
    if let Err(error) = waited {
        log::warn!("cannot wait for the kernels of a communicator that is ending: {error}");
    }
}

/// Call before NCCL revokes a communicator, that is, stops what runs on it without ending it. Dime's kernels stop
/// spinning, and no further ones begin. NCCL refuses later calls. A communicator that is not in the table is added,
/// so that it is never set up.
pub fn revoke(handle: ncclComm_t) {
    if thread::is_inside_nccl() || handle.is_null() {
        return;
    }
    beacon::failed(handle);
    // It counts as a call, since another thread may be aborting the communicator.
    if let Some(comm) = table::find_or_add(handle as usize, beacon::take_reservation)
        && let Some(_busy) = comm.begin(handle as usize)
    {
        comm.raise_revoke();
    }
}

/// Call before NCCL aborts a communicator: Dime's kernels stop spinning, no further ones begin, and the handle is
/// taken off the table.
pub fn abort(handle: ncclComm_t) -> Ending {
    let mut ending = Ending::begin(How::Aborted, handle);
    if let Some(comm) = ending.comm {
        stop(comm, handle);
        ending.hide();
    }
    ending
}

/// Dime's error of a communicator that NCCL reports as healthy.
pub fn async_error(handle: ncclComm_t) -> ncclResult_t {
    if !fast::ever_poisoned() || thread::is_inside_nccl() {
        return ncclSuccess;
    }
    match table::find(handle as usize).map(|comm| (comm.status(), comm.is_revoked())) {
        Some((Status::Poisoned(failure), false)) => failure,
        _ => ncclSuccess,
    }
}

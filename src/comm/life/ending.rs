//! How communicators end: destroyed, finalized, aborted, revoked; and what is told of one that failed.
//!
//! Nothing here waits for the GPU or for another communicator's work, which may be aborted next; only for a communicator's own work. What a communicator owned goes to
//! [`crate::comm::life::deferred_free`], which knows when it can be given back. NCCL does what it is asked for in a group at the group's end, when
//! all communicators that the group aborts have been told to stop; what we do behind it waits until then as well.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use crate::comm::life::deferred_free::After;
use crate::comm::life::{deferred_free, watchdog};
use crate::comm::run::{graph_usage, group};
use crate::comm::setup::beacon;
use crate::comm::table;
use crate::comm::table::fast;
use crate::comm::table::fast::{Comm, Status};
use crate::gpu::CUdevice;
use crate::gpu::driver::DriverResult;
use crate::host::thread;
use crate::nccl::{ncclComm_t, ncclResult_t, ncclSuccess};
use crate::real;

/// How long calls of other threads may take to notice that their communicator was aborted.
const ABORT_LIMIT: Duration = Duration::from_secs(1);

/// How long kernels that were told to stop are waited for. They look about once in a millisecond.
const STOP_LIMIT: Duration = Duration::from_millis(100);

thread_local! {
    /// What is left to do at the end of this thread's open group.
    static AT_GROUP_END: RefCell<Vec<Ending>> = const { RefCell::new(Vec::new()) };
}

/// What is left to do for communicators that NCCL ends at the end of the group that this thread has just closed.
pub fn take_at_group_end() -> Vec<Ending> {
    AT_GROUP_END.take()
}

/// A communicator that NCCL is asked to end. Inside a group NCCL does so at the group's end, and so do we.
#[must_use]
pub struct Ending {
    how: How,
    handle: ncclComm_t,
    /// None: we know nothing of it.
    comm: Option<&'static Comm>,
    /// Its device, if it is known.
    device: Option<CUdevice>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// Nothing is to be done.
    NotAtAll,
    /// It is not over yet: our work on it is waited for.
    Finalized,
    Destroyed,
    /// In a group, so nobody has waited for our work on it.
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
            graph_usage::forget(handle);
        }
        let comm = table::find(handle as usize);
        let known = comm.and_then(Comm::begin_unless_hidden).and_then(|busy| busy.fast().map(|fast| fast.device()));
        let device = known.or_else(|| {
            let mut device = 0;
            // One that is to be aborted is not asked: NCCL may complain.
            // SAFETY: the handle is the application's; the out pointer is ours.
            let is_told = how == How::Destroyed
                && comm.is_some()
                && unsafe { real::ncclCommCuDevice(handle, &mut device) } == ncclSuccess;
            is_told.then_some(device)
        });
        Self { how, handle, comm, device }
    }

    /// Forgets the handle. Another thread may have done so in an abort, and then ends the communicator.
    fn hide(&mut self) {
        let handle = self.handle as usize;
        self.comm = self.comm.filter(|comm| table::hide(comm, handle));
    }

    /// Whether it ends the communicator of this handle.
    pub fn is_of(&self, handle: ncclComm_t) -> bool {
        !matches!(self.how, How::NotAtAll | How::Finalized) && self.handle == handle
    }

    /// After NCCL was asked for it.
    pub fn close(self) {
        match self.how {
            How::NotAtAll => {}
            _ if group::is_open() => {
                group::ends_one();
                AT_GROUP_END.with_borrow_mut(|endings| endings.push(self));
            }
            // Waited for already.
            How::Finalized => {}
            _ => close_all(vec![self], true),
        }
    }
}

/// After NCCL has ended these, which also ends calls of other threads that waited in it. `is_done`: it has, and is not still at it or failed;
/// else nothing is freed now.
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
            (how, Some(comm)) => are_sound &= give_back(comm, how, deadline),
            (how, None) => are_sound &= how != How::Aborted,
        }
        if how == How::DestroyedInGroup {
            deferred_free::group_ended();
        }
        is_any_over = true;
        devices.extend(device);
    }
    if is_any_over && is_done {
        deferred_free::sweep(if are_sound { After::Destroy(&devices) } else { After::Abort(&devices) });
    }
}

/// Takes from a communicator what it owns, to be given back when nothing uses it any more. False: it had failed, or was aborted.
fn give_back(comm: &'static Comm, how: How, deadline: Instant) -> bool {
    // Another thread may be asking for a moment, whatever the time.
    if !comm.await_calls(deadline.saturating_duration_since(Instant::now()).max(STOP_LIMIT)) {
        log::warn!("a thread is still in a call on a communicator that was ended: what it owns stays allocated");
        return false;
    }
    // A setup may have ended since it was aborted.
    if how == How::Aborted || is_hopeless(comm) {
        comm.raise_abort();
    }
    let fast = comm.take_fast();
    if how == How::DestroyedInGroup
        && let Some(fast) = fast.as_ref().filter(|_| !comm.is_aborted())
    {
        note(fast.await_idle(None, || is_hopeless(comm)));
        if is_hopeless(comm) {
            fast.stop();
        }
    }
    let is_sound = !comm.is_aborted() && !is_hopeless(comm);
    watchdog::end(comm);
    if let Some(fast) = fast {
        if !is_sound {
            // So that the GPU is free when the call returns. What is queued behind other work is given back later.
            note(fast.await_idle(Some(STOP_LIMIT), || false));
        }
        deferred_free::defer(fast, is_sound);
    }
    table::remove(comm);
    is_sound
}

/// Before NCCL destroys a communicator: waits for our work on it.
pub fn destroy(handle: ncclComm_t) -> Ending {
    let mut ending = Ending::begin(How::Destroyed, handle);
    if let Some(comm) = ending.comm {
        if is_hopeless(comm) {
            // What spins may spin for good.
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

/// Before NCCL finalizes a communicator: waits for our work on it.
pub fn finalize(handle: ncclComm_t) -> Ending {
    let ending = Ending::begin(How::Finalized, handle);
    if let Some(comm) = ending.comm
        && !group::is_open()
    {
        await_work(comm, handle);
    }
    ending
}

/// Whether what is enqueued on it may never end: it failed, or was aborted.
fn is_hopeless(comm: &Comm) -> bool {
    matches!(comm.status(), Status::Poisoned(_))
}

/// Stops the kernels of the communicator of a handle, and lets no further one begin. As a call: another thread may be ending it.
fn stop(comm: &'static Comm, handle: ncclComm_t) {
    if let Some(_busy) = comm.begin(handle as usize) {
        comm.raise_abort();
    }
}

/// Waits for our work on a communicator; where that is hopeless, now or on the way, not for long. The watchdog still looks.
fn await_work(comm: &'static Comm, handle: ncclComm_t) {
    // An abort from another thread, which ends the waiting, waits for us in turn.
    let Some(busy) = comm.begin(handle as usize) else { return };
    let Some(fast) = busy.fast() else { return };
    note(if is_hopeless(comm) {
        fast.await_idle(Some(STOP_LIMIT), || false)
    } else {
        fast.await_idle(None, || is_hopeless(comm))
    });
}

fn note(waited: DriverResult<bool>) {
    if let Err(error) = waited {
        log::warn!("cannot wait for a communicator's work: {error}");
    }
}

/// Before NCCL stops what runs on a communicator without ending it: our kernels stop spinning, and no further one begins. What is
/// called on it from now on is NCCL's to refuse; so one that we have not seen is noted, lest it be set up.
pub fn revoke(handle: ncclComm_t) {
    if thread::is_inside_nccl() || handle.is_null() {
        return;
    }
    beacon::failed(handle);
    // As a call: another thread may be aborting it.
    if let Some(comm) = table::find_or_add(handle as usize, beacon::take_reservation)
        && let Some(_busy) = comm.begin(handle as usize)
    {
        comm.raise_revoke();
    }
}

/// Before NCCL aborts a communicator: our kernels stop spinning, no further one begins, and the handle is forgotten.
pub fn abort(handle: ncclComm_t) -> Ending {
    let mut ending = Ending::begin(How::Aborted, handle);
    if let Some(comm) = ending.comm {
        stop(comm, handle);
        ending.hide();
    }
    ending
}

/// Our part of the state of a communicator that NCCL says is well.
pub fn async_error(handle: ncclComm_t) -> ncclResult_t {
    if !fast::ever_poisoned() || thread::is_inside_nccl() {
        return ncclSuccess;
    }
    match table::find(handle as usize).map(|comm| (comm.status(), comm.is_revoked())) {
        Some((Status::Poisoned(failure), false)) => failure,
        _ => ncclSuccess,
    }
}

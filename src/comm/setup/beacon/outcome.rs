//! What a rank concludes from the beacons of a communicator: when it looks, and how long it waits for a verdict message.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::comm::setup::beacon::conclusion;
use crate::comm::setup::beacon::conclusion::Heard;
use crate::comm::setup::beacon::state::{awaits_readiness, with_state};
use crate::gpu::driver::Driver;
use crate::host::config::Config;
use crate::host::thread;
use crate::nccl::{ncclComm_t, ncclSuccess};
use crate::observe::unused_library;
use crate::real;
use crate::route::Reason;

/// This process could not look, and no verdict message came in time. It lights no more beacons, so that it does not
/// wait in vain again.
static NO_VERDICT_CAME: AtomicBool = AtomicBool::new(false);

/// Why this rank lights no beacon. None: it does.
pub(super) fn reason_for_no_beacon(config: &Config) -> Option<Reason> {
    if config.disable {
        Some(Reason::Disabled)
    } else if NO_VERDICT_CAME.load(Ordering::Relaxed) {
        Some(Reason::NoBeacon)
    } else if Driver::get().is_err() {
        Some(Reason::NoDriver)
    } else {
        None
    }
}

/// The number of ranks of a communicator that NCCL has made.
pub(super) fn ranks_of(handle: ncclComm_t) -> Option<usize> {
    let mut ranks = 0;
    // SAFETY: the handle is one that NCCL has just made; the out pointer is ours.
    let counted = unsafe { real::ncclCommCount(handle, &mut ranks) };
    usize::try_from(ranks).ok().filter(|_| counted == ncclSuccess)
}

/// NCCL has made these communicators: looks up the beacons of their ranks.
pub(super) fn look_now(handles: &[ncclComm_t]) {
    for handle in handles.iter().copied().filter(|handle| !handle.is_null()) {
        let is_open = with_state(|state| state.find(handle).is_some_and(|membership| membership.outcome.is_none()));
        // No lock is held during the call to NCCL.
        if is_open && let Some(ranks) = ranks_of(handle) {
            unused_library::communicator_made(ranks);
            with_state(|state| state.find(handle).into_iter().for_each(|membership| membership.look(ranks)));
        }
    }
}

/// Call when NCCL says that a communicator is ready; its parts are then ready too. Cheap, since some programs poll.
#[inline(always)]
pub fn ready(handle: ncclComm_t) {
    if awaits_readiness() {
        look_at_ready(handle);
    }
}

#[cold]
fn look_at_ready(handle: ncclComm_t) {
    if thread::is_inside_nccl() {
        return;
    }
    let mut ready = with_state(|state| {
        state.adopt_by_handle(handle);
        state.adopt_parts(handle)
    });
    ready.push(handle);
    look_now(&ready);
}

/// Why all ranks forward, if this rank has concluded that already. Waits for nothing.
pub fn reason_so_far(handle: ncclComm_t) -> Option<Reason> {
    let membership = with_state(|state| {
        state.adopt_by_handle(handle);
        state.find(handle).map(|membership| membership.outcome.and_then(Result::err))
    });
    membership.unwrap_or_else(|| Some(reason_for_no_beacon(&Config::from_env().0).unwrap_or(Reason::Untraced)))
}

/// Whether all `ranks` ranks of a communicator will take part in a setup, or why all forward. Called at the first
/// all-reduce that could be fast, captured or not. A rank that could not look waits there for a verdict message until
/// `limit` has passed or the communicator is aborted.
pub fn await_outcome(
    handle: ncclComm_t,
    ranks: usize,
    limit: impl FnOnce() -> Duration,
    is_aborted: impl Fn() -> bool,
) -> Result<(), Reason> {
    let looked = with_state(|state| {
        let membership = state.find(handle).ok_or(Reason::Untraced)?;
        membership.look(ranks);
        Ok((membership.outcome, membership.beacon.clone(), membership.beacon_key))
    });
    let (outcome, beacon, key) = looked?;
    if let Some(outcome) = outcome {
        return outcome;
    }
    // No lock is held while it waits.
    let limit = limit();
    let (heard, message) = beacon.await_verdict(&key, Instant::now() + limit, &is_aborted);
    drop(beacon);
    if heard == Heard::Nothing && !is_aborted() && !NO_VERDICT_CAME.swap(true, Ordering::Relaxed) {
        log::warn!(
            "this process may not connect to the beacon sockets of the other ranks (a sandbox, or no descriptors left), \
             and no verdict message from them came within {} s (DIME_SETUP_TIMEOUT_S): all-reduces of its new \
             communicators are forwarded from now on",
            limit.as_secs()
        );
    }
    with_state(|state| {
        let membership = state.find(handle).ok_or(Reason::Untraced)?;
        match message {
            Some(message) => membership.conclude_from_message(message),
            None => membership.conclude(conclusion::after_waiting(heard)),
        }
        membership.outcome.unwrap_or(Err(Reason::Absent))
    })
}

/// NCCL reports an error of a communicator: it will not write the handles of its parts.
#[cold]
pub fn failed(handle: ncclComm_t) {
    if awaits_readiness() && !thread::is_inside_nccl() {
        with_state(|state| state.late.retain(|late| late.parent != handle as usize));
    }
}

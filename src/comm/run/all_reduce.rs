//! The way of one ncclAllReduce: look up the communicator, parse the call, then launch it, forward it, or set the
//! communicator up first.

use std::time::Duration;

use crate::comm::run::dispatch::{self, count_and_forward, forward, refuse_or_forward};
use crate::comm::run::group::{self, Kept};
use crate::comm::run::{issue, log_lines};
use crate::comm::setup::beacon;
use crate::comm::table;
use crate::comm::table::fast::{Comm, Status};
use crate::host::config::Config;
use crate::host::thread;
use crate::nccl::{AllReduce, ncclComm_t, ncclResult_t, ncclSuccess};
use crate::observe::log::traces;
use crate::observe::{counters, stats_file};
use crate::real;
use crate::route::{self, Reason, Shape};

/// Does an all-reduce, or forwards it.
///
/// # Safety
/// The caller has the contract of ncclAllReduce.
#[inline(always)]
pub unsafe fn all_reduce(call: AllReduce) -> ncclResult_t {
    let found = table::last_hit(call.comm as usize);
    // Communicators that forward take the shortest way, unless each call is to be logged.
    if let Some(reason) = found.and_then(Comm::forward_reason_index)
        && !traces()
    {
        counters::count_forward_index(reason);
        // SAFETY: the caller's contract.
        return unsafe { forward(&call) };
    }
    // SAFETY: the caller's contract.
    unsafe { all_reduce_on(found, &call) }
}

/// `found`: the communicator, if this thread used it last.
///
/// # Safety
/// As [`all_reduce`].
#[inline(never)]
unsafe fn all_reduce_on(found: Option<&'static Comm>, call: &AllReduce) -> ncclResult_t {
    // A call from within NCCL belongs to one that is under way. NCCL refuses a NULL communicator.
    if thread::is_inside_nccl() || call.comm.is_null() {
        // SAFETY: the caller's contract.
        return unsafe { forward(call) };
    }
    let Some(comm) = found.or_else(|| table::search(call.comm as usize)).or_else(|| register(call)) else {
        // SAFETY: the caller's contract.
        return unsafe { forward(call) };
    };
    let status = comm.status();
    if let Status::Forward(reason) = status {
        // SAFETY: the caller's contract.
        return unsafe { count_and_forward(call, reason) };
    }
    let shape = Shape::of(call);
    match (status, shape) {
        // SAFETY: the caller's contract.
        (Status::Fast, Ok(shape)) if !group::is_open() => unsafe { dispatch::run(comm, call, shape) },
        // SAFETY: the caller's contract.
        _ => unsafe { all_reduce_slow(comm, status, call, shape) },
    }
}

/// Any other all-reduce: on a communicator that is not fast, in a group, or of a shape that NCCL has to do.
///
/// # Safety
/// As [`all_reduce`].
#[cold]
unsafe fn all_reduce_slow(
    comm: &'static Comm,
    status: Status,
    call: &AllReduce,
    shape: Result<Shape, Reason>,
) -> ncclResult_t {
    match status {
        // SAFETY: the caller's contract.
        Status::Fast => unsafe { all_reduce_on_fast(comm, call, shape) },
        // SAFETY: the caller's contract.
        Status::New if !comm.is_revoked() => unsafe { all_reduce_on_new(comm, call, shape) },
        // SAFETY: the caller's contract.
        _ => unsafe { refuse_or_forward(comm, call) },
    }
}

/// On a fast communicator: in a group, or with a shape that has to be forwarded.
///
/// # Safety
/// As [`all_reduce`].
unsafe fn all_reduce_on_fast(comm: &'static Comm, call: &AllReduce, shape: Result<Shape, Reason>) -> ncclResult_t {
    // SAFETY: the caller's contract.
    let Some(busy) = comm.enter(call.comm as usize) else { return unsafe { refuse_or_forward(comm, call) } };
    // SAFETY: the caller's contract.
    let Some(fast) = busy.fast() else { return unsafe { refuse_or_forward(comm, call) } };
    // SAFETY: the caller's contract.
    let routed = shape.and_then(|shape| unsafe { dispatch::plan(fast, call, &shape) }.map(|_| shape));
    drop(busy);
    match routed {
        Ok(shape) => {
            // SAFETY: Dime may do the call.
            group::keep(unsafe { Kept::of(call, shape) });
            ncclSuccess
        }
        // A call that is forwarded must enter NCCL's group now.
        // SAFETY: the caller's contract.
        Err(reason) => unsafe { count_and_forward(call, reason) },
    }
}

/// On a communicator that is not set up.
///
/// # Safety
/// As [`all_reduce`].
unsafe fn all_reduce_on_new(comm: &'static Comm, call: &AllReduce, shape: Result<Shape, Reason>) -> ncclResult_t {
    let may_be_ours = shape.and_then(|shape| {
        route::may_need_setup(comm.ranks(), &shape, beacon::is_batch_invariant(call.comm)).map(|()| shape)
    });
    let shape = match may_be_ours {
        Ok(shape) => shape,
        Err(reason) => {
            log_lines::count_forward_undecided(comm, call, reason);
            // SAFETY: the caller's contract.
            return unsafe { forward(call) };
        }
    };
    // SAFETY: the caller's contract.
    let Some(busy) = comm.enter(call.comm as usize) else { return unsafe { refuse_or_forward(comm, call) } };
    let all_here = await_all(comm, call.comm);
    drop(busy);
    if comm.is_aborted() {
        // SAFETY: the caller's contract.
        return unsafe { refuse_or_forward(comm, call) };
    }
    if let Err(reason) = all_here {
        comm.set_forward(reason);
        log_lines::decided(call.comm, reason, "");
        // SAFETY: the caller's contract.
        return unsafe { count_and_forward(call, reason) };
    }
    // SAFETY: Dime may do the call.
    let kept = unsafe { Kept::of(call, shape) };
    if group::is_open() {
        group::keep(kept);
        return ncclSuccess;
    }
    // SAFETY: the caller's contract.
    unsafe { issue::issue(vec![kept]) }
}

/// Whether every rank of a communicator will take part in its setup, or why all forward. A rank that could not look
/// up the beacons waits for a verdict message.
fn await_all(comm: &'static Comm, handle: ncclComm_t) -> Result<(), Reason> {
    let limit = || Duration::from_secs(Config::from_env().0.setup_timeout_s.0.into());
    beacon::await_outcome(handle, comm.ranks(), limit, || comm.is_aborted())
}

/// Adds a communicator to the table, at its first all-reduce. None: NCCL returns an error for it, or the table is
/// full.
#[cold]
fn register(call: &AllReduce) -> Option<&'static Comm> {
    let mut ranks = 0;
    // SAFETY: the handle is the application's; the out pointer is ours.
    let counted = unsafe { real::ncclCommCount(call.comm, &mut ranks) };
    if counted != ncclSuccess {
        // Not ready, or no communicator: NCCL reports the error when the call is forwarded.
        return None;
    }
    stats_file::start();
    let comm = table::find_or_add(call.comm as usize, beacon::take_reservation);
    let Some(comm) = comm else {
        log_lines::count_forward_unknown(call);
        return None;
    };
    let ranks = ranks.max(0) as usize;
    comm.set_ranks(ranks);
    if let Some(reason) = route::never_fast(ranks).or_else(|| beacon::reason_so_far(call.comm)) {
        comm.set_forward(reason);
        log_lines::decided(call.comm, reason, "");
    }
    Some(comm)
}

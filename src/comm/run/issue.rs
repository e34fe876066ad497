//! Issues, in their order, all-reduces that were kept in a group or whose communicator is not set up yet.

use std::ptr;

use crate::comm::run::dispatch::{self, forward};
use crate::comm::run::group::Kept;
use crate::comm::run::stream_barrier::StreamBarrier;
use crate::comm::run::{capture, log_lines};
use crate::comm::setup::concurrent_setups::ConcurrentSetups;
use crate::comm::table;
use crate::comm::table::fast::{Comm, Status};
use crate::gpu::driver::DriverError;
use crate::host::error::Error;
use crate::nccl::{ncclResult_t, ncclSuccess, ncclUnhandledCudaError};
use crate::real;
use crate::route::Reason;

/// Issues calls that may be fast, in their order: sets up the communicators that are new, then launches or forwards
/// each call.
///
/// A call waits for the setup of its own communicator and of those before it, but not of those after it. A peer that
/// did not group these calls launches on the first communicator before it comes to the second.
///
/// # Safety
/// The caller has the contract of ncclAllReduce, for each call.
pub unsafe fn issue(kept: Vec<Kept>) -> ncclResult_t {
    // Each handle is looked up once: an abort from another thread takes it off the table.
    let calls: Vec<(Kept, Option<&'static Comm>)> =
        kept.into_iter().map(|kept| (kept, table::find(kept.call.comm as usize))).collect();
    let mut fresh: Vec<&'static Comm> = Vec::new();
    let mut busy = Vec::new();
    for (Kept { call, .. }, comm) in &calls {
        if let Some(comm) = comm
            && comm.status() == Status::New
            && !fresh.iter().any(|known| ptr::eq(*known, *comm))
            && !capture::is_captured(call)
            // It may have been aborted meanwhile.
            && let Some(entered) = comm.enter(call.comm as usize)
        {
            fresh.push(comm);
            busy.push(entered);
        }
    }
    let mut setups = ConcurrentSetups::begin(&fresh);
    let barriers = StreamBarrier::of(&calls);
    let mut result = ncclSuccess;
    let mut forwarded = Vec::new();
    for (index, (Kept { call, shape }, comm)) in calls.into_iter().enumerate() {
        if let Some(comm) = comm {
            setups.finish(comm);
        }
        let barrier = barriers.iter().try_for_each(|barrier| barrier.before(index));
        let one = match comm.map(|comm| (comm, comm.status())) {
            Some((comm, _)) if comm.is_revoked() => {
                log_lines::count_forward(&call, Reason::Revoked);
                forwarded.push(call);
                ncclSuccess
            }
            Some((comm, _)) if comm.is_aborted() => dispatch::refuse(comm),
            // SAFETY: the caller's contract.
            Some((comm, Status::Fast)) => unsafe { dispatch::run(comm, &call, shape) },
            Some((comm, Status::Poisoned(_) | Status::Suspended)) => dispatch::refuse(comm),
            other => {
                match other {
                    Some((_, Status::Forward(reason))) => log_lines::count_forward(&call, reason),
                    Some((comm, Status::New)) => log_lines::count_forward_undecided(comm, &call, Reason::CaptureFirst),
                    _ => {}
                }
                forwarded.push(call);
                ncclSuccess
            }
        };
        let barrier = barrier.and_then(|()| barriers.iter().try_for_each(|barrier| barrier.after(index)));
        let barrier = barrier.map_or_else(barrier_failed, |()| ncclSuccess);
        for one in [one, barrier] {
            if result == ncclSuccess {
                result = one;
            }
        }
    }
    // From here on NCCL does the forwarded calls, and ends them at an abort.
    drop(busy);
    // SAFETY: the callers' contracts. One thread may drive several GPUs, so these calls form one group.
    let one = unsafe {
        match forwarded.as_slice() {
            [] => ncclSuccess,
            [call] => forward(call),
            calls => {
                let mut first = real::ncclGroupStart();
                for call in calls {
                    if first == ncclSuccess {
                        first = forward(call);
                    }
                }
                let end = real::ncclGroupEnd();
                if first == ncclSuccess { end } else { first }
            }
        }
    };
    if result == ncclSuccess { one } else { result }
}

#[cold]
fn barrier_failed(error: DriverError) -> ncclResult_t {
    let text =
        format!("the streams on which a group uses one communicator cannot be made to wait for each other: {error}");
    Error::new(ncclUnhandledCudaError, text).report()
}

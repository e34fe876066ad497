//! Issues, in their order, all-reduces that were kept in a group or whose communicator is not set up yet.

use std::ptr;

use crate::comm::run::dispatch::{self, forward};
use crate::comm::run::group::Kept;
use crate::comm::run::stream_barrier::StreamBarrier;
use crate::comm::run::{capture, log_lines};
use crate::comm::setup::beacon;
use crate::comm::setup::concurrent_setups::ConcurrentSetups;
use crate::comm::table;
use crate::comm::table::fast::{Comm, Status};
use crate::gpu::driver::DriverError;
use crate::host::error::Error;
use crate::nccl::{AllReduce, ncclInvalidUsage, ncclResult_t, ncclSuccess, ncclUnhandledCudaError};
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
    let calls: Vec<(Kept, Option<&'static Comm>)> = kept
        .into_iter()
        .map(|kept| {
            let comm = table::find(kept.call.comm as usize);
            (kept, comm)
        })
        .collect();
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
    for (index, (kept, comm)) in calls.into_iter().enumerate() {
        let (call, shape) = (kept.call, kept.shape);
        if let Some(comm) = comm {
            setups.finish(comm);
        }
        let barrier = barriers.iter().try_for_each(|barrier| barrier.before(index));
        let one = match comm.map(|comm| (comm, comm.status())) {
            Some((comm, _)) if comm.is_revoked() => {
                log_lines::count_forward(&call, Reason::Revoked);
                forwarded.push(kept);
                ncclSuccess
            }
            Some((comm, _)) if comm.is_aborted() => dispatch::refuse(comm),
            // SAFETY: the caller's contract.
            Some((comm, Status::Fast)) => match unsafe { dispatch::launch_or_reason(comm, &call, shape) } {
                Ok(result) => result,
                Err(reason) => {
                    log_lines::count_forward(&call, reason);
                    forwarded.push(kept);
                    ncclSuccess
                }
            },
            Some((comm, Status::Poisoned(_) | Status::Suspended)) => dispatch::refuse(comm),
            Some((_, Status::New)) if shape.datatype.is_float() && beacon::is_batch_invariant(call.comm) => {
                refuse_capture(&call)
            }
            other => {
                match other {
                    Some((_, Status::Forward(reason))) => log_lines::count_forward(&call, reason),
                    Some((comm, Status::New)) => log_lines::count_forward_undecided(comm, &call, Reason::CaptureFirst),
                    _ => {}
                }
                forwarded.push(kept);
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
            [kept] => forward(&kept.call),
            several => {
                let mut first = real::ncclGroupStart();
                for kept in several {
                    if first == ncclSuccess {
                        first = forward(&kept.call);
                    }
                }
                let end = real::ncclGroupEnd();
                if first == ncclSuccess { end } else { first }
            }
        }
    };
    if result == ncclSuccess { one } else { result }
}

/// The error of a captured all-reduce that NCCL would do, with other bits than the later ones.
#[cold]
fn refuse_capture(call: &AllReduce) -> ncclResult_t {
    let text = format!(
        "{}: DIME_BATCH_INVARIANT=1, and the first all-reduce is captured, so NCCL would do it with other bits: call one \
         all-reduce outside of captures first",
        log_lines::asked_name(call.comm)
    );
    Error::new(ncclInvalidUsage, text).report()
}

#[cold]
fn barrier_failed(error: DriverError) -> ncclResult_t {
    let text =
        format!("the streams on which a group uses one communicator cannot be made to wait for each other: {error}");
    Error::new(ncclUnhandledCudaError, text).report()
}

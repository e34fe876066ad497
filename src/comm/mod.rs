//! A communicator's life with us: seen, set up, used, destroyed.
//!
//! The application holds NCCL's own handle; what we know of it lies in a side table ([`table`], [`slot`], [`state`]). The first
//! all-reduce that could be ours makes the ranks agree ([`setup`], [`agreement`], [`exchange`], [`hello`], [`sockets`], [`switches`]). From
//! then on [`crate::route`] decides each call, [`order`] keeps the communicator's operations in order across streams, [`group`]
//! keeps them until the end of a group, and [`crate::launch`] enqueues them. Before all that [`presence`] sees whether every rank could answer;
//! [`watchdog`] looks after what runs, [`ending`] ends it, and [`leftovers`] gives back what it owned ([`idle`] knows when nothing uses
//! that).
//!
//! Invariants:
//! - All ranks decide alike: nothing that can differ between ranks enters a decision once a communicator is seen.
//! - A call that is ours takes no lock and allocates nothing. It asks the driver two things that it cannot know otherwise, which
//!   context is current and whether the stream is captured, and makes one launch (a message larger than its slots: a few). A
//!   communicator that is used from several streams also waits for and records an event; the first call of a capture counts the graph.
//! - The end of a communicator waits for its own work at most, and nothing is freed where the driver may wait for other work.
//! - An operation that was begun and failed is never forwarded instead: it poisons the communicator. One that could not be begun
//!   is an error of that call.

pub mod creation;
pub mod life;
pub mod run;
pub mod setup;
pub mod table;

use std::ptr;

use crate::comm::life::ending;
pub use crate::comm::life::ending::{Ending, abort, async_error, destroy, finalize, revoke};
use crate::comm::run::graph_order::Capture;
use crate::comm::run::group;
use crate::comm::run::group::Kept;
use crate::comm::run::report;
use crate::comm::run::stream_barrier::StreamBarrier;
use crate::comm::setup::beacon;
use crate::comm::setup::concurrent_setups::ConcurrentSetups;
use crate::comm::setup::exchange;
use crate::comm::table::fast::{Comm, Fast, Status};
use crate::gpu::CUstream;
use crate::gpu::context::with_context;
use crate::gpu::driver::{DriverError, DriverResult};
use crate::host::error::Error;
use crate::host::thread;
use crate::kernel::Kernel;
use crate::kernel::layout::{CAPTURED_LANE, EAGER_LANE};
use crate::launch;
use crate::launch::Operation;
use crate::nccl::AllReduce;
use crate::nccl::DataType;
use crate::nccl::{
    ncclComm_t, ncclDataType_t, ncclInProgress, ncclRedOp_t, ncclResult_t, ncclSuccess, ncclUnhandledCudaError,
};
use crate::observe::counters;
use crate::observe::nvtx;
use crate::observe::stats_file;
use crate::real;
use crate::real::Function;
use crate::route;
use crate::route::{LaunchPlan, Reason};

/// Whether an all-reduce on this communicator is known to be NCCL's; then it is counted. The shortest way for communicators
/// that forward, unless each call is to be logged.
#[inline(always)]
pub fn is_for_nccl(handle: ncclComm_t) -> bool {
    if crate::observe::log::traces() {
        return false;
    }
    let reason = table::last_hit(handle as usize).and_then(Comm::forward_reason_index);
    reason.inspect(|index| counters::count_forward_index(*index)).is_some()
}

/// Does or forwards an all-reduce.
///
/// # Safety
/// The caller has the contract of ncclAllReduce.
#[inline]
pub unsafe fn all_reduce(call: AllReduce) -> ncclResult_t {
    // A call from within NCCL belongs to one that is under way; NULL is NCCL's to refuse.
    if thread::is_inside_nccl() || call.comm.is_null() {
        // SAFETY: the caller's contract.
        return unsafe { forward(&call) };
    }
    let Some(comm) = table::find(call.comm as usize) else {
        // SAFETY: the caller's contract.
        return unsafe { register(call) };
    };
    // SAFETY: the caller's contract.
    unsafe { dispatch(comm, call) }
}

/// # Safety
/// As [`all_reduce`].
#[inline]
unsafe fn dispatch(comm: &'static Comm, call: AllReduce) -> ncclResult_t {
    match comm.status() {
        Status::Fast if !group::is_open() => run(comm, &call),
        Status::Forward(reason) => {
            report::forward(&call, reason);
            // SAFETY: the caller's contract.
            unsafe { forward(&call) }
        }
        // SAFETY: the caller's contract.
        _ => unsafe { dispatch_slow(comm, call) },
    }
}

/// # Safety
/// As [`all_reduce`].
#[cold]
unsafe fn dispatch_slow(comm: &'static Comm, call: AllReduce) -> ncclResult_t {
    match comm.status() {
        // SAFETY: the caller's contract.
        Status::Poisoned(_) => unsafe { refuse(comm, &call) },
        Status::Fast => {
            // In a group. What is sure to be forwarded must go into NCCL's group now.
            match choose(comm, call.comm, call.count, call.datatype, call.op) {
                Some(Ok(_)) => {
                    group::keep(call);
                    ncclSuccess
                }
                Some(Err(reason)) => {
                    report::forward(&call, reason);
                    // SAFETY: the caller's contract.
                    unsafe { forward(&call) }
                }
                // SAFETY: the caller's contract.
                None => unsafe { refuse(comm, &call) },
            }
        }
        // SAFETY: the caller's contract.
        _ if comm.is_revoked() => unsafe { refuse(comm, &call) },
        _ => {
            if let Err(reason) = route::may_need_setup(comm.ranks(), call.count, call.datatype, call.op) {
                report::forward_undecided(comm, &call, reason);
                // SAFETY: the caller's contract.
                return unsafe { forward(&call) };
            }
            // SAFETY: the caller's contract.
            let Some(busy) = comm.enter(call.comm as usize) else { return unsafe { refuse(comm, &call) } };
            let all_here = setup::await_all(comm, call.comm);
            drop(busy);
            if comm.is_aborted() {
                // SAFETY: the caller's contract.
                return unsafe { refuse(comm, &call) };
            }
            if let Err(reason) = all_here {
                comm.set_forward(reason);
                report::decided(call.comm, reason.text());
                report::forward(&call, reason);
                // SAFETY: the caller's contract.
                return unsafe { forward(&call) };
            }
            if group::is_open() {
                group::keep(call);
                return ncclSuccess;
            }
            // SAFETY: the caller's contract.
            unsafe { issue(vec![call]) }
        }
    }
}

/// # Safety
/// As [`all_reduce`].
#[cold]
unsafe fn register(call: AllReduce) -> ncclResult_t {
    let mut ranks = 0;
    // SAFETY: the handle is the application's; the out pointer is ours.
    let counted = unsafe { real::ncclCommCount(call.comm, &mut ranks) };
    if counted != ncclSuccess {
        // Not ready, or no communicator: NCCL has the words for it.
        // SAFETY: the caller's contract.
        return unsafe { forward(&call) };
    }
    stats_file::start();
    let Some(comm) = table::find_or_add(call.comm as usize) else {
        report::forward_unknown(&call);
        // SAFETY: the caller's contract.
        return unsafe { forward(&call) };
    };
    let ranks = ranks.max(0) as usize;
    comm.set_ranks(ranks);
    if let Some(reason) = route::never_fast(ranks).or_else(|| beacon::forwards(call.comm)) {
        comm.set_forward(reason);
        report::decided(call.comm, reason.text());
    }
    // SAFETY: the caller's contract.
    unsafe { dispatch(comm, call) }
}

/// # Safety
/// As [`all_reduce`].
unsafe fn forward(call: &AllReduce) -> ncclResult_t {
    // SAFETY: the caller's contract.
    unsafe { real::ncclAllReduce(call.input, call.output, call.count, call.datatype, call.op, call.comm, call.stream) }
}

fn poisoned(comm: &Comm) -> ncclResult_t {
    let code = match comm.status() {
        Status::Poisoned(failure) => failure,
        _ => ncclUnhandledCudaError,
    };
    let text = "this communicator failed in an earlier operation: abort it (ncclCommAbort) and make a new one";
    group::note(Error::new(code, text).report())
}

/// Ends a call on a communicator on which none may begin any more. One that was revoked is NCCL's to refuse.
///
/// # Safety
/// As [`all_reduce`].
#[cold]
unsafe fn refuse(comm: &'static Comm, call: &AllReduce) -> ncclResult_t {
    if comm.is_revoked() {
        report::forward(call, Reason::Revoked);
        // SAFETY: the caller's contract.
        return unsafe { forward(call) };
    }
    poisoned(comm)
}

/// The decision for a call on a fast communicator. None: it was aborted.
fn choose(
    comm: &'static Comm,
    handle: ncclComm_t,
    count: usize,
    datatype: ncclDataType_t,
    op: ncclRedOp_t,
) -> Option<Result<LaunchPlan, Reason>> {
    let busy = comm.enter(handle as usize)?;
    busy.fast().map(|fast| route::choose(&fast.plan, count, datatype, op))
}

/// One fast all-reduce, if the decision says so.
#[inline]
fn run(comm: &'static Comm, call: &AllReduce) -> ncclResult_t {
    // SAFETY: the caller of `all_reduce` has the contract of ncclAllReduce.
    let Some(busy) = comm.enter(call.comm as usize) else { return unsafe { refuse(comm, call) } };
    let Some(fast) = busy.fast() else { return poisoned(comm) };
    match route::choose(&fast.plan, call.count, call.datatype, call.op) {
        Ok(choice) => match enqueue(fast, &choice, call) {
            Ok(()) => {
                counters::count_kernel(choice.kernel);
                ncclSuccess
            }
            Err(failure) => fail(comm, choice.kernel, &failure),
        },
        Err(reason) => {
            // From here on it is NCCL's, also to end at an abort.
            drop(busy);
            report::forward(call, reason);
            // SAFETY: the caller of `all_reduce` has the contract of ncclAllReduce.
            unsafe { forward(call) }
        }
    }
}

/// An operation that failed: whether a part of it was enqueued before.
struct Failure {
    error: DriverError,
    begun: bool,
}

#[cold]
fn fail(comm: &'static Comm, kernel: Kernel, failure: &Failure) -> ncclResult_t {
    // Nothing enqueued: the call failed, as one of NCCL's would, and the communicator is as it was.
    if failure.begun {
        comm.poison();
    }
    let text = format!("all-reduce with {} failed: {}", kernel.name(), failure.error);
    Error::new(ncclUnhandledCudaError, text).report()
}

#[inline]
fn enqueue(fast: &Fast, choice: &LaunchPlan, call: &AllReduce) -> Result<(), Failure> {
    let stream = call.stream.cast();
    let bytes = DataType::from_nccl(call.datatype).map_or(0, DataType::bytes) * call.count;
    let operation = Operation {
        input: call.input as u64,
        output: call.output as u64,
        bytes,
        datatype: call.datatype as u8,
        op: call.op as u8,
    };
    let _range = nvtx::Range::of(choice.kernel, bytes, call.datatype, call.op);
    let launches = || (fast.eager.launches.get(), fast.captured.launches.get());
    let before = launches();
    with_context(fast.driver, fast.context, || {
        let enqueue =
            |lane, enqueued| launch::launch(fast.driver, &fast.target, choice, &operation, lane, stream, enqueued);
        if let Some(capture) = capture_of(fast, stream)? {
            fast.graph_order.before(fast.driver, &fast.graphs, capture, stream)?;
            enqueue(CAPTURED_LANE, &fast.captured)?;
            return fast.graph_order.after(fast.driver, capture, stream);
        }
        let place = fast.order.before(fast.driver, stream, || fast.await_launches_on(stream))?;
        enqueue(EAGER_LANE, &fast.eager)?;
        fast.order.after(fast.driver, place)
    })
    .and_then(|inner| inner)
    .map_err(|error| {
        let begun = before != launches() || fast.order.is_lost();
        Failure { error, begun }
    })?;
    if crate::observe::log::traces() {
        report::trace_fast(fast, choice, call);
    }
    Ok(())
}

/// The capture that a stream is in.
#[inline]
fn capture_of(fast: &Fast, stream: CUstream) -> DriverResult<Option<Capture>> {
    const ACTIVE: i32 = 1;
    const INVALIDATED: i32 = 2;
    const CAPTURE_INVALIDATED: i32 = 901;
    let mut status = 0;
    let mut capture = Capture { id: 0, graph: ptr::null_mut() };
    // SAFETY: out pointers are ours; those that may be null are.
    let code = unsafe {
        (fast.driver.stream_get_capture_info)(
            stream,
            &mut status,
            &mut capture.id,
            &mut capture.graph,
            ptr::null_mut(),
            ptr::null_mut(),
        )
    };
    fast.driver.check("cuStreamGetCaptureInfo", code)?;
    if status == INVALIDATED {
        fast.driver.check("cuStreamGetCaptureInfo", CAPTURE_INVALIDATED)?;
    }
    Ok((status == ACTIVE).then_some(capture))
}

/// Issues calls that may be ours, in their order: sets up the communicators that are new, then launches or forwards each.
///
/// A call waits for the setup of its own communicator and of those before it, not for those behind: a peer that did not group these calls
/// comes to the second communicator after it has launched on the first.
///
/// # Safety
/// As [`all_reduce`], for each call.
unsafe fn issue(calls: Vec<AllReduce>) -> ncclResult_t {
    // Looked up once: an abort from another thread takes the handle out of the table.
    let calls: Vec<(AllReduce, Option<&'static Comm>)> =
        calls.into_iter().map(|call| (call, table::find(call.comm as usize))).collect();
    let mut fresh: Vec<&'static Comm> = Vec::new();
    let mut busy = Vec::new();
    for (call, comm) in &calls {
        if let Some(comm) = comm
            && comm.status() == Status::New
            && !fresh.iter().any(|known| ptr::eq(*known, *comm))
            && !setup::is_captured(call)
            // Not one that was aborted meanwhile.
            && let Some(entered) = comm.enter(call.comm as usize)
        {
            fresh.push(comm);
            busy.push(entered);
        }
    }
    let mut setups = ConcurrentSetups::begin(&fresh);
    let joined = StreamBarrier::of(&calls);
    let mut result = ncclSuccess;
    let mut forwarded = Vec::new();
    for (index, (call, comm)) in calls.into_iter().enumerate() {
        if let Some(comm) = comm {
            setups.finish(comm);
        }
        let met = joined.iter().try_for_each(|joined| joined.before(index));
        let one = match comm.map(|comm| (comm, comm.status())) {
            Some((comm, _)) if comm.is_revoked() => {
                report::forward(&call, Reason::Revoked);
                forwarded.push(call);
                ncclSuccess
            }
            Some((comm, _)) if comm.is_aborted() => poisoned(comm),
            Some((comm, Status::Fast)) => run(comm, &call),
            Some((comm, Status::Poisoned(_))) => poisoned(comm),
            other => {
                match other {
                    Some((_, Status::Forward(reason))) => report::forward(&call, reason),
                    Some((comm, Status::New)) => report::forward_undecided(comm, &call, Reason::CaptureFirst),
                    _ => {}
                }
                forwarded.push(call);
                ncclSuccess
            }
        };
        let met = met.and_then(|()| joined.iter().try_for_each(|joined| joined.after(index)));
        let met = met.map_or_else(not_joined, |()| ncclSuccess);
        for one in [one, met] {
            if result == ncclSuccess {
                result = one;
            }
        }
    }
    // From here on they are NCCL's, also to end at an abort.
    drop(busy);
    // SAFETY: the callers' contracts. One thread may drive several GPUs, so these belong together.
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
fn not_joined(error: DriverError) -> ncclResult_t {
    let text = format!("the streams of a communicator in a group cannot wait for each other: {error}");
    Error::new(ncclUnhandledCudaError, text).report()
}

/// After NCCL was asked to open a group.
pub fn group_started(result: ncclResult_t) {
    if result == ncclSuccess && !thread::is_inside_nccl() {
        group::start();
    }
}

/// After NCCL closed a group with `result`: at the outermost end, issues what was kept.
///
/// # Safety
/// As [`all_reduce`], for each call that was kept.
pub unsafe fn group_ended(result: ncclResult_t) -> ncclResult_t {
    if thread::is_inside_nccl() || !group::end() {
        return result;
    }
    match group::take() {
        None => result,
        // SAFETY: the caller's contract.
        Some(kept) => unsafe { end_of_group(kept, result) },
    }
}

/// # Safety
/// As [`group_ended`].
#[cold]
unsafe fn end_of_group(mut kept: Kept, result: ncclResult_t) -> ncclResult_t {
    kept.settle_made(result);
    // Of a communicator that the group has ended, whose handle is void, nothing is issued.
    let (mut calls, endings) = (kept.calls, kept.endings);
    calls.retain(|call| !endings.iter().any(|ending| ending.is_of(call.comm)));
    ending::close_all(endings, result == ncclSuccess);
    // After a failure NCCL issues nothing of a group.
    let result = if result == ncclSuccess { kept.failure } else { result };
    let kept = calls;
    if kept.is_empty() {
        return result;
    }
    if result == ncclInProgress {
        // What was forwarded goes on by itself; ours comes after it.
        for call in &kept {
            let ready = exchange::await_ready(call.comm);
            if ready != ncclSuccess {
                return ready;
            }
        }
    } else if result != ncclSuccess {
        return result;
    }
    // SAFETY: the caller's contract.
    let issued = unsafe { issue(kept) };
    if issued == ncclSuccess { result } else { issued }
}

/// After NCCL simulated the end of a group with `result`: operations that were kept are dropped. Communicators are made and ended by
/// NCCL all the same. A failure closes the group too, but a NCCL that lacks the function has closed nothing.
pub fn group_simulated(result: ncclResult_t) {
    if real::has(Function::ncclGroupSimulateEnd)
        && !thread::is_inside_nccl()
        && group::end()
        && let Some(mut kept) = group::take()
    {
        kept.settle_made(result);
        ending::close_all(kept.endings, result == ncclSuccess);
    }
}

/// What an all-reduce of this shape does on this communicator, in one line.
///
/// # Safety
/// The handle is a communicator.
pub unsafe fn explain(
    handle: ncclComm_t,
    count: usize,
    datatype: ncclDataType_t,
    op: ncclRedOp_t,
) -> Result<String, ncclResult_t> {
    let forward = |reason: Reason| format!("forward: {}", reason.text());
    let failed = || "failed: an earlier operation failed; abort the communicator".to_owned();
    let mut ranks = 0;
    // SAFETY: the handle is the application's; the out pointer is ours.
    let counted = unsafe { real::ncclCommCount(handle, &mut ranks) };
    if counted != ncclSuccess {
        return Err(counted);
    }
    let ranks = ranks.max(0) as usize;
    Ok(match table::find(handle as usize).map(|comm| (comm, comm.status())) {
        Some((comm, _)) if comm.is_revoked() => forward(Reason::Revoked),
        Some((comm, Status::Fast)) => match choose(comm, handle, count, datatype, op) {
            Some(Ok(choice)) => format!(
                "fast: {} with up to {} blocks of {} threads",
                choice.kernel.name(),
                choice.blocks,
                choice.threads
            ),
            Some(Err(reason)) => forward(reason),
            None => failed(),
        },
        Some((_, Status::Poisoned(_))) => failed(),
        Some((_, Status::Forward(reason))) => forward(reason),
        None | Some((_, Status::New)) => match route::may_need_setup(ranks, count, datatype, op) {
            // A rank that is absent may have ended the communicator already.
            Ok(()) => beacon::forwards(handle)
                .filter(|reason| *reason != Reason::Absent)
                .map_or_else(|| "undecided: the first all-reduce sets the communicator up".to_owned(), forward),
            Err(reason) => forward(reason),
        },
    })
}

//! One all-reduce on a communicator in the table: launched, forwarded or refused.

use std::cell::Cell;

use crate::comm::run::{call_config, capture, group, log_lines};
use crate::comm::table::fast::{Comm, Fast, Status};
use crate::host::error::Error;
use crate::kernel::Kernel;
use crate::kernel::layout::{CAPTURED_LANE, EAGER_LANE};
use crate::launch::{self, LaunchError, Operation};
use crate::nccl::{AllReduce, ncclInvalidUsage, ncclResult_t, ncclSuccess, ncclUnhandledCudaError};
use crate::observe::counters;
use crate::observe::log::traces;
use crate::observe::nvtx;
use crate::real;
use crate::route::{self, LaunchPlan, Reason, Shape};

/// Passes a call on to the real NCCL. Does not count it.
///
/// # Safety
/// The caller has the contract of ncclAllReduce.
#[inline(always)]
pub unsafe fn forward(call: &AllReduce) -> ncclResult_t {
    // SAFETY: the caller's contract.
    unsafe {
        if call.config.is_null() {
            real::ncclAllReduce(call.input, call.output, call.count, call.datatype, call.op, call.comm, call.stream)
        } else {
            forward_with_config(call)
        }
    }
}

/// # Safety
/// As [`forward`].
#[cold]
unsafe fn forward_with_config(call: &AllReduce) -> ncclResult_t {
    let AllReduce { input, output, count, datatype, op, comm, stream, config } = *call;
    // SAFETY: the caller's contract.
    unsafe { real::ncclAllReduceConfig(input, output, count, datatype, op, comm, stream, config) }
}

/// The launch plan of a call on a fast communicator, or why NCCL does it.
///
/// # Safety
/// The call's configuration is NCCL's, or NULL.
#[inline]
pub unsafe fn plan(fast: &Fast, call: &AllReduce, shape: &Shape) -> Result<LaunchPlan, Reason> {
    let plan = route::route(&fast.agreed, shape)?;
    // SAFETY: the caller's contract.
    if !call.config.is_null() && unsafe { call_config::most_blocks(call.config) }.is_none_or(|most| plan.blocks > most)
    {
        return Err(Reason::CallConfig);
    }
    Ok(plan)
}

/// Counts a call under a reason, and forwards it.
///
/// # Safety
/// As [`forward`].
#[inline]
pub unsafe fn count_and_forward(call: &AllReduce, reason: Reason) -> ncclResult_t {
    log_lines::count_forward(call, reason);
    // SAFETY: the caller's contract.
    unsafe { forward(call) }
}

/// The error that calls on a communicator return that is poisoned or suspended, or was aborted. Logs it.
pub fn refuse(comm: &Comm) -> ncclResult_t {
    const FAILED: &str =
        "this communicator failed in an earlier operation or was aborted: abort it (ncclCommAbort) and make a new one";
    const SUSPENDED: &str = "this communicator is suspended: resume it on all ranks, by ncclCommResume or by dimeCommResume if that suspended it";
    let (code, text) = match comm.status() {
        Status::Suspended => (ncclInvalidUsage, SUSPENDED),
        Status::Poisoned(failure) => (failure, FAILED),
        _ => (ncclUnhandledCudaError, FAILED),
    };
    group::note(Error::new(code, text).report())
}

/// The end of a call that Dime cannot do, because the communicator was aborted or revoked, has failed or is suspended: an
/// error. If it was revoked, the call goes to NCCL, whose error the application gets.
///
/// # Safety
/// As [`forward`].
#[cold]
pub unsafe fn refuse_or_forward(comm: &'static Comm, call: &AllReduce) -> ncclResult_t {
    if comm.is_revoked() {
        // SAFETY: the caller's contract.
        return unsafe { count_and_forward(call, Reason::Revoked) };
    }
    refuse(comm)
}

/// One all-reduce on a fast communicator: launched, if its shape can be fast, else forwarded.
///
/// # Safety
/// As [`forward`].
#[inline]
pub unsafe fn run(comm: &'static Comm, call: &AllReduce, shape: Shape) -> ncclResult_t {
    // SAFETY: the caller's contract.
    unsafe { launch_or_reason(comm, call, shape).unwrap_or_else(|reason| count_and_forward(call, reason)) }
}

/// As [`run`], but a call that NCCL has to do is left to the caller.
///
/// # Safety
/// As [`forward`].
#[inline]
pub unsafe fn launch_or_reason(comm: &'static Comm, call: &AllReduce, shape: Shape) -> Result<ncclResult_t, Reason> {
    // SAFETY: the caller's contract.
    let Some(busy) = comm.enter(call.comm as usize) else { return Ok(unsafe { refuse_or_forward(comm, call) }) };
    let Some(fast) = busy.fast() else { return Ok(refuse(comm)) };
    // What NCCL does, it ends at an abort. So `busy` ends before the caller forwards, or the abort would wait for the call.
    // SAFETY: the caller's contract.
    let plan = unsafe { plan(fast, call, &shape) }?;
    Ok(match enqueue(fast, &plan, shape, call) {
        Ok(()) => {
            counters::count_kernel(plan.kernel);
            ncclSuccess
        }
        Err(failure) => fail(comm, plan.kernel, &failure),
    })
}

#[cold]
fn fail(comm: &'static Comm, kernel: Kernel, failure: &LaunchError) -> ncclResult_t {
    // If nothing was enqueued, only this call has failed, as in NCCL, and the communicator goes on.
    if failure.is_begun {
        comm.poison();
    }
    let text = format!("all-reduce with {} failed: {}", kernel.name(), failure.error);
    Error::new(ncclUnhandledCudaError, text).report()
}

#[inline]
fn enqueue(fast: &Fast, plan: &LaunchPlan, shape: Shape, call: &AllReduce) -> Result<(), LaunchError> {
    let stream = call.stream.cast();
    let driver = fast.driver();
    let operation = Operation { shape, input: call.input as u64, output: call.output as u64 };
    let _range = nvtx::Range::of(plan.kernel, &shape);
    let is_begun = Cell::new(false);
    let enqueue = |lane, enqueued| {
        let launched = launch::launch(driver, &fast.target, plan, &operation, lane, stream, enqueued);
        is_begun.set(launched.as_ref().map_or_else(|failure| failure.is_begun, |()| true));
        launched.map_err(|failure| failure.error)
    };
    fast.resources
        .context
        .run(|| {
            if let Some(capture) = capture::of_stream(driver, stream)? {
                fast.graph_order().before(driver, fast.graphs(), capture, stream)?;
                enqueue(CAPTURED_LANE, &fast.captured)?;
                return fast.graph_order().after(driver, capture, stream);
            }
            let order = fast.order();
            // A kernel that waits may have been enqueued although this fails: then nobody knows when the lane is idle.
            let key = order
                .before(driver, stream, || fast.await_launches_on(stream))
                .inspect_err(|_| is_begun.set(order.is_lost()))?;
            enqueue(EAGER_LANE, &fast.eager)?;
            order.after(driver, key)
        })
        .and_then(|inner| inner)
        .map_err(|error| LaunchError { error, is_begun: is_begun.get() })?;
    if traces() {
        log_lines::trace_fast(fast, plan, call);
    }
    Ok(())
}

//! dimeExplain: what an all-reduce would do, without doing it.

use crate::comm::setup::{beacon, tuning};
use crate::comm::table;
use crate::comm::table::fast::Status;
use crate::nccl::{ncclComm_t, ncclDataType_t, ncclRedOp_t, ncclResult_t, ncclSuccess};
use crate::real;
use crate::route::{self, Reason, Shape};

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
    let shape = Shape::parse(count, datatype, op);
    Ok(match table::find(handle as usize).map(|comm| (comm, comm.status())) {
        Some((comm, _)) if comm.is_revoked() => forward(Reason::Revoked),
        Some((comm, Status::Fast)) => {
            let busy = comm.enter(handle as usize);
            let Some(fast) = busy.as_ref().and_then(|busy| busy.fast()) else { return Ok(failed()) };
            match shape.and_then(|shape| route::route(&fast.agreed, &shape).map(|plan| (shape, plan))) {
                Ok((shape, plan)) => {
                    let from = fast.agreed.tuning_row(&shape).map_or_else(String::new, |row| {
                        format!(", by line {} of the tuning file {}", row.line, tuning::path())
                    });
                    let (kernel, blocks, threads) = (plan.kernel.name(), plan.blocks, plan.threads);
                    format!("fast: {kernel} with up to {blocks} blocks of {threads} threads{from}")
                }
                Err(reason) => forward(reason),
            }
        }
        Some((_, Status::Suspended)) => "suspended: all-reduces are refused until it is resumed".to_owned(),
        Some((_, Status::Poisoned(_))) => failed(),
        Some((_, Status::Forward(reason))) => forward(reason),
        None | Some((_, Status::New)) => {
            let may_be_ours = match route::never_fast(ranks) {
                Some(reason) => Err(reason),
                None => {
                    shape.and_then(|shape| route::may_need_setup(ranks, &shape, beacon::is_batch_invariant(handle)))
                }
            };
            match may_be_ours {
                // A missing beacon is not reported: its rank may have taken part and ended the communicator already.
                // Only the first all-reduce, which needs all ranks, can tell.
                Ok(()) => beacon::reason_so_far(handle)
                    .filter(|reason| *reason != Reason::Absent)
                    .map_or_else(|| "undecided: the first all-reduce sets the communicator up".to_owned(), forward),
                Err(reason) => forward(reason),
            }
        }
    })
}

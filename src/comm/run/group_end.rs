//! The start and the end of NCCL's groups, as far as they concern us.

use crate::comm::life::ending;
use crate::comm::run::group::{self, Group};
use crate::comm::run::issue;
use crate::comm::setup::exchange;
use crate::host::thread;
use crate::nccl::{ncclInProgress, ncclResult_t, ncclSuccess};
use crate::real::{self, Function};

/// After NCCL was asked to open a group.
pub fn group_started(result: ncclResult_t) {
    if result == ncclSuccess && !thread::is_inside_nccl() {
        group::start();
    }
}

/// After NCCL closed a group with `result`: at the outermost end, issues what was kept.
///
/// # Safety
/// The caller has the contract of ncclAllReduce, for each call that was kept.
pub unsafe fn group_ended(result: ncclResult_t) -> ncclResult_t {
    if thread::is_inside_nccl() || !group::end() {
        return result;
    }
    match group::take() {
        None => result,
        // SAFETY: the caller's contract.
        Some(kept) => unsafe { issue_kept(kept, result) },
    }
}

/// # Safety
/// As [`group_ended`].
#[cold]
unsafe fn issue_kept(mut group: Group, result: ncclResult_t) -> ncclResult_t {
    group.settle_made(result);
    // Of a communicator that the group has ended, whose handle is void, nothing is issued.
    let endings = ending::take_at_group_end();
    let mut kept = group.calls;
    kept.retain(|kept| !endings.iter().any(|ending| ending.is_of(kept.call.comm)));
    ending::close_all(endings, result == ncclSuccess);
    // After a failure NCCL issues nothing of a group.
    let result = if result == ncclSuccess { group.failure } else { result };
    if kept.is_empty() {
        return result;
    }
    if result == ncclInProgress {
        // What was forwarded goes on by itself; ours comes after it.
        for kept in &kept {
            let ready = exchange::await_ready(kept.call.comm);
            if ready != ncclSuccess {
                return ready;
            }
        }
    } else if result != ncclSuccess {
        return result;
    }
    // SAFETY: the caller's contract.
    let issued = unsafe { issue::issue(kept) };
    if issued == ncclSuccess { result } else { issued }
}

/// After NCCL simulated the end of a group with `result`: operations that were kept are dropped. Communicators are made and ended by
/// NCCL all the same. A failure closes the group too, but a NCCL that lacks the function has closed nothing.
pub fn group_simulated(result: ncclResult_t) {
    if real::has(Function::ncclGroupSimulateEnd)
        && !thread::is_inside_nccl()
        && group::end()
        && let Some(mut group) = group::take()
    {
        group.settle_made(result);
        ending::close_all(ending::take_at_group_end(), result == ncclSuccess);
    }
}

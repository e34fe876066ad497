//! The start and the end of NCCL's groups.

use crate::comm::life::{ending, suspension};
use crate::comm::run::group::{self, Group};
use crate::comm::run::issue;
use crate::comm::setup::channel;
use crate::host::thread;
use crate::nccl::{ncclInProgress, ncclResult_t, ncclSuccess};
use crate::real::{self, Function};

/// Call after NCCL was asked to open a group.
pub fn group_started(result: ncclResult_t) {
    if result == ncclSuccess && !thread::is_inside_nccl() {
        group::start();
    }
}

/// Call after NCCL closed a group with `result`. At the outermost end, issues what was kept.
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
    // Taken first: nothing of this group may be left for the next one, whatever comes in between.
    let endings = ending::take_at_group_end();
    let changes = suspension::take_at_group_end();
    group.settle_made(result);
    // A communicator that the group has ended has no valid handle any more, so its calls are dropped.
    let mut kept = group.calls;
    kept.retain(|kept| !endings.iter().any(|ending| ending.is_of(kept.call.comm)));
    ending::close_all(endings, result == ncclSuccess);
    let result = suspension::settle(changes, result);
    // After a failure NCCL issues nothing of a group.
    let result = if result == ncclSuccess { group.failure } else { result };
    if kept.is_empty() {
        return result;
    }
    if result == ncclInProgress {
        // The forwarded calls go on in the background; Dime's come after them.
        for kept in &kept {
            let ready = channel::await_ready(kept.call.comm);
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

/// Call after NCCL simulated the end of a group with `result`. Kept operations are dropped. NCCL makes and ends
/// communicators as in a real end. A failure closes the group too, but an NCCL that lacks the function has closed
/// nothing.
pub fn group_simulated(result: ncclResult_t) {
    if real::has(Function::ncclGroupSimulateEnd)
        && !thread::is_inside_nccl()
        && group::end()
        && let Some(mut group) = group::take()
    {
        let endings = ending::take_at_group_end();
        let changes = suspension::take_at_group_end();
        group.settle_made(result);
        ending::close_all(endings, result == ncclSuccess);
        suspension::settle(changes, result);
    }
}

//! Groups: between the outermost start and end of a thread, all-reduces that may be ours are kept, and are issued at the end, after
//! the forwarded ones.
//!
//! Whether a call is inside a group never changes where it goes: one rank's process may group what another's does not.

use std::cell::RefCell;

use crate::comm::life::ending::Ending;
use crate::comm::run::graph_usage;
use crate::comm::setup::beacon::Pending;
use crate::host::thread;
use crate::nccl::AllReduce;
use crate::nccl::{ncclResult_t, ncclSuccess};

/// What a group keeps until its end.
pub struct Kept {
    /// All-reduces that may be ours, in the order of the calls.
    pub calls: Vec<AllReduce>,
    /// Communicators whose handles NCCL writes at the end.
    pub pending: Vec<Pending>,
    /// What was declared of communicators that are made in it.
    pub usages: Vec<graph_usage::Pending>,
    /// Communicators that NCCL ends at the end.
    pub endings: Vec<Ending>,
    /// The first failure of ours in it.
    pub failure: ncclResult_t,
}

impl Kept {
    const NOTHING: Self =
        Self { calls: Vec::new(), pending: Vec::new(), usages: Vec::new(), endings: Vec::new(), failure: ncclSuccess };
}

thread_local! {
    static KEPT: RefCell<Kept> = const { RefCell::new(Kept::NOTHING) };
}

/// Whether this thread is inside a group.
#[inline]
pub fn is_open() -> bool {
    thread::group_depth() != 0
}

/// A group was opened.
pub fn start() {
    thread::set_group_depth(thread::group_depth() + 1);
}

/// A group is closed. True: it was the outermost.
pub fn end() -> bool {
    let depth = thread::group_depth().saturating_sub(1);
    thread::set_group_depth(depth);
    depth == 0
}

/// Keeps an operation until the outermost end.
pub fn keep(operation: AllReduce) {
    KEPT.with_borrow_mut(|kept| kept.calls.push(operation));
}

/// Keeps a communicator that is made until the outermost end.
pub fn keep_pending(pending: Pending) {
    KEPT.with_borrow_mut(|kept| kept.pending.push(pending));
}

/// Keeps what was declared of a communicator that is made until the outermost end.
pub fn keep_usage(pending: graph_usage::Pending) {
    KEPT.with_borrow_mut(|kept| kept.usages.push(pending));
}

/// Keeps what is left to do for a communicator that ends until the outermost end.
pub fn keep_ending(ending: Ending) {
    KEPT.with_borrow_mut(|kept| kept.endings.push(ending));
}

/// A call of ours failed. If that was in a group, its end will say so too, as NCCL's does.
pub fn note(failure: ncclResult_t) -> ncclResult_t {
    if is_open() {
        KEPT.with_borrow_mut(|kept| {
            if kept.failure == ncclSuccess {
                kept.failure = failure;
            }
        });
    }
    failure
}

impl Kept {
    /// Communicators that are made: the group has ended with this result.
    pub fn settle_made(&mut self, result: ncclResult_t) {
        std::mem::take(&mut self.pending).into_iter().for_each(|pending| pending.group_ended(result));
        std::mem::take(&mut self.usages).into_iter().for_each(|pending| pending.group_ended(result));
    }
}

/// What was kept, if anything was.
#[inline]
pub fn take() -> Option<Kept> {
    KEPT.with_borrow_mut(|kept| {
        let any_made = !kept.pending.is_empty() || !kept.usages.is_empty();
        let any_ended = !kept.endings.is_empty();
        let any = !kept.calls.is_empty() || any_made || any_ended || kept.failure != ncclSuccess;
        any.then(|| std::mem::replace(kept, Kept::NOTHING))
    })
}

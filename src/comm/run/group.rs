//! Groups: between a thread's outermost start and end, all-reduces that may be fast are kept. They are issued at the
//! end, after the forwarded ones.
//!
//! Whether a call is inside a group never changes whether it is fast: one rank may group calls that another does not.

use std::cell::RefCell;
use std::ptr;

use crate::comm::run::call_config::OwnConfig;
use crate::host::thread;
use crate::nccl::{AllReduce, ncclResult_t, ncclSuccess};
use crate::route::Shape;

/// An all-reduce that may be fast.
#[derive(Debug)]
pub struct Kept {
    /// The call. Its configuration is ours.
    pub call: AllReduce,
    /// Its shape.
    pub shape: Shape,
    /// The call's configuration.
    _config: Option<OwnConfig>,
}

impl Kept {
    /// Keeps a call.
    ///
    /// # Safety
    /// The call's configuration is one with which Dime may do a call, or NULL.
    pub unsafe fn of(call: &AllReduce, shape: Shape) -> Self {
        // SAFETY: the caller's contract.
        let config = (!call.config.is_null()).then(|| unsafe { OwnConfig::copy(call.config) });
        let address = config.as_ref().map_or(ptr::null(), OwnConfig::address);
        Self { call: AllReduce { config: address, ..*call }, shape, _config: config }
    }
}

/// What a group keeps until its end.
pub struct Group {
    /// All-reduces that may be fast, in the order of the calls.
    pub calls: Vec<Kept>,
    /// What to do, with NCCL's result, for communicators that NCCL makes at the end.
    made: Vec<Box<dyn FnOnce(ncclResult_t)>>,
    /// NCCL ends, suspends or resumes communicators at the group's end.
    acts_at_end: bool,
    /// The first failure of Dime in the group.
    pub failure: ncclResult_t,
}

impl Group {
    const NOTHING: Self = Self { calls: Vec::new(), made: Vec::new(), acts_at_end: false, failure: ncclSuccess };

    /// NCCL has made the group's communicators, with this result.
    pub fn settle_made(&mut self, result: ncclResult_t) {
        std::mem::take(&mut self.made).into_iter().for_each(|settle| settle(result));
    }
}

thread_local! {
    static GROUP: RefCell<Group> = const { RefCell::new(Group::NOTHING) };
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
pub fn keep(kept: Kept) {
    GROUP.with_borrow_mut(|group| group.calls.push(kept));
}

/// NCCL makes a communicator at the outermost end. Runs `settle` with NCCL's result then.
pub fn when_made(settle: impl FnOnce(ncclResult_t) + 'static) {
    GROUP.with_borrow_mut(|group| group.made.push(Box::new(settle)));
}

/// NCCL ends, suspends or resumes a communicator at the outermost end.
pub fn acts_at_end() {
    GROUP.with_borrow_mut(|group| group.acts_at_end = true);
}

/// A call failed in Dime. If it was in a group, the group's end also returns the failure, as NCCL's does.
pub fn note(failure: ncclResult_t) -> ncclResult_t {
    if is_open() {
        GROUP.with_borrow_mut(|group| {
            if group.failure == ncclSuccess {
                group.failure = failure;
            }
        });
    }
    failure
}

/// Takes what was kept, if anything was.
#[inline]
pub fn take() -> Option<Group> {
    GROUP.with_borrow_mut(|group| {
        let any =
            !group.calls.is_empty() || !group.made.is_empty() || group.acts_at_end || group.failure != ncclSuccess;
        any.then(|| std::mem::replace(group, Group::NOTHING))
    })
}

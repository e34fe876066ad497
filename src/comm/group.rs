//! Groups: between the outermost start and end of a thread, all-reduces that may be ours are kept, and are issued at the end, after
//! the forwarded ones.
//!
//! Whether a call is inside a group never changes where it goes: one rank's process may group what another's does not.

use std::cell::RefCell;

use super::AllReduce;
use crate::real::thread;

thread_local! {
    static KEPT: RefCell<Vec<AllReduce>> = const { RefCell::new(Vec::new()) };
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
    KEPT.with_borrow_mut(|kept| kept.push(operation));
}

/// What was kept, in the order of the calls.
pub fn take() -> Vec<AllReduce> {
    KEPT.with_borrow_mut(std::mem::take)
}

//! From the application's handle to what we know of it: a look-up without a lock.
//!
//! Each thread remembers its last hit. A hit is checked against the slot's handle, so a slot that was freed, or given to
//! another handle meanwhile, is never taken for the old one.

pub mod fast;
pub mod slot;
pub mod slots;
pub mod sync;

use std::sync::atomic::{AtomicBool, Ordering};

use crate::comm::table::fast::{Comm, Fast};
use crate::comm::table::slots::Slots;
use crate::host::fork;
use crate::host::thread;
use crate::observe::counters;

/// More communicators than any program was seen to have; beyond that, they forward.
const SLOTS: usize = 1024;

static TABLE: Slots<Fast, SLOTS> = Slots::new();

/// This thread's last hit, if it is this handle's.
#[inline(always)]
pub fn last_hit(handle: usize) -> Option<&'static Comm> {
    last().filter(|comm| comm.handle() == handle)
}

/// This thread's last hit.
#[inline(always)]
fn last() -> Option<&'static Comm> {
    // SAFETY: only `remember` sets it, and the table's slots live for good.
    unsafe { thread::last_found().cast::<Comm>().as_ref() }
}

#[inline]
fn remember(comm: &'static Comm) {
    thread::set_last_found((&raw const *comm).cast());
}

/// The communicator of a handle, if we know it.
#[inline]
pub fn find(handle: usize) -> Option<&'static Comm> {
    last_hit(handle).or_else(|| search(handle)).filter(|_| handle != 0)
}

#[cold]
fn search(handle: usize) -> Option<&'static Comm> {
    // What is looked up once is remembered.
    TABLE.search(handle).inspect(|comm| remember(comm))
}

/// The communicator of a handle, known from now on. None: there is no free slot. `reservation`: the slot that is kept for a handle.
pub fn find_or_add(handle: usize, reservation: impl FnOnce(usize) -> Option<Reservation>) -> Option<&'static Comm> {
    find(handle).or_else(|| {
        watch_forks();
        let added = match reservation(handle) {
            Some(reservation) => {
                // The slot takes its place.
                std::mem::forget(reservation);
                TABLE.find_or_add_reserved(handle)
            }
            None => TABLE.find_or_add(handle),
        };
        added.inspect(|comm| remember(comm))
    })
}

/// A slot that is kept free for a communicator: a rank must not find out at its first all-reduce that there is none left, when the other
/// ranks count on it.
#[derive(Debug)]
pub struct Reservation(());

impl Reservation {
    /// None: there is no slot left.
    pub fn make() -> Option<Self> {
        TABLE.reserve().then_some(Self(()))
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        TABLE.unreserve();
    }
}

/// A child of fork has the parent's memory but neither its threads nor its CUDA: the communicators it finds only forward there,
/// and what was counted is the parent's. Those that it makes itself are its own.
///
/// Without a lock, so threads that come together may all register: nothing changes when a child is told twice.
fn watch_forks() {
    static ARE_WATCHED: AtomicBool = AtomicBool::new(false);
    if ARE_WATCHED.load(Ordering::Acquire) {
        return;
    }
    if !fork::in_children(leave_all_to_parent) {
        log::warn!("forks cannot be noted: a child that uses a communicator of its parent will fail");
    }
    ARE_WATCHED.store(true, Ordering::Release);
}

extern "C" fn leave_all_to_parent() {
    TABLE.all().iter().for_each(Comm::leave_to_parent);
    counters::leave_all_to_parent();
}

/// Every communicator that is known, those that are ending included.
pub fn all() -> impl Iterator<Item = &'static Comm> {
    TABLE.all().iter().filter(|comm| comm.handle() != 0)
}

/// Forgets a handle, but not yet its slot. False: the slot is not this handle's any more.
pub fn hide(comm: &'static Comm, handle: usize) -> bool {
    TABLE.hide(comm, handle)
}

/// Forgets a handle. The slot is used again.
pub fn remove(comm: &'static Comm) {
    TABLE.remove(comm);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_are_found_until_they_are_removed_and_slots_are_used_again() {
        let handle = |index: usize| 0x7000_0000_0000 + index * 64;
        for _ in 0..3 {
            for index in 0..500 {
                assert!(find(handle(index)).is_none());
                let comm = find_or_add(handle(index), |_| None).expect("there is room");
                assert!(std::ptr::eq(find(handle(index)).expect("just added"), comm));
                assert!(std::ptr::eq(find_or_add(handle(index), |_| None).expect("just added"), comm));
            }
            for index in (0..500).rev() {
                remove(find(handle(index)).expect("added"));
                assert!(find(handle(index)).is_none());
            }
        }
    }

    #[test]
    fn a_slot_that_is_kept_for_a_communicator_goes_to_no_other() {
        static FEW: Slots<Fast, 4> = Slots::new();
        assert!(FEW.reserve() && FEW.reserve());
        assert!(FEW.find_or_add(0x10).is_some() && FEW.find_or_add(0x20).is_some());
        assert!(!FEW.reserve() && FEW.find_or_add(0x30).is_none(), "two of four are kept");
        assert!(FEW.find_or_add_reserved(0x40).is_some());
        FEW.unreserve();
        assert!(FEW.find_or_add(0x30).is_some());
        assert!(FEW.find_or_add(0x50).is_none() && !FEW.reserve());
    }

    #[test]
    fn null_is_nobody() {
        let comm = find_or_add(0x6000_0000_0000, |_| None).expect("there is room");
        remove(comm);
        // The slot that this thread found last is free now, as most others are.
        assert!(find(0).is_none());
    }
}

//! The communicator table: from NCCL's handle to Dime's state, by a lookup without a lock.
//!
//! Each thread remembers its last hit. A hit counts only if the slot still has this handle, so a slot that was freed
//! or reused for another handle is never mistaken for the old one.

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

/// More communicators than any known program has. Those beyond are forwarded.
const SLOTS: usize = 1024;

static TABLE: Slots<Fast, SLOTS> = Slots::new();

/// This thread's last hit, if it has this handle.
#[inline(always)]
pub fn last_hit(handle: usize) -> Option<&'static Comm> {
    last().filter(|comm| comm.handle() == handle)
}

/// This thread's last hit.
#[inline(always)]
fn last() -> Option<&'static Comm> {
    // SAFETY: only `remember` sets it, and the table's slots live as long as the process.
    unsafe { thread::last_found().cast::<Comm>().as_ref() }
}

#[inline]
fn remember(comm: &'static Comm) {
    thread::set_last_found((&raw const *comm).cast());
}

/// The communicator of a handle, if it is in the table.
#[inline]
pub fn find(handle: usize) -> Option<&'static Comm> {
    last_hit(handle).or_else(|| search(handle)).filter(|_| handle != 0)
}

/// As [`find`], for a handle that is not this thread's last hit and not 0.
#[cold]
pub fn search(handle: usize) -> Option<&'static Comm> {
    // This thread's next lookup of it is a hit.
    TABLE.search(handle).inspect(|comm| remember(comm))
}

/// The communicator of a handle, added if it is not in the table. None: there is no free slot. `reservation` returns
/// the slot that is reserved for a handle, if one is.
pub fn find_or_add(handle: usize, reservation: impl FnOnce(usize) -> Option<Reservation>) -> Option<&'static Comm> {
    find(handle).or_else(|| {
        watch_forks();
        let added = match reservation(handle) {
            Some(reservation) => {
                // The slot uses the reservation up.
                std::mem::forget(reservation);
                TABLE.find_or_add_reserved(handle)
            }
            None => TABLE.find_or_add(handle),
        };
        added.inspect(|comm| remember(comm))
    })
}

/// A slot that is reserved for a communicator. A rank that found the table full at its first all-reduce would forward
/// alone, while the other ranks count on it.
#[derive(Debug)]
pub struct Reservation(());

impl Reservation {
    /// None: there is no free slot.
    pub fn make() -> Option<Self> {
        TABLE.reserve().then_some(Self(()))
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        TABLE.unreserve();
    }
}

/// Registers for forks. A child of fork has its parent's memory, but neither its threads nor its CUDA. So the
/// parent's communicators only forward in the child, and the counters begin with zeros. Communicators that the child
/// makes are not affected.
///
/// Works without a lock. Threads that come first together may all register; running the handler twice changes
/// nothing.
fn watch_forks() {
    static ARE_WATCHED: AtomicBool = AtomicBool::new(false);
    if ARE_WATCHED.load(Ordering::Acquire) {
        return;
    }
    if !fork::in_children(leave_all_to_parent) {
        log::warn!("cannot register for forks: a child process that uses a communicator of its parent will fail");
    }
    ARE_WATCHED.store(true, Ordering::Release);
}

extern "C" fn leave_all_to_parent() {
    TABLE.all().iter().for_each(Comm::leave_to_parent);
    counters::leave_all_to_parent();
}

/// Every communicator in the table, including those that are ending.
pub fn all() -> impl Iterator<Item = &'static Comm> {
    TABLE.all().iter().filter(|comm| comm.handle() != 0)
}

/// Takes the handle off the slot, but does not free the slot. False: the slot no longer has this handle.
pub fn hide(comm: &'static Comm, handle: usize) -> bool {
    TABLE.hide(comm, handle)
}

/// Frees the slot for another communicator.
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
    fn a_reserved_slot_goes_to_no_other_communicator() {
        static FEW: Slots<Fast, 4> = Slots::new();
        assert!(FEW.reserve() && FEW.reserve());
        assert!(FEW.find_or_add(0x10).is_some() && FEW.find_or_add(0x20).is_some());
        assert!(!FEW.reserve() && FEW.find_or_add(0x30).is_none(), "two of four are reserved");
        assert!(FEW.find_or_add_reserved(0x40).is_some());
        FEW.unreserve();
        assert!(FEW.find_or_add(0x30).is_some());
        assert!(FEW.find_or_add(0x50).is_none() && !FEW.reserve());
    }

    #[test]
    fn null_is_no_communicator() {
        let comm = find_or_add(0x6000_0000_0000, |_| None).expect("there is room");
        remove(comm);
        // This thread's last hit is a free slot now, as most slots are.
        assert!(find(0).is_none());
    }
}

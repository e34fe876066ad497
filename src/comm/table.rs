//! From the application's handle to what we know of it: a look-up without a lock.
//!
//! A fixed number of slots, searched from the handle's hash on. Slots are added and freed under a lock; a look-up only reads.
//! Each thread remembers its last hit. A hit is checked against the slot's handle, so a slot that was freed, or given to
//! another handle meanwhile, is never taken for the old one.

use std::sync::Mutex;

use super::state::Comm;
use crate::real::thread;

/// More communicators than any program was seen to have; beyond that, they forward.
const SLOTS: usize = 1024;

static TABLE: [Comm; SLOTS] = [const { Comm::empty() }; SLOTS];
static CHANGE: Mutex<()> = Mutex::new(());

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

fn start(handle: usize) -> usize {
    // Handles are heap addresses: the low bits say little.
    (handle >> 4).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (usize::BITS - SLOTS.trailing_zeros())
}

/// The slots in the order in which a handle's is searched.
fn places(handle: usize) -> impl Iterator<Item = &'static Comm> {
    let start = start(handle);
    (0..SLOTS).map(move |step| &TABLE[(start + step) % SLOTS])
}

/// The communicator of a handle, if we know it.
#[inline]
pub fn find(handle: usize) -> Option<&'static Comm> {
    last_hit(handle).or_else(|| search(handle))
}

#[cold]
fn search(handle: usize) -> Option<&'static Comm> {
    // A freed slot may lie between, so all are looked at; what is looked up once is remembered.
    let found = places(handle).find(|comm| comm.handle() == handle);
    if let Some(comm) = found {
        remember(comm);
    }
    found
}

/// The communicator of a handle, known from now on. None: there is no free slot.
pub fn find_or_add(handle: usize) -> Option<&'static Comm> {
    if let Some(found) = find(handle) {
        return Some(found);
    }
    let _change = CHANGE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    // Another thread may have been faster.
    if let Some(found) = search(handle) {
        return Some(found);
    }
    let free = places(handle).find(|comm| comm.handle() == 0)?;
    free.assign(handle);
    remember(free);
    Some(free)
}

/// Forgets a handle, but not yet its slot.
pub fn hide(comm: &'static Comm) {
    let _change = CHANGE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    comm.hide();
}

/// Forgets a handle. The slot is used again.
pub fn remove(comm: &'static Comm) {
    let _change = CHANGE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    comm.release();
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
                let comm = find_or_add(handle(index)).expect("there is room");
                assert!(std::ptr::eq(find(handle(index)).expect("just added"), comm));
                assert!(std::ptr::eq(find_or_add(handle(index)).expect("just added"), comm));
            }
            for index in (0..500).rev() {
                remove(find(handle(index)).expect("added"));
                assert!(find(handle(index)).is_none());
            }
        }
    }
}

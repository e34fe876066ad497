//! The slots of the side table: searched without a lock, added and freed under one.

use super::slot::Slot;
use super::sync::Lock;

/// A fixed number of slots, searched from the handle's hash on.
#[derive(Debug)]
pub struct Slots<T: 'static, const COUNT: usize> {
    slots: [Slot<T>; COUNT],
    /// Free slots that are kept for communicators that will come.
    reserved: Lock<usize>,
}

impl<T, const COUNT: usize> Slots<T, COUNT> {
    /// All free.
    pub const fn new() -> Self {
        Self { slots: [const { Slot::empty() }; COUNT], reserved: Lock::new(0) }
    }

    /// The slots in the order in which a handle's is searched.
    fn places(&'static self, handle: usize) -> impl Iterator<Item = &'static Slot<T>> {
        const { assert!(COUNT.is_power_of_two() && COUNT > 1) };
        // Handles are heap addresses: the low bits say little.
        let start = (handle >> 4).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (usize::BITS - COUNT.trailing_zeros());
        (0..COUNT).map(move |step| &self.slots[(start + step) % COUNT])
    }

    /// The slot of a handle.
    pub fn search(&'static self, handle: usize) -> Option<&'static Slot<T>> {
        // NULL is no handle: free slots have it. A freed slot may lie between, so all are looked at.
        if handle == 0 { None } else { self.places(handle).find(|slot| slot.handle() == handle) }
    }

    /// The slot of a handle, from now on. None: there is no free one that is not kept for another.
    pub fn find_or_add(&'static self, handle: usize) -> Option<&'static Slot<T>> {
        let reserved = self.reserved.hold();
        self.add(handle, *reserved)
    }

    /// As [`Self::find_or_add`], for one that [`Self::reserve`] kept a slot for, which is used up.
    pub fn find_or_add_reserved(&'static self, handle: usize) -> Option<&'static Slot<T>> {
        let mut reserved = self.reserved.hold();
        *reserved = reserved.saturating_sub(1);
        self.add(handle, *reserved)
    }

    /// The caller holds the lock; so many free slots are kept for others.
    fn add(&'static self, handle: usize, reserved: usize) -> Option<&'static Slot<T>> {
        // Another thread may have been faster.
        if let Some(found) = self.search(handle) {
            return Some(found);
        }
        if reserved > 0 && self.free_slots() <= reserved {
            return None;
        }
        let free = self.places(handle).find(|slot| slot.handle() == 0)?;
        free.assign(handle);
        Some(free)
    }

    fn free_slots(&'static self) -> usize {
        self.slots.iter().filter(|slot| slot.handle() == 0).count()
    }

    /// Keeps a slot free for a communicator that will come. False: there is none left.
    pub fn reserve(&'static self) -> bool {
        let mut reserved = self.reserved.hold();
        let is_left = *reserved < self.free_slots();
        *reserved += usize::from(is_left);
        is_left
    }

    /// A slot that was kept is not needed.
    pub fn unreserve(&'static self) {
        let mut reserved = self.reserved.hold();
        *reserved = reserved.saturating_sub(1);
    }

    /// Forgets a handle, but not yet its slot. False: the slot is not this handle's any more.
    pub fn hide(&'static self, slot: &'static Slot<T>, handle: usize) -> bool {
        let _change = self.reserved.hold();
        let is_its = slot.handle() == handle;
        if is_its {
            slot.hide();
        }
        is_its
    }

    /// Forgets a handle. The slot is used again.
    pub fn remove(&'static self, slot: &'static Slot<T>) {
        let _change = self.reserved.hold();
        slot.release();
    }

    /// Every slot.
    pub fn all(&'static self) -> &'static [Slot<T>] {
        &self.slots
    }
}

impl<T, const COUNT: usize> Default for Slots<T, COUNT> {
    fn default() -> Self {
        Self::new()
    }
}

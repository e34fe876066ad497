//! The slots of the communicator table: searched without a lock, added and freed under one.

use super::slot::Slot;
use super::sync::Lock;

/// A fixed number of slots. A search starts at the handle's hash.
#[derive(Debug)]
pub struct Slots<T: 'static, const COUNT: usize> {
    slots: [Slot<T>; COUNT],
    /// The number of free slots that are reserved for communicators to come.
    reserved: Lock<usize>,
}

impl<T, const COUNT: usize> Slots<T, COUNT> {
    /// All free.
    pub const fn new() -> Self {
        Self { slots: [const { Slot::empty() }; COUNT], reserved: Lock::new(0) }
    }

    /// The slots in the order in which a handle is searched.
    fn search_order(&'static self, handle: usize) -> impl Iterator<Item = &'static Slot<T>> {
        const { assert!(COUNT.is_power_of_two() && COUNT > 1) };
        // Handles are heap addresses, so the low bits vary little.
        let start = (handle >> 4).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (usize::BITS - COUNT.trailing_zeros());
        (0..COUNT).map(move |step| &self.slots[(start + step) % COUNT])
    }

    /// The slot of a handle.
    pub fn search(&'static self, handle: usize) -> Option<&'static Slot<T>> {
        // Free slots have handle 0, so NULL is no handle. A freed slot may lie in between, so all slots are searched.
        if handle == 0 { None } else { self.search_order(handle).find(|slot| slot.handle() == handle) }
    }

    /// The slot of a handle, added if there is none. None: no slot is free that is not reserved.
    pub fn find_or_add(&'static self, handle: usize) -> Option<&'static Slot<T>> {
        let reserved = self.reserved.hold();
        self.add(handle, *reserved)
    }

    /// As [`Self::find_or_add`], for a handle that has a reserved slot. Uses the reservation up.
    pub fn find_or_add_reserved(&'static self, handle: usize) -> Option<&'static Slot<T>> {
        let mut reserved = self.reserved.hold();
        *reserved = reserved.saturating_sub(1);
        self.add(handle, *reserved)
    }

    /// The caller holds the lock. `reserved`: how many free slots are reserved for others.
    fn add(&'static self, handle: usize, reserved: usize) -> Option<&'static Slot<T>> {
        // Another thread may have added it.
        if let Some(found) = self.search(handle) {
            return Some(found);
        }
        if reserved > 0 && self.free_slots() <= reserved {
            return None;
        }
        let free = self.search_order(handle).find(|slot| slot.handle() == 0)?;
        free.assign(handle);
        Some(free)
    }

    fn free_slots(&'static self) -> usize {
        self.slots.iter().filter(|slot| slot.handle() == 0).count()
    }

    /// Reserves a slot for a communicator to come. False: there is none left.
    pub fn reserve(&'static self) -> bool {
        let mut reserved = self.reserved.hold();
        let is_left = *reserved < self.free_slots();
        *reserved += usize::from(is_left);
        is_left
    }

    /// Gives up a reservation.
    pub fn unreserve(&'static self) {
        let mut reserved = self.reserved.hold();
        *reserved = reserved.saturating_sub(1);
    }

    /// Takes the handle off the slot, but does not free the slot. False: the slot no longer has this handle.
    pub fn hide(&'static self, slot: &'static Slot<T>, handle: usize) -> bool {
        let _change = self.reserved.hold();
        let is_its = slot.handle() == handle;
        if is_its {
            slot.hide();
        }
        is_its
    }

    /// Frees the slot for another handle.
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

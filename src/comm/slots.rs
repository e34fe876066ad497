//! The slots of the side table: searched without a lock, added and freed under one.

use super::slot::Slot;
use super::sync::Lock;

/// A fixed number of slots, searched from the handle's hash on.
#[derive(Debug)]
pub struct Slots<T: 'static, const COUNT: usize> {
    slots: [Slot<T>; COUNT],
    change: Lock<()>,
}

impl<T, const COUNT: usize> Slots<T, COUNT> {
    /// All free.
    pub const fn new() -> Self {
        Self { slots: [const { Slot::empty() }; COUNT], change: Lock::new(()) }
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

    /// The slot of a handle, from now on. None: there is no free one.
    pub fn find_or_add(&'static self, handle: usize) -> Option<&'static Slot<T>> {
        let _change = self.change.hold();
        // Another thread may have been faster.
        if let Some(found) = self.search(handle) {
            return Some(found);
        }
        let free = self.places(handle).find(|slot| slot.handle() == 0)?;
        free.assign(handle);
        Some(free)
    }

    /// Forgets a handle, but not yet its slot. False: the slot is not this handle's any more.
    pub fn hide(&'static self, slot: &'static Slot<T>, handle: usize) -> bool {
        let _change = self.change.hold();
        let is_its = slot.handle() == handle;
        if is_its {
            slot.hide();
        }
        is_its
    }

    /// Forgets a handle. The slot is used again.
    pub fn remove(&'static self, slot: &'static Slot<T>) {
        let _change = self.change.hold();
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

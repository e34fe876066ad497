//! A search over all interleavings of threads that use the communicator table, and over all values that their loads may
//! see. The table's own sources are built here with loom's atomics in the place of the standard ones.

#![cfg(test)]

#[path = "../../../src/comm/table/slot.rs"]
#[allow(dead_code)]
mod slot;
// What a child of fork does with all slots is not searched: it has one thread.
#[allow(dead_code)]
#[path = "../../../src/comm/table/slots.rs"]
mod slots;
mod sync;

mod aborts;
mod look_ups;

/// Of the library's module of this name, what the sources ask for.
mod route {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[repr(u8)]
    pub enum Reason {
        Memory,
        Forked,
    }

    pub const REASONS: &[Reason] = &[Reason::Memory, Reason::Forked];
}

/// Registers a slot's atomics with loom, for which that is a change: before other threads see the slot.
fn register<T>(slot: &'static slot::Slot<T>) -> &'static slot::Slot<T> {
    let _: (usize, slot::Status, usize, bool, bool, bool) =
        (slot.handle(), slot.status(), slot.ranks(), slot.is_aborted(), slot.is_revoked(), slot.is_busy());
    slot
}

/// Runs `body` in every interleaving, or in those in which threads are interrupted at most so often. Returns how many there are.
fn search(interruptions: Option<usize>, body: impl Fn() + Sync + Send + 'static) -> usize {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    let runs = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&runs);
    let mut model = loom::model::Builder::new();
    model.preemption_bound = interruptions;
    model.check(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        body();
    });
    let runs = runs.load(Ordering::Relaxed);
    println!("{runs} interleavings");
    runs
}

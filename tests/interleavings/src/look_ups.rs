//! Look-ups, which take no lock, against additions and removals.

use loom::thread;

use crate::route::Reason;
use crate::slot::{Slot, Status};
use crate::slots::Slots;
use crate::sync::{Weakness, weaken};
use crate::{register, search};

const HANDLES: [usize; 3] = [0x1000, 0x2000, 0x5000];

type Table = Slots<(), 2>;

// SAFETY: a slot of nothing.
unsafe impl Sync for Slot<()> {}
// SAFETY: as above.
unsafe impl Send for Slot<()> {}

/// An empty table. All three handles are searched from the first slot on.
fn table() -> &'static Table {
    let table: &'static Table = Box::leak(Box::default());
    let slots = [HANDLES[0], HANDLES[1]].map(|handle| register(table.find_or_add(handle).unwrap()));
    slots.into_iter().for_each(|slot| table.remove(slot));
    table
}

#[test]
fn a_handle_is_found_while_others_come_and_go() {
    let runs = search(None, || {
        let table = table();
        let [other, kept, third] = HANDLES;
        // On the way to the one that is kept.
        let before = table.find_or_add(other).unwrap();
        let slot = table.find_or_add(kept).unwrap();
        let changer = thread::spawn(move || {
            table.remove(before);
            assert!(table.hide(table.find_or_add(third).expect("one slot is free"), third));
        });
        for _ in 0..2 {
            assert!(table.search(kept).is_some_and(|found| std::ptr::eq(found, slot)));
            // Free slots are nobody's.
            assert!(table.search(0).is_none());
        }
        changer.join().unwrap();
        assert!(table.search(other).is_none() && table.search(third).is_none());
    });
    assert!(runs > 10);
}

#[test]
fn two_threads_that_add_a_handle_get_one_slot() {
    search(None, || {
        let table = table();
        let other = thread::spawn(move || std::ptr::from_ref(table.find_or_add(HANDLES[0]).unwrap()) as usize);
        let slot = table.find_or_add(HANDLES[0]).unwrap();
        assert_eq!(other.join().unwrap(), std::ptr::from_ref(slot) as usize);
        table.remove(slot);
        assert!(table.search(HANDLES[0]).is_none());
    });
}

/// A slot that had a communicator with 4 ranks that forwards is used again, while another thread looks up what is in it now.
fn reuse() {
    search(None, || {
        let table = table();
        let [old, new, _] = HANDLES;
        let slot = table.find_or_add(old).unwrap();
        slot.set_ranks(4);
        slot.set_forward(Reason::Memory);
        let changer = thread::spawn(move || {
            table.remove(slot);
            table.find_or_add(new).unwrap();
        });
        if let Some(found) = table.search(new) {
            assert_eq!((found.status(), found.ranks()), (Status::New, 0), "it shows what was in the slot before");
        }
        changer.join().unwrap();
        assert_eq!(table.search(new).map(Slot::status), Some(Status::New));
    });
}

#[test]
fn a_slot_that_is_used_again_never_shows_what_was_in_it() {
    reuse();
}

#[test]
#[should_panic(expected = "it shows what was in the slot before")]
fn without_release_a_slot_that_is_used_again_shows_what_was_in_it() {
    weaken(Weakness::NoRelease);
    reuse();
}

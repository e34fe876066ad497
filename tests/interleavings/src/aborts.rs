//! Calls on a communicator against an abort from another thread, and questions of other threads against its destroy: what is used is not
//! taken away meanwhile, and nothing is left behind.

use loom::thread;

use crate::slot::{Slot, Status};
use crate::slots::Slots;
use crate::sync::{UnsafeCell, Weakness, weaken};
use crate::{register, search};

const HANDLE: usize = 0x1000;
const OTHER: usize = 0x2000;
const THIRD: usize = 0x3000;

/// What a communicator owns: memory that is read while it is used and written when it is given back.
struct Owned {
    of: usize,
    memory: UnsafeCell<()>,
    stopped: std::sync::atomic::AtomicBool,
}

impl Owned {
    fn of(handle: usize) -> Self {
        let memory = UnsafeCell::new(());
        memory.with_mut(|_| ());
        Self { of: handle, memory, stopped: false.into() }
    }

    fn use_for(&self, handle: usize) {
        assert_eq!(self.of, handle, "a call uses what another communicator owns");
        self.memory.with(|_| ());
    }

    fn give_back(self) {
        assert!(self.stopped.load(std::sync::atomic::Ordering::Relaxed), "its kernels still run");
        self.memory.with_mut(|_| ());
    }
}

// SAFETY: as in the library: what a slot owns is written before the status and taken when no call is left. This is what is
// searched for exceptions.
unsafe impl Sync for Slot<Owned> {}
// SAFETY: as above.
unsafe impl Send for Slot<Owned> {}

type Table = Slots<Owned, 2>;

/// A table and a new communicator in it, whose slot is the only one that can be used again. The table is never freed, as the
/// library's is not.
fn table() -> (&'static Table, &'static Slot<Owned>) {
    let table: &'static Table = Box::leak(Box::default());
    let slot = register(table.find_or_add(HANDLE).expect("a free slot"));
    table.find_or_add(THIRD).expect("a free slot");
    (table, slot)
}

fn stop(owned: &Owned) {
    owned.stopped.store(true, std::sync::atomic::Ordering::Relaxed);
}

/// What `comm::abort` and its end do. False: a call was left, and all stays as it is.
fn abort(table: &'static Table, slot: &'static Slot<Owned>) -> bool {
    let Some(busy) = slot.begin(HANDLE) else { return false };
    slot.abort(1, stop);
    drop(busy);
    if !table.hide(slot, HANDLE) || slot.is_busy() {
        return false;
    }
    slot.abort(1, stop);
    if let Some(owned) = slot.take_fast() {
        owned.give_back();
    }
    table.remove(slot);
    true
}

/// What `comm::destroy` and its end do, without the waiting. False: a call was left, or another thread is ending it.
fn destroy(table: &'static Table, slot: &'static Slot<Owned>) -> bool {
    if !table.hide(slot, HANDLE) || slot.is_busy() {
        return false;
    }
    if let Some(owned) = slot.take_fast() {
        stop(&owned);
        owned.give_back();
    }
    table.remove(slot);
    true
}

/// How another thread asks whether a communicator is idle.
fn ask(slot: &'static Slot<Owned>) {
    if let Some(busy) = slot.begin_unless_hidden()
        && let Some(owned) = busy.fast()
    {
        owned.memory.with(|_| ());
    }
}

/// A call as `comm::run` makes it.
fn call(slot: &'static Slot<Owned>, handle: usize) {
    if slot.status() != Status::Fast {
        return;
    }
    if let Some(busy) = slot.enter(handle) {
        busy.fast().expect("it was fast").use_for(handle);
    }
}

/// What `comm::life::suspension` does in two calls.
fn suspend_and_resume(slot: &'static Slot<Owned>) {
    if let Some(busy) = slot.enter(HANDLE)
        && slot.set_suspended()
    {
        busy.fast().expect("it was fast").use_for(HANDLE);
    }
    if let Some(busy) = slot.enter(HANDLE)
        && slot.status() == Status::Suspended
    {
        busy.fast().expect("it was fast").use_for(HANDLE);
        slot.set_resumed();
    }
}

#[test]
fn an_abort_beside_a_suspend_and_a_resume_leaves_nothing_fast() {
    search(Some(3), || {
        let (table, slot) = table();
        slot.set_fast(Owned::of(HANDLE));
        let caller = thread::spawn(move || suspend_and_resume(slot));
        let is_over = abort(table, slot);
        caller.join().unwrap();
        assert!(is_over || slot.status() == Status::Poisoned(1));
    });
}

fn calls_against_an_abort() -> usize {
    search(None, || {
        let (table, slot) = table();
        slot.set_fast(Owned::of(HANDLE));
        let caller = thread::spawn(move || {
            call(slot, HANDLE);
            call(slot, HANDLE);
        });
        abort(table, slot);
        caller.join().unwrap();
        call(slot, HANDLE);
    })
}

#[test]
fn what_a_call_uses_is_not_given_back_under_it() {
    assert!(calls_against_an_abort() > 10);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_release_what_a_call_uses_is_given_back_under_it() {
    weaken(Weakness::NoRelease);
    calls_against_an_abort();
}

#[test]
fn a_call_that_comes_late_never_uses_the_next_communicator_in_the_slot() {
    search(None, || {
        let (table, slot) = table();
        slot.set_fast(Owned::of(HANDLE));
        let caller = thread::spawn(move || call(slot, HANDLE));
        if abort(table, slot) {
            let next = table.find_or_add(OTHER).expect("the slot is free");
            assert_eq!(next.status(), Status::New);
            next.set_fast(Owned::of(OTHER));
            next.enter(OTHER).expect("nobody aborted it").fast().expect("it is fast").use_for(OTHER);
        }
        caller.join().unwrap();
    });
}

#[test]
fn a_call_that_comes_late_does_not_hide_a_call_on_the_next_communicator_from_its_abort() {
    // Three threads have too many interleavings to take them all.
    search(Some(2), || {
        let (table, slot) = table();
        slot.set_fast(Owned::of(HANDLE));
        let late = thread::spawn(move || assert!(slot.enter(OTHER).is_none()));
        let caller = thread::spawn(move || call(slot, HANDLE));
        abort(table, slot);
        caller.join().unwrap();
        late.join().unwrap();
    });
}

#[test]
fn a_communicator_that_is_aborted_while_it_is_set_up_leaves_nothing_behind() {
    search(None, || {
        let (table, slot) = table();
        let caller = thread::spawn(move || {
            // As `comm::issue`: what follows a setup belongs to the same call.
            let Some(_busy) = slot.enter(HANDLE) else { return };
            slot.set_fast(Owned::of(HANDLE));
            call(slot, HANDLE);
        });
        let is_over = abort(table, slot);
        caller.join().unwrap();
        if is_over {
            assert!(slot.take_fast().is_none(), "what it owns is left behind");
        }
        assert!(slot.enter(HANDLE).is_none(), "an aborted communicator takes calls");
    });
}

#[test]
fn an_abort_does_not_take_away_what_a_finalize_waits_for() {
    search(None, || {
        let (table, slot) = table();
        slot.set_fast(Owned::of(HANDLE));
        let finalizer = thread::spawn(move || {
            if let Some(busy) = slot.begin(HANDLE) {
                busy.fast().expect("it was fast").use_for(HANDLE);
            }
        });
        abort(table, slot);
        finalizer.join().unwrap();
    });
}

fn a_question_against_a_destroy() {
    search(None, || {
        let (table, slot) = table();
        slot.set_fast(Owned::of(HANDLE));
        let asker = thread::spawn(move || ask(slot));
        if destroy(table, slot) {
            let next = table.find_or_add(OTHER).expect("the slot is free");
            next.set_fast(Owned::of(OTHER));
        }
        asker.join().unwrap();
    });
}

#[test]
fn a_destroy_does_not_take_away_what_another_thread_asks() {
    a_question_against_a_destroy();
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_a_total_order_a_question_and_a_destroy_miss_each_other() {
    weaken(Weakness::NoTotalOrder);
    a_question_against_a_destroy();
}

#[test]
fn a_destroy_and_an_abort_do_not_both_end_a_communicator() {
    search(None, || {
        let (table, slot) = table();
        slot.set_fast(Owned::of(HANDLE));
        let aborter = thread::spawn(move || {
            let found = table.search(HANDLE).is_some_and(|found| std::ptr::eq(found, slot));
            found && abort(table, slot)
        });
        let destroyed = destroy(table, slot);
        let aborted = aborter.join().unwrap();
        // Neither, when each found the other busy: in the library they wait until it is not.
        assert!(!destroyed || !aborted);
    });
}

#[test]
fn a_revoke_stops_what_runs_and_lets_nothing_begin() {
    search(None, || {
        let (_, slot) = table();
        let caller = thread::spawn(move || {
            if let Some(_busy) = slot.enter(HANDLE) {
                slot.set_fast(Owned::of(HANDLE));
            }
            call(slot, HANDLE);
        });
        slot.abort(1, stop);
        assert!(slot.enter(HANDLE).is_none());
        caller.join().unwrap();
    });
}

//! A slot of the side table: a communicator's handle, how far it has come, and what it owns.
//!
//! Slots are never freed, only used again: another thread may look at one at any time. What a communicator owns is touched by
//! calls on it, which come from one thread at a time, and by an abort, which NCCL allows from another thread meanwhile. Each call
//! is counted while it lasts ([`Busy`]). An abort first lets no further call in, then takes the handle away, and takes out what
//! the communicator owned only when no call is left. So does a destroy, beside which NCCL allows no call: another thread may be asking
//! whether the communicator is idle, which counts as one.
//!
//! All interleavings of that are searched by `tests/interleavings`.

use super::sync::{AtomicBool, AtomicU8, AtomicUsize, Ordering, UnsafeCell};
use crate::route::{REASONS, Reason};

/// How far a communicator has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Seen, not set up.
    New,
    /// All ranks agreed on the fast path.
    Fast,
    /// All ranks agreed, or must conclude, to forward.
    Forward(Reason),
    /// A fast operation failed; nothing works any more but abort and destroy. NCCL's number of the failure.
    Poisoned(i32),
}

const NEW: u8 = 0;
const FAST: u8 = 1;
const POISONED: u8 = 2; // and up: NCCL's number of the failure is added, at most 13
const FORWARD: u8 = 16; // and up: the reason's number is added

/// A handle that no communicator has.
const HIDDEN: usize = 1;

/// A slot for a communicator that, once fast, owns a `T`.
#[derive(Debug)]
pub struct Slot<T> {
    /// The application's handle; 0: free.
    handle: AtomicUsize,
    status: AtomicU8,
    /// Ranks, once asked; 0 before.
    ranks: AtomicUsize,
    /// Written while the status is neither Fast nor Poisoned; taken out when no call is left.
    owned: UnsafeCell<Option<T>>,
    /// It was aborted or revoked: its kernels are stopped, or will be.
    aborted: AtomicBool,
    /// The log has said why its calls are forwarded although nothing is decided.
    is_reported: AtomicBool,
    /// It was revoked, not aborted: NCCL still knows it, and refuses operations itself.
    revoked: AtomicBool,
    /// Calls on it. More than one where a call does a part of itself as a call of its own, or came to a slot that is another
    /// communicator's by now.
    calls: AtomicUsize,
}

/// A call on a communicator. While it lives, what the communicator owns is not taken away.
pub struct Busy<T: 'static>(&'static Slot<T>);

impl<T> Busy<T> {
    /// What the communicator owns, while it is fast or poisoned.
    #[inline]
    pub fn fast(&self) -> Option<&T> {
        // SAFETY: an abort does not take it while we are busy, and the caller of a destroy makes no other call.
        unsafe { self.0.owned() }
    }
}

impl<T> Drop for Busy<T> {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Release);
    }
}

impl<T> Slot<T> {
    /// A slot with nothing in it.
    pub const fn empty() -> Self {
        Self {
            handle: AtomicUsize::new(0),
            status: AtomicU8::new(NEW),
            ranks: AtomicUsize::new(0),
            owned: UnsafeCell::new(None),
            aborted: AtomicBool::new(false),
            is_reported: AtomicBool::new(false),
            revoked: AtomicBool::new(false),
            calls: AtomicUsize::new(0),
        }
    }

    /// The application's handle; 0 when the slot is free.
    #[inline]
    pub fn handle(&self) -> usize {
        self.handle.load(Ordering::Acquire)
    }

    /// Makes the slot a handle's. The caller holds the table's lock.
    pub fn assign(&self, handle: usize) {
        self.status.store(NEW, Ordering::Relaxed);
        self.ranks.store(0, Ordering::Relaxed);
        self.aborted.store(false, Ordering::Relaxed);
        self.is_reported.store(false, Ordering::Relaxed);
        self.revoked.store(false, Ordering::Relaxed);
        self.handle.store(handle, Ordering::Release);
    }

    /// Takes the handle off the slot, which nevertheless is not free: the handle may be another communicator's soon.
    pub fn hide(&self) {
        self.revoked.store(false, Ordering::SeqCst);
        // Either we see a call that has begun on it, or the call sees this.
        self.handle.store(HIDDEN, Ordering::SeqCst);
    }

    /// In a child of fork: the communicator is the parent's, and so is what it owns. The calls of the parent's other threads do not
    /// go on here.
    pub fn leave_to_parent(&self) {
        if self.handle() > HIDDEN {
            self.calls.store(0, Ordering::Relaxed);
            self.set_forward(Reason::Forked);
        }
    }

    /// Marks the slot free for another handle. The caller holds the table's lock and has taken what was in it.
    pub fn release(&self) {
        self.handle.store(0, Ordering::Release);
    }

    /// The reason, when all forward. The shortest way to know that.
    #[inline(always)]
    pub fn forward_reason_index(&self) -> Option<usize> {
        let status = self.status.load(Ordering::Acquire);
        (status >= FORWARD).then(|| usize::from(status - FORWARD))
    }

    /// How far it has come.
    #[inline]
    pub fn status(&self) -> Status {
        match self.status.load(Ordering::Acquire) {
            FAST => Status::Fast,
            NEW => Status::New,
            number @ POISONED..FORWARD => Status::Poisoned(i32::from(number - POISONED)),
            number => Status::Forward(REASONS[usize::from(number - FORWARD)]),
        }
    }

    /// From now on all forward.
    pub fn set_forward(&self, reason: Reason) {
        self.status.store(FORWARD + reason as u8, Ordering::Release);
    }

    /// A fast operation failed in this way, NCCL's number of it.
    pub fn set_poisoned(&self, failure: i32) {
        self.status.store(POISONED + failure as u8, Ordering::Release);
    }

    /// Ranks of the communicator, once [`Self::set_ranks`] was called; else 0.
    #[inline]
    pub fn ranks(&self) -> usize {
        self.ranks.load(Ordering::Relaxed)
    }

    /// Keeps the number of ranks.
    pub fn set_ranks(&self, ranks: usize) {
        self.ranks.store(ranks, Ordering::Relaxed);
    }

    /// True once: nothing has been said of it yet. Asked by the one thread that makes calls on it.
    pub fn is_first_report(&self) -> bool {
        let is_reported = self.is_reported.load(Ordering::Relaxed);
        self.is_reported.store(true, Ordering::Relaxed);
        !is_reported
    }

    /// Gives it what it needs and lets calls in.
    pub fn set_fast(&self, owned: T) {
        // SAFETY: the status is not Fast yet, so nobody reads this.
        self.owned.with_mut(|place| unsafe { *place = Some(owned) });
        self.status.store(FAST, Ordering::Release);
    }

    /// # Safety
    /// It is not taken as long as the reference lives.
    #[inline]
    unsafe fn owned(&self) -> Option<&T> {
        match self.status.load(Ordering::Acquire) {
            // SAFETY: written before the status; the caller knows that it stays.
            FAST..FORWARD => self.owned.with(|place| unsafe { (*place).as_ref() }),
            _ => None,
        }
    }

    /// Takes out what it owns, to be closed. No call on the handle is left.
    pub fn take_fast(&self) -> Option<T> {
        match self.status.load(Ordering::Acquire) {
            // SAFETY: nobody reads it any more.
            FAST..FORWARD => self.owned.with_mut(|place| unsafe { (*place).take() }),
            _ => None,
        }
    }

    /// Begins a call on a handle. None: that one was aborted.
    #[inline]
    pub fn enter(&'static self, handle: usize) -> Option<Busy<T>> {
        let busy = self.begin(handle)?;
        (!self.is_aborted()).then_some(busy)
    }

    /// Begins a call on a handle, also on one that was revoked. None: the handle is gone.
    #[inline]
    pub fn begin(&'static self, handle: usize) -> Option<Busy<T>> {
        // Either the abort sees that we are busy, or we see that it was aborted, or that the slot is another handle's.
        self.calls.fetch_add(1, Ordering::SeqCst);
        let busy = Busy(self);
        (self.handle.load(Ordering::SeqCst) == handle).then_some(busy)
    }

    /// Begins a call on whatever communicator has the slot. None: it has none, or that one is ending.
    pub fn begin_unless_hidden(&'static self) -> Option<Busy<T>> {
        let handle = self.handle();
        if handle > HIDDEN { self.begin(handle) } else { None }
    }

    /// Whether it was aborted or revoked.
    #[inline]
    pub fn is_aborted(&self) -> bool {
        self.aborted.load(Ordering::SeqCst)
    }

    /// Lets no further operation begin. When it is fast, `stop` stops its kernels, and it is poisoned with `failure`. The caller is the one who
    /// would take out what it owns.
    pub fn abort(&self, failure: i32, stop: impl FnOnce(&T)) {
        self.aborted.store(true, Ordering::SeqCst);
        // SAFETY: the caller takes it later, if at all.
        if let Some(owned) = unsafe { self.owned() } {
            stop(owned);
            if self.status() == Status::Fast {
                self.set_poisoned(failure);
            }
        }
    }

    /// As [`Self::abort`], but NCCL keeps the communicator.
    pub fn revoke(&self, failure: i32, stop: impl FnOnce(&T)) {
        self.revoked.store(true, Ordering::SeqCst);
        self.abort(failure, stop);
    }

    /// Whether it was revoked, and not aborted since.
    pub fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::SeqCst)
    }

    /// Whether a call on it is left.
    pub fn is_busy(&self) -> bool {
        self.calls.load(Ordering::SeqCst) != 0
    }
}

//! A slot of the communicator table: a communicator's handle, its status, and what it owns.
//!
//! Slots are never freed, only reused, because another thread may read one at any time. Two kinds of calls use what a
//! communicator owns: calls on it, which come from one thread at a time, and an abort, which NCCL allows from another
//! thread meanwhile. Each call is counted while it lasts ([`Busy`]). An abort first stops new calls from beginning
//! and then hides the handle. It takes out what the communicator owns only when no call is left. A destroy does the
//! same. NCCL allows no other call beside it, but another thread may be asking whether the communicator is idle,
//! which counts as a call.
//!
//! `tests/interleavings` checks all interleavings.

use super::sync::{AtomicBool, AtomicU8, AtomicUsize, Ordering, UnsafeCell};
use crate::route::{REASONS, Reason};

/// How far a communicator has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// In the table, not set up.
    New,
    /// All ranks have agreed to be fast.
    Fast,
    /// It was fast, and will be when all ranks have resumed it.
    Suspended,
    /// All ranks forward: they have agreed to, or each reaches this conclusion.
    Forward(Reason),
    /// A fast operation failed. All calls but abort and destroy fail with this NCCL error.
    Poisoned(i32),
}

const NEW: u8 = 0;
const FAST: u8 = 1;
const SUSPENDED: u8 = 2;
const POISONED: u8 = 3; // and up: NCCL's number of the failure is added, at most 12
const FORWARD: u8 = 16; // and up: the reason's number is added

/// A handle that no communicator has: the slot's communicator is ending.
const HIDDEN: usize = 1;

/// A slot for a communicator that, once fast, owns a `T`.
#[derive(Debug)]
pub struct Slot<T> {
    /// The application's handle; 0: free.
    handle: AtomicUsize,
    status: AtomicU8,
    /// The number of ranks; 0: not asked yet.
    ranks: AtomicUsize,
    /// Written while the status is neither Fast nor Suspended nor Poisoned; taken out when no call is left.
    owned: UnsafeCell<Option<T>>,
    /// It was aborted or revoked: its kernels are stopped, or will be.
    aborted: AtomicBool,
    /// The log has said why its calls are forwarded before the setup.
    is_reported: AtomicBool,
    /// It was revoked and not aborted: NCCL still knows it, and refuses operations itself.
    revoked: AtomicBool,
    /// The calls that are under way on it. It can be more than one: a call may do a part of itself as a call of its
    /// own, and a stale lookup may briefly enter a slot that was reused for another communicator.
    calls: AtomicUsize,
}

/// A call on a communicator. While it lives, what the communicator owns is not taken out.
pub struct Busy<T: 'static>(&'static Slot<T>);

impl<T> Busy<T> {
    /// What the communicator owns. Also of a communicator that was fast and is suspended or poisoned now: it owns that
    /// until it ends.
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
    /// An empty slot.
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

    /// Gives the slot to a handle. The caller holds the table's lock.
    pub fn assign(&self, handle: usize) {
        self.status.store(NEW, Ordering::Relaxed);
        self.ranks.store(0, Ordering::Relaxed);
        self.aborted.store(false, Ordering::Relaxed);
        self.is_reported.store(false, Ordering::Relaxed);
        self.revoked.store(false, Ordering::Relaxed);
        self.handle.store(handle, Ordering::Release);
    }

    /// Takes the handle off the slot, because NCCL may soon give it to another communicator. The slot is not free
    /// yet.
    pub fn hide(&self) {
        self.revoked.store(false, Ordering::SeqCst);
        // Either this thread sees a call that has begun, or that call sees the handle gone.
        self.handle.store(HIDDEN, Ordering::SeqCst);
    }

    /// In a child of fork: the communicator and what it owns belong to the parent. Calls that were under way in the
    /// parent's other threads do not exist here.
    pub fn leave_to_parent(&self) {
        if self.handle() > HIDDEN {
            self.calls.store(0, Ordering::Relaxed);
            self.set_forward(Reason::Forked);
        }
    }

    /// Frees the slot for another handle. The caller holds the table's lock and has taken out what was in it.
    pub fn release(&self) {
        self.handle.store(0, Ordering::Release);
    }

    /// The number of the reason, if all ranks forward. The fastest way to know.
    #[inline(always)]
    pub fn forward_reason_index(&self) -> Option<usize> {
        let status = self.status.load(Ordering::Acquire);
        (status >= FORWARD).then(|| usize::from(status - FORWARD))
    }

    /// Its status.
    #[inline]
    pub fn status(&self) -> Status {
        match self.status.load(Ordering::Acquire) {
            FAST => Status::Fast,
            SUSPENDED => Status::Suspended,
            NEW => Status::New,
            number @ POISONED..FORWARD => Status::Poisoned(i32::from(number - POISONED)),
            number => Status::Forward(REASONS[usize::from(number - FORWARD)]),
        }
    }

    /// From now on its calls are forwarded.
    pub fn set_forward(&self, reason: Reason) {
        self.status.store(FORWARD + reason as u8, Ordering::Release);
    }

    /// A fast operation failed with this NCCL error.
    pub fn set_poisoned(&self, failure: i32) {
        // An exchange, as those of a suspend and a resume, which another thread may make meanwhile.
        self.status.swap(POISONED + failure as u8, Ordering::AcqRel);
    }

    /// Suspends it. False: it is not fast.
    pub fn set_suspended(&self) -> bool {
        self.status.compare_exchange(FAST, SUSPENDED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Makes it fast again. False: it is not suspended; an abort from another thread may have poisoned it.
    pub fn set_resumed(&self) -> bool {
        self.status.compare_exchange(SUSPENDED, FAST, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// The number of ranks, after [`Self::set_ranks`]; else 0.
    #[inline]
    pub fn ranks(&self) -> usize {
        self.ranks.load(Ordering::Relaxed)
    }

    /// Keeps the number of ranks.
    pub fn set_ranks(&self, ranks: usize) {
        self.ranks.store(ranks, Ordering::Relaxed);
    }

    /// True on the first call. Only the one thread that makes calls on the communicator asks.
    pub fn is_first_report(&self) -> bool {
        let is_reported = self.is_reported.load(Ordering::Relaxed);
        self.is_reported.store(true, Ordering::Relaxed);
        !is_reported
    }

    /// Stores what it owns and makes it fast.
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

    /// Takes out what it owns. The caller has hidden the handle or aborted the communicator, and no call is left.
    pub fn take_fast(&self) -> Option<T> {
        match self.status.load(Ordering::Acquire) {
            // SAFETY: nobody reads it any more.
            FAST..FORWARD => self.owned.with_mut(|place| unsafe { (*place).take() }),
            _ => None,
        }
    }

    /// Begins a call on a handle, unless the communicator was aborted or revoked. None: it was, or the slot no longer
    /// has this handle.
    #[inline]
    pub fn enter(&'static self, handle: usize) -> Option<Busy<T>> {
        let busy = self.begin(handle)?;
        (!self.is_aborted()).then_some(busy)
    }

    /// Begins a call on a handle, also if the communicator was aborted or revoked: the only difference from
    /// [`Self::enter`]. None: the slot no longer has this handle.
    #[inline]
    pub fn begin(&'static self, handle: usize) -> Option<Busy<T>> {
        // Either the abort sees this call, or this call sees the abort, or that the slot no longer has the handle.
        self.calls.fetch_add(1, Ordering::SeqCst);
        let busy = Busy(self);
        (self.handle.load(Ordering::SeqCst) == handle).then_some(busy)
    }

    /// Begins a call on the communicator that has the slot. None: there is none, or it is ending.
    pub fn begin_unless_hidden(&'static self) -> Option<Busy<T>> {
        let handle = self.handle();
        if handle > HIDDEN { self.begin(handle) } else { None }
    }

    /// Whether its operations were stopped: it was aborted, or revoked, which stops them in the same way.
    /// [`Self::is_revoked`] tells the two apart.
    #[inline]
    pub fn is_aborted(&self) -> bool {
        self.aborted.load(Ordering::SeqCst)
    }

    /// Stops further operations from beginning. If it is fast, also calls `stop`, which stops its kernels, and
    /// poisons it with `failure`. Only the thread that would call [`Self::take_fast`] may call this, or one that is
    /// in a call on it.
    pub fn abort(&self, failure: i32, stop: impl FnOnce(&T)) {
        self.aborted.store(true, Ordering::SeqCst);
        // SAFETY: the caller takes it later, if at all.
        if let Some(owned) = unsafe { self.owned() } {
            stop(owned);
            if matches!(self.status(), Status::Fast | Status::Suspended) {
                self.set_poisoned(failure);
            }
        }
    }

    /// As [`Self::abort`], for a communicator that NCCL keeps.
    pub fn revoke(&self, failure: i32, stop: impl FnOnce(&T)) {
        self.revoked.store(true, Ordering::SeqCst);
        self.abort(failure, stop);
    }

    /// Whether it was revoked, and not aborted since.
    pub fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::SeqCst)
    }

    /// Whether a call on it is under way.
    pub fn is_busy(&self) -> bool {
        self.calls.load(Ordering::SeqCst) != 0
    }
}

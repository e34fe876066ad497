//! One communicator as this library knows it.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use super::order::Order;
use crate::gpu::context::with_context;
use crate::gpu::driver::{Driver, DriverResult};
use crate::gpu::memory::{AbortWord, PeerScratch, Scratch};
use crate::gpu::{CUcontext, CUdevice};
use crate::launch::Target;
use crate::layout::LANES;
use crate::route::{Plan, REASONS, Reason};

/// How far a communicator has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Seen, not set up.
    New,
    /// All ranks agreed on the fast path.
    Fast,
    /// All ranks agreed, or must conclude, to forward.
    Forward(Reason),
    /// A fast operation failed; nothing works any more but abort and destroy.
    Poisoned,
}

const NEW: u8 = 0;
const FAST: u8 = 1;
const POISONED: u8 = 2;
const FORWARD: u8 = 3; // and up: the reason's number is added

/// Some communicator of this process was poisoned. Applications poll for errors; this makes the answer cheap.
static EVER_POISONED: AtomicBool = AtomicBool::new(false);

/// Whether any communicator of this process was ever poisoned.
#[inline]
pub fn ever_poisoned() -> bool {
    EVER_POISONED.load(Ordering::Acquire)
}

/// A slot for a communicator. Slots are never freed, only used again: another thread may look at one at any time.
#[derive(Debug)]
pub struct Comm {
    /// The application's handle; 0: free.
    handle: AtomicUsize,
    status: AtomicU8,
    /// Ranks, once asked; 0 before.
    ranks: AtomicUsize,
    fast: UnsafeCell<Option<Fast>>,
    /// Its abort word is raised and stays so.
    aborted: AtomicBool,
}

// SAFETY: `fast` is written while the status is not Fast and read while it is; the status is stored with release and loaded
// with acquire. Its cells are used by the one thread at a time that NCCL allows in calls on a communicator. Closing takes
// the communicator out of the table first, and NCCL does not allow other calls on a handle that is being destroyed.
unsafe impl Sync for Comm {}
// SAFETY: driver handles may be used from any thread.
unsafe impl Send for Comm {}

/// What a fast communicator owns.
#[derive(Debug)]
pub struct Fast {
    /// The opened driver.
    pub driver: &'static Driver,
    /// Its device's primary context, retained.
    pub context: CUcontext,
    /// Its device.
    pub device: CUdevice,
    /// What the ranks agreed on.
    pub plan: Plan,
    /// What a launch needs.
    pub target: Target,
    /// Order of operations, by lane.
    pub order: [Order; LANES],
    /// Stops the kernels.
    pub abort_word: AbortWord,
    /// Own scratch.
    pub scratch: Scratch,
    /// The peers' scratch as mapped here.
    pub peers: Vec<PeerScratch>,
}

impl Comm {
    /// A slot with nothing in it.
    pub const fn empty() -> Self {
        Self {
            handle: AtomicUsize::new(0),
            status: AtomicU8::new(NEW),
            ranks: AtomicUsize::new(0),
            fast: UnsafeCell::new(None),
            aborted: AtomicBool::new(false),
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
        self.handle.store(handle, Ordering::Release);
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
            POISONED => Status::Poisoned,
            number => Status::Forward(REASONS[usize::from(number - FORWARD)]),
        }
    }

    /// From now on all forward.
    pub fn set_forward(&self, reason: Reason) {
        self.status.store(FORWARD + reason as u8, Ordering::Release);
    }

    /// A fast operation failed.
    pub fn poison(&self) {
        self.status.store(POISONED, Ordering::Release);
        EVER_POISONED.store(true, Ordering::Release);
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

    /// Gives it what it needs and lets calls in.
    pub fn set_fast(&self, fast: Fast) {
        // SAFETY: the status is not Fast yet, so nobody reads this.
        unsafe { *self.fast.get() = Some(fast) };
        self.status.store(FAST, Ordering::Release);
    }

    /// What it owns, while it is fast or poisoned.
    #[inline]
    pub fn fast(&self) -> Option<&Fast> {
        match self.status.load(Ordering::Acquire) {
            // SAFETY: written before the status, and not taken while calls on the handle are allowed.
            FAST | POISONED => unsafe { (*self.fast.get()).as_ref() },
            _ => None,
        }
    }

    /// Takes out what it owns, to be closed. Calls on the handle are over, or forwarded.
    pub fn take_fast(&self) -> Option<Fast> {
        self.fast()?;
        // SAFETY: see above.
        unsafe { (*self.fast.get()).take() }
    }

    /// Stops its kernels wherever they spin.
    pub fn raise_abort(&self) {
        if let Some(fast) = self.fast() {
            self.aborted.store(true, Ordering::Relaxed);
            fast.abort_word.raise();
        }
    }
}

impl Fast {
    /// Waits for the work of this communicator and gives everything back. Memory that a captured graph may still use stays.
    pub fn close(self) -> DriverResult<()> {
        let driver = self.driver;
        let context = self.context;
        let device = self.device;
        let captured = self.order.iter().any(Order::was_captured);
        with_context(driver, context, || {
            // SAFETY: the context is current.
            driver.check("cuCtxSynchronize", unsafe { (driver.ctx_synchronize)() })?;
            for order in self.order {
                order.free(driver)?;
            }
            if captured {
                // A graph may be replayed after the communicator is gone, as far as memory goes.
                return Ok(());
            }
            for peer in self.peers {
                peer.close(driver)?;
            }
            self.scratch.free(driver)?;
            self.abort_word.free(driver)
        })??;
        // SAFETY: retained at setup.
        driver.check("cuDevicePrimaryCtxRelease", unsafe { (driver.primary_ctx_release)(device) })
    }
}

//! One communicator as this library knows it.

use std::cell::{Cell, UnsafeCell};
use std::mem::size_of_val;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::leftovers::Leftovers;
use super::order::Order;
use crate::gpu::context::{RelaxedCapture, with_context};
use crate::gpu::driver::{Driver, DriverResult};
use crate::gpu::graphs::Graphs;
use crate::gpu::memory::{AbortWord, PeerScratch, Scratch, Sharing};
use crate::gpu::{CUcontext, CUdevice, CUdeviceptr, CUstream};
use crate::launch::{self, Target};
use crate::layout::{EAGER_LANE, EPOCH_OFFSET, LANES, MAX_BLOCKS};
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

/// A handle that no communicator has.
const HIDDEN: usize = 1;

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
    /// It was aborted or revoked: its abort word is raised, or will be.
    aborted: AtomicBool,
    /// A thread is in a call on it. NCCL allows an abort from another thread meanwhile, which must wait with taking things away.
    busy: AtomicBool,
}

/// While it lives, what the communicator owns is not taken away.
pub struct Busy(&'static Comm);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Release);
    }
}

// SAFETY: `fast` is written while the status is not Fast and read while it is; the status is stored with release and loaded
// with acquire. Its cells are used by the one thread at a time that NCCL allows in calls on a communicator; that thread is
// `busy`. It is taken out by a destroy, during which NCCL allows no other call, or after an abort, when nobody is busy and
// nobody can become so.
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
    /// Launches enqueued in the eager lane.
    pub launches: Cell<u64>,
    /// Launches enqueued in the captured lane; replays are not counted.
    pub captured_launches: Cell<u64>,
    /// The graphs that hold them.
    pub graphs: Graphs,
    /// The epoch of the first launch of a lane.
    pub first_epoch: u32,
    /// How scratch is shared.
    pub sharing: Sharing,
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
            busy: AtomicBool::new(false),
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

    /// Takes the handle off the slot, which nevertheless is not free: the handle may be another communicator's soon.
    pub fn hide(&self) {
        self.handle.store(HIDDEN, Ordering::Release);
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

    /// Begins a call on it. None: it was aborted.
    #[inline]
    pub fn enter(&'static self) -> Option<Busy> {
        // Either the abort sees that we are busy, or we see that it was aborted.
        self.busy.swap(true, Ordering::SeqCst);
        let busy = Busy(self);
        (!self.is_aborted()).then_some(busy)
    }

    /// Whether it was aborted or revoked.
    #[inline]
    pub fn is_aborted(&self) -> bool {
        self.aborted.load(Ordering::SeqCst)
    }

    /// Stops its kernels wherever they spin, and lets no further one begin.
    pub fn raise_abort(&self) {
        self.aborted.store(true, Ordering::SeqCst);
        if let Some(fast) = self.fast() {
            fast.abort_word.raise();
            self.poison();
        }
    }

    /// Waits until nobody is in a call on it. False: somebody still is after `limit`.
    pub fn await_calls(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.busy.load(Ordering::SeqCst) {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_micros(50));
        }
        true
    }
}

/// The epoch `launches` launches after `first`. See kernels/device/epoch.h: after the largest comes 2.
fn epoch_after(first: u32, launches: u64) -> u32 {
    const CYCLE: u64 = u32::MAX as u64 - 1;
    let ahead = u64::from(first) + launches;
    if ahead <= u64::from(u32::MAX) { ahead as u32 } else { ((ahead - 2) % CYCLE + 2) as u32 }
}

impl Fast {
    /// The epoch of the next eager launch.
    fn next_epoch(&self) -> u32 {
        epoch_after(self.first_epoch, self.launches.get())
    }

    /// Has `stream` wait for all that was enqueued eagerly.
    pub fn await_launches_on(&self, stream: CUstream) -> DriverResult<()> {
        launch::launch_await(self.driver, &self.target, EAGER_LANE, self.next_epoch(), stream)
    }

    /// Waits until all that was enqueued eagerly has run. False: it has not after `limit`.
    ///
    /// It waits for nothing else, since other work on the GPU may be waiting for what this thread does next: it looks at the
    /// epoch words, which the blocks of a launch write when they are done with scratch.
    pub fn await_idle(&self, limit: Option<Duration>) -> DriverResult<bool> {
        let expected = self.next_epoch();
        let deadline = limit.map(|limit| Instant::now() + limit);
        let _relaxed = RelaxedCapture::enter();
        with_context(self.driver, self.context, || {
            let stream = OwnStream::new(self.driver)?;
            loop {
                if self.read_epochs(&stream)?.iter().all(|epoch| *epoch == expected) {
                    return Ok(true);
                }
                if deadline.is_some_and(|deadline| Instant::now() > deadline) {
                    return Ok(false);
                }
                std::thread::sleep(Duration::from_micros(100));
            }
        })?
    }

    fn read_epochs(&self, stream: &OwnStream) -> DriverResult<[u32; MAX_BLOCKS as usize]> {
        let mut epochs = [0; MAX_BLOCKS as usize];
        let words = self.scratch.address + EPOCH_OFFSET as CUdeviceptr;
        // SAFETY: within our scratch; the array lives until the stream is synchronised.
        unsafe {
            self.driver.check(
                "cuMemcpyDtoHAsync",
                (self.driver.memcpy_dtoh_async)(epochs.as_mut_ptr().cast(), words, size_of_val(&epochs), stream.0),
            )?;
            self.driver.check("cuStreamSynchronize", (self.driver.stream_synchronize)(stream.0))?;
        }
        Ok(epochs)
    }

    /// Waits for the work of this communicator, at most `limit`, and gives everything back. What a captured graph may still use is
    /// given back when that is gone; memory that is still in use after `limit` stays.
    pub fn close(self, limit: Option<Duration>) -> DriverResult<()> {
        let (driver, context) = (self.driver, self.context);
        let idle = self.await_idle(limit)?;
        if !idle {
            log::warn!("an aborted communicator still has work on the GPU: its scratch memory stays allocated");
        }
        // A peer's kernel may write into plain memory after an abort; a mapping of its own keeps a VMM allocation alive for it.
        let aborted_and_shared = limit.is_some() && self.sharing == Sharing::LegacyIpc;
        let _relaxed = RelaxedCapture::enter();
        let freed = with_context(driver, context, || self.order.into_iter().try_for_each(|order| order.free(driver)))
            .and_then(|inner| inner);
        if !idle || aborted_and_shared {
            // SAFETY: retained at setup.
            let released = unsafe { (driver.primary_ctx_release)(self.device) };
            return freed.and(driver.check("cuDevicePrimaryCtxRelease", released));
        }
        let left = Leftovers {
            driver,
            context,
            device: self.device,
            scratch: self.scratch,
            peers: self.peers,
            abort_word: self.abort_word,
            graphs: self.graphs,
        };
        freed.and(left.free_or_keep())
    }
}

/// A stream for one purpose.
struct OwnStream(CUstream, &'static Driver);

impl OwnStream {
    fn new(driver: &'static Driver) -> DriverResult<Self> {
        const NON_BLOCKING: u32 = 1;
        let mut stream: CUstream = std::ptr::null_mut();
        // SAFETY: the out pointer is ours.
        driver.check("cuStreamCreate", unsafe { (driver.stream_create)(&mut stream, NON_BLOCKING) })?;
        Ok(Self(stream, driver))
    }
}

impl Drop for OwnStream {
    fn drop(&mut self) {
        // SAFETY: created in `new`; its context is current where it lives.
        unsafe { (self.1.stream_destroy)(self.0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_are_counted_as_the_device_counts_them() {
        let device = |epoch: u32| if epoch == u32::MAX { 2 } else { epoch + 1 };
        for first in [1, 2, 1000, u32::MAX - 3, u32::MAX] {
            let mut epoch = first;
            for launches in 0..10 {
                assert_eq!(epoch_after(first, launches), epoch);
                epoch = device(epoch);
            }
        }
        assert_eq!(epoch_after(5, u64::from(u32::MAX) - 1), 5);
    }
}

//! One communicator as this library knows it.

use std::cell::Cell;
use std::mem::size_of_val;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::leftovers::{self, Leftovers};
use super::order::Order;
use super::slot::Slot;
pub use super::slot::Status;
use crate::gpu::context::{RelaxedCapture, with_context};
use crate::gpu::driver::{Driver, DriverResult};
use crate::gpu::graphs::Graphs;
use crate::gpu::memory::{AbortWord, PeerScratch, Scratch, Sharing};
use crate::gpu::{CUcontext, CUdevice, CUdeviceptr, CUstream};
use crate::launch::{self, Target};
use crate::layout::{EAGER_LANE, EPOCH_OFFSET, LANES, MAX_BLOCKS};
use crate::route::Plan;

/// A communicator: a slot of the side table.
pub type Comm = Slot<Fast>;

/// Some communicator of this process was poisoned. Applications poll for errors; this makes the answer cheap.
static EVER_POISONED: AtomicBool = AtomicBool::new(false);

/// Whether any communicator of this process was ever poisoned.
#[inline]
pub fn ever_poisoned() -> bool {
    EVER_POISONED.load(Ordering::Acquire)
}

// SAFETY: what a slot owns is written while the status is not Fast and read while it is; the status is stored with release and
// loaded with acquire. Its cells are used by the one thread at a time that NCCL allows in calls on a communicator; that call is
// counted. It is taken out by a destroy, during which NCCL allows no other call, or after an abort, when no call is left and
// none can begin.
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
    /// A fast operation failed.
    pub fn poison(&self) {
        self.set_poisoned();
        EVER_POISONED.store(true, Ordering::Release);
    }

    /// Stops its kernels wherever they spin, and lets no further one begin.
    pub fn raise_abort(&self) {
        self.abort(stop);
    }

    /// As [`Self::raise_abort`], on a communicator that NCCL keeps.
    pub fn raise_revoke(&self) {
        self.revoke(stop);
    }

    /// Waits until nobody is in a call on it. False: somebody still is after `limit`.
    pub fn await_calls(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.is_busy() {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_micros(50));
        }
        true
    }
}

fn stop(fast: &Fast) {
    fast.abort_word.raise();
    EVER_POISONED.store(true, Ordering::Release);
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
        let waited = self.await_idle(limit);
        let idle = matches!(waited, Ok(true));
        if let Err(error) = &waited {
            log::warn!("cannot wait for a communicator's work, so its scratch memory stays allocated: {error}");
        } else if !idle {
            log::warn!("an aborted communicator still has work on the GPU: its scratch memory stays allocated");
        }
        // A peer's kernel may write into plain memory after an abort; a mapping of its own keeps a VMM allocation alive for it.
        let aborted_and_shared = limit.is_some() && self.sharing == Sharing::LegacyIpc;
        let _relaxed = RelaxedCapture::enter();
        let freed = with_context(driver, context, || {
            // One that fails does not keep the others.
            let freed: Vec<DriverResult<()>> = self.order.into_iter().map(|order| order.free(driver)).collect();
            freed.into_iter().collect::<DriverResult<()>>()
        })
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
        let freed = freed.and(left.free_or_keep());
        if limit.is_none() {
            leftovers::sweep(self.device);
        }
        freed
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

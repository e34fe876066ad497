//! One communicator as this library knows it.

use std::mem::size_of_val;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::graph_order::GraphOrder;
use super::leftovers::Leftovers;
use super::order::Order;
use super::slot::Slot;
pub use super::slot::Status;
use crate::api::abi::{ncclResult_t, ncclUnhandledCudaError};
use crate::gpu::context::{RelaxedCapture, with_context};
use crate::gpu::driver::{Driver, DriverResult};
use crate::gpu::graphs::Graphs;
use crate::gpu::memory::{PeerScratch, Scratch, Sharing};
use crate::gpu::watch::WatchWords;
use crate::gpu::{CUcontext, CUdevice, CUdeviceptr, CUstream};
use crate::launch::{self, Enqueued, Target};
use crate::layout::{COUNT_OFFSET, COUNT_SHIFT, EAGER_LANE, LANE_BYTES};
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
    /// Order of eager operations.
    pub order: Order,
    /// Order of captured ones.
    pub graph_order: GraphOrder,
    /// Between us and the kernels that spin.
    pub watch: WatchWords,
    /// In the eager lane.
    pub eager: Enqueued,
    /// In the captured lane; replays are not counted.
    pub captured: Enqueued,
    /// The graphs that hold them.
    pub graphs: Graphs,
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
        self.poison_with(ncclUnhandledCudaError);
    }

    /// A fast operation failed; `failure` is what the application is told from now on.
    pub fn poison_with(&self, failure: ncclResult_t) {
        self.set_poisoned(failure);
        EVER_POISONED.store(true, Ordering::Release);
    }

    /// Stops its kernels wherever they spin, and lets no further one begin.
    pub fn raise_abort(&self) {
        self.abort(ncclUnhandledCudaError, stop);
    }

    /// As [`Self::raise_abort`], on a communicator that NCCL keeps.
    pub fn raise_revoke(&self) {
        self.revoke(ncclUnhandledCudaError, stop);
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
    fast.watch.stop();
    EVER_POISONED.store(true, Ordering::Release);
}

impl Fast {
    /// Has `stream` wait for all that was enqueued eagerly.
    pub fn await_launches_on(&self, stream: CUstream) -> DriverResult<()> {
        launch::launch_await(self.driver, &self.target, EAGER_LANE, self.eager.blocks.get(), stream)
    }

    /// Waits until all that was enqueued eagerly has run. False: it has not after `limit`, or it is hopeless to wait on.
    ///
    /// It waits for nothing else, since other work on the GPU may be waiting for what this thread does next: it looks at the
    /// count of blocks that are done with scratch.
    pub fn await_idle(&self, limit: Option<Duration>, is_hopeless: impl Fn() -> bool) -> DriverResult<bool> {
        let expected = self.eager.blocks.get();
        let deadline = limit.map(|limit| Instant::now() + limit);
        let _relaxed = RelaxedCapture::enter();
        with_context(self.driver, self.context, || {
            let stream = OwnStream::new(self.driver)?;
            loop {
                if self.read_count(&stream)? == expected {
                    return Ok(true);
                }
                if deadline.is_some_and(|deadline| Instant::now() > deadline) || is_hopeless() {
                    return Ok(false);
                }
                std::thread::sleep(Duration::from_micros(100));
            }
        })?
    }

    fn read_count(&self, stream: &OwnStream) -> DriverResult<u32> {
        let mut count_word = 0_u64;
        let word = self.scratch.address + (EAGER_LANE * LANE_BYTES + COUNT_OFFSET) as CUdeviceptr;
        // SAFETY: within our scratch; the variable lives until the stream is synchronised.
        unsafe {
            self.driver.check(
                "cuMemcpyDtoHAsync",
                (self.driver.memcpy_dtoh_async)((&raw mut count_word).cast(), word, size_of_val(&count_word), stream.0),
            )?;
            self.driver.check("cuStreamSynchronize", (self.driver.stream_synchronize)(stream.0))?;
        }
        Ok((count_word >> COUNT_SHIFT) as u32)
    }

    /// Waits for the work of this communicator, at most `limit`, and gives everything back. What a captured graph may still use is
    /// given back when that is gone; memory that is still in use after `limit` stays.
    pub fn close(self, limit: Option<Duration>) -> DriverResult<()> {
        let (driver, context) = (self.driver, self.context);
        let waited = self.await_idle(limit, || false);
        let idle = matches!(waited, Ok(true));
        if let Err(error) = &waited {
            log::warn!("cannot wait for a communicator's work, so its scratch memory stays allocated: {error}");
        } else if !idle {
            log::warn!("an aborted communicator still has work on the GPU: its scratch memory stays allocated");
        }
        // A peer's kernel may write into plain memory after an abort; a mapping of its own keeps a VMM allocation alive for it.
        let aborted_and_shared = limit.is_some() && self.sharing == Sharing::LegacyIpc;
        let _relaxed = RelaxedCapture::enter();
        let freed = with_context(driver, context, || self.order.free(driver)).and_then(|inner| inner);
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
            watch: self.watch,
            graphs: self.graphs,
            graph_order: self.graph_order,
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

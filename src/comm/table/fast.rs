//! A communicator in the table, and what a fast one owns.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{self, Relaxed};
use std::time::{Duration, Instant};

use crate::comm::life::idle;
use crate::comm::life::idle::OwnStream;
use crate::comm::life::resources::Resources;
use crate::comm::run::graph_order::GraphOrder;
use crate::comm::run::stream_order::StreamOrder;
use crate::comm::table::slot::Slot;
pub use crate::comm::table::slot::Status;
use crate::gpu::context::RelaxedCapture;
use crate::gpu::driver::{Driver, DriverResult};
use crate::gpu::graphs::Graphs;
use crate::gpu::memory::Sharing;
use crate::gpu::{CUdevice, CUstream};
use crate::kernel::layout::EAGER_LANE;
use crate::launch;
use crate::launch::{Enqueued, Target};
use crate::nccl::{ncclResult_t, ncclUnhandledCudaError};
use crate::route::Agreed;

/// A communicator: a slot of the communicator table.
pub type Comm = Slot<Fast>;

/// Some communicator of this process was poisoned. Applications poll for errors; this makes the answer cheap.
static EVER_POISONED: AtomicBool = AtomicBool::new(false);

/// Whether any communicator of this process was ever poisoned.
#[inline]
pub fn ever_poisoned() -> bool {
    EVER_POISONED.load(Ordering::Acquire)
}

// SAFETY: what a slot owns is written while the status is not Fast and read while it is; the status is stored with
// release and loaded with acquire. Its cells are used by the one thread at a time that NCCL allows in calls on a
// communicator; that call is counted. Other threads only ask whether it is idle, as a call that is counted, and touch
// no cell for that. It is taken out by a destroy or after an abort, when no call is left and none can begin.
unsafe impl Sync for Comm {}
// SAFETY: driver handles may be used from any thread.
unsafe impl Send for Comm {}

/// A fast communicator.
#[derive(Debug)]
pub struct Fast {
    /// What it owns on the GPU.
    pub resources: Resources,
    /// The values on which the ranks agreed.
    pub agreed: Agreed,
    /// What a launch needs.
    pub target: Target,
    /// What was enqueued in the eager lane.
    pub eager: Enqueued,
    /// What was captured; replays of the graphs are not counted.
    pub captured: Enqueued,
    /// It was suspended by dimeCommSuspend, and not by NCCL's function. Valid while it is suspended.
    pub is_suspended_by_dime: AtomicBool,
}

impl Comm {
    /// Poisons it: a fast operation failed.
    pub fn poison(&self) {
        self.poison_with(ncclUnhandledCudaError);
    }

    /// Poisons it: a fast operation failed. `failure` is the NCCL error that the application gets from now on.
    pub fn poison_with(&self, failure: ncclResult_t) {
        self.set_poisoned(failure);
        EVER_POISONED.store(true, Ordering::Release);
    }

    /// Stops its kernels that spin, and stops further ones from beginning.
    pub fn raise_abort(&self) {
        self.abort(ncclUnhandledCudaError, stop);
    }

    /// As [`Self::raise_abort`], for a communicator that NCCL keeps.
    pub fn raise_revoke(&self) {
        self.revoke(ncclUnhandledCudaError, stop);
    }

    /// Waits until no call is under way on it. False: one still is after `limit`.
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
    fast.stop();
    EVER_POISONED.store(true, Ordering::Release);
}

impl Fast {
    /// The opened driver.
    #[inline(always)]
    pub fn driver(&self) -> &'static Driver {
        self.resources.context.driver
    }

    /// Its device.
    pub fn device(&self) -> CUdevice {
        self.resources.context.device
    }

    /// The order of eager operations across streams.
    #[inline(always)]
    pub fn order(&self) -> &StreamOrder {
        present(&self.resources.order)
    }

    /// The order of captured operations.
    #[inline(always)]
    pub fn graph_order(&self) -> &GraphOrder {
        present(&self.resources.graph_order)
    }

    /// The graphs that contain captured operations.
    pub fn graphs(&self) -> &Graphs {
        &self.resources.graphs
    }

    /// Tells its kernels to stop spinning, now and later.
    pub fn stop(&self) {
        present(&self.resources.mailbox).stop();
    }

    /// Makes `stream` wait for all eager launches so far.
    pub fn await_launches_on(&self, stream: CUstream) -> DriverResult<()> {
        launch::launch_await(self.driver(), &self.target, EAGER_LANE, self.eager.blocks.load(Relaxed), stream)
    }

    /// Whether all launches of the eager lane have ended; replays of graphs are not asked about. Any thread may ask; it
    /// does not wait for them.
    pub fn is_eager_lane_idle(&self) -> DriverResult<bool> {
        let _relaxed = RelaxedCapture::enter();
        self.resources.context.run(|| self.is_over(&OwnStream::new(self.driver())?))?
    }

    /// Waits until all launches of the eager lane have ended; not for replays of graphs. False: they have not after
    /// `limit`, or `is_hopeless` says that they may never end.
    pub fn await_eager_lane(&self, limit: Option<Duration>, is_hopeless: impl Fn() -> bool) -> DriverResult<bool> {
        let deadline = limit.map(|limit| Instant::now() + limit);
        let _relaxed = RelaxedCapture::enter();
        self.resources.context.run(|| {
            let stream = OwnStream::new(self.driver())?;
            loop {
                if self.is_over(&stream)? {
                    return Ok(true);
                }
                if deadline.is_some_and(|deadline| Instant::now() > deadline) || is_hopeless() {
                    return Ok(false);
                }
                std::thread::sleep(Duration::from_micros(100));
            }
        })?
    }

    fn is_over(&self, stream: &OwnStream) -> DriverResult<bool> {
        let blocks = self.eager.blocks.load(Relaxed);
        idle::is_over(self.driver(), stream, present(&self.resources.scratch), blocks, self.order())
    }

    /// How its scratch is shared.
    pub fn sharing(&self) -> Sharing {
        present(&self.resources.scratch).sharing()
    }

    /// Releases the physical memory of its scratch, and unmaps that of its peers. Error: why some or all of it is kept.
    pub fn release_scratch(&self) -> Result<(), String> {
        match self.is_eager_lane_idle() {
            Ok(true) => self.resources.suspend().map_err(|error| error.to_string()),
            Ok(false) => Err("its all-reduces have not ended".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// A resource that every fast communicator has.
#[inline(always)]
fn present<T>(resource: &Option<T>) -> &T {
    match resource {
        Some(resource) => resource,
        None => unreachable!("a communicator is fast when all of its resources are there"),
    }
}

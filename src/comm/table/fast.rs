//! One communicator as this library knows it.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{self, Relaxed};
use std::time::{Duration, Instant};

use crate::comm::life::deferred_free::Resources;
use crate::comm::life::idle;
use crate::comm::life::idle::OwnStream;
use crate::comm::run::graph_order::GraphOrder;
use crate::comm::run::stream_order::StreamOrder;
use crate::comm::table::slot::Slot;
pub use crate::comm::table::slot::Status;
use crate::gpu::context::{RelaxedCapture, with_context};
use crate::gpu::driver::{Driver, DriverResult};
use crate::gpu::graphs::Graphs;
use crate::gpu::mailbox::Mailbox;
use crate::gpu::memory::{PeerScratch, Scratch};
use crate::gpu::{CUcontext, CUdevice, CUstream};
use crate::kernel::layout::EAGER_LANE;
use crate::launch;
use crate::launch::{Enqueued, Target};
use crate::nccl::{ncclResult_t, ncclUnhandledCudaError};
use crate::route::Agreed;

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
// counted. Other threads only ask whether it is idle, as a call that is counted, and touch no cell for that. It is taken out by a
// destroy or after an abort, when no call is left and none can begin.
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
    pub plan: Agreed,
    /// What a launch needs.
    pub target: Target,
    /// Order of eager operations.
    pub order: StreamOrder,
    /// Order of captured ones.
    pub graph_order: GraphOrder,
    /// Between us and the kernels that spin.
    pub mailbox: Mailbox,
    /// In the eager lane.
    pub eager: Enqueued,
    /// In the captured lane; replays are not counted.
    pub captured: Enqueued,
    /// The graphs that hold them.
    pub graphs: Graphs,
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
    fast.mailbox.stop();
    EVER_POISONED.store(true, Ordering::Release);
}

impl Fast {
    /// Has `stream` wait for all that was enqueued eagerly.
    pub fn await_launches_on(&self, stream: CUstream) -> DriverResult<()> {
        launch::launch_await(self.driver, &self.target, EAGER_LANE, self.eager.blocks.load(Relaxed), stream)
    }

    /// Whether all that was enqueued eagerly has run. Any thread may ask; nothing is waited for.
    pub fn is_idle(&self) -> DriverResult<bool> {
        let _relaxed = RelaxedCapture::enter();
        with_context(self.driver, self.context, || self.is_over(&OwnStream::new(self.driver)?))?
    }

    /// Waits until all that was enqueued eagerly has run. False: it has not after `limit`, or it is hopeless to wait on.
    pub fn await_idle(&self, limit: Option<Duration>, is_hopeless: impl Fn() -> bool) -> DriverResult<bool> {
        let deadline = limit.map(|limit| Instant::now() + limit);
        let _relaxed = RelaxedCapture::enter();
        with_context(self.driver, self.context, || {
            let stream = OwnStream::new(self.driver)?;
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
        idle::is_over(self.driver, stream, self.scratch.address, self.eager.blocks.load(Relaxed), &self.order)
    }

    /// What is to be given back when nothing uses it any more.
    pub fn into_resources(self) -> Resources {
        Resources {
            driver: self.driver,
            context: self.context,
            device: self.device,
            channel: None,
            scratch: Some(self.scratch),
            peers: self.peers,
            mailbox: Some(self.mailbox),
            blocks: Some(self.eager.blocks.into_inner()),
            order: Some(self.order),
            graphs: self.graphs,
            graph_order: Some(self.graph_order),
            awaits_peers: false,
        }
    }
}

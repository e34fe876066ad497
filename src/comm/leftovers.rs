//! Memory that nobody needs any more, or will not need one day, until there is a good moment to give it back.
//!
//! Of communicators that are gone, what graphs use that were captured with them and can still be replayed: the driver says when the last
//! such graph is gone, but at a moment when nothing can be freed. And what a setup exchanged its messages in: the setup is over
//! when another communicator may be at work on the device, which freeing would wait for. All is freed when the next communicator
//! of the device is destroyed.

use super::exchange::Channel;
use super::graph_order::GraphOrder;
use crate::gpu::context::{RelaxedCapture, with_context};
use crate::gpu::driver::{Driver, DriverResult};
use crate::gpu::graphs::Graphs;
use crate::gpu::memory::{PeerScratch, Scratch};
use crate::gpu::watch::WatchWords;
use crate::gpu::{CUcontext, CUdevice};
use crate::lock::Lock;

/// What the kernels of a communicator use.
#[derive(Debug)]
pub struct Leftovers {
    /// The opened driver.
    pub driver: &'static Driver,
    /// The primary context, retained.
    pub context: CUcontext,
    /// Its device.
    pub device: CUdevice,
    /// Own scratch.
    pub scratch: Scratch,
    /// The peers' scratch as mapped here.
    pub peers: Vec<PeerScratch>,
    /// Between us and the kernels that spin.
    pub watch: WatchWords,
    /// Who may still launch them.
    pub graphs: Graphs,
    /// Whose event those record.
    pub graph_order: GraphOrder,
}

// SAFETY: driver handles may be used from any thread; the cells of `graphs` are not touched any more.
unsafe impl Send for Leftovers {}

static KEPT: Lock<Vec<Leftovers>> = Lock::new(Vec::new());

/// The channel of a setup that is over, and its device, whose primary context it keeps.
struct KeptChannel {
    channel: Channel,
    driver: &'static Driver,
    device: CUdevice,
}

// SAFETY: driver handles may be used from any thread.
unsafe impl Send for KeptChannel {}

static CHANNELS: Lock<Vec<KeptChannel>> = Lock::new(Vec::new());

/// Keeps the channel of a setup on a device until the next sweep there. The caller has the primary context retained.
pub fn keep_channel(channel: Channel, driver: &'static Driver, device: CUdevice) {
    let mut context: CUcontext = std::ptr::null_mut();
    // SAFETY: the out pointer is ours; released when the channel is closed.
    let retained = unsafe { (driver.primary_ctx_retain)(&mut context, device) };
    if let Err(error) = driver.check("cuDevicePrimaryCtxRetain", retained) {
        log::warn!("the buffer of a setup stays allocated: {error}");
        return;
    }
    CHANNELS.hold().push(KeptChannel { channel, driver, device });
}

impl Leftovers {
    /// Gives everything back now, or when the last graph is gone.
    pub fn free_or_keep(self) -> DriverResult<()> {
        if self.graphs.any_alive() {
            KEPT.hold().push(self);
            return Ok(());
        }
        self.free()
    }

    fn free(self) -> DriverResult<()> {
        let driver = self.driver;
        let _relaxed = RelaxedCapture::enter();
        let freed = with_context(driver, self.context, || {
            // One that fails does not keep the others.
            let mut steps: Vec<DriverResult<()>> = self.peers.into_iter().map(|peer| peer.close(driver)).collect();
            steps.push(self.scratch.free(driver));
            steps.push(self.watch.free(driver));
            steps.push(self.graph_order.free(driver));
            steps.into_iter().collect::<DriverResult<()>>()
        })
        .and_then(|inner| inner);
        // SAFETY: retained at setup.
        let released = unsafe { (driver.primary_ctx_release)(self.device) };
        freed.and(driver.check("cuDevicePrimaryCtxRelease", released))
    }
}

/// Frees what was left on a device and no graph needs any more. Freeing waits for all work of the device, so this is for a moment
/// when the caller would wait for that anyway.
pub fn sweep(device: CUdevice) {
    let free: Vec<Leftovers> = {
        let mut kept = KEPT.hold();
        let stays = |left: &Leftovers| left.device != device || left.graphs.any_alive();
        let (keep, free) = std::mem::take(&mut *kept).into_iter().partition(stays);
        *kept = keep;
        free
    };
    for left in free {
        if let Err(error) = left.free() {
            log::warn!("not everything of a communicator that lived on in a graph could be given back: {error}");
        }
    }
    let channels: Vec<KeptChannel> = {
        let mut kept = CHANNELS.hold();
        let (free, keep) = std::mem::take(&mut *kept)
            .into_iter()
            .partition(|kept: &KeptChannel| kept.device == device && kept.channel.is_idle());
        *kept = keep;
        free
    };
    let _relaxed = RelaxedCapture::enter();
    for KeptChannel { channel, driver, device } in channels {
        let closed = channel.close();
        // SAFETY: retained in `keep_channel`.
        let released = unsafe { (driver.primary_ctx_release)(device) };
        if let Err(error) = closed.and(driver.check("cuDevicePrimaryCtxRelease", released)) {
            log::warn!("the buffer of a setup could not be given back: {error}");
        }
    }
}

//! What communicators and setups leave behind, until there is a moment to give it back.
//!
//! The driver waits for the GPU when memory is freed, unmapped or closed. There another communicator may spin for what this thread
//! does next: for its abort in the same group, or for a call on another GPU. So nothing is given back where it is not needed any more, but
//! put here, and given back at a moment at which the driver has nothing to wait for as far as one can know. Never while a communicator
//! on the GPU, or one that has ended, has work of ours that is not over; never while a setup is under way, whose messages may wait on the
//! GPU for a rank that is about to map memory, which takes turns with what unmaps it; and then
//!
//! - when the process has no communicator any more: then NCCL has nothing on its GPUs either. And when a setup failed and there is no
//!   other communicator.
//! - behind a destroy, on its GPU. NCCL's own destroy has just freed memory of the host, for which the driver has waited for the GPU, so
//!   what spins for this thread would have kept it from getting here.
//! - behind an abort, on its GPU, when much is kept there. NCCL's own abort frees in the same way, but this is where programs end one
//!   communicator after the other while the next one spins.
//!
//! In a group all this is done at its end, behind NCCL's, when all communicators that it aborts have been stopped.
//!
//! One entry is given back when its own work is over: what was enqueued, the graphs that were captured with it (the driver says
//! when the last one is gone, but at a moment when nothing can be freed), and the messages of a setup. Memory that was shared by
//! legacy IPC goes last, when no peer has it open.

use std::time::{Duration, Instant};

use crate::comm::life::ending;
use crate::comm::life::idle;
use crate::comm::life::idle::OwnStream;
use crate::comm::run::graph_order::GraphOrder;
use crate::comm::run::stream_order::StreamOrder;
use crate::comm::setup::beacon;
use crate::comm::setup::exchange::Channel;
use crate::comm::table::fast::Comm;
use crate::comm::table::slot::Status;
use crate::comm::{setup, table};
use crate::gpu::context::{RelaxedCapture, with_context};
use crate::gpu::driver::{Driver, DriverResult};
use crate::gpu::graphs::Graphs;
use crate::gpu::mailbox::Mailbox;
use crate::gpu::memory::{PeerScratch, Scratch};
use crate::gpu::{CUcontext, CUdevice};
use crate::host::lock::Lock;
use crate::route::Reason;

/// While the process has other communicators: with more kept ones than this on a GPU, an abort frees as a destroy does.
const MOST_ABORTED: usize = 8;

/// How long a destroy waits for peers that have its memory open, which destroy the communicator too.
const PEERS_LIMIT: Duration = Duration::from_millis(200);

/// What a communicator or a setup owned.
#[derive(Debug)]
pub struct Resources {
    /// The opened driver.
    pub driver: &'static Driver,
    /// The primary context, retained.
    pub context: CUcontext,
    /// Its device.
    pub device: CUdevice,
    /// What a setup exchanged its messages in.
    pub channel: Option<Channel>,
    /// Own scratch.
    pub scratch: Option<Scratch>,
    /// The peers' scratch as mapped here.
    pub peers: Vec<PeerScratch>,
    /// Between us and the kernels that spin.
    pub mailbox: Option<Mailbox>,
    /// Blocks that were enqueued in the eager lane. None: the communicator was never fast.
    pub blocks: Option<u32>,
    /// Behind what is not counted.
    pub order: Option<StreamOrder>,
    /// Who may still launch kernels that use all this.
    pub graphs: Graphs,
    /// Whose event those record.
    pub graph_order: Option<GraphOrder>,
    /// Its peers are about to close what they have open of it: they destroy the communicator, too.
    pub awaits_peers: bool,
}

// SAFETY: driver handles may be used from any thread; the cells are not touched any more.
unsafe impl Send for Resources {}

static KEPT: Lock<Vec<Resources>> = Lock::new(Vec::new());

/// What has just been done.
#[derive(Clone, Copy, Debug)]
pub enum After<'a> {
    /// A communicator could not be set up.
    Setup(&'a Comm),
    /// Communicators on these devices were aborted, or destroyed after they had failed.
    Abort(&'a [CUdevice]),
    /// Communicators on these devices were destroyed.
    Destroy(&'a [CUdevice]),
}

/// Who may still use what was left behind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum User {
    Nobody,
    /// Work that is enqueued.
    Running,
    /// A graph that can be launched.
    Graph,
    /// Something was enqueued of which nobody can tell when it is over.
    Unknown,
}

/// Keeps it until a sweep finds it unused.
pub fn keep(left: Resources) {
    KEPT.hold().push(left);
}

/// Keeps the channel of a setup. The caller has the primary context retained.
pub fn keep_channel(channel: Channel, driver: &'static Driver, context: CUcontext, device: CUdevice) {
    let mut same: CUcontext = std::ptr::null_mut();
    // SAFETY: the out pointer is ours; released when the channel is closed.
    let retained = unsafe { (driver.primary_ctx_retain)(&mut same, device) };
    if let Err(error) = driver.check("cuDevicePrimaryCtxRetain", retained) {
        log::warn!("the buffer of a setup stays allocated: {error}");
        return;
    }
    keep(Resources { channel: Some(channel), ..Resources::nothing(driver, context, device) });
}

impl Resources {
    /// Of a context that the caller has retained.
    pub fn nothing(driver: &'static Driver, context: CUcontext, device: CUdevice) -> Self {
        Self {
            driver,
            context,
            device,
            channel: None,
            scratch: None,
            peers: Vec::new(),
            mailbox: None,
            blocks: None,
            order: None,
            graphs: Graphs::default(),
            graph_order: None,
            awaits_peers: false,
        }
    }

    /// Who may use it still. Waits for a small copy on a stream of its own, and for nothing else.
    fn user(&self) -> DriverResult<User> {
        if self.order.as_ref().is_some_and(StreamOrder::is_lost) {
            return Ok(User::Unknown);
        }
        if self.channel.as_ref().is_some_and(|channel| !channel.is_idle()) {
            return Ok(User::Running);
        }
        if let (Some(blocks), Some(scratch), Some(order)) = (self.blocks, &self.scratch, &self.order) {
            let is_over = with_context(self.driver, self.context, || {
                idle::is_over(self.driver, &OwnStream::new(self.driver)?, scratch.address, blocks, order)
            })??;
            if !is_over {
                return Ok(User::Running);
            }
        }
        Ok(if self.graphs.any_alive() { User::Graph } else { User::Nobody })
    }

    /// Gives back the peers' memory, which frees what only this process had open of others. As far as no setup begins meanwhile.
    fn close_peers(&mut self) {
        let driver = self.driver;
        let closed = with_context(driver, self.context, || {
            // One that fails does not keep the others.
            let mut steps = Vec::new();
            while !setup::is_any_under_way()
                && let Some(peer) = self.peers.pop()
            {
                steps.push(peer.close(driver));
            }
            steps.into_iter().collect::<DriverResult<()>>()
        });
        complain(closed.and_then(|inner| inner));
    }

    /// Gives back the rest, but no memory that a peer has open. True: nothing is left.
    fn free(&mut self) -> bool {
        if !self.peers.is_empty() || setup::is_any_under_way() {
            return false;
        }
        if let Some(mailbox) = self.mailbox.take() {
            mailbox.give_back();
        }
        let driver = self.driver;
        let freed = with_context(driver, self.context, || {
            let mut steps = Vec::new();
            if let Some(scratch) = self.scratch.take_if(|scratch| !scratch.is_leased()) {
                steps.push(scratch.free(driver));
            }
            steps.extend(self.order.take().map(|order| order.free(driver)));
            steps.extend(self.graph_order.take().map(|order| order.free(driver)));
            steps.extend(self.channel.take().map(Channel::close));
            steps.into_iter().collect::<DriverResult<()>>()
        });
        complain(freed.and_then(|inner| inner));
        if self.scratch.is_some() {
            return false;
        }
        self.release_context();
        true
    }

    /// Its kernels may run, so nothing is given back: not the context either, and no lease that tells a peer that its memory is closed here.
    fn leave_allocated(self) {
        std::mem::forget(self);
    }

    fn release_context(&self) {
        // SAFETY: retained by whoever kept this.
        let released = unsafe { (self.driver.primary_ctx_release)(self.device) };
        complain(self.driver.check("cuDevicePrimaryCtxRelease", released));
    }
}

fn complain(outcome: DriverResult<()>) {
    if let Err(error) = outcome {
        log::warn!("not everything of a communicator could be given back: {error}");
    }
}

/// Gives back what is not used any more, if this is a moment for it.
pub fn sweep(moment: After) {
    // Where nothing is kept the driver is not asked for anything.
    if KEPT.hold().is_empty() {
        return;
    }
    let _relaxed = RelaxedCapture::enter();
    let deadline = Instant::now() + PEERS_LIMIT;
    let beside = if let After::Setup(comm) = moment { Some(comm) } else { None };
    loop {
        let has_others = has_others(beside);
        if !free_unused(&may_free(moment, has_others), has_others) {
            break;
        }
        if Instant::now() > deadline {
            // Once is enough: one that is gone for good is not waited for again.
            KEPT.hold().iter_mut().for_each(|left| left.awaits_peers = false);
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The devices on which the driver has nothing to wait for, as far as one can know.
fn may_free(moment: After, has_others: bool) -> Vec<CUdevice> {
    let mut devices: Vec<(CUdevice, usize)> = Vec::new();
    for left in KEPT.hold().iter() {
        let with_scratch = usize::from(left.scratch.is_some());
        match devices.iter_mut().find(|(device, _)| *device == left.device) {
            Some((_, count)) => *count += with_scratch,
            None => devices.push((left.device, with_scratch)),
        }
    }
    if setup::is_any_under_way() {
        return Vec::new();
    }
    let is_moment = |(device, count): &(CUdevice, usize)| match moment {
        _ if !has_others => true,
        After::Setup(_) => false,
        After::Abort(devices) => devices.contains(device) && *count > MOST_ABORTED,
        After::Destroy(devices) => devices.contains(device),
    };
    // Behind a destroy NCCL has waited for replays that a peer holds up; behind an abort it has not.
    let with_graphs = matches!(moment, After::Abort(_));
    devices.retain(|of_device| is_moment(of_device) && !is_anything_running(of_device.0, with_graphs));
    devices.into_iter().map(|(device, _)| device).collect()
}

/// Whether the process has a communicator beside this one. Those of the parent of a fork are not its.
fn has_others(than: Option<&Comm>) -> bool {
    let is_it = |comm: &Comm| than.is_some_and(|than| std::ptr::eq(comm, than));
    let of_the_parent = Status::Forward(Reason::Forked);
    table::all().any(|comm| !is_it(comm) && comm.status() != of_the_parent)
        || beacon::knows_others(than.map_or(0, Comm::handle))
}

/// Whether a communicator on a device has work of ours that is not over. One that another thread is ending has waited for its work, or
/// stopped it. Nobody knows of a replay whether it runs: `with_graphs` counts every graph that can be replayed as one that does.
fn is_anything_running(device: CUdevice, with_graphs: bool) -> bool {
    let is_running = |comm: &'static Comm| {
        let Some(busy) = comm.begin_unless_hidden() else { return false };
        // One that cannot be asked may have some.
        busy.fast().is_some_and(|fast| {
            let may_replay = with_graphs && fast.graphs.any_alive();
            fast.device == device && (may_replay || !matches!(fast.is_idle(), Ok(true)))
        })
    };
    ending::are_any_to_be_awaited() || table::all().any(is_running)
}

/// True: a peer in another process is about to close memory that it has open.
fn free_unused(devices: &[CUdevice], has_others: bool) -> bool {
    let may_be_freed = |left: &Resources| {
        // For memory of the host the driver waits for the other devices, too.
        let waits_for_all = left.channel.as_ref().is_some_and(Channel::is_in_host_memory);
        devices.contains(&left.device) && !(waits_for_all && has_others)
    };
    let of_devices: Vec<Resources> = KEPT.hold().extract_if(.., |left| may_be_freed(left)).collect();
    let (mut unused, mut running) = (Vec::new(), Vec::new());
    for left in of_devices {
        match left.user() {
            Ok(User::Nobody) => unused.push(left),
            Ok(User::Graph) => keep(left),
            Ok(User::Running) => {
                running.push(left.device);
                keep(left);
            }
            Ok(User::Unknown) => {
                log::warn!("not everything of a communicator is known to be over: what it owns stays allocated");
                left.leave_allocated();
            }
            Err(error) => {
                log::warn!("cannot ask how far a communicator's work is, so what it owns stays allocated: {error}");
                left.leave_allocated();
            }
        }
    }
    // What runs there would be waited for.
    unused.extract_if(.., |left| running.contains(&left.device)).for_each(keep);
    unused.iter_mut().for_each(Resources::close_peers);
    let mut is_leased = false;
    for mut left in unused {
        if !left.free() {
            is_leased |= left.awaits_peers && left.scratch.as_ref().is_some_and(Scratch::is_leased_elsewhere);
            keep(left);
        }
    }
    is_leased
}

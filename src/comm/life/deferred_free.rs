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

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::comm::life::resources::{Resources, User};
use crate::comm::setup::exchange::Channel;
use crate::comm::setup::{beacon, under_way};
use crate::comm::table;
use crate::comm::table::fast::{Comm, Fast, Status};
use crate::gpu::CUdevice;
use crate::gpu::context::{PrimaryContext, RelaxedCapture};
use crate::gpu::memory::Scratch;
use crate::host::lock::Lock;
use crate::route::Reason;

/// While the process has other communicators: with more kept ones than this on a GPU, an abort frees as a destroy does.
const MOST_ABORTED: usize = 8;

/// How long a destroy waits for peers that have its memory open, which destroy the communicator too.
const PEERS_LIMIT: Duration = Duration::from_millis(200);

/// The resources of a communicator that has ended, or of a setup.
struct Deferred {
    resources: Resources,
    /// Blocks that were enqueued in the eager lane. None: the communicator was never fast.
    blocks: Option<u32>,
    /// Its peers are about to close what they have open of it: they destroy the communicator, too.
    awaits_peers: bool,
}

static DEFERRED: Lock<Vec<Deferred>> = Lock::new(Vec::new());

/// Communicators that were destroyed in groups that are still open: their work has not been waited for.
static IN_OPEN_GROUPS: AtomicUsize = AtomicUsize::new(0);

/// A communicator is destroyed in a group: until [`group_ended`] for it, nothing is freed.
pub fn destroyed_in_group() {
    IN_OPEN_GROUPS.fetch_add(1, Ordering::SeqCst);
}

/// The work of a communicator that was destroyed in a group has been waited for.
pub fn group_ended() {
    IN_OPEN_GROUPS.fetch_sub(1, Ordering::SeqCst);
}

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

/// Frees what a communicator owned, later. `awaits_peers`: they are about to close what they have open of it.
pub fn defer(fast: Fast, awaits_peers: bool) {
    let blocks = Some(fast.eager.blocks.into_inner());
    DEFERRED.hold().push(Deferred { resources: fast.resources, blocks, awaits_peers });
}

/// Frees what a setup made, later.
pub fn defer_setup(resources: Resources) {
    DEFERRED.hold().push(Deferred { resources, blocks: None, awaits_peers: false });
}

/// Frees the channel of a setup, later. Its communicator goes on in the context.
pub fn defer_channel(channel: Channel, context: &PrimaryContext) {
    match context.retain_again() {
        Ok(context) => defer_setup(Resources { channel: Some(channel), ..Resources::new(context) }),
        Err(error) => log::warn!("the buffer of a setup stays allocated: {error}"),
    }
}

/// Gives back what is not used any more, if this is a moment for it.
pub fn sweep(moment: After) {
    // Where nothing is kept the driver is not asked for anything.
    if DEFERRED.hold().is_empty() {
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
            DEFERRED.hold().iter_mut().for_each(|left| left.awaits_peers = false);
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The devices on which the driver has nothing to wait for, as far as one can know.
fn may_free(moment: After, has_others: bool) -> Vec<CUdevice> {
    let mut devices: Vec<(CUdevice, usize)> = Vec::new();
    for left in DEFERRED.hold().iter() {
        let with_scratch = usize::from(left.resources.scratch.is_some());
        match devices.iter_mut().find(|(device, _)| *device == left.device()) {
            Some((_, count)) => *count += with_scratch,
            None => devices.push((left.device(), with_scratch)),
        }
    }
    if under_way::is_any() {
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
            let may_replay = with_graphs && fast.graphs().any_alive();
            fast.device() == device && (may_replay || !matches!(fast.is_idle(), Ok(true)))
        })
    };
    IN_OPEN_GROUPS.load(Ordering::SeqCst) != 0 || table::all().any(is_running)
}

/// True: a peer in another process is about to close memory that it has open.
fn free_unused(devices: &[CUdevice], has_others: bool) -> bool {
    let may_be_freed = |left: &Deferred| {
        // For memory of the host the driver waits for the other devices, too.
        let waits_for_all = left.resources.channel.as_ref().is_some_and(Channel::is_in_host_memory);
        devices.contains(&left.device()) && !(waits_for_all && has_others)
    };
    let of_devices: Vec<Deferred> = DEFERRED.hold().extract_if(.., |left| may_be_freed(left)).collect();
    let (mut unused, mut running) = (Vec::new(), Vec::new());
    for left in of_devices {
        match left.resources.user(left.blocks) {
            Ok(User::Nobody) => unused.push(left),
            Ok(User::Graph) => keep(left),
            Ok(User::Running) => {
                running.push(left.device());
                keep(left);
            }
            Ok(User::Unknown) => {
                log::warn!("not everything of a communicator is known to be over: what it owns stays allocated");
                left.resources.leave_allocated();
            }
            Err(error) => {
                log::warn!("cannot ask how far a communicator's work is, so what it owns stays allocated: {error}");
                left.resources.leave_allocated();
            }
        }
    }
    // What runs there would be waited for.
    unused.extract_if(.., |left| running.contains(&left.device())).for_each(keep);
    unused.iter_mut().for_each(|left| left.resources.close_peers());
    let mut is_leased = false;
    for Deferred { resources, blocks, awaits_peers } in unused {
        if let Some(resources) = resources.free() {
            is_leased |= awaits_peers && resources.scratch.as_ref().is_some_and(Scratch::is_leased_elsewhere);
            keep(Deferred { resources, blocks, awaits_peers });
        }
    }
    is_leased
}

fn keep(left: Deferred) {
    DEFERRED.hold().push(left);
}

impl Deferred {
    fn device(&self) -> CUdevice {
        self.resources.context.device
    }
}

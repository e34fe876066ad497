//! The deferred free: keeps what communicators and setups owned until it can be freed without making the driver wait.
//!
//! The driver waits for the GPU when memory is freed, unmapped or closed. A kernel of another communicator may spin
//! on that GPU until this thread acts: until it aborts that communicator in the same group, or makes a call on
//! another GPU. So nothing is freed when its communicator ends. It is put here, and freed at a moment at which, as
//! far as Dime can know, the driver has nothing to wait for.
//!
//! It is never freed while a communicator on the GPU, ended or not, has work of Dime that has not ended. Nor while a
//! setup is under way: a setup's messages may wait on the GPU for a rank that is about to map memory, and mapping and
//! unmapping exclude each other. Otherwise it is freed:
//!
//! - when the process has no communicator any more, because NCCL then has no work on its GPUs either; also after a
//!   setup has failed, if there is no other communicator.
//! - after a destroy, on its GPU. NCCL's own destroy has just freed host memory, for which the driver waited for the
//!   GPU. A kernel that spins until this thread acts would have stopped it there already.
//! - after an abort, on its GPU, if much is kept there. NCCL's own abort frees in the same way. But programs abort
//!   one communicator after the other while the next one spins.
//!
//! In a group all this is done at the group's end, after NCCL's part, when all communicators that the group aborts
//! have been told to stop.
//!
//! An entry is freed only if its own work has ended: what was enqueued, the graphs that contain its launches, and the
//! messages of its setup. (The driver reports when the last graph is gone, but in a callback in which nothing can be
//! freed.) Memory that was shared by legacy IPC is freed last, when no peer has it open.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::comm::life::resources::{Resources, User};
use crate::comm::setup::channel::Channel;
use crate::comm::setup::{beacon, under_way};
use crate::comm::table;
use crate::comm::table::fast::{Comm, Fast, Status};
use crate::gpu::CUdevice;
use crate::gpu::context::{PrimaryContext, RelaxedCapture};
use crate::gpu::memory::Scratch;
use crate::host::lock::Lock;
use crate::route::Reason;

/// If the process has other communicators: with more than this many kept entries on a GPU, an abort frees as a
/// destroy does.
const MOST_ABORTED: usize = 8;

/// How long a destroy waits for peers that still have its memory open and destroy the communicator too.
const PEERS_LIMIT: Duration = Duration::from_millis(200);

/// The resources of a communicator that has ended, or of a setup.
struct Deferred {
    resources: Resources,
    /// The number of blocks enqueued in the eager lane. None: the communicator was never fast.
    blocks: Option<u32>,
    /// Its peers destroy the communicator too, so they will soon close the memory that they have open.
    awaits_peers: bool,
}

static DEFERRED: Lock<Vec<Deferred>> = Lock::new(Vec::new());

/// The number of communicators destroyed in groups that are still open: their work has not been waited for.
static IN_OPEN_GROUPS: AtomicUsize = AtomicUsize::new(0);

/// A communicator is destroyed in a group. Nothing is freed until [`left_group`] is called for it.
pub fn destroyed_in_group() {
    IN_OPEN_GROUPS.fetch_add(1, Ordering::SeqCst);
}

/// A communicator that was destroyed in a group has been dealt with at the end of the group.
pub fn left_group() {
    IN_OPEN_GROUPS.fetch_sub(1, Ordering::SeqCst);
}

/// The call after which memory may be freed.
#[derive(Clone, Copy, Debug)]
pub enum After<'a> {
    /// The setup of this communicator failed.
    Setup(&'a Comm),
    /// Communicators on these devices were aborted, or destroyed after they had failed.
    Abort(&'a [CUdevice]),
    /// Communicators on these devices were destroyed.
    Destroy(&'a [CUdevice]),
}

/// Keeps what a communicator owned, to free it later. `awaits_peers`: its peers will soon close the memory that they
/// have open.
pub fn defer(fast: Fast, awaits_peers: bool) {
    let blocks = Some(fast.eager.blocks.into_inner());
    DEFERRED.hold().push(Deferred { resources: fast.resources, blocks, awaits_peers });
}

/// Keeps what a setup made, to free it later.
pub fn defer_setup(resources: Resources) {
    DEFERRED.hold().push(Deferred { resources, blocks: None, awaits_peers: false });
}

/// Keeps the channel of a setup, to free it later. Its communicator goes on in the context.
pub fn defer_channel(channel: Channel, context: &PrimaryContext) {
    match context.retain_again() {
        Ok(context) => defer_setup(Resources { channel: Some(channel), ..Resources::new(context) }),
        Err(error) => log::warn!("the buffer of a setup's messages stays allocated until the process ends: {error}"),
    }
}

/// Frees what is no longer used, if this is a moment for it.
pub fn sweep(moment: After) {
    // If nothing is kept, the driver is not called.
    if DEFERRED.hold().is_empty() {
        return;
    }
    let _relaxed = RelaxedCapture::enter();
    let deadline = Instant::now() + PEERS_LIMIT;
    let this_setup = if let After::Setup(comm) = moment { Some(comm) } else { None };
    loop {
        let has_others = has_others(this_setup);
        if !free_unused(&devices_to_free_on(moment, has_others), has_others) {
            break;
        }
        if Instant::now() > deadline {
            // Peers are waited for once only: one of them may be gone for good.
            DEFERRED.hold().iter_mut().for_each(|entry| entry.awaits_peers = false);
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The devices on which, as far as Dime can know, the driver has nothing to wait for.
fn devices_to_free_on(moment: After, has_others: bool) -> Vec<CUdevice> {
    let mut devices: Vec<(CUdevice, usize)> = Vec::new();
    for entry in DEFERRED.hold().iter() {
        let with_scratch = usize::from(entry.resources.scratch.is_some());
        match devices.iter_mut().find(|(device, _)| *device == entry.device()) {
            Some((_, count)) => *count += with_scratch,
            None => devices.push((entry.device(), with_scratch)),
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
    // A replay may still wait for a peer. NCCL's destroy returns only when such replays have ended, NCCL's abort may
    // return before.
    let with_graphs = matches!(moment, After::Abort(_));
    devices.retain(|of_device| is_moment(of_device) && !has_running_work(of_device.0, with_graphs));
    devices.into_iter().map(|(device, _)| device).collect()
}

/// Whether the process has a communicator besides this one. After a fork, the parent's do not count.
fn has_others(than: Option<&Comm>) -> bool {
    let is_it = |comm: &Comm| than.is_some_and(|than| std::ptr::eq(comm, than));
    let of_the_parent = Status::Forward(Reason::Forked);
    table::all().any(|comm| !is_it(comm) && comm.status() != of_the_parent)
        || beacon::knows_others(than.map_or(0, Comm::handle))
}

/// Whether a communicator on a device has work of Dime that has not ended. A communicator that another thread is
/// ending has waited for its work or stopped it. Dime cannot know whether a graph is being replayed: with
/// `with_graphs`, every graph that can be replayed counts as running.
fn has_running_work(device: CUdevice, with_graphs: bool) -> bool {
    let is_running = |comm: &'static Comm| {
        let Some(busy) = comm.begin_unless_hidden() else { return false };
        // If the driver cannot answer, it may have some.
        busy.fast().is_some_and(|fast| {
            let may_replay = with_graphs && fast.graphs().any_alive();
            fast.device() == device && (may_replay || !matches!(fast.is_eager_lane_idle(), Ok(true)))
        })
    };
    IN_OPEN_GROUPS.load(Ordering::SeqCst) != 0 || table::all().any(is_running)
}

/// Frees the unused entries of these devices. True: a peer in another process will soon close memory that it has
/// open.
fn free_unused(devices: &[CUdevice], has_others: bool) -> bool {
    let may_be_freed = |entry: &Deferred| {
        // For host memory the driver waits for the other devices too.
        let waits_for_all = entry.resources.channel.as_ref().is_some_and(Channel::is_in_host_memory);
        devices.contains(&entry.device()) && !(waits_for_all && has_others)
    };
    let of_devices: Vec<Deferred> = DEFERRED.hold().extract_if(.., |entry| may_be_freed(entry)).collect();
    let (mut unused, mut running) = (Vec::new(), Vec::new());
    for entry in of_devices {
        match entry.resources.user(entry.blocks) {
            Ok(User::Nothing) => unused.push(entry),
            Ok(User::Graph) => keep(entry),
            Ok(User::Running) => {
                running.push(entry.device());
                keep(entry);
            }
            Ok(User::Unknown) => {
                log::warn!(
                    "the driver cannot tell when a communicator's kernels have ended: its memory stays allocated until the process ends"
                );
                entry.resources.leave_allocated();
            }
            Err(error) => {
                log::warn!(
                    "the driver cannot tell whether a communicator's kernels have ended, so its memory stays allocated until the process ends: {error}"
                );
                entry.resources.leave_allocated();
            }
        }
    }
    // The driver would wait for what runs there.
    unused.extract_if(.., |entry| running.contains(&entry.device())).for_each(keep);
    unused.iter_mut().for_each(|entry| entry.resources.close_peers());
    let mut is_leased = false;
    for Deferred { resources, blocks, awaits_peers } in unused {
        if let Some(resources) = resources.free() {
            is_leased |= awaits_peers && resources.scratch.as_ref().is_some_and(Scratch::is_leased_elsewhere);
            keep(Deferred { resources, blocks, awaits_peers });
        }
    }
    is_leased
}

fn keep(entry: Deferred) {
    DEFERRED.hold().push(entry);
}

impl Deferred {
    fn device(&self) -> CUdevice {
        self.resources.context.device
    }
}

//! Turns a launch plan into kernel launches: one `cuLaunchKernelEx`, or a few for a message larger than its slots.
//!
//! Nothing here allocates, locks or queries the driver.

use std::cell::Cell;
use std::ffi::c_void;
use std::mem;
use std::ptr;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use crate::gpu::driver::{Driver, DriverError, DriverResult};
use crate::gpu::functions::Functions;
use crate::gpu::{CUstream, launch_attributes};
use crate::kernel::layout::{Args, EAGER_LANE, LANE_BYTES, LaneMailbox, MAX_RANKS, epoch_after};
use crate::route::{LaunchPlan, Shape};

const WARP_THREADS: u32 = 32;

/// What a launch needs from its communicator.
#[derive(Clone, Debug)]
pub struct Target {
    /// The loaded kernels.
    pub functions: Functions,
    /// Address of each rank's scratch as mapped here; lane 0 comes first.
    pub scratch: [u64; MAX_RANKS],
    /// Device address of the mailbox, lane by lane.
    pub mailbox: u64,
    /// Launches may start early, and may trigger their dependents (DIME_EARLY_LAUNCH).
    pub early_launch: bool,
    /// The epoch of the first launch of a lane.
    pub first_epoch: u32,
    /// This rank.
    pub rank: u8,
    /// Ranks of the communicator.
    pub ranks: u8,
}

/// What was enqueued in a lane.
#[derive(Debug, Default)]
pub struct Enqueued {
    /// The number of launches.
    pub launches: Cell<u64>,
    /// The number of their blocks, modulo 2^32 as the device counts them. Other threads may read it.
    pub blocks: AtomicU32,
    /// The stream of the last launch, if that was a large one.
    large_on: Cell<Option<CUstream>>,
}

impl Enqueued {
    /// Counts from the first launch again. What was enqueued has ended, and scratch was cleared.
    pub fn begin_anew(&self) {
        self.launches.set(0);
        self.blocks.store(0, Relaxed);
        self.large_on.set(None);
    }
}

/// The per-thread default stream's handle, which denotes a different stream in every thread.
const PER_THREAD_STREAM: usize = 2;

/// Whether this launch may use programmatic dependent launch, that is, start before the previous kernel in the stream
/// has ended.
///
/// A small launch may. A large launch may only if the lane's last launch was a large one in this stream. A large
/// launch triggers its dependents only when its blocks end. But beside a small launch of its lane, a large one would
/// take more SMs than [`route`](crate::route::route) counts on. (Launches of other communicators between the two in
/// the stream have room of their own.)
fn may_start_early(plan: &LaunchPlan, stream: CUstream, enqueued: &Enqueued) -> bool {
    let is_behind_large = || stream as usize != PER_THREAD_STREAM && enqueued.large_on.get() == Some(stream);
    plan.triggers_dependents || is_behind_large()
}

impl Target {
    fn mailbox(&self, lane: usize) -> u64 {
        self.mailbox + (lane * mem::size_of::<LaneMailbox>()) as u64
    }
}

/// Why an all-reduce failed.
#[derive(Clone, Debug)]
pub struct LaunchError {
    /// The driver's error.
    pub error: DriverError,
    /// Something was enqueued that cannot be taken back: a part of it, which other ranks may have received, all of it, or a
    /// kernel that waits for its lane and of which nobody can tell when it has ended. Then the communicator is poisoned.
    pub is_begun: bool,
}

/// One all-reduce on this rank.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// Its shape.
    pub shape: Shape,
    /// Address of the contribution.
    pub input: u64,
    /// Address of the result.
    pub output: u64,
}

/// Enqueues an all-reduce on `stream`. The communicator's context is current. `enqueued` counts its launches, even if
/// a later one fails.
pub fn launch(
    driver: &Driver,
    target: &Target,
    plan: &LaunchPlan,
    operation: &Operation,
    lane: usize,
    stream: CUstream,
    enqueued: &Enqueued,
) -> Result<(), LaunchError> {
    let function = target.functions.all_reduce(plan.kernel, plan.reduction);
    let mut inbox = target.scratch;
    for address in &mut inbox[..usize::from(target.ranks)] {
        *address += (lane * LANE_BYTES) as u64;
    }
    let mut attributes = launch_attributes();
    let is_eager = lane == EAGER_LANE;
    let mut done = 0;
    for piece in plan.each_piece() {
        let mut args = Args {
            input: operation.input + done,
            output: operation.output + done,
            bytes: piece.bytes as u64,
            inbox,
            mailbox: target.mailbox(lane),
            packets: piece.packets,
            chunk_packets: piece.chunk_packets,
            epoch: if is_eager { epoch_after(target.first_epoch, enqueued.launches.get()) } else { 0 },
            rank: target.rank,
            ranks: target.ranks,
            element_type: operation.shape.datatype as u8,
            op: operation.shape.op as u8,
            tile_log2: plan.tile_log2,
            stages: plan.stages,
            triggers_dependents: u8::from(plan.triggers_dependents && target.early_launch),
            kernel: plan.kernel as u8,
            blocks_before: if is_eager { enqueued.blocks.load(Relaxed) } else { 0 },
        };
        // Ranks may differ in this. A launch that does not start early or triggers no dependents needs no more room
        // than `route` counts on, and its peers wait for it as for any late rank.
        let starts_early = target.early_launch && function.waits_for_stream && may_start_early(plan, stream, enqueued);
        let config = crate::gpu::LaunchConfig {
            gridDimX: piece.blocks,
            gridDimY: 1,
            gridDimZ: 1,
            blockDimX: plan.threads,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: 0,
            hStream: stream,
            attrs: attributes.as_mut_ptr(),
            numAttrs: if starts_early { attributes.len() as u32 } else { 0 },
        };
        let mut parameters: [*mut c_void; 1] = [(&raw mut args).cast()];
        const { assert!(mem::size_of::<Args>() <= 256) };
        // SAFETY: the one parameter has the type that every all-reduce kernel takes; the driver copies it before it
        // returns.
        let code =
            unsafe { (driver.launch_kernel_ex)(&config, function.handle, parameters.as_mut_ptr(), ptr::null_mut()) };
        driver.check("cuLaunchKernelEx", code).map_err(|error| LaunchError { error, is_begun: done != 0 })?;
        done += piece.bytes as u64;
        enqueued.launches.set(enqueued.launches.get() + 1);
        // A load and a store suffice: it has a single writer, the thread that makes calls on the communicator.
        enqueued.blocks.store(enqueued.blocks.load(Relaxed).wrapping_add(piece.blocks), Relaxed);
        enqueued.large_on.set((!plan.triggers_dependents).then_some(stream));
    }
    Ok(())
}

/// Makes `stream` wait until `blocks` blocks are counted in `lane`, that is, until the launches with these blocks
/// have ended.
pub fn launch_await(driver: &Driver, target: &Target, lane: usize, blocks: u32, stream: CUstream) -> DriverResult<()> {
    let mut inbox = target.scratch[usize::from(target.rank)] + (lane * LANE_BYTES) as u64;
    let (mut blocks, mut mailbox) = (blocks, target.mailbox(lane));
    let mut parameters: [*mut c_void; 3] =
        [(&raw mut inbox).cast(), (&raw mut blocks).cast(), (&raw mut mailbox).cast()];
    let config = crate::gpu::LaunchConfig {
        gridDimX: 1,
        gridDimY: 1,
        gridDimZ: 1,
        blockDimX: WARP_THREADS,
        blockDimY: 1,
        blockDimZ: 1,
        sharedMemBytes: 0,
        hStream: stream,
        attrs: ptr::null_mut(),
        numAttrs: 0,
    };
    // SAFETY: the parameters have the types of the kernel in kernels/await.h; the driver copies them before it returns.
    let code = unsafe {
        (driver.launch_kernel_ex)(&config, target.functions.await_blocks, parameters.as_mut_ptr(), ptr::null_mut())
    };
    driver.check("cuLaunchKernelEx", code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::{Agreed, route};

    #[test]
    fn a_large_launch_starts_early_only_behind_a_large_one_of_its_stream() {
        let agreed = Agreed::without_settings(4, 90, 132);
        let sum =
            |bytes: usize| route(&agreed, &Shape::parse(bytes / 4, 7, 0).expect("floats")).expect("a sum of floats");
        let (small, large) = (sum(64 << 10), sum(8 << 20));
        assert!(small.triggers_dependents && !large.triggers_dependents);
        let (here, there) = (0x10 as CUstream, 0x20 as CUstream);
        let per_thread = PER_THREAD_STREAM as CUstream;
        let enqueued = Enqueued::default();
        // The lane's last launch: none, a large one here, or a large one on another stream.
        for (last, expected) in [(None, false), (Some(here), true), (Some(there), false)] {
            enqueued.large_on.set(last);
            assert_eq!(may_start_early(&large, here, &enqueued), expected);
            assert!(may_start_early(&small, here, &enqueued));
        }
        enqueued.large_on.set(Some(per_thread));
        assert!(!may_start_early(&large, per_thread, &enqueued));
    }
}

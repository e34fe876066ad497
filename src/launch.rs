//! A decision becomes a kernel launch: one `cuLaunchKernelEx`, or a few for a message larger than its slots.
//!
//! Nothing here allocates, locks, or asks the driver anything.

use std::cell::Cell;
use std::ffi::c_void;
use std::mem;
use std::ptr;

use crate::gpu::driver::{Driver, DriverResult};
use crate::gpu::kernels::{Functions, Reduction};
use crate::gpu::{CUstream, launch_attributes};
use crate::layout::{Args, EAGER_LANE, LANE_BYTES, MAX_BLOCKS, MAX_RANKS, Watch, epoch_after};
use crate::route::{self, Choice};

/// What a launch needs of its communicator.
#[derive(Clone, Debug)]
pub struct Target {
    /// The loaded kernels.
    pub functions: Functions,
    /// Scratch of each rank as mapped here; lane 0 comes first.
    pub scratch: [u64; MAX_RANKS],
    /// Device address of the watch words, lane by lane.
    pub watch: u64,
    /// The epoch of the first launch of a lane.
    pub first_epoch: u32,
    /// This rank.
    pub rank: u8,
    /// Ranks of the communicator.
    pub ranks: u8,
}

impl Target {
    /// The epoch of a launch in the eager lane, behind so many.
    pub fn epoch(&self, launches: u64) -> u32 {
        epoch_after(self.first_epoch, launches)
    }

    fn watch(&self, lane: usize) -> u64 {
        self.watch + (lane * mem::size_of::<Watch>()) as u64
    }
}

/// One all-reduce: where from, where to, how much, what.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// Address of the contribution.
    pub input: u64,
    /// Address of the result.
    pub output: u64,
    /// Bytes of the message.
    pub bytes: usize,
    /// NCCL's number of the element type.
    pub datatype: u8,
    /// NCCL's number of the operation.
    pub op: u8,
}

/// Enqueues the operation on `stream`; the communicator's context is current. `launches` counts what was enqueued, also when a
/// later piece fails.
pub fn launch(
    driver: &Driver,
    target: &Target,
    choice: &Choice,
    operation: &Operation,
    lane: usize,
    stream: CUstream,
    launches: &Cell<u64>,
) -> DriverResult<()> {
    let function = target.functions.all_reduce(choice.kernel, Reduction::of(operation.datatype, operation.op));
    let mut inbox = target.scratch;
    for address in &mut inbox[..usize::from(target.ranks)] {
        *address += (lane * LANE_BYTES) as u64;
    }
    let mut attributes = launch_attributes();
    let piece_bytes = route::piece_bytes(choice, usize::from(target.ranks), operation.bytes);
    let mut done = 0;
    while done < operation.bytes {
        let bytes = (operation.bytes - done).min(piece_bytes);
        let (packets, chunk_packets) = route::packets(choice.kernel, usize::from(target.ranks), bytes);
        let mut args = Args {
            input: operation.input + done as u64,
            output: operation.output + done as u64,
            bytes: bytes as u64,
            inbox,
            watch: target.watch(lane),
            packets,
            chunk_packets,
            epoch: if lane == EAGER_LANE { target.epoch(launches.get()) } else { 0 },
            rank: target.rank,
            ranks: target.ranks,
            element_type: operation.datatype,
            op: operation.op,
            tile_log2: choice.tile_log2,
            stages: choice.stages,
            hand_over: u8::from(choice.hand_over),
            kernel: choice.kernel as u8,
            reserved: 0,
        };
        let config = crate::gpu::LaunchConfig {
            gridDimX: route::blocks(choice, chunk_packets),
            gridDimY: 1,
            gridDimZ: 1,
            blockDimX: choice.threads,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: 0,
            hStream: stream,
            attrs: attributes.as_mut_ptr(),
            numAttrs: if choice.dependent { attributes.len() as u32 } else { 0 },
        };
        let mut parameters: [*mut c_void; 1] = [(&raw mut args).cast()];
        const { assert!(mem::size_of::<Args>() <= 256) };
        // SAFETY: the one parameter has the type that every all-reduce kernel takes; the driver copies it before it returns.
        let code = unsafe { (driver.launch_kernel_ex)(&config, function, parameters.as_mut_ptr(), ptr::null_mut()) };
        driver.check("cuLaunchKernelEx", code)?;
        done += bytes;
        launches.set(launches.get() + 1);
    }
    Ok(())
}

/// Has `stream` wait until the epoch words of `lane` hold `epoch`: until all launches before it are over.
pub fn launch_await(driver: &Driver, target: &Target, lane: usize, epoch: u32, stream: CUstream) -> DriverResult<()> {
    let mut inbox = target.scratch[usize::from(target.rank)] + (lane * LANE_BYTES) as u64;
    let (mut epoch, mut watch) = (epoch, target.watch(lane));
    let mut parameters: [*mut c_void; 3] = [(&raw mut inbox).cast(), (&raw mut epoch).cast(), (&raw mut watch).cast()];
    let config = crate::gpu::LaunchConfig {
        gridDimX: 1,
        gridDimY: 1,
        gridDimZ: 1,
        blockDimX: MAX_BLOCKS,
        blockDimY: 1,
        blockDimZ: 1,
        sharedMemBytes: 0,
        hStream: stream,
        attrs: ptr::null_mut(),
        numAttrs: 0,
    };
    // SAFETY: the parameters have the types of the kernel in kernels/await.h; the driver copies them before it returns.
    let code = unsafe {
        (driver.launch_kernel_ex)(&config, target.functions.await_epoch, parameters.as_mut_ptr(), ptr::null_mut())
    };
    driver.check("cuLaunchKernelEx", code)
}

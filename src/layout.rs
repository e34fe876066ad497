//! The mirror of `kernels/layout.h`. A unit test compiles that header and compares.

/// Most ranks of a communicator that the kernels serve.
pub const MAX_RANKS: usize = 8;
/// Scratch lanes: 0 for eager calls, 1 for captured ones.
pub const LANES: usize = 2;
/// Bytes of one parity of a lane.
pub const PARITY_BYTES: usize = 16 << 20;
/// Bytes of a parity for packets without flags.
pub const DATA_BYTES: usize = 14 << 20;
/// Bytes of a parity for flags and epochs.
pub const CONTROL_BYTES: usize = 128 << 10;
/// Where a parity's ll slots begin.
pub const LL_OFFSET: usize = DATA_BYTES;
/// Bytes of a parity for ll slots.
pub const LL_BYTES: usize = (2 << 20) - CONTROL_BYTES;
/// Where a parity's control words begin.
pub const CONTROL_OFFSET: usize = PARITY_BYTES - CONTROL_BYTES;
/// Bytes of a lane.
pub const LANE_BYTES: usize = 2 * PARITY_BYTES;
/// Bytes of the whole scratch of a rank.
pub const SCRATCH_BYTES: usize = LANES * LANE_BYTES;
/// Most blocks of a launch.
pub const MAX_BLOCKS: u32 = 256;
/// Most stages of a bulk launch.
pub const MAX_STAGES: u32 = 4;
/// Where a lane's epoch words begin.
pub const EPOCH_OFFSET: usize = CONTROL_OFFSET + 2 * (MAX_STAGES * MAX_BLOCKS) as usize * MAX_RANKS * 4;
/// Bytes between two words of the probe.
pub const PROBE_STRIDE: usize = 4096;

/// The arguments of every all-reduce kernel; see `struct dime_args`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Args {
    /// Address of this rank's contribution.
    pub input: u64,
    /// Address of the result.
    pub output: u64,
    /// Bytes of the message.
    pub bytes: u64,
    /// Each rank's lane as mapped here.
    pub inbox: [u64; MAX_RANKS],
    /// Device address of the abort word.
    pub abort_word: u64,
    /// Packets of the message.
    pub packets: u32,
    /// Packets of a chunk.
    pub chunk_packets: u32,
    /// This rank.
    pub rank: u8,
    /// Ranks of the communicator.
    pub ranks: u8,
    /// NCCL's number of the element type.
    pub element_type: u8,
    /// NCCL's number of the operation.
    pub op: u8,
    /// A block takes tiles of `1 << tile_log2` packets.
    pub tile_log2: u8,
    /// Stages of a bulk launch.
    pub stages: u8,
    /// Not used.
    pub reserved: [u8; 2],
}

//! A launch plan: all that is decided about an all-reduce before its buffers are known.

use crate::kernel::{Kernel, Reduction};

/// How an all-reduce is launched: which function, on which grid, in how many pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaunchPlan {
    /// The kernel.
    pub kernel: Kernel,
    /// Which of the kernel's functions: what reduction it is compiled for.
    pub reduction: Reduction,
    /// The bound on the blocks of each of its launches: what the largest possible piece keeps busy.
    pub blocks: u32,
    /// Threads of a block.
    pub threads: u32,
    /// A block takes tiles of `1 << tile_log2` packets.
    pub tile_log2: u8,
    /// Stages of a bulk launch, 1 to 4.
    pub stages: u8,
    /// The launch is small: it may start early, and may trigger its dependents, so that the next launch of the stream
    /// may start while it runs. [`crate::kernel::layout::Args`] has the same name for what the kernel is told, which
    /// also depends on DIME_EARLY_LAUNCH.
    pub triggers_dependents: bool,
    /// The number of launches. A message larger than the slots of one launch takes several.
    pub pieces: u32,
    /// The piece of each launch but the last.
    pub piece: Piece,
    /// The piece of the last launch.
    pub last: Piece,
}

/// The part of a message that one launch carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Bytes of the message.
    pub bytes: usize,
    /// Packets of the message, rounded up.
    pub packets: u32,
    /// Packets of a chunk, rounded up. One-shot: packets of the piece.
    pub chunk_packets: u32,
    /// Blocks of the launch.
    pub blocks: u32,
}

impl LaunchPlan {
    /// The launches, in their order.
    pub fn each_piece(&self) -> impl Iterator<Item = &Piece> {
        (1..=self.pieces).map(|number| if number == self.pieces { &self.last } else { &self.piece })
    }
}

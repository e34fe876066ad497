//! Sizes: what the slots of a launch hold, into which pieces a message is cut, and how many blocks they keep busy.

use crate::kernel::layout::{DATA_BYTES, LL_BYTES, MAX_BLOCKS};
use crate::kernel::{Kernel, Packet, Tile};
use crate::route::plan::Piece;

/// Bytes of a slot in scratch, which holds one packet.
const SLOT_BYTES: usize = 16;

/// Most bytes that one launch of `kernel` can carry among `ranks` ranks: what its slots hold. A multiple of 16 x ranks, so that
/// a message is cut at packets and chunks of every kernel.
pub const fn capacity_bytes(kernel: Kernel, ranks: usize) -> usize {
    let region = match kernel.entry().packet {
        Packet::Ll => LL_BYTES,
        Packet::Sentinel | Packet::Flagged => DATA_BYTES,
    };
    let packets = if kernel.is_two_shot() {
        region / SLOT_BYTES / (2 * (ranks - 1)) * ranks
    } else {
        region / SLOT_BYTES / (ranks - 1)
    };
    packets * kernel.packet_bytes() / (16 * ranks) * (16 * ranks)
}

/// Bytes of each launch but the last of a message of `bytes` bytes: pieces of about equal size, none above `capacity` bytes.
pub const fn piece_bytes(capacity: usize, ranks: usize, bytes: usize) -> usize {
    if bytes <= capacity {
        return bytes;
    }
    let pieces = bytes.div_ceil(capacity);
    bytes.div_ceil(pieces).next_multiple_of(16 * ranks)
}

/// The shape of a grid before it is known how many of its blocks a launch keeps busy.
#[derive(Clone, Copy)]
pub struct Grid {
    pub kernel: Kernel,
    pub ranks: usize,
    /// Most blocks.
    pub blocks: u32,
    pub tile_log2: u8,
    pub stages: u8,
}

impl Grid {
    /// A launch of `bytes` bytes.
    pub const fn piece(&self, bytes: usize) -> Piece {
        let packets = bytes.div_ceil(self.kernel.packet_bytes());
        let chunk = if self.kernel.is_two_shot() { packets.div_ceil(self.ranks) } else { packets };
        Piece { bytes, packets: packets as u32, chunk_packets: chunk as u32, blocks: self.busy_blocks(chunk as u32) }
    }

    /// Blocks that a launch of `chunk_packets` packets keeps busy.
    const fn busy_blocks(&self, chunk_packets: u32) -> u32 {
        let tile = match self.kernel.entry().tile {
            Tile::PerStage => 64 * self.stages as u32,
            Tile::OfRow => 1 << self.tile_log2,
        };
        let busy = chunk_packets.div_ceil(tile);
        if busy < 1 {
            1
        } else if busy < self.blocks {
            busy
        } else {
            self.blocks
        }
    }
}

/// Most blocks that the launches of one lane have on a GPU at a time: one launch, or two small ones of which the second started early,
/// since one that starts early triggers its dependents only when the first is over. (A large one starts early only behind a large one:
/// `launch::may_start_early`.)
///
/// Every block of ours must become resident beside all that wait for it: a GPU places the blocks of launches in the order in which the
/// launches came, so a launch that has no room for all its blocks keeps every later one from starting, also the one that it waits for.
/// A block takes half an SM at most (kernels/instances.cu). So while there are fewer than two for each SM, one SM has room for another,
/// however they are spread: enough for two communicators whose launches come to the GPUs in different order, or for one that is
/// called eagerly and in graphs. The rest, a thirty-third, is for kernels of one block that wait for a launch of another stream. What
/// other libraries start early behind a launch of ours is not counted: docs/kernels.md.
pub fn most_blocks(multiprocessors: u32) -> u32 {
    (multiprocessors * 32 / 33).clamp(1, MAX_BLOCKS)
}

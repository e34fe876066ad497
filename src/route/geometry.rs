//! Sizes: how much the slots of a launch hold, into which pieces a message is cut, and how many blocks are busy.

use crate::kernel::layout::{DATA_BYTES, LL_BYTES, MAX_BLOCKS};
use crate::kernel::{Kernel, Packet, Tile};
use crate::route::plan::Piece;

/// Bytes of a slot in scratch, which holds one packet.
const SLOT_BYTES: usize = 16;

/// The most bytes that one launch of `kernel` carries among `ranks` ranks: as many as its slots hold. A multiple of
/// 16 x ranks, so that every kernel's packets and chunks end where a piece ends.
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

/// The bytes of each launch but the last of a message of `bytes` bytes: pieces of about equal size, none above
/// `capacity` bytes.
pub const fn piece_bytes(capacity: usize, ranks: usize, bytes: usize) -> usize {
    if bytes <= capacity {
        return bytes;
    }
    let pieces = bytes.div_ceil(capacity);
    bytes.div_ceil(pieces).next_multiple_of(16 * ranks)
}

/// The grid of a launch plan, before the number of busy blocks is known.
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

/// The most blocks that the launches of one lane may have on a GPU at a time. These blocks belong to one launch, or to
/// two small launches, of which the second started early. A launch that started early triggers its dependents only
/// after the previous launch has ended, so three launches never run at the same time. (A large launch starts early only
/// behind a large one: `launch::may_start_early`.)
///
/// All blocks that wait for each other must be co-resident. A GPU places the blocks of launches in the order in which
/// the launches arrive. So a launch that has no room for all its blocks keeps every later launch from starting, also
/// one that it waits for. A block takes half an SM at most (kernels/instances.cu). So with fewer than two blocks for
/// each SM, some SM has room for one more block, however the blocks are spread. That is enough for two communicators
/// whose launches arrive in different order on different GPUs, or for one that is used eagerly and in graphs.
///
/// The remaining 1/33 of the SMs is for kernels of one block that wait for a launch of another stream. Kernels that
/// other libraries start early behind a launch of Dime are not counted (docs/kernels.md).
pub fn most_blocks(multiprocessors: u32) -> u32 {
    (multiprocessors * 32 / 33).clamp(1, MAX_BLOCKS)
}

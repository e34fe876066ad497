//! A tuning file: rows that go before those of the built-in tables ([`super::tables`]), and thresholds.
//!
//! A row changes what is preferred, never what is possible. [`super::policy`] bounds blocks, threads and thresholds as
//! it does those of the built-in rows, and leaves a row alone whose kernel cannot carry the type: then the built-in row
//! decides.
//!
//! Pure: [`Tuning::parse`] takes text, and all ranks that have the same rows make the same [`Tuned`] of them.

mod file;

use crate::kernel::Kernel;
use crate::route::type_kind::{TYPE_KINDS, TypeKind};

pub use self::file::{COLUMNS, FORMAT, Problem, VERSION};

/// The smallest tile of a row, in packets.
pub const LEAST_TILE: u32 = 16;
/// The largest tile of a row, in packets.
pub const MOST_TILE: u32 = 1024;

/// A row. None in a field that restricts (ranks, arch, kind, registered, nvls): the row holds for all. None in a field
/// that chooses (kernel, blocks, threads, tile, stages): the built-in row decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TuningRow {
    /// The number of its line in the file, from 1.
    pub line: usize,
    /// The smallest message that it holds for, in bytes.
    pub min_bytes: usize,
    /// The largest message that it holds for, in bytes.
    pub max_bytes: usize,
    /// The kernel.
    pub kernel: Option<Kernel>,
    /// Most blocks.
    pub blocks: Option<u32>,
    /// Ranks that it holds for.
    pub ranks: Option<usize>,
    /// The compute capability that it holds for, 90 for 9.0.
    pub arch: Option<u32>,
    /// The kind of type that it holds for.
    pub kind: Option<TypeKind>,
    /// It holds for buffers in registered windows only, or for ordinary ones only. All are ordinary to the kernels of
    /// this version.
    pub registered: Option<bool>,
    /// It holds for kernels that use NVLink multicast only, or for those that do not. None of this version does.
    pub nvls: Option<bool>,
    /// Threads of a block.
    pub threads: Option<u32>,
    /// Packets of a tile, a power of two.
    pub tile: Option<u32>,
    /// Stages of a bulk launch.
    pub stages: Option<u32>,
    /// The largest message that is fast, whatever the sizes of the row, in bytes.
    pub threshold_bytes: Option<usize>,
}

impl TuningRow {
    /// A row that restricts nothing and chooses nothing.
    pub const ANY: Self = Self {
        line: 0,
        min_bytes: 0,
        max_bytes: usize::MAX,
        kernel: None,
        blocks: None,
        ranks: None,
        arch: None,
        kind: None,
        registered: None,
        nvls: None,
        threads: None,
        tile: None,
        stages: None,
        threshold_bytes: None,
    };

    /// Whether it chooses a kernel or a part of a grid.
    const fn chooses(&self) -> bool {
        self.kernel.is_some()
            || self.blocks.is_some()
            || self.threads.is_some()
            || self.tile.is_some()
            || self.stages.is_some()
    }

    /// Whether it holds for some message of a communicator. This version has no kernel for registered buffers, and
    /// none that uses NVLink multicast.
    fn holds_for(&self, arch: u32, ranks: usize) -> bool {
        self.arch.is_none_or(|it| it == arch)
            && self.ranks.is_none_or(|it| it == ranks)
            && self.registered != Some(true)
            && self.nvls != Some(true)
    }
}

/// The rows of a tuning file, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// The rows.
    pub rows: Vec<TuningRow>,
}

impl Tuning {
    /// Whether some row holds for this architecture.
    pub fn has_rows_for(&self, arch: u32) -> bool {
        (2..=crate::kernel::layout::MAX_RANKS).any(|ranks| self.rows.iter().any(|row| row.holds_for(arch, ranks)))
    }

    /// What the rows say to a communicator. None: nothing.
    pub fn tuned(&self, arch: u32, ranks: usize) -> Option<Tuned> {
        let of_kind = |kind: TypeKind| {
            self.rows.iter().filter(move |row| row.holds_for(arch, ranks) && row.kind.is_none_or(|it| it == kind))
        };
        let tuned = Tuned {
            rows: TYPE_KINDS.map(|kind| of_kind(kind).filter(|row| row.chooses()).cloned().collect()),
            thresholds: TYPE_KINDS.map(|kind| of_kind(kind).find_map(|row| row.threshold_bytes)),
        };
        (tuned.count() > 0).then_some(tuned)
    }

    /// A hash of the rows, by which ranks compare their files; not of comments, spaces or numbers of lines. Never 0.
    pub fn digest(&self) -> u64 {
        let canonical = self.rows.iter().flat_map(|row| format!("{row}\n").into_bytes());
        let hash = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        canonical.fold(0xcbf2_9ce4_8422_2325, hash).max(1)
    }
}

/// What a tuning file says to communicators of one architecture and number of ranks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuned {
    /// By kind of type.
    rows: [Vec<TuningRow>; TYPE_KINDS.len()],
    thresholds: [Option<usize>; TYPE_KINDS.len()],
}

impl Tuned {
    /// The first row that holds for a message.
    #[inline]
    pub fn row(&self, kind: TypeKind, bytes: usize) -> Option<&TuningRow> {
        self.rows[kind as usize].iter().find(|row| row.min_bytes <= bytes && bytes <= row.max_bytes)
    }

    /// The largest message that is fast, in bytes, if the file says so.
    #[inline]
    pub fn threshold_bytes(&self, kind: TypeKind) -> Option<usize> {
        self.thresholds[kind as usize]
    }

    /// How many rows and thresholds hold; one that holds for several kinds of type counts for each.
    pub fn count(&self) -> usize {
        self.rows.iter().map(Vec::len).sum::<usize>() + self.thresholds.iter().flatten().count()
    }
}

#[cfg(test)]
mod tests;

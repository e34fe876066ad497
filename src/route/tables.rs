//! The routing tables: which kernel serves a size fastest, with how many blocks and threads. A wrong entry costs
//! time, never correctness: what a kernel can do is decided elsewhere. A tuning file ([`super::tuning`]) goes before these
//! rows.

use crate::kernel::Kernel;
use crate::route::type_kind::TypeKind;

/// How sizes up to `up_to_bytes` are served: the fastest that was measured.
struct Row {
    up_to_bytes: usize,
    kernel: Kernel,
    grid: PreferredGrid,
}

/// The grid that a table or a tuning file prefers. Settings and the GPU may change it, which gives a
/// [`super::geometry::Grid`].
#[derive(Clone, Copy)]
pub(super) struct PreferredGrid {
    pub(super) blocks: u32,
    pub(super) threads: u32,
    pub(super) tile_log2: u8,
    pub(super) stages: u8,
}

const fn grid(blocks: u32, threads: u32, tile: u32, stages: u8) -> PreferredGrid {
    PreferredGrid { blocks, threads, tile_log2: tile.trailing_zeros() as u8, stages }
}

const fn row(up_to_bytes: usize, kernel: Kernel, blocks: u32, threads: u32, tile: u32, stages: u8) -> Row {
    Row { up_to_bytes, kernel, grid: grid(blocks, threads, tile, stages) }
}

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

// The rows are those of an H200, on every architecture. Sources: docs/performance.md, "The search behind the tables". With
// 64 blocks and fewer a launch of an H200 may start early.

/// 2 ranks, sums of f16, bf16 and f32: H200, search of 2026-11-22, as all of 2 ranks.
const SUM_2: &[Row] = &[
    row(2 * KIB, Kernel::OneShotLl, 2, 128, 128, 1),
    row(128 * KIB, Kernel::OneShotSentinel, 64, 128, 128, 1),
    row(256 * KIB, Kernel::OneShotSentinel, 64, 256, 256, 1),
    row(512 * KIB, Kernel::OneShotSentinel, 64, 512, 512, 1),
    row(4 * MIB, Kernel::OneShotSentinel, 128, 512, 512, 1),
    row(usize::MAX, Kernel::TwoShotSentinel, 128, 512, 1024, 1),
];

/// 2 ranks, all else of float types.
const FLOAT_2: &[Row] = &[
    row(64 * KIB, Kernel::OneShotLl, 64, 128, 128, 1),
    row(128 * KIB, Kernel::OneShotLl, 64, 256, 256, 1),
    row(256 * KIB, Kernel::OneShotSentinel, 64, 256, 256, 1),
    row(512 * KIB, Kernel::OneShotSentinel, 64, 512, 512, 1),
    row(usize::MAX, Kernel::OneShotSentinel, 128, 512, 512, 1),
];

/// 3 and 4 ranks, float types: H200, search of 2026-11-21 with 4 ranks.
const FLOAT_4: &[Row] = &[
    row(1024, Kernel::OneShotLl, 4, 128, 32, 1),
    row(4 * KIB, Kernel::OneShotLl, 8, 256, 64, 1),
    row(8 * KIB, Kernel::OneShotLl, 32, 128, 32, 1),
    row(16 * KIB, Kernel::OneShotLl, 32, 256, 64, 1),
    row(32 * KIB, Kernel::OneShotSentinel, 32, 128, 64, 1),
    row(64 * KIB, Kernel::OneShotSentinel, 64, 128, 64, 1),
    row(128 * KIB, Kernel::TwoShotSentinel, 64, 128, 32, 1),
    row(256 * KIB, Kernel::TwoShotSentinel, 64, 256, 64, 1),
    row(512 * KIB, Kernel::TwoShotSentinel, 64, 512, 128, 1),
    row(MIB, Kernel::TwoShotSentinel, 64, 512, 256, 1),
    row(2 * MIB, Kernel::TwoShotSentinel, 64, 512, 512, 1),
    row(usize::MAX, Kernel::TwoShotSentinel, 128, 512, 512, 1),
];

/// 5 to 8 ranks, float types: from the 4-rank search, with the one-shot kernels ending earlier.
const FLOAT_8: &[Row] = &[
    row(1024, Kernel::OneShotLl, 4, 256, 32, 1),
    row(4 * KIB, Kernel::OneShotLl, 16, 256, 32, 1),
    row(8 * KIB, Kernel::OneShotLl, 32, 256, 32, 1),
    row(16 * KIB, Kernel::OneShotLl, 64, 256, 32, 1),
    row(32 * KIB, Kernel::OneShotSentinel, 64, 256, 32, 1),
    row(128 * KIB, Kernel::TwoShotSentinel, 64, 128, 32, 1),
    row(256 * KIB, Kernel::TwoShotSentinel, 64, 256, 32, 1),
    row(512 * KIB, Kernel::TwoShotSentinel, 64, 512, 64, 1),
    row(MIB, Kernel::TwoShotSentinel, 64, 512, 128, 1),
    row(2 * MIB, Kernel::TwoShotSentinel, 64, 512, 256, 1),
    row(usize::MAX, Kernel::TwoShotSentinel, 128, 512, 512, 1),
];

/// 2 ranks, integers. One launch has room for LL packets of 960 KiB.
const INTEGER_2: &[Row] = &[
    row(64 * KIB, Kernel::OneShotLl, 64, 128, 128, 1),
    row(128 * KIB, Kernel::OneShotLl, 64, 256, 256, 1),
    row(256 * KIB, Kernel::OneShotLl, 64, 512, 512, 1),
    row(896 * KIB, Kernel::OneShotLl, 128, 512, 512, 1),
    row(usize::MAX, Kernel::TwoShotBulk, 128, 256, 1, 1),
];

/// 3 to 8 ranks, integers.
const INTEGER_N: &[Row] = &[
    row(1024, Kernel::OneShotLl, 4, 256, 32, 1),
    row(4 * KIB, Kernel::OneShotLl, 16, 256, 32, 1),
    row(16 * KIB, Kernel::OneShotLl, 64, 256, 32, 1),
    row(32 * KIB, Kernel::TwoShotLl, 32, 256, 32, 1),
    row(128 * KIB, Kernel::TwoShotLl, 64, 256, 64, 1),
    row(512 * KIB, Kernel::TwoShotLl, 128, 256, 256, 1),
    row(usize::MAX, Kernel::TwoShotBulk, 128, 256, 1, 1),
];

/// The largest message that is fast by default, in bytes, for floats. Measured on an H200 with 2 to 4 ranks: the largest
/// sizes that were clearly faster than NCCL. All others are guesses, at or below the sizes up to which other
/// libraries use their own kernels (docs/performance.md). An architecture that is not listed has the smallest of them.
const fn float_threshold_bytes(arch: u32, ranks: usize) -> usize {
    match (arch, ranks) {
        (90, 0..=4) => 16 * MIB,
        (90, _) => 8 * MIB,
        (80 | 86 | 89 | 103 | 120, _) => 4 * MIB,
        (_, 0..=4) => 2 * MIB,
        (_, _) => MIB,
    }
}

/// As [`float_threshold_bytes`], for integers, where it is smaller.
const fn integer_threshold_bytes(ranks: usize) -> usize {
    if ranks == 2 { 8 * MIB } else { 4 * MIB }
}

/// Whether the threshold of this architecture and number of ranks was measured.
pub(super) const fn is_measured(arch: u32, ranks: usize) -> bool {
    arch == 90 && ranks <= 4
}

/// The table's threshold: messages above this size go to NCCL.
pub(super) const fn threshold_bytes(arch: u32, kind: TypeKind, ranks: usize) -> usize {
    let (of_floats, of_integers) = (float_threshold_bytes(arch, ranks), integer_threshold_bytes(ranks));
    if kind.is_float() || of_floats < of_integers { of_floats } else { of_integers }
}

const fn table(kind: TypeKind, ranks: usize) -> &'static [Row] {
    match (kind, ranks) {
        (TypeKind::FloatSum, 2) => SUM_2,
        (TypeKind::OtherFloat, 2) => FLOAT_2,
        (TypeKind::FloatSum | TypeKind::OtherFloat, 3 | 4) => FLOAT_4,
        (TypeKind::FloatSum | TypeKind::OtherFloat, _) => FLOAT_8,
        (TypeKind::Integer, 2) => INTEGER_2,
        (TypeKind::Integer, _) => INTEGER_N,
    }
}

/// The grid with which a forced kernel serves a size.
pub(super) fn forced_grid(bytes: usize) -> &'static PreferredGrid {
    const ROWS: [(usize, PreferredGrid); 3] =
        [(16 * KIB, grid(32, 256, 32, 1)), (MIB, grid(64, 256, 64, 1)), (usize::MAX, grid(128, 512, 512, 1))];
    &ROWS.iter().find(|(up_to_bytes, _)| bytes <= *up_to_bytes).unwrap_or(&ROWS[ROWS.len() - 1]).1
}

/// The kernel and grid for a message of this many bytes.
pub(super) fn kernel_and_grid(kind: TypeKind, ranks: usize, bytes: usize) -> (Kernel, &'static PreferredGrid) {
    let rows = table(kind, ranks);
    let row = rows.iter().find(|row| bytes <= row.up_to_bytes).unwrap_or(&rows[rows.len() - 1]);
    (row.kernel, &row.grid)
}

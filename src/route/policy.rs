//! The decision: how an all-reduce is launched, or why NCCL does it.
//!
//! Capability is kept apart from preference. [`can_carry`] and [`geometry::capacity_bytes`] say what a kernel can do.
//! The tables and the tuning file say what was measured to be fastest; a wrong entry costs time, never correctness.

use crate::kernel::layout::{MAX_BLOCKS, MAX_RANKS, MAX_STAGES};
use crate::kernel::{Kernel, Reduction};
use crate::nccl::DataType;
use crate::route::geometry::{self, Grid, most_blocks};
use crate::route::plan::LaunchPlan;
use crate::route::reason::Reason;
use crate::route::shape::Shape;
use crate::route::tables::{PreferredGrid, forced_grid, is_measured, kernel_and_grid, threshold_bytes};
use crate::route::tuning::{LEAST_TILE, MOST_TILE, Tuned, TuningRow};
use crate::route::type_kind::{TYPE_KINDS, TypeKind};

/// The most bytes of a message that can be fast, whatever the settings: no threshold is above it, and a larger message
/// starts no setup. A constant, so that it cannot differ between ranks, which have not agreed on anything before the
/// setup.
pub const FAST_LIMIT_BYTES: usize = 32 << 20;

/// As [`FAST_LIMIT_BYTES`], of floats on a batch-invariant communicator, whose ranks know that of each other before the
/// setup. More than any GPU holds; the number of launches stays below 2^32.
const BATCH_INVARIANT_LIMIT_BYTES: usize = 1 << 40;

/// The most bytes of a message that can be fast.
const fn limit_bytes(batch_invariant: bool, float: bool) -> usize {
    if batch_invariant && float { BATCH_INVARIANT_LIMIT_BYTES } else { FAST_LIMIT_BYTES }
}

/// The values on which the ranks agreed, as far as routing needs them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// Ranks, 2 to 8.
    pub ranks: usize,
    /// Compute capability, 90 for 9.0.
    pub arch: u32,
    /// SMs that each rank may use, on the GPU that leaves its ranks the fewest. It limits the blocks of a launch,
    /// because all blocks must be co-resident: a block that waits for a peer's block must not keep that block's
    /// counterpart from starting.
    pub multiprocessors: u32,
    /// The kernel that DIME_KERNEL names, if any.
    pub forced: Option<Kernel>,
    /// DIME_THRESHOLD_BYTES, if it is set; else the threshold is the routing table's.
    pub threshold_setting: Option<usize>,
    /// Floats of every size are fast (DIME_BATCH_INVARIANT).
    pub batch_invariant: bool,
    /// Blocks of a launch; 0: from the table.
    pub blocks: u32,
    /// Threads of a block; 0: from the table.
    pub threads: u32,
    /// The most blocks of a launch that NCCL's settings allow (NCCL_MAX_CTAS, maxCTAs of ncclConfig_t).
    pub most_ctas: u32,
    /// The tuning file's rows and thresholds for this architecture and number of ranks, if all ranks have the same
    /// file.
    pub tuned: Option<&'static Tuned>,
}

impl Agreed {
    /// What is agreed on where nobody has set anything.
    pub const fn without_settings(ranks: usize, arch: u32, multiprocessors: u32) -> Self {
        Self {
            ranks,
            arch,
            multiprocessors,
            forced: None,
            threshold_setting: None,
            batch_invariant: false,
            blocks: 0,
            threads: 0,
            most_ctas: u32::MAX,
            tuned: None,
        }
    }

    /// The largest message of this kind of type that is fast.
    pub fn threshold_bytes(&self, kind: TypeKind) -> usize {
        if self.batch_invariant && kind.is_float() {
            return BATCH_INVARIANT_LIMIT_BYTES;
        }
        let threshold = match (self.threshold_setting, self.forced) {
            (Some(bytes), _) => bytes,
            // A forced kernel takes every size that it can carry.
            (None, Some(_)) => FAST_LIMIT_BYTES,
            (None, None) => self
                .tuned
                .and_then(|tuned| tuned.threshold_bytes(kind))
                .unwrap_or_else(|| threshold_bytes(self.arch, kind, self.ranks)),
        };
        threshold.min(FAST_LIMIT_BYTES)
    }

    /// Some threshold is the routing table's, and nobody has measured it with this architecture and number of ranks.
    pub fn is_guess(&self) -> bool {
        let is_tuned = |kind| self.tuned.is_some_and(|tuned| tuned.threshold_bytes(kind).is_some());
        self.threshold_setting.is_none()
            && self.forced.is_none()
            && !is_measured(self.arch, self.ranks)
            && !TYPE_KINDS.into_iter().all(is_tuned)
    }

    /// The row of the tuning file that decides about messages of this shape. None: the built-in rows do.
    pub fn tuning_row(&self, shape: &Shape) -> Option<&'static TuningRow> {
        let kind = TypeKind::of(shape.datatype, Reduction::of(shape.datatype, shape.op));
        if self.forced.is_some() { None } else { self.deciding_row(kind, shape.datatype, shape.bytes) }
    }

    #[inline]
    fn deciding_row(&self, kind: TypeKind, datatype: DataType, bytes: usize) -> Option<&'static TuningRow> {
        let row = self.tuned?.row(kind, bytes)?;
        row.kernel.is_none_or(|kernel| can_carry(kernel, datatype)).then_some(row)
    }
}

/// Why a communicator of this many ranks is never fast.
pub const fn never_fast(ranks: usize) -> Option<Reason> {
    if ranks < 2 {
        Some(Reason::OneRank)
    } else if ranks > MAX_RANKS {
        Some(Reason::ManyRanks)
    } else {
        None
    }
}

/// Whether an all-reduce of this shape could be fast, when only the number of ranks is known. All ranks answer alike,
/// whatever their environment. The first such call sets the communicator up. `batch_invariant`: the communicator was
/// made with DIME_BATCH_INVARIANT=1, on all ranks.
pub fn may_need_setup(ranks: usize, shape: &Shape, batch_invariant: bool) -> Result<(), Reason> {
    match never_fast(ranks) {
        Some(reason) => Err(reason),
        None if shape.bytes > limit_bytes(batch_invariant, shape.datatype.is_float()) => Err(Reason::TooLarge),
        None => Ok(()),
    }
}

/// Whether a kernel can carry elements of a type.
pub const fn can_carry(kernel: Kernel, datatype: DataType) -> bool {
    datatype.is_float() || kernel.entry().packet.carries_integers()
}

/// The grid of a row of the tuning file. What the row leaves open is the built-in row's.
fn grid_of_row(row: &TuningRow, built_in: &PreferredGrid) -> PreferredGrid {
    PreferredGrid {
        blocks: row.blocks.map_or(built_in.blocks, |blocks| blocks.clamp(1, MAX_BLOCKS)),
        threads: row.threads.map_or(built_in.threads, |threads| threads.clamp(32, 512).next_multiple_of(32)),
        tile_log2: row.tile.map_or(built_in.tile_log2, |tile| tile.clamp(LEAST_TILE, MOST_TILE).ilog2() as u8),
        stages: row.stages.map_or(built_in.stages, |stages| stages.min(MAX_STAGES) as u8),
    }
}

/// The launch plan of an all-reduce, or why NCCL does it.
pub fn route(agreed: &Agreed, shape: &Shape) -> Result<LaunchPlan, Reason> {
    let Shape { datatype, op, bytes } = *shape;
    let reduction = Reduction::of(datatype, op);
    let kind = TypeKind::of(datatype, reduction);
    if bytes > agreed.threshold_bytes(kind) {
        return Err(Reason::TooLarge);
    }
    if datatype.is_fp8() && agreed.arch < 90 {
        return Err(Reason::Fp8Arch);
    }
    let (kernel, preferred) = match agreed.forced {
        None => {
            let (kernel, grid) = kernel_and_grid(kind, agreed.ranks, bytes);
            match agreed.deciding_row(kind, datatype, bytes) {
                None => (kernel, *grid),
                Some(row) => (row.kernel.unwrap_or(kernel), grid_of_row(row, grid)),
            }
        }
        Some(kernel) if can_carry(kernel, datatype) => (kernel, *forced_grid(bytes)),
        Some(_) => return Err(Reason::ForcedKernel),
    };
    let threads =
        if agreed.threads == 0 { preferred.threads } else { agreed.threads.clamp(32, 512).next_multiple_of(32) };
    let blocks = if agreed.blocks == 0 { preferred.blocks } else { agreed.blocks.clamp(1, MAX_BLOCKS) };
    // The tables assume kernels that may have 512 threads in a block. A kernel that may have only 256 gets as many
    // threads in more blocks, with smaller tiles, because a block takes half an SM at most (kernels/instances.cu).
    let is_pair = kernel.uses_pair_form(agreed.ranks);
    let most_threads = if is_pair || reduction.is_specialised() { 512 } else { 256 };
    let (blocks, tile_log2) = match threads / most_threads {
        times @ 2.. if agreed.blocks == 0 => (blocks * times, preferred.tile_log2.saturating_sub(times.ilog2() as u8)),
        _ => (blocks, preferred.tile_log2),
    };
    let threads = threads.min(most_threads);
    // Where NCCL's settings leave fewer blocks than the table wants, these get more threads and larger tiles.
    let (threads, tile_log2) = if blocks > agreed.most_ctas && agreed.threads == 0 {
        let times = blocks.div_ceil(agreed.most_ctas).next_power_of_two().min(most_threads / threads);
        (threads * times, tile_log2 + times.ilog2() as u8)
    } else {
        (threads, tile_log2)
    };
    let most_blocks = most_blocks(agreed.multiprocessors);
    let grid = Grid {
        kernel,
        ranks: agreed.ranks,
        blocks: blocks.min(most_blocks).min(agreed.most_ctas),
        // In the pair form each thread takes one packet, so the number of busy blocks follows from the threads,
        // whatever the table says.
        tile_log2: if is_pair { threads.ilog2() as u8 } else { tile_log2 },
        stages: preferred.stages.clamp(1, MAX_STAGES as u8),
    };
    let capacity = geometry::capacity_bytes(kernel, agreed.ranks);
    let (blocks, pieces, piece, last) = if bytes <= capacity {
        let whole = grid.piece(bytes);
        (whole.blocks, 1, whole, whole)
    } else {
        // No piece has more blocks than the largest possible piece.
        let blocks = grid.piece(capacity).blocks;
        let grid = Grid { blocks, ..grid };
        let piece_bytes = geometry::piece_bytes(capacity, agreed.ranks, bytes);
        let pieces = bytes.div_ceil(piece_bytes);
        (blocks, pieces as u32, grid.piece(piece_bytes), grid.piece(bytes - (pieces - 1) * piece_bytes))
    };
    Ok(LaunchPlan {
        kernel,
        reduction,
        blocks,
        threads,
        tile_log2: grid.tile_log2,
        stages: grid.stages,
        triggers_dependents: blocks * 2 <= most_blocks,
        pieces,
        piece,
        last,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::layout::{DATA_BYTES, LL_BYTES};
    use crate::kernel::{KERNELS, Packet};
    use crate::nccl::RedOp;
    use crate::route::reason::REASONS;

    fn choose(agreed: &Agreed, count: usize, datatype: i32, op: i32) -> Result<LaunchPlan, Reason> {
        Shape::parse(count, datatype, op).and_then(|shape| route(agreed, &shape))
    }

    /// The kind of a type's sums.
    fn kind_of(datatype: DataType) -> TypeKind {
        TypeKind::of(datatype, Reduction::of(datatype, RedOp::Sum))
    }

    fn agreed(ranks: usize) -> Agreed {
        Agreed::without_settings(ranks, 90, 132)
    }

    #[test]
    fn every_shape_up_to_the_threshold_is_served_and_fits_its_slots() {
        for ranks in 2..=MAX_RANKS {
            for datatype in DataType::ALL {
                for shift in 0..=24 {
                    for delta in [-1_isize, 0, 1] {
                        let bytes = ((1_isize << shift) + delta).max(1) as usize;
                        let count = bytes.div_ceil(datatype.bytes());
                        let Ok(plan) = choose(&agreed(ranks), count, datatype as i32, 0) else {
                            assert!(count * datatype.bytes() > threshold_bytes(90, kind_of(datatype), ranks));
                            continue;
                        };
                        assert!(can_carry(plan.kernel, datatype));
                        assert!(plan.blocks >= 1 && plan.blocks <= MAX_BLOCKS);
                        assert!((32..=512).contains(&plan.threads) && plan.threads.is_multiple_of(32));
                        assert_eq!(plan.each_piece().map(|piece| piece.bytes).sum::<usize>(), count * datatype.bytes());
                        let exchanges = plan.kernel.entry().exchanges;
                        let region = if plan.kernel.entry().packet == Packet::Ll { LL_BYTES } else { DATA_BYTES };
                        for piece in plan.each_piece() {
                            let slots = exchanges * (ranks - 1) * piece.chunk_packets as usize;
                            assert!(slots * 16 <= region, "{:?} {ranks} {piece:?}", plan.kernel);
                            assert!((1..=plan.blocks).contains(&piece.blocks));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_forced_kernel_is_taken_or_the_call_is_forwarded() {
        for kernel in KERNELS {
            let agreed = Agreed { forced: Some(kernel), ..agreed(8) };
            assert_eq!(choose(&agreed, 1000, DataType::Bfloat16 as i32, 0).map(|plan| plan.kernel), Ok(kernel));
            let integer = choose(&agreed, 1000, DataType::Int32 as i32, 0).map(|plan| plan.kernel);
            let expected = if can_carry(kernel, DataType::Int32) { Ok(kernel) } else { Err(Reason::ForcedKernel) };
            assert_eq!(integer, expected);
        }
    }

    fn setup_for_with(ranks: usize, batch_invariant: bool, count: usize, datatype: DataType) -> Result<(), Reason> {
        let shape = Shape::parse(count, datatype as i32, 0)?;
        may_need_setup(ranks, &shape, batch_invariant)
    }

    fn setup_for(ranks: usize, count: usize, datatype: i32, op: i32) -> Result<(), Reason> {
        Shape::parse(count, datatype, op).and_then(|shape| may_need_setup(ranks, &shape, false))
    }

    #[test]
    fn what_the_kernels_do_not_know_is_forwarded_with_its_reason() {
        let agreed = agreed(4);
        assert_eq!(choose(&agreed, 0, 7, 0), Err(Reason::CountZero));
        assert_eq!(choose(&agreed, 1, 12, 0), Err(Reason::UnknownType));
        assert_eq!(choose(&agreed, 1, -1, 0), Err(Reason::UnknownType));
        assert_eq!(choose(&agreed, 1, 7, 5), Err(Reason::UserOp));
        assert_eq!(choose(&agreed, usize::MAX, 8, 0), Err(Reason::TooLarge));
        assert_eq!(choose(&agreed, (16 << 20) + 1, 0, 0), Err(Reason::TooLarge));
        assert_eq!(choose(&Agreed { arch: 80, ..agreed }, 1, 10, 0), Err(Reason::Fp8Arch));
        assert_eq!(setup_for(1, 1, 7, 0), Err(Reason::OneRank));
        assert_eq!(setup_for(9, 1, 7, 0), Err(Reason::ManyRanks));
        assert_eq!(setup_for(2, 9 << 20, 7, 0), Err(Reason::TooLarge));
    }

    #[test]
    fn a_launch_never_has_more_blocks_than_the_smallest_gpu_has_sms() {
        let agreed = Agreed { multiprocessors: 24, ..agreed(4) };
        for shift in 0..=22 {
            let plan = choose(&agreed, 1 << shift, DataType::Uint8 as i32, 0);
            assert!(plan.is_ok_and(|plan| plan.blocks <= 24));
        }
    }

    #[test]
    fn a_limit_of_blocks_is_kept_with_more_threads_in_each() {
        for (most_ctas, ranks) in
            [1, 4, 16, 32, 100].into_iter().flat_map(|most| (2..=MAX_RANKS).map(move |it| (most, it)))
        {
            let limited = Agreed { most_ctas, ..agreed(ranks) };
            for (datatype, shift) in DataType::ALL.into_iter().flat_map(|it| (3..23).map(move |shift| (it, shift))) {
                let count = (1 << shift) / datatype.bytes();
                let usual = choose(&agreed(ranks), count, datatype as i32, 0).expect("below the threshold");
                let plan = choose(&limited, count, datatype as i32, 0).expect("below the threshold");
                assert!(plan.blocks <= most_ctas && plan.each_piece().all(|piece| piece.blocks <= most_ctas));
                assert_eq!((plan.kernel, plan.pieces), (usual.kernel, usual.pieces));
                let is_lean = plan.reduction.is_specialised() || plan.kernel.uses_pair_form(ranks);
                assert!(plan.threads.is_multiple_of(32) && plan.threads <= if is_lean { 512 } else { 256 });
                assert!(
                    plan.blocks < usual.blocks || plan == usual || plan.threads > usual.threads,
                    "{most_ctas} {plan:?}"
                );
            }
        }
        let few = Agreed { most_ctas: 16, ..agreed(4) };
        let plan = choose(&few, 32 << 10, DataType::Bfloat16 as i32, 0).expect("a sum of bf16");
        assert_eq!((plan.blocks, plan.threads, plan.tile_log2), (16, 512, 8));
        let set = Agreed { threads: 128, ..few };
        assert_eq!(choose(&set, 32 << 10, DataType::Bfloat16 as i32, 0).map(|plan| plan.threads), Ok(128));
    }

    #[test]
    fn two_communicators_fit_side_by_side_each_with_an_early_launch() {
        for multiprocessors in [1, 2, 7, 16, 33, 66, 108, 132, 148] {
            let most_blocks = most_blocks(multiprocessors);
            // Room is left for a kernel of one block, unless there are only a few SMs.
            assert!(most_blocks == 1 || most_blocks < multiprocessors && most_blocks <= MAX_BLOCKS);
            for (ranks, op) in (2..=MAX_RANKS).flat_map(|ranks| RedOp::ALL.map(move |op| (ranks, op))) {
                for (datatype, shift) in DataType::ALL.into_iter().flat_map(|it| (3..24).map(move |shift| (it, shift)))
                {
                    let bytes = 1 << shift;
                    for forced in KERNELS.into_iter().map(Some).chain([None]) {
                        for (blocks, threads) in [(0, 0), (0, 512), (13, 0), (MAX_BLOCKS, 384), (0, 64)] {
                            let agreed = Agreed { multiprocessors, forced, blocks, threads, ..agreed(ranks) };
                            let count = bytes / datatype.bytes();
                            let Ok(plan) = choose(&agreed, count, datatype as i32, op as i32) else { continue };
                            // Half of the registers of an SM: 64 a thread, or 128 (kernels/instances.cu).
                            let is_lean = plan.reduction.is_specialised() || plan.kernel.uses_pair_form(ranks);
                            let registers = if is_lean { 64 } else { 128 };
                            assert!(plan.threads * registers <= 32 << 10);
                            let most = if plan.triggers_dependents { 2 * plan.blocks } else { plan.blocks };
                            assert!(most <= most_blocks);
                            assert!(blocks == 0 || plan.blocks <= blocks);
                            let is_plain = forced.is_none() && (blocks, threads) == (0, 0);
                            assert!(
                                !is_plain || multiprocessors < 132 || plan.triggers_dependents || bytes > 128 << 10
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_launch_has_the_blocks_that_its_packets_need_and_triggers_dependents_if_small() {
        for (multiprocessors, kib, blocks, triggers_dependents) in
            [(132, 4, 2, true), (132, 128, 64, true), (132, 1024, 128, false), (26, 4, 2, true), (26, 64, 25, false)]
        {
            let agreed = Agreed { multiprocessors, ..agreed(2) };
            let plan = choose(&agreed, kib << 9, DataType::Bfloat16 as i32, 0).expect("a sum of bf16");
            assert_eq!(
                (plan.blocks, plan.triggers_dependents),
                (blocks, triggers_dependents),
                "{multiprocessors} and {kib} KiB"
            );
        }
    }

    #[test]
    fn a_long_message_is_cut_into_equal_pieces_that_fit() {
        for ranks in 2..=MAX_RANKS {
            let forced = Agreed { forced: Some(Kernel::OneShotLl), ..agreed(ranks) };
            let plan = choose(&forced, 8 << 20, DataType::Bfloat16 as i32, 0).expect("a forced kernel takes it");
            let capacity = geometry::capacity_bytes(Kernel::OneShotLl, ranks);
            assert!(plan.pieces > 1 && plan.piece.bytes <= capacity);
            assert!(plan.piece.bytes.is_multiple_of(16 * ranks));
            assert!(plan.piece.bytes - plan.last.bytes < 16 * ranks * plan.pieces as usize);
            assert_eq!(plan.each_piece().map(|piece| piece.bytes).sum::<usize>(), 16 << 20);
        }
    }

    #[test]
    fn thresholds_depend_on_architecture_and_ranks() {
        const MIB: usize = 1 << 20;
        // Floats and integers, with 2, 3, 4, 5, 7 and 8 ranks.
        let rows = [
            (&[90][..], [16, 16, 16, 8, 8, 8], [8, 4, 4, 4, 4, 4]),
            (&[80, 86, 89, 103, 120], [4; 6], [4; 6]),
            // The last ones are in no table.
            (&[100, 87, 110, 121, 130], [2, 2, 2, 1, 1, 1], [2, 2, 2, 1, 1, 1]),
        ];
        for (archs, floats, integers) in rows {
            for (&arch, (at, ranks)) in
                archs.iter().flat_map(|arch| [2, 3, 4, 5, 7, 8].into_iter().enumerate().map(move |it| (arch, it)))
            {
                let agreed = Agreed { arch, ..agreed(ranks) };
                let thresholds = [TypeKind::FloatSum, TypeKind::Integer].map(|kind| agreed.threshold_bytes(kind));
                assert_eq!(thresholds, [floats[at] * MIB, integers[at] * MIB], "{arch} {ranks}");
                for (datatype, bytes) in [(DataType::Float32, thresholds[0]), (DataType::Uint8, thresholds[1])] {
                    let last = choose(&agreed, bytes / datatype.bytes(), datatype as i32, 0);
                    let next = choose(&agreed, bytes / datatype.bytes() + 1, datatype as i32, 0);
                    assert!(last.is_ok() && next == Err(Reason::TooLarge), "{arch} {ranks} {datatype:?}");
                }
                assert_eq!(agreed.is_guess(), arch != 90 || ranks > 4);
                assert!(!Agreed { threshold_setting: Some(MIB), ..agreed }.is_guess());
            }
        }
    }

    #[test]
    fn batch_invariance_keeps_floats_of_every_size_and_leaves_integers() {
        for ranks in 2..=MAX_RANKS {
            for (arch, forced, threshold_setting) in
                [(90, None, None), (100, None, Some(0)), (80, Some(Kernel::OneShotLl), Some(4096))]
            {
                let usual = Agreed { arch, forced, threshold_setting, ..agreed(ranks) };
                let agreed = Agreed { batch_invariant: true, ..usual };
                for datatype in DataType::ALL.into_iter().filter(|datatype| arch >= 90 || !datatype.is_fp8()) {
                    for bytes in [8, 3 << 20, 40 << 20, 256 << 20, 3 << 30, 1 << 40] {
                        let count = bytes / datatype.bytes();
                        let plan = choose(&agreed, count, datatype as i32, 0);
                        assert_eq!(
                            setup_for_with(ranks, true, count, datatype),
                            match datatype.is_float() {
                                true => Ok(()),
                                false => setup_for(ranks, count, datatype as i32, 0),
                            }
                        );
                        if !datatype.is_float() {
                            assert_eq!(plan, choose(&usual, count, datatype as i32, 0));
                            continue;
                        }
                        let plan = plan.expect("every size");
                        let capacity = geometry::capacity_bytes(plan.kernel, ranks);
                        let whole = (u64::from(plan.pieces) - 1) * plan.piece.bytes as u64 + plan.last.bytes as u64;
                        assert_eq!(whole, (count * datatype.bytes()) as u64, "{ranks} {datatype:?} {bytes}");
                        assert!(plan.piece.bytes <= capacity && plan.last.bytes <= capacity && plan.last.bytes > 0);
                    }
                }
                assert_eq!(choose(&agreed, (1 << 38) + 1, DataType::Float32 as i32, 0), Err(Reason::TooLarge));
                assert_eq!(setup_for_with(ranks, true, (1 << 38) + 1, DataType::Float32), Err(Reason::TooLarge));
            }
        }
    }

    #[test]
    fn the_threshold_setting_moves_the_threshold() {
        let agreed = Agreed { threshold_setting: Some(4096), ..agreed(2) };
        assert!(choose(&agreed, 1024, 7, 0).is_ok());
        assert_eq!(choose(&agreed, 1025, 7, 0), Err(Reason::TooLarge));
    }

    #[test]
    fn reasons_and_kernels_have_names_of_their_own() {
        let mut names: Vec<_> = REASONS.iter().map(|reason| reason.name()).collect();
        names.extend(KERNELS.map(Kernel::name));
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
        assert!(KERNELS.into_iter().all(|kernel| Kernel::named(kernel.name()) == Some(kernel)));
    }
}

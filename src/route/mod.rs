//! The decision: which kernel an all-reduce takes, or why it goes to NCCL.
//!
//! Pure. It sees what NCCL requires to be equal on all ranks (count, type, operation, capture state) and what the ranks agreed
//! on at setup, and nothing else: no pointers, no environment, no GPU. So all ranks decide alike.
//!
//! Capability ("can it") is kept apart from preference ("should it"): [`Kernel::carries`] and [`capacity_bytes`] say what a kernel
//! can do; the tables say what was measured to be best, and may be wrong without harm.

mod reason;
mod tables;

pub use self::reason::{REASONS, Reason};
use crate::kernel::Kernel;
use crate::kernel::layout::{DATA_BYTES, LL_BYTES, MAX_BLOCKS, MAX_RANKS, MAX_STAGES};
use crate::nccl::{DataType, LAST_BUILT_IN_OP};
use crate::route::tables::{forced_row, row_for, threshold_bytes};

/// Most bytes of a message that can be a reason to set up a communicator, whatever the settings: a number that cannot differ
/// between ranks.
pub const SETUP_LIMIT_BYTES: usize = 32 << 20;

/// What the ranks agreed on, as far as the decision needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// Ranks, 2 to 8.
    pub ranks: usize,
    /// Compute capability, 90 for 9.0.
    pub arch: u32,
    /// Multiprocessors that a rank has, on the GPU that leaves it the fewest. They say how many blocks a launch may have, so that all
    /// of them run at once: a block that waits for a peer's block must not keep that one's counterpart from starting.
    pub multiprocessors: u32,
    /// A kernel that is forced.
    pub forced: Option<Kernel>,
    /// Largest message that takes the fast path, in bytes, when it is set; else the table says.
    pub threshold_bytes: Option<usize>,
    /// Blocks of a launch; 0: from the table.
    pub blocks: u32,
    /// Threads of a block; 0: from the table.
    pub threads: u32,
}

/// A launch, but for its buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaunchPlan {
    /// The kernel.
    pub kernel: Kernel,
    /// Blocks of each launch at most.
    pub blocks: u32,
    /// Threads of a block.
    pub threads: u32,
    /// A block takes tiles of `1 << tile_log2` packets.
    pub tile_log2: u8,
    /// Stages of a bulk launch.
    pub stages: u8,
    /// It is small: it comes early, and the launch behind may take its place while this one runs.
    pub triggers_dependents: bool,
    /// A longer message takes several launches of at most this many bytes, a multiple of 16 x ranks.
    pub piece_bytes: usize,
}

/// Most bytes that one launch of `kernel` can carry among `ranks` ranks: what its slots hold.
pub const fn capacity_bytes(kernel: Kernel, ranks: usize) -> usize {
    const SLOT_BYTES: usize = 16;
    let region = match kernel {
        Kernel::OneShotLl | Kernel::TwoShotLl => LL_BYTES,
        _ => DATA_BYTES,
    };
    let packets = if kernel.is_two_shot() {
        region / SLOT_BYTES / (2 * (ranks - 1)) * ranks
    } else {
        region / SLOT_BYTES / (ranks - 1)
    };
    // A multiple of 16 x ranks, so that pieces of a long message are cut at packets and chunks of every kernel.
    packets * kernel.packet_bytes() / (16 * ranks) * (16 * ranks)
}

/// Why a communicator of this size never takes the fast path.
pub const fn never_fast(ranks: usize) -> Option<Reason> {
    if ranks < 2 {
        Some(Reason::OneRank)
    } else if ranks > MAX_RANKS {
        Some(Reason::ManyRanks)
    } else {
        None
    }
}

/// Whether a shape could take the fast path at all, before anything is known of the communicator but its size. All ranks
/// answer alike whatever their environment: the first such call sets the communicator up.
pub fn may_need_setup(ranks: usize, count: usize, datatype: i32, op: i32) -> Result<(), Reason> {
    if let Some(reason) = never_fast(ranks) {
        return Err(reason);
    }
    let (bytes, _) = shape(count, datatype, op)?;
    if bytes > SETUP_LIMIT_BYTES { Err(Reason::TooLarge) } else { Ok(()) }
}

fn shape(count: usize, datatype: i32, op: i32) -> Result<(usize, DataType), Reason> {
    if !(0..=LAST_BUILT_IN_OP).contains(&op) {
        return Err(Reason::UserOp);
    }
    let datatype = DataType::from_nccl(datatype).ok_or(Reason::UnknownType)?;
    if count == 0 {
        return Err(Reason::CountZero);
    }
    let bytes = count.checked_mul(datatype.bytes()).ok_or(Reason::TooLarge)?;
    Ok((bytes, datatype))
}

/// The decision for one all-reduce of `count` elements.
pub fn choose(plan: &Agreed, count: usize, datatype: i32, op: i32) -> Result<LaunchPlan, Reason> {
    let (bytes, datatype) = shape(count, datatype, op)?;
    let threshold = match (plan.threshold_bytes, plan.forced) {
        (Some(bytes), _) => bytes,
        // A kernel that is forced takes whatever it can carry.
        (None, Some(_)) => SETUP_LIMIT_BYTES,
        (None, None) => threshold_bytes(datatype.is_float(), plan.ranks),
    };
    if bytes > threshold.min(SETUP_LIMIT_BYTES) {
        return Err(Reason::TooLarge);
    }
    if datatype.is_fp8() && plan.arch < 90 {
        return Err(Reason::Fp8Arch);
    }
    let specialised = is_specialised(datatype, op);
    let row = match plan.forced {
        None => row_for(datatype.is_float(), specialised, plan.ranks, bytes),
        Some(kernel) if kernel.carries(datatype) => forced_row(kernel, bytes),
        Some(_) => return Err(Reason::ForcedKernel),
    };
    let threads = if plan.threads == 0 { row.threads } else { plan.threads.clamp(32, 512).next_multiple_of(32) };
    let blocks = if plan.blocks == 0 { row.blocks } else { plan.blocks.clamp(1, MAX_BLOCKS) };
    // The tables are for kernels whose blocks may have all the threads: others have as many in more blocks, with smaller tiles, for
    // a block takes half a multiprocessor at most (`kernels/instances.cu`).
    let is_pair = row.kernel.has_pair_form(plan.ranks);
    let most_threads = if is_pair || specialised { 512 } else { 256 };
    let (blocks, tile_log2) = match threads / most_threads {
        times @ 2.. if plan.blocks == 0 => (blocks * times, row.tile_log2.saturating_sub(times.ilog2() as u8)),
        _ => (blocks, row.tile_log2),
    };
    let threads = threads.min(most_threads);
    let most_blocks = most_blocks(plan.multiprocessors);
    let mut choice = LaunchPlan {
        kernel: row.kernel,
        blocks: blocks.min(most_blocks),
        threads,
        // Of a pair, each thread takes a packet: this says how many blocks are busy, whatever the row has.
        tile_log2: if is_pair { threads.ilog2() as u8 } else { tile_log2 },
        stages: row.stages.clamp(1, MAX_STAGES as u8),
        triggers_dependents: false,
        piece_bytes: capacity_bytes(row.kernel, plan.ranks),
    };
    let (_, chunk_packets) = packets(choice.kernel, plan.ranks, bytes.min(choice.piece_bytes));
    choice.blocks = self::blocks(&choice, chunk_packets);
    choice.triggers_dependents = choice.blocks * 2 <= most_blocks;
    Ok(choice)
}

/// Most blocks that the launches of one lane have on a GPU at a time: one launch, or two small ones of which the second came
/// early, since one that comes early lets none in before the first is over. (A large one comes early only behind a large one:
/// `launch::may_start_early`.)
///
/// Every block of ours must find a place beside all that wait for it, at once: a GPU gives places to launches in the order in which
/// they came, so one that finds none for all its blocks keeps all others from starting, also the one that it waits for. A block takes
/// half a multiprocessor at most (`kernels/instances.cu`). So while there are fewer than two for each multiprocessor, one of those has
/// room for another, however they are spread: enough for two communicators whose launches come to the GPUs in different order, or for
/// one that is called eagerly and in graphs. The rest, a thirty-third, is for kernels of one block that wait for a launch of another
/// stream. What other libraries let in early behind a launch of ours is not counted: docs/kernels.md.
fn most_blocks(multiprocessors: u32) -> u32 {
    (multiprocessors * 32 / 33).clamp(1, MAX_BLOCKS)
}

/// Whether kernels are compiled for this type and operation alone.
pub const fn is_specialised(datatype: DataType, op: i32) -> bool {
    op == 0 && matches!(datatype, DataType::Float16 | DataType::Float32 | DataType::Bfloat16)
}

/// Bytes of each launch of a message of `bytes` bytes: pieces of about equal size, none above `choice.piece_bytes`, cut at
/// packets and chunks.
pub const fn piece_bytes(choice: &LaunchPlan, ranks: usize, bytes: usize) -> usize {
    if bytes <= choice.piece_bytes {
        return bytes;
    }
    let pieces = bytes.div_ceil(choice.piece_bytes);
    bytes.div_ceil(pieces).next_multiple_of(16 * ranks)
}

/// How many packets a launch of `bytes` has, and how many of them a chunk (for one-shot the message).
pub const fn packets(kernel: Kernel, ranks: usize, bytes: usize) -> (u32, u32) {
    let packets = bytes.div_ceil(kernel.packet_bytes());
    let chunk = if kernel.is_two_shot() { packets.div_ceil(ranks) } else { packets };
    (packets as u32, chunk as u32)
}

/// Blocks that a launch of `chunk_packets` packets keeps busy, at most `choice.blocks`. Bulk kernels deal tiles to every block.
pub const fn blocks(choice: &LaunchPlan, chunk_packets: u32) -> u32 {
    let tile = match choice.kernel {
        Kernel::TwoShotBulk => 64 * choice.stages as u32,
        _ => 1 << choice.tile_log2,
    };
    let busy = chunk_packets.div_ceil(tile);
    if busy < 1 {
        1
    } else if busy < choice.blocks {
        busy
    } else {
        choice.blocks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::KERNELS;

    fn plan(ranks: usize) -> Agreed {
        Agreed { ranks, arch: 90, multiprocessors: 132, forced: None, threshold_bytes: None, blocks: 0, threads: 0 }
    }

    #[test]
    fn every_shape_up_to_the_threshold_is_served_and_fits_its_slots() {
        for ranks in 2..=MAX_RANKS {
            for datatype in DataType::ALL {
                for shift in 0..=24 {
                    for delta in [-1_isize, 0, 1] {
                        let bytes = ((1_isize << shift) + delta).max(1) as usize;
                        let count = bytes.div_ceil(datatype.bytes());
                        let Ok(choice) = choose(&plan(ranks), count, datatype as i32, 0) else {
                            assert!(count * datatype.bytes() > threshold_bytes(datatype.is_float(), ranks));
                            continue;
                        };
                        assert!(choice.kernel.carries(datatype));
                        assert!(choice.blocks >= 1 && choice.blocks <= MAX_BLOCKS);
                        assert!((32..=512).contains(&choice.threads) && choice.threads.is_multiple_of(32));
                        assert!(choice.piece_bytes.is_multiple_of(16 * ranks));
                        let piece = choice.piece_bytes.min(count * datatype.bytes());
                        let (packets, chunk) = packets(choice.kernel, ranks, piece);
                        let exchanges = if choice.kernel.is_two_shot() { 2 } else { 1 };
                        let slots = exchanges * (ranks - 1) * chunk as usize;
                        let region = if choice.kernel.packet_bytes() == 8 { LL_BYTES } else { DATA_BYTES };
                        assert!(slots * 16 <= region, "{:?} {ranks} {piece} {packets}", choice.kernel);
                        assert!(blocks(&choice, chunk) >= 1);
                    }
                }
            }
        }
    }

    #[test]
    fn a_forced_kernel_is_taken_or_the_call_is_forwarded() {
        for kernel in KERNELS {
            let plan = Agreed { forced: Some(kernel), ..plan(8) };
            assert_eq!(choose(&plan, 1000, DataType::Bfloat16 as i32, 0).map(|choice| choice.kernel), Ok(kernel));
            let integer = choose(&plan, 1000, DataType::Int32 as i32, 0).map(|choice| choice.kernel);
            let expected = if kernel.carries(DataType::Int32) { Ok(kernel) } else { Err(Reason::ForcedKernel) };
            assert_eq!(integer, expected);
        }
    }

    #[test]
    fn what_the_kernels_do_not_know_is_forwarded_with_its_reason() {
        let plan = plan(4);
        assert_eq!(choose(&plan, 0, 7, 0), Err(Reason::CountZero));
        assert_eq!(choose(&plan, 1, 12, 0), Err(Reason::UnknownType));
        assert_eq!(choose(&plan, 1, -1, 0), Err(Reason::UnknownType));
        assert_eq!(choose(&plan, 1, 7, 5), Err(Reason::UserOp));
        assert_eq!(choose(&plan, usize::MAX, 8, 0), Err(Reason::TooLarge));
        assert_eq!(choose(&plan, (16 << 20) + 1, 0, 0), Err(Reason::TooLarge));
        assert_eq!(choose(&Agreed { arch: 80, ..plan }, 1, 10, 0), Err(Reason::Fp8Arch));
        assert_eq!(may_need_setup(1, 1, 7, 0), Err(Reason::OneRank));
        assert_eq!(may_need_setup(9, 1, 7, 0), Err(Reason::ManyRanks));
        assert_eq!(may_need_setup(2, 9 << 20, 7, 0), Err(Reason::TooLarge));
    }

    #[test]
    fn a_launch_never_has_more_blocks_than_the_smallest_gpu_has_multiprocessors() {
        let plan = Agreed { multiprocessors: 24, ..plan(4) };
        for shift in 0..=22 {
            let choice = choose(&plan, 1 << shift, DataType::Uint8 as i32, 0);
            assert!(choice.is_ok_and(|choice| choice.blocks <= 24));
        }
    }

    #[test]
    fn two_communicators_fit_side_by_side_each_with_a_launch_that_came_early() {
        for multiprocessors in [1, 2, 7, 16, 33, 66, 108, 132, 148] {
            let most_blocks = most_blocks(multiprocessors);
            // A place is left for a kernel of one block, where there are more than a few.
            assert!(most_blocks == 1 || most_blocks < multiprocessors && most_blocks <= MAX_BLOCKS);
            for (ranks, op) in (2..=MAX_RANKS).flat_map(|ranks| (0..=LAST_BUILT_IN_OP).map(move |op| (ranks, op))) {
                for (datatype, shift) in DataType::ALL.into_iter().flat_map(|it| (3..24).map(move |shift| (it, shift)))
                {
                    let bytes = 1 << shift;
                    for forced in KERNELS.into_iter().map(Some).chain([None]) {
                        for (blocks, threads) in [(0, 0), (0, 512), (13, 0), (MAX_BLOCKS, 384), (0, 64)] {
                            let plan = Agreed { multiprocessors, forced, blocks, threads, ..plan(ranks) };
                            let count = bytes / datatype.bytes();
                            let Ok(choice) = choose(&plan, count, datatype as i32, op) else { continue };
                            // Half of the registers of a multiprocessor: 64 a thread, or 128 (kernels/instances.cu).
                            let is_lean = is_specialised(datatype, op) || choice.kernel.has_pair_form(ranks);
                            let registers = if is_lean { 64 } else { 128 };
                            assert!(choice.threads * registers <= 32 << 10);
                            let most = if choice.triggers_dependents { 2 * choice.blocks } else { choice.blocks };
                            assert!(most <= most_blocks);
                            assert!(blocks == 0 || choice.blocks <= blocks);
                            let is_plain = forced.is_none() && (blocks, threads) == (0, 0);
                            assert!(
                                !is_plain || multiprocessors < 132 || choice.triggers_dependents || bytes > 128 << 10
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_launch_has_the_blocks_that_its_packets_need_and_lets_the_next_in_accordingly() {
        for (multiprocessors, kib, blocks, triggers_dependents) in
            [(132, 4, 2, true), (132, 128, 64, true), (132, 1024, 128, false), (26, 4, 2, true), (26, 64, 25, false)]
        {
            let plan = Agreed { multiprocessors, ..plan(2) };
            let choice = choose(&plan, kib << 9, DataType::Bfloat16 as i32, 0).expect("a sum of bf16");
            assert_eq!(
                (choice.blocks, choice.triggers_dependents),
                (blocks, triggers_dependents),
                "{multiprocessors} and {kib} KiB"
            );
        }
    }

    #[test]
    fn a_long_message_is_cut_into_equal_pieces_that_fit() {
        for ranks in 2..=MAX_RANKS {
            let choice = choose(&plan(ranks), 8 << 20, DataType::Bfloat16 as i32, 0).expect("at the threshold");
            let piece = piece_bytes(&choice, ranks, 16 << 20);
            let pieces = (16_usize << 20).div_ceil(piece);
            assert!(piece <= choice.piece_bytes && piece.is_multiple_of(16 * ranks));
            assert!(piece - ((16 << 20) - (pieces - 1) * piece) < 16 * ranks * pieces);
        }
    }

    #[test]
    fn the_threshold_setting_moves_the_threshold() {
        let plan = Agreed { threshold_bytes: Some(4096), ..plan(2) };
        assert!(choose(&plan, 1024, 7, 0).is_ok());
        assert_eq!(choose(&plan, 1025, 7, 0), Err(Reason::TooLarge));
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

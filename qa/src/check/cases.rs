//! The list of cases for one number of ranks.

use dime_harness::guard::GUARD_BYTES;
use dime_harness::number::{Dtype, Op};
use dime_harness::payload::{Kind, PERIOD, Payload};
use dime_harness::random::Random;

/// Above this size only some types, operations and alignments are tried, so that the sweep fits its time.
const SMALL_BYTES: usize = 1 << 20;
/// Special values are compared one by one, so their messages are kept shorter.
const SPECIAL_BYTES: usize = 256 << 10;
const LARGE_TYPES: [Dtype; 6] = [Dtype::Bf16, Dtype::F16, Dtype::F32, Dtype::F64, Dtype::I32, Dtype::F8e4m3];
const OFFSETS_ELEMS: [usize; 3] = [0, 1, 3];

/// One all-reduce to try.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Case {
    /// Index of the payload.
    pub payload: usize,
    pub op: Op,
    pub count: usize,
    /// Misalignment of each pointer in elements. In place, both are the output's.
    pub input_offset: usize,
    pub output_offset: usize,
    pub in_place: bool,
    /// Element of the pattern at which the window begins, the same on all ranks.
    pub phase: usize,
}

impl Case {
    /// The case in words.
    pub fn describe(&self, payloads: &[Payload]) -> String {
        let payload = &payloads[self.payload];
        let place = if self.in_place {
            format!("in place at +{} elements", self.output_offset)
        } else {
            format!("input +{}, output +{} elements", self.input_offset, self.output_offset)
        };
        format!(
            "{} {}, count {} ({} bytes), {place}, {} data, phase {}",
            payload.dtype.name(),
            self.op.name(),
            self.count,
            self.count * payload.dtype.bytes(),
            payload.kind.name(),
            self.phase
        )
    }
}

/// The largest message of a payload.
pub fn largest_bytes(payload: &Payload, max_bytes: usize) -> usize {
    let limit = if payload.kind == Kind::Special {
        SPECIAL_BYTES
    } else if LARGE_TYPES.contains(&payload.dtype) {
        usize::MAX
    } else {
        SMALL_BYTES
    };
    max_bytes.min(limit)
}

/// Counts worth trying: the smallest, odd ones, around every power of two of bytes, around multiples of what the ranks
/// share out, and around the thresholds at which the routing changes.
pub fn counts(dtype: Dtype, ranks: usize, thresholds: &[usize], max_bytes: usize) -> Vec<usize> {
    let size = dtype.bytes();
    let most = max_bytes / size;
    let mut counts = vec![1, 2, 3, 5, 7, 13, 12_345, 99_991, 777_777];
    let powers = std::iter::successors(Some(8usize), |bytes| Some(bytes * 2)).take_while(|&bytes| bytes <= max_bytes);
    let shares = [16, 128, 512, 4096, 65_536].map(|bytes| bytes * ranks);
    for boundary in powers.chain(shares).map(|bytes| bytes / size).chain(thresholds.iter().copied()) {
        counts.extend([boundary.saturating_sub(1), boundary, boundary + 1]);
    }
    counts.retain(|&count| (1..=most).contains(&count));
    counts.sort_unstable();
    counts.dedup();
    counts
}

/// All cases in a seeded random order. `sizes` gives the counts of a type.
pub fn list(
    payloads: &[Payload],
    ops: &[Op],
    max_bytes: usize,
    seed: u64,
    sizes: impl Fn(Dtype) -> Vec<usize>,
) -> Vec<Case> {
    let mut random = Random::new(&[seed, 0xca5e5]);
    let mut cases = Vec::new();
    for (index, payload) in payloads.iter().enumerate() {
        let size = payload.dtype.bytes();
        let most = largest_bytes(payload, max_bytes) / size;
        for count in sizes(payload.dtype).into_iter().filter(|&count| count <= most) {
            let large = count * size > SMALL_BYTES;
            for &op in ops.iter().filter(|&&op| !large || matches!(op, Op::Sum | Op::Avg)) {
                for (input_offset, output_offset, in_place) in placements(large) {
                    let grid = random.below((PERIOD * size / GUARD_BYTES) as u64) as usize + 1;
                    let phase = grid * GUARD_BYTES / size + input_offset;
                    cases.push(Case { payload: index, op, count, input_offset, output_offset, in_place, phase });
                }
            }
        }
    }
    random.shuffle(&mut cases);
    cases
}

fn placements(large: bool) -> Vec<(usize, usize, bool)> {
    if large {
        return vec![(0, 0, false), (0, 0, true), (1, 3, false), (3, 3, true)];
    }
    let apart = OFFSETS_ELEMS.iter().flat_map(|&input| OFFSETS_ELEMS.map(|output| (input, output, false)));
    apart.chain(OFFSETS_ELEMS.map(|offset| (offset, offset, true))).collect()
}

/// Elements a pool must hold for the windows of its payload, guards included.
pub fn pool_elems(payload: &Payload, max_bytes: usize) -> usize {
    let size = payload.dtype.bytes();
    let guard = GUARD_BYTES / size;
    // The furthest phase is one grid step and the largest offset past a period.
    PERIOD + 2 * guard + 8 + largest_bytes(payload, max_bytes) / size + guard
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payloads() -> Vec<Payload> {
        dime_harness::payload::make(&[Dtype::Bf16, Dtype::U64, Dtype::F8e5m2], &Kind::ALL, &[], 2, 1)
    }

    #[test]
    fn there_are_at_least_forty_counts_for_every_type() {
        for dtype in Dtype::ALL {
            for ranks in 2..=8 {
                let counts = counts(dtype, ranks, &[3000], 32 << 20);
                assert!(counts.len() >= 40, "{}: {}", dtype.name(), counts.len());
                for wanted in [1, 2, 3, 2999, 3000, 3001, (32 << 20) / dtype.bytes()] {
                    assert!(counts.contains(&wanted), "{} {wanted}", dtype.name());
                }
            }
        }
    }

    #[test]
    fn every_window_lies_inside_its_pool_with_its_guards() {
        let payloads = payloads();
        let cases = list(&payloads, &Op::ALL, 4 << 20, 3, |dtype| counts(dtype, 3, &[], 4 << 20));
        assert!(cases.len() > 5000);
        for case in &cases {
            let size = payloads[case.payload].dtype.bytes();
            assert!(case.phase * size >= GUARD_BYTES);
            let end = case.phase + case.count + GUARD_BYTES / size;
            assert!(end <= pool_elems(&payloads[case.payload], 4 << 20));
            assert_eq!((case.phase - case.input_offset) * size % GUARD_BYTES, 0);
        }
    }

    #[test]
    fn the_order_depends_on_the_seed_and_loses_nothing() {
        let payloads = payloads();
        let draw = |seed| list(&payloads, &[Op::Sum], 4096, seed, |dtype| counts(dtype, 2, &[], 4096));
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert_eq!(draw(1).len(), draw(2).len());
    }

    #[test]
    fn small_messages_get_every_pair_of_offsets() {
        assert_eq!(placements(false).len(), 12);
        assert_eq!(placements(true).len(), 4);
    }
}

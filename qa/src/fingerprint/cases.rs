//! The all-reduces of a fingerprint.

use dime_harness::guard::GUARD_BYTES;
use dime_harness::kernel::{KERNELS, takes};
use dime_harness::number::{Dtype, Op};
use dime_harness::payload::{Kind, PERIOD, Payload};
use dime_harness::random::Random;

/// A communicator of its own for a part of the cases.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Column {
    /// Chooses for itself.
    Auto,
    /// One kernel for all that it can do.
    Forced(&'static str),
    /// Leaves all to NCCL.
    Forwarding,
}

/// The variables of a column that chooses for itself.
pub const AUTO: [(&str, &str); 2] = [("DIME_KERNEL", "auto"), ("DIME_DISABLE", "0")];

/// All columns, in the order of the file.
pub fn columns() -> impl Iterator<Item = Column> {
    [Column::Auto].into_iter().chain(KERNELS.map(Column::Forced)).chain([Column::Forwarding])
}

impl Column {
    /// The name in lines.
    pub fn name(self) -> &'static str {
        match self {
            Column::Auto => "auto",
            Column::Forced(kernel) => kernel,
            Column::Forwarding => "disabled",
        }
    }

    /// Environment variables with which its communicator is set up.
    pub fn variables(self) -> [(&'static str, &'static str); 2] {
        match self {
            Column::Auto => AUTO,
            Column::Forced(kernel) => [("DIME_KERNEL", kernel), AUTO[1]],
            Column::Forwarding => [AUTO[0], ("DIME_DISABLE", "1")],
        }
    }
}

/// One all-reduce.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Case {
    /// Index of the payload.
    pub payload: usize,
    pub op: Op,
    pub count: usize,
    /// Misalignment of each pointer in elements. In place, both are the output's.
    input_offset: usize,
    output_offset: usize,
    pub in_place: bool,
    /// Element of the pattern at which the data begins, the same on all ranks.
    pub phase: usize,
}

impl Case {
    /// The case in words.
    pub fn describe(&self, payload: &Payload) -> String {
        let place = match (self.in_place, self.input_offset, self.output_offset) {
            (true, _, offset) => format!("in place +{offset}"),
            (false, input, output) => format!("+{input} to +{output}"),
        };
        let (dtype, kind) = (payload.dtype.name(), payload.kind.name());
        format!("{dtype} {} of {}, {place}, {kind} from {}", self.op.name(), self.count, self.phase)
    }

    /// Where input and output begin in their buffers, in bytes.
    pub fn places(&self, dtype: Dtype) -> (usize, usize) {
        let place = |offset_elems: usize| GUARD_BYTES + offset_elems * dtype.bytes();
        (place(self.input_offset), place(self.output_offset))
    }

    /// Bytes of the output with its guards.
    pub fn room_bytes(&self, dtype: Dtype) -> usize {
        self.places(dtype).1 + self.count * dtype.bytes() + GUARD_BYTES
    }
}

/// Counts of which one is drawn for each type, operation and kind of data.
const SOME_COUNTS: [usize; 16] = [1, 2, 3, 5, 7, 13, 31, 64, 100, 255, 257, 511, 1000, 1025, 2047, 4999];
/// Counts tried on the column that chooses for itself, with a type of each size: around packets, tiles and rows of the table.
const MANY_COUNTS: [usize; 22] =
    [1, 2, 3, 4, 7, 8, 9, 15, 17, 33, 63, 127, 129, 256, 513, 1023, 2049, 4097, 5000, 16_385, 65_537, 262_147];
const COUNTED_TYPES: [Dtype; 4] = [Dtype::U8, Dtype::Bf16, Dtype::F32, Dtype::I64];
/// Counts of f32 tried on each kernel.
const FORCED_COUNTS: [usize; 4] = [1, 1001, 20_011, 70_001];
/// And on the kernels whose words have a flag each: more than fits their slots, so that it takes several launches.
const FORCED_COUNTS_OF_LL: [usize; 5] = [1, 1001, 20_011, 70_001, 250_007];
/// The largest message of all. A simulated node takes its time with a megabyte.
pub const LARGEST_BYTES: usize = 1100 << 10;

/// The cases of a column with this many ranks, always in the same order.
pub fn list(column: Column, ranks: usize, payloads: &[Payload], seed: u64) -> Vec<Case> {
    let mut random = Random::new(&[seed, ranks as u64, super::fnv_1a(column.name().as_bytes())]);
    let mut cases = Vec::new();
    let mut add = |payload: usize, op: Op, count: usize| {
        let in_place = random.once_in(3);
        let output_offset = random.pick(&[0, 0, 1, 3]);
        let input_offset = if in_place { output_offset } else { random.pick(&[0, 0, 1, 3]) };
        let phase = random.below(PERIOD as u64) as usize;
        cases.push(Case { payload, op, count, input_offset, output_offset, in_place, phase });
    };
    let mut drawn = Random::new(&[seed, ranks as u64]);
    for (index, payload) in payloads.iter().enumerate() {
        for op in Op::ALL.into_iter().filter(|&op| tries(column, payload, op)) {
            add(index, op, drawn.pick(&SOME_COUNTS));
        }
        if payload.kind != Kind::Random {
            continue;
        }
        let counts: &[usize] = match column {
            Column::Auto if COUNTED_TYPES.contains(&payload.dtype) => &MANY_COUNTS,
            Column::Forced(kernel) if payload.dtype == Dtype::F32 && kernel.ends_with("_ll") => &FORCED_COUNTS_OF_LL,
            Column::Forced(_) if payload.dtype == Dtype::F32 => &FORCED_COUNTS,
            _ => &[],
        };
        for &count in counts.iter().filter(|&count| count * payload.dtype.bytes() <= LARGEST_BYTES) {
            add(index, Op::Sum, count);
        }
    }
    cases
}

/// Whether a column tries an operation on such data. Where kernels could differ is special data; what NCCL gives is compared where
/// it has no choice.
fn tries(column: Column, payload: &Payload, op: Op) -> bool {
    match column {
        Column::Auto => payload.kind != Kind::Exact,
        Column::Forced(kernel) if takes(kernel, payload.dtype) => payload.kind == Kind::Special,
        // Forwarded, since this kernel cannot carry the type.
        Column::Forced(_) => payload.kind == Kind::Exact && op == Op::Sum,
        Column::Forwarding => payload.kind == Kind::Exact && payload.nccl_agrees(op),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payloads() -> Vec<Payload> {
        dime_harness::payload::make(&Dtype::ALL, &Kind::ALL, &[], 2, 1)
    }

    #[test]
    fn the_cases_of_a_number_of_ranks_are_a_few_hundred_and_all_fit() {
        let payloads = payloads();
        let all: Vec<Case> = columns().flat_map(|column| list(column, 2, &payloads, 1)).collect();
        assert!((400..700).contains(&all.len()), "{}", all.len());
        for case in all {
            let dtype = payloads[case.payload].dtype;
            assert!(case.room_bytes(dtype) <= LARGEST_BYTES + 3 * GUARD_BYTES);
            assert!(!case.in_place || case.input_offset == case.output_offset);
        }
    }

    #[test]
    fn no_two_cases_of_a_column_have_the_same_words() {
        let payloads = payloads();
        for column in columns() {
            for ranks in 2..=8 {
                let cases = list(column, ranks, &payloads, 1);
                let mut words: Vec<String> = cases.iter().map(|case| case.describe(&payloads[case.payload])).collect();
                words.sort_unstable();
                words.dedup();
                assert_eq!(words.len(), cases.len(), "{} with {ranks} ranks", column.name());
            }
        }
    }

    #[test]
    fn every_kernel_tries_every_type_and_operation_that_it_takes() {
        let payloads = payloads();
        for kernel in KERNELS {
            let cases = list(Column::Forced(kernel), 4, &payloads, 1);
            for dtype in Dtype::ALL.into_iter().filter(|&dtype| takes(kernel, dtype)) {
                for op in Op::ALL {
                    assert!(cases.iter().any(|case| payloads[case.payload].dtype == dtype && case.op == op));
                }
            }
        }
    }
}

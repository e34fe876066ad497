//! Which cases are queued together, and where in the arena each of their results goes.

use dime_harness::control::MAX_RUNS;
use dime_harness::guard::GUARD_BYTES;
use dime_harness::kernel::takes;
use dime_harness::payload::Payload;

use super::cases::Case;

/// One case in one column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Index of the case in its batch.
    pub case: usize,
    pub column: usize,
    /// Where the run's region of the arena begins and ends, guards included.
    pub start: usize,
    pub end: usize,
    /// Where its output begins.
    pub output: usize,
}

/// Cases between two synchronisations.
#[derive(Debug, Default)]
pub struct Batch {
    /// Place of the first case in the order of all cases.
    pub first: usize,
    pub cases: Vec<Case>,
    /// Where in the host's copy of the inputs the window of each case goes, guards included; not for cases in place.
    pub input_copies: Vec<Option<usize>>,
    pub runs: Vec<Run>,
    /// Bytes of the arena and of the input copies in use.
    pub arena_bytes: usize,
    pub input_bytes: usize,
}

/// Room that a batch must fit.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    pub cases: usize,
    pub arena_bytes: usize,
    pub input_bytes: usize,
}

impl Room {
    /// Room for a case of the largest message on every column, and for many small ones.
    pub fn for_largest(cases: usize, columns: usize, largest_bytes: usize) -> Room {
        let region = region_bytes(largest_bytes, 64);
        Room { cases, arena_bytes: (columns * region).max(48 << 20), input_bytes: region.max(16 << 20) }
    }
}

fn region_bytes(bytes: usize, offset_bytes: usize) -> usize {
    (GUARD_BYTES + offset_bytes + bytes + GUARD_BYTES).next_multiple_of(GUARD_BYTES)
}

/// Takes the next batch from the front of `cases`, of which the first is number `first`. At least one case is taken.
pub fn next(
    first: usize,
    cases: &mut std::slice::Iter<'_, Case>,
    payloads: &[Payload],
    columns: &[String],
    room: Room,
) -> Batch {
    let mut batch = Batch { first, ..Batch::default() };
    while let Some(case) = cases.as_slice().first() {
        let dtype = payloads[case.payload].dtype;
        let bytes = case.count * dtype.bytes();
        let offset_bytes = case.output_offset * dtype.bytes();
        let region = region_bytes(bytes, offset_bytes);
        let fitting: Vec<usize> = (0..columns.len()).filter(|&column| takes(&columns[column], dtype)).collect();
        let full = batch.cases.len() == room.cases
            || batch.runs.len() + fitting.len() > MAX_RUNS - room.cases
            || batch.arena_bytes + fitting.len() * region > room.arena_bytes
            || batch.input_bytes + bytes + 2 * GUARD_BYTES > room.input_bytes;
        if full && !batch.cases.is_empty() {
            break;
        }
        for column in fitting {
            let start = batch.arena_bytes;
            let output = start + GUARD_BYTES + offset_bytes;
            batch.runs.push(Run { case: batch.cases.len(), column, start, end: start + region, output });
            batch.arena_bytes += region;
        }
        batch.input_copies.push((!case.in_place).then_some(batch.input_bytes));
        if !case.in_place {
            batch.input_bytes += bytes + 2 * GUARD_BYTES;
        }
        batch.cases.push(*case);
        cases.next();
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::super::cases;
    use super::*;
    use dime_harness::number::{Dtype, Op};
    use dime_harness::payload::Kind;

    #[test]
    fn batches_take_every_case_once_and_keep_their_regions_apart() {
        let payloads = dime_harness::payload::make(&[Dtype::F32, Dtype::I8], &[Kind::Exact, Kind::Random], &[], 2, 1);
        let list =
            cases::list(&payloads, &[Op::Sum, Op::Max], 2 << 20, 1, |dtype| cases::counts(dtype, 2, &[], 2 << 20));
        let columns = ["auto", "one_shot_sentinel", "two_shot_bulk"].map(str::to_owned);
        let room = Room::for_largest(16, columns.len(), 2 << 20);
        let mut rest = list.iter();
        let mut taken: Vec<Case> = Vec::new();
        while !rest.as_slice().is_empty() {
            let batch = next(taken.len(), &mut rest, &payloads, &columns, room);
            assert!((1..=16).contains(&batch.cases.len()));
            assert!(batch.arena_bytes <= room.arena_bytes && batch.input_bytes <= room.input_bytes);
            let mut end = 0;
            for run in &batch.runs {
                let case = &batch.cases[run.case];
                let dtype = payloads[case.payload].dtype;
                assert_eq!(run.start, end);
                assert!(run.output - run.start >= GUARD_BYTES);
                assert!(run.end - (run.output + case.count * dtype.bytes()) >= GUARD_BYTES);
                assert!(takes(&columns[run.column], dtype));
                end = run.end;
            }
            assert_eq!(end, batch.arena_bytes);
            taken.extend(batch.cases);
        }
        assert_eq!(taken, list);
    }
}

//! What a search found: a table, and the rows of the file.

use dime::route::tuning::TuningRow;
use dime::route::{Agreed, TypeKind};
use dime_harness::stats::{show_bytes, three_digits};
use dime_harness::table;

use super::Machine;
use super::candidates::Candidate;
use super::stage::TYPES;
use crate::bench::row::Facts;
use crate::bench::simulated::Node;

/// What is faster by less may be noise.
const NOISE: f64 = 1.02;

/// The last comparison of one size.
#[derive(Clone, Debug)]
pub struct Line {
    /// An index of [`TYPES`].
    pub of_type: usize,
    pub bytes: usize,
    pub built_in: Candidate,
    pub built_in_us: f64,
    /// The fastest candidate of the search.
    pub tuned: Option<(Candidate, f64)>,
    pub nccl_us: f64,
}

impl Line {
    /// The candidate, if it is faster than the built-in row by more than the noise.
    fn gain(&self) -> Option<(Candidate, f64)> {
        self.tuned.filter(|(_, us)| us * NOISE < self.built_in_us)
    }

    /// The time with the rows of the file.
    fn us(&self) -> f64 {
        self.gain().map_or(self.built_in_us, |(_, us)| us)
    }
}

/// What a search on one number of ranks found.
pub struct Outcome {
    pub ranks: usize,
    /// By type, then by size.
    pub lines: Vec<Line>,
    /// Results that were wrong.
    pub wrong: Vec<String>,
    pub facts: Option<Facts>,
    pub arch: u32,
}

impl Outcome {
    /// Whether every result was right.
    pub fn is_right(&self) -> bool {
        self.wrong.is_empty()
    }

    fn of_type(&self, of_type: usize) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(move |line| line.of_type == of_type)
    }

    /// The threshold without a file.
    fn built_in_threshold(&self, kind: TypeKind) -> usize {
        let agreed = Agreed::without_settings(self.ranks, self.arch, 1);
        agreed.threshold_bytes(kind)
    }

    /// The largest size that was faster than NCCL by more than the noise, below the first that was slower by more. None:
    /// the built-in threshold stays, since no size speaks against it.
    fn threshold(&self, of_type: usize) -> Option<usize> {
        let built_in = self.built_in_threshold(TYPES[of_type].1);
        let mut largest = 0;
        for line in self.of_type(of_type) {
            if line.us() > line.nccl_us * NOISE {
                return (largest != built_in).then_some(largest);
            }
            if line.us() * NOISE < line.nccl_us {
                largest = line.bytes;
            }
        }
        (largest > built_in).then_some(largest)
    }

    /// The rows of the file.
    pub fn rows(&self, arch: u32) -> Vec<TuningRow> {
        let mut rows: Vec<TuningRow> = Vec::new();
        for (of_type, (_, kind)) in TYPES.into_iter().enumerate() {
            let restricted = |row: TuningRow| TuningRow { ranks: Some(self.ranks), arch: Some(arch), ..row };
            let threshold = self.threshold(of_type).unwrap_or_else(|| self.built_in_threshold(kind));
            let mut from = 0;
            // Above the threshold NCCL does it.
            for line in self.of_type(of_type).filter(|line| line.bytes <= threshold) {
                if let Some((candidate, _)) = line.gain() {
                    let row = restricted(candidate.row(kind));
                    // The next larger size with the same grid.
                    let goes_on = |last: &TuningRow| {
                        let (min_bytes, max_bytes) = (last.min_bytes, last.max_bytes);
                        max_bytes.wrapping_add(1) == from && *last == TuningRow { min_bytes, max_bytes, ..row.clone() }
                    };
                    match rows.last_mut().filter(|last| goes_on(last)) {
                        Some(last) => last.max_bytes = line.bytes,
                        None => rows.push(TuningRow { min_bytes: from, max_bytes: line.bytes, ..row }),
                    }
                }
                from = line.bytes + 1;
            }
            if let Some(bytes) = self.threshold(of_type) {
                let kind = Some(kind);
                rows.push(restricted(TuningRow { kind, threshold_bytes: Some(bytes), ..TuningRow::ANY }));
            }
        }
        rows
    }

    /// What was gained, as a table.
    pub fn table(&self, node: &Node, machine: &Machine) -> String {
        let Some(facts) = &self.facts else { return String::new() };
        let header = ["size", "type", "built-in us", "kernel", "tuned us", "kernel", "grid", "NCCL us", "gain"];
        let mut cells = Vec::new();
        let mut thresholds = String::new();
        for (of_type, (dtype, kind)) in TYPES.into_iter().enumerate() {
            let built_in = self.built_in_threshold(kind);
            let tuned = self.threshold(of_type);
            for line in self.of_type(of_type) {
                // Above a threshold NCCL does it.
                let before = if line.bytes <= built_in { line.built_in_us } else { line.nccl_us };
                let after = if line.bytes <= tuned.unwrap_or(built_in) { line.us() } else { line.nccl_us };
                let gained = before / after;
                let found = line.gain();
                let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
                cells.push(vec![
                    show_bytes(line.bytes),
                    dtype.name().to_owned(),
                    three_digits(line.built_in_us),
                    line.built_in.kernel.name().to_owned(),
                    or_dash(found.map(|(_, us)| three_digits(us))),
                    or_dash(found.map(|(candidate, _)| candidate.kernel.name().to_owned())),
                    or_dash(found.map(|(candidate, _)| candidate.grid_text())),
                    three_digits(line.nccl_us),
                    if (gained - 1.0).abs() < 0.001 {
                        "-".to_owned()
                    } else {
                        format!("{:+.1} %", (gained - 1.0) * 100.0)
                    },
                ]);
            }
            let change = tuned.map_or("stays".to_owned(), |bytes| format!("becomes {}", show_bytes(bytes)));
            thresholds += &format!("threshold of {}: {}, {change}\n", kind.name(), show_bytes(built_in));
        }
        let simulated = if node.is_simulated { " (simulated: times mean nothing)" } else { "" };
        format!(
            "\n{} x {}, {} SMs, sums in a graph; Dime {}, NCCL {}; us per all-reduce{simulated}\n{}{thresholds}",
            self.ranks,
            facts.gpu,
            machine.multiprocessors,
            facts.dime_version,
            facts.nccl_version,
            table::render(&header.map(str::to_owned), &cells)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dime::kernel::Kernel;

    const CANDIDATE: Candidate = Candidate { kernel: Kernel::TwoShotLl, blocks: 64, threads: 256, tile: 64, stages: 1 };

    fn line(bytes: usize, built_in_us: f64, tuned_us: f64, nccl_us: f64) -> Line {
        let built_in = Candidate { kernel: Kernel::OneShotLl, ..CANDIDATE };
        Line { of_type: 0, bytes, built_in, built_in_us, tuned: Some((CANDIDATE, tuned_us)), nccl_us }
    }

    fn outcome(lines: &[Line]) -> Outcome {
        Outcome { ranks: 4, lines: lines.to_vec(), wrong: vec![], facts: None, arch: 90 }
    }

    #[test]
    fn a_candidate_that_is_faster_by_the_noise_alone_is_no_row() {
        assert!(outcome(&[line(1024, 10.0, 9.9, 20.0)]).rows(90).is_empty());
        let rows = outcome(&[line(1024, 10.0, 9.7, 20.0)]).rows(90);
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].to_string(), "allreduce,0,1024,two_shot,ll,64,1,4,90,float_sum,*,*,256,64,1,*");
    }

    #[test]
    fn neighbouring_sizes_with_one_grid_share_a_row() {
        let lines = [
            line(1024, 10.0, 5.0, 20.0),
            line(2048, 10.0, 5.0, 20.0),
            line(4096, 10.0, 10.0, 20.0),
            line(8192, 10.0, 5.0, 20.0),
        ];
        let ranges: Vec<_> = outcome(&lines).rows(90).iter().map(|row| (row.min_bytes, row.max_bytes)).collect();
        assert_eq!(ranges, [(0, 2048), (4097, 8192)]);
    }

    #[test]
    fn the_threshold_is_the_last_clear_win_below_the_first_loss() {
        const MIB: usize = 1 << 20;
        let win = |mib: usize| line(mib * MIB, 10.0, 10.0, 20.0);
        let tie = |mib: usize| line(mib * MIB, 10.0, 10.0, 10.0);
        let loss = |mib: usize| line(mib * MIB, 20.0, 20.0, 10.0);
        // Without a file it is 16 MiB.
        assert_eq!(outcome(&[win(1), win(8)]).threshold(0), None);
        assert_eq!(outcome(&[win(8), win(16), loss(32)]).threshold(0), None);
        assert_eq!(outcome(&[win(8), tie(16), loss(32)]).threshold(0), Some(8 * MIB));
        assert_eq!(outcome(&[win(16), win(32)]).threshold(0), Some(32 * MIB));
        assert_eq!(outcome(&[win(1), loss(2), win(4)]).threshold(0), Some(MIB));
        assert_eq!(outcome(&[loss(1), win(2)]).threshold(0), Some(0));
        let rows = outcome(&[win(16), win(32)]).rows(90);
        assert_eq!(rows[0].to_string(), "allreduce,0,*,*,*,*,1,4,90,float_sum,*,*,*,*,*,33554432");
    }
}

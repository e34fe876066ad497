//! The search on one number of ranks: coarse, fine, and the best against the built-in row and NCCL.

use std::time::{Duration, Instant};

use dime_harness::Fallible;
use dime_harness::locate::Paths;
use dime_harness::output::note;

use super::Machine;
use super::candidates::{Candidate, Place};
use super::outcome::{Line, Outcome};
use super::stage::{Stage, TYPES, Times, Trial};
use crate::bench::simulated::Node;

/// Candidates of a size are messages that differ by as much, so that each has a row of its own.
const STEP_BYTES: usize = 16;
/// Parts of the time after which the coarse and the fine run end.
const COARSE_END: f64 = 0.45;
const FINE_END: f64 = 0.7;
/// Replays for a time: a few to find candidates, as many as `dime bench` has to decide.
const FEW_REPLAYS: usize = 8;
const REPLAYS: usize = 20;
/// How often the best is compared.
const REPEATS: usize = 3;

/// What is searched.
pub struct Search<'a> {
    pub paths: &'a Paths,
    pub node: &'a Node,
    pub machine: &'a Machine,
    pub ranks: usize,
    /// Ascending.
    pub sizes: &'a [usize],
}

/// A size of a type, and the candidate that was fastest so far. None: the built-in row.
struct Case {
    of_type: usize,
    bytes: usize,
    best: Option<Candidate>,
}

impl Search<'_> {
    /// Searches for at most so long.
    pub fn run(&self, limit: Duration) -> Fallible<Outcome> {
        let begin = Instant::now();
        let types = 0..TYPES.len();
        let mut cases: Vec<Case> = types
            .flat_map(|of_type| self.sizes.iter().map(move |&bytes| Case { of_type, bytes, best: None }))
            .collect();
        let mut wrong = Vec::new();
        for (end, is_coarse) in [(COARSE_END, true), (FINE_END, false)] {
            let tried: Vec<Vec<Candidate>> = cases.iter().map(|case| self.candidates(case, is_coarse)).collect();
            let times = self.stage(self.by_candidate(&cases, &tried), 1, FEW_REPLAYS, begin + limit.mul_f64(end))?;
            for (case, tried) in cases.iter_mut().zip(&tried) {
                case.best = fastest(case, tried, &times);
            }
            wrong.extend(times.wrong);
        }
        let mut trials = Vec::new();
        for case in &cases {
            let Case { of_type, bytes, best } = *case;
            let built_in = Trial { of_type, bytes, candidate: None, by_nccl: false };
            trials.push(built_in.clone());
            trials.extend(best.map(|best| trial_of(case, 0, best)));
            trials.push(Trial { by_nccl: true, ..built_in });
        }
        let times = self.stage(trials, REPEATS, REPLAYS, begin + limit)?;
        let lines: Vec<Line> = cases.iter().filter_map(|case| self.line(case, &times)).collect();
        if lines.len() < cases.len() {
            note!(
                "dime: the time was over before {} of {} sizes of {} ranks were done: the built-in rows stay for them; \
                 --minutes gives more time",
                cases.len() - lines.len(),
                cases.len(),
                self.ranks
            );
        }
        wrong.extend(times.wrong);
        for what in &wrong {
            note!("dime: wrong result with {} ranks: {what}", self.ranks);
        }
        Ok(Outcome { ranks: self.ranks, lines, wrong, facts: times.facts, arch: self.machine.arch })
    }

    fn place(&self, case: &Case) -> Place {
        let Machine { arch, multiprocessors } = *self.machine;
        Place { ranks: self.ranks, arch, multiprocessors, kind: TYPES[case.of_type].1 }
    }

    fn candidates(&self, case: &Case, is_coarse: bool) -> Vec<Candidate> {
        let place = self.place(case);
        match (is_coarse, case.best.or_else(|| place.built_in(case.bytes))) {
            (true, _) => place.coarse(case.bytes),
            (false, Some(best)) => place.fine(case.bytes, best),
            (false, None) => Vec::new(),
        }
    }

    /// The built-in row of every size first, then the first candidate of every size, and so on: when the time is over,
    /// every size has had its share.
    fn by_candidate(&self, cases: &[Case], tried: &[Vec<Candidate>]) -> Vec<Trial> {
        let most = tried.iter().map(Vec::len).max().unwrap_or(0);
        let built_in = cases.iter().map(|case| Trial {
            of_type: case.of_type,
            bytes: case.bytes,
            candidate: None,
            by_nccl: false,
        });
        let nth = |at: usize| {
            cases.iter().zip(tried).filter_map(move |(case, tried)| tried.get(at).map(|it| trial_of(case, at, *it)))
        };
        built_in.chain((0..most).flat_map(nth)).collect()
    }

    fn stage(&self, trials: Vec<Trial>, repeats: usize, replays: usize, deadline: Instant) -> Fallible<Times> {
        let (paths, node, ranks) = (self.paths, self.node, self.ranks);
        Stage { paths, node, ranks, trials, repeats, replays, deadline }.run()
    }

    /// What the last run says of a size. None: there was no time for it.
    fn line(&self, case: &Case, times: &Times) -> Option<Line> {
        let built_in = Trial { of_type: case.of_type, bytes: case.bytes, candidate: None, by_nccl: false };
        let built_in_us = times.of(&built_in)?;
        let nccl_us = times.of(&Trial { by_nccl: true, ..built_in })?;
        let tuned = case.best.and_then(|best| times.of(&trial_of(case, 0, best)).map(|us| (best, us)));
        Some(Line {
            of_type: case.of_type,
            bytes: case.bytes,
            built_in: self.place(case).built_in(case.bytes)?,
            built_in_us,
            tuned,
            nccl_us,
        })
    }
}

/// The message of a size's candidate of this number.
fn trial_of(case: &Case, at: usize, candidate: Candidate) -> Trial {
    Trial {
        of_type: case.of_type,
        bytes: case.bytes - (at + 1) * STEP_BYTES,
        candidate: Some(candidate),
        by_nccl: false,
    }
}

/// The fastest of a size. None: the built-in row is.
fn fastest(case: &Case, tried: &[Candidate], times: &Times) -> Option<Candidate> {
    let built_in = times.of(&Trial { of_type: case.of_type, bytes: case.bytes, candidate: None, by_nccl: false })?;
    let timed = tried.iter().enumerate().filter_map(|(at, it)| Some((*it, times.of(&trial_of(case, at, *it))?)));
    let best = timed.min_by(|(_, a), (_, b)| a.total_cmp(b))?;
    (best.1 < built_in).then_some(best.0)
}

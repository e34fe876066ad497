//! A rank that is aborted amid its work never gives its peers a wrong result, on the simulated node: tests/c/aborted.c.

use crate::support::sim::{Leftovers, build_with_dime, simulated};
use crate::support::work_dir;
use std::path::PathBuf;
use std::sync::OnceLock;

/// An abort ends what is enqueued, however deep the queue is, so this is the time until the stream has nothing to do: milliseconds, and more on
/// simulated GPUs that share few processors. A launch that does not end would be waited for until the limit of the program.
const LONGEST_ABORT_MS: f64 = 5000.0;

fn program() -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| build_with_dime(&work_dir("sim_aborted"), "c/aborted.c")).clone()
}

fn abort_amid_work_of(ranks: usize) {
    let before = Leftovers::now();
    let program = simulated(program()).arg(format!("amid-work-of-{ranks}"));
    let outcome = program.env("DIME_SIM_DEVICES", ranks.to_string()).env("DIME_SIM_SMS", "16").limit_s(600).succeeds();
    assert_eq!(outcome.value("right"), "1");
    let whole: usize = outcome.value(&format!("rank-{}-whole-results", ranks - 1)).parse().expect("a number");
    assert!(whole > 0, "no result came at all\n{outcome}");
    let longest: f64 = outcome.value("rank-0-longest-abort-ms").parse().expect("a number");
    assert!(longest < LONGEST_ABORT_MS, "{outcome}");
    before.assert_nothing_new();
}

#[test]
fn an_aborted_rank_gives_its_peer_no_wrong_result() {
    abort_amid_work_of(2);
}

#[test]
fn an_aborted_rank_gives_several_peers_no_wrong_result() {
    (3..=8).for_each(abort_amid_work_of);
}

//! Ranks that do not come, and the watchdog, with libdime.so in front on the simulated node: tests/c/stuck.c.

use crate::catalogue::NAMES as KERNELS;
use crate::support::sim::{Leftovers, build_with_dime, simulated};
use crate::support::{Outcome, work_dir};
use std::path::PathBuf;
use std::sync::OnceLock;

/// How long a rank may wait before it is told, with a timeout of a second, on a machine that does other things too.
const LATEST_S: f64 = 4.0;

fn program() -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| build_with_dime(&work_dir("sim_stuck"), "c/stuck.c")).clone()
}

fn situation(name: &str) -> Outcome {
    situation_with(name, "auto")
}

/// As many at once as there are processors: they wait most of the time.
fn situation_with(name: &str, kernel: &str) -> Outcome {
    let before = Leftovers::now();
    let program = simulated(program()).arg(name).env("DIME_SIM_DEVICES", "3").env("DIME_SIM_SMS", "16");
    let outcome = program.env("DIME_KERNEL", kernel).limit_s(90).succeeds();
    assert_eq!(outcome.value("right"), "1");
    before.assert_nothing_new();
    outcome
}

/// The log says once for each of the ranks, and soon, that it waits for the last rank in this; nobody else is accused of anything.
fn accused(outcome: &Outcome, ranks: &[usize], last: usize, operation: &str) {
    let accusations: Vec<&str> = outcome.stdout.lines().filter(|line| line.contains(" has waited ")).collect();
    assert_eq!(accusations.len(), ranks.len(), "{outcome}");
    for rank in ranks {
        let accusation = |missing: &str| {
            let text = format!("DIME ERROR rank {rank} has waited 1 s for {missing}: {operation}. A rank has ended");
            accusations.iter().any(|line| line.contains(&text))
        };
        let alone = accusation(&format!("rank {last}"));
        // In the second exchange of a two-shot kernel a rank waits for those that wait themselves, too.
        let among_others = || (0..last).any(|other| accusation(&format!("ranks {other} and {last}")));
        assert!(alone || operation.contains("two_shot") && among_others(), "rank {rank}\n{outcome}");
        let after_s: f64 = outcome.value(&format!("rank-{rank}-after-s")).parse().expect("a number");
        assert!(after_s < LATEST_S, "{outcome}");
    }
}

fn accuses_nobody(outcome: &Outcome) {
    accused(outcome, &[], 0, "");
}

/// The second all-reduce of these situations.
fn operation(kernel: &str) -> String {
    format!("sum of 12000 bytes of float32 with {kernel}, epoch 2")
}

#[test]
fn the_log_says_who_waits_for_whom_in_what() {
    for kernel in KERNELS {
        let outcome = situation_with("aborted-of-threads", kernel);
        accused(&outcome, &[0, 1], 2, &operation(kernel));
    }
    accused(&situation_with("aborted", "one_shot_ll"), &[0, 1], 2, &operation("one_shot_ll"));
}

#[test]
fn an_operation_in_a_graph_is_named_as_such() {
    let operation = "sum of 12000 bytes of float32 with one_shot_ll, epoch 2, in a graph";
    accused(&situation_with("in-a-graph", "one_shot_ll"), &[0, 1], 2, operation);
}

#[test]
fn a_stuck_communicator_may_be_destroyed() {
    accused(&situation_with("destroyed", "one_shot_ll"), &[0, 1], 2, &operation("one_shot_ll"));
}

#[test]
fn only_the_communicator_that_is_stuck_fails() {
    accused(&situation_with("one-of-two", "one_shot_sentinel"), &[0], 1, &operation("one_shot_sentinel"));
}

#[test]
fn a_rank_that_was_killed_is_named_and_the_others_go_on_without_it() {
    accused(&situation_with("one-is-killed", "one_shot_ll"), &[0, 1], 2, &operation("one_shot_ll"));
}

#[test]
fn another_thread_aborts_before_the_time_is_over_and_after() {
    situation("aborted-by-another-thread");
}

#[test]
fn nobody_who_is_merely_slow_is_accused() {
    accuses_nobody(&situation("merely-slow"));
}

#[test]
fn there_is_no_watchdog_unless_one_is_asked_for() {
    situation("no-watchdog");
}

#[test]
fn the_watchdog_is_one_thread_that_takes_no_signals() {
    situation("watchdog-thread");
}

#[test]
fn communicators_come_and_go_while_the_watchdog_looks() {
    accuses_nobody(&situation("again-and-again"));
}

#[test]
fn a_process_ends_while_the_watchdog_looks() {
    situation("exits");
}

#[test]
fn children_of_a_process_with_a_watchdog_end_as_they_should() {
    accuses_nobody(&situation("forks"));
}

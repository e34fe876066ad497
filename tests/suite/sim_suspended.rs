//! Communicators that are suspended and resumed, on the simulated node: tests/c/suspends.c.

use crate::support::sim::{Leftovers, build_with_dime, simulated};
use crate::support::{Outcome, work_dir};
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

fn program() -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| build_with_dime(&work_dir("sim_suspended"), "c/suspends.c")).clone()
}

fn situation(name: &str) -> Outcome {
    situation_with(name, &[])
}

/// One at a time: they look for what processes leave behind, and need the processors.
fn situation_with(name: &str, variables: &[(&str, &str)]) -> Outcome {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let before = Leftovers::now();
    // What is unmapped too early ends the process then.
    let program = simulated(program())
        .arg(name)
        .env("DIME_SIM_DEVICES", "4")
        .env("DIME_SIM_SMS", "16")
        .env("DIME_SIM_UNMAP_WAITS", "0")
        .env("DIME_DEBUG", "info")
        .limit_s(180);
    let outcome = variables.iter().fold(program, |program, (name, value)| program.env(name, value)).succeeds();
    assert_eq!(outcome.value("right"), "1");
    before.assert_nothing_new();
    outcome
}

/// As processes and as threads.
fn both(name: &str) {
    situation(name);
    situation(&format!("{name}-of-threads"));
}

#[test]
fn memory_is_given_back_and_graphs_and_eager_calls_go_on() {
    both("cycles-2");
    both("cycles-4");
}

#[test]
fn libdime_alone_is_suspended_where_nccl_cannot_be() {
    both("dime-cycles-2");
    both("dime-cycles-4");
}

#[test]
fn a_resumed_communicator_is_right_with_weak_memory_and_near_the_wrap() {
    for variables in [&[("DIME_SIM_WEAK", "3")][..], &[("DIME_SIM_WEAK", "4"), ("DIME_FIRST_EPOCH", "4294967290")]] {
        situation_with("cycles-2", variables);
        situation_with("cycles-2-of-threads", variables);
    }
}

#[test]
fn scratch_by_legacy_ipc_is_kept() {
    both("legacy-ipc");
    let outcome = situation_with("legacy-ipc", &[("DIME_DEBUG", "warn")]);
    assert!(
        outcome.all().contains("suspended, but its scratch stays allocated: it is shared by legacy IPC"),
        "{outcome}"
    );
}

#[test]
fn a_communicator_without_scratch_is_suspended_too() {
    both("before-the-first");
}

#[test]
fn each_way_to_suspend_has_its_own_way_to_resume() {
    both("both-ways");
}

#[test]
fn a_communicator_at_work_is_not_suspended() {
    let outcome = situation_with("busy", &[("DIME_DEBUG", "warn")]);
    let why = "this communicator cannot be suspended: its all-reduces have not ended after 10 s";
    assert!(outcome.all().contains(why), "{outcome}");
}

#[test]
fn what_cannot_be_suspended_is_refused_by_name() {
    both("refused");
}

#[test]
fn communicators_end_while_they_are_suspended() {
    both("ends");
}

#[test]
fn a_group_suspends_and_resumes_at_its_end() {
    situation("in-a-group");
}

#[test]
fn communicators_that_do_not_block_are_suspended_and_resumed() {
    both("non-blocking");
}

#[test]
fn a_rank_that_dies_while_suspended_keeps_nobody_from_aborting() {
    situation("a-rank-dies");
}

#[test]
fn a_communicator_that_cannot_be_resumed_has_failed_on_all_ranks() {
    for name in ["cannot-be-resumed", "cannot-be-resumed-of-threads", "cannot-be-mapped-of-threads"] {
        let outcome = situation_with(name, &[("DIME_DEBUG", "warn")]);
        assert_eq!(outcome.all().matches("cannot be resumed: scratch memory could not").count(), 2, "{outcome}");
    }
}

#[test]
fn scratch_that_cannot_be_unmapped_is_kept_and_all_go_on() {
    let outcome = situation_with("cannot-be-released", &[("DIME_DEBUG", "warn")]);
    assert!(outcome.all().contains("suspended, but its scratch stays allocated: cuMemUnmap failed"), "{outcome}");
    situation("cannot-be-released-of-threads");
}

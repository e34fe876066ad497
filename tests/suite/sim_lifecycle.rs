//! How communicators begin and end with libdime.so in front, on the simulated node: tests/c/lifecycle.c.

use crate::support::sim::{Leftovers, build_with_dime, simulated};
use crate::support::{Outcome, work_dir};
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

fn program() -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| build_with_dime(&work_dir("sim_lifecycle"), "c/lifecycle.c")).clone()
}

fn situation(name: &str) -> Outcome {
    situation_with(name, &[])
}

/// One at a time: they look for what processes leave behind, and need the processors.
fn situation_with(name: &str, variables: &[(&str, &str)]) -> Outcome {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let before = Leftovers::now();
    let program = simulated(program()).arg(name).env("DIME_SIM_DEVICES", "4").env("DIME_SIM_SMS", "16").limit_s(180);
    let outcome = variables.iter().fold(program, |program, (name, value)| program.env(name, value)).succeeds();
    assert_eq!(outcome.value("right"), "1");
    before.assert_nothing_new();
    outcome
}

#[test]
fn communicators_begin_and_end_in_every_way() {
    situation("begins-and-ends");
}

#[test]
fn one_thread_makes_the_communicators_of_all_gpus() {
    situation("init-all");
}

#[test]
fn a_configuration_that_limits_blocks_is_followed_and_inherited() {
    situation("few-blocks");
}

#[test]
fn a_parent_and_its_children_are_used_in_turn() {
    situation("splits");
    situation("splits-of-threads");
}

#[test]
fn ranks_leave_a_communicator_that_is_idle_or_stuck() {
    situation("shrinks");
}

#[test]
fn a_revoked_communicator_refuses_as_nccl_does_and_can_be_shrunk() {
    situation("revokes");
    situation("revokes-of-threads");
}

#[test]
fn communicators_take_in_new_ranks() {
    situation("grows");
}

#[test]
fn communicators_are_suspended_and_resumed() {
    situation("suspends");
}

#[test]
fn communicators_that_do_not_block_are_polled() {
    situation("non-blocking");
    situation("non-blocking-parts");
    situation("non-blocking-threads");
}

#[test]
fn a_handle_that_comes_again_is_another_communicator() {
    situation("handles-come-again");
    situation("handles-come-again-to-threads");
}

#[test]
fn many_communicators_exist_at_once() {
    situation("many-at-once");
}

#[test]
fn communicators_made_again_and_again_leave_nothing_behind() {
    situation("again-and-again");
}

#[test]
fn a_context_that_comes_again_is_another_context() {
    assert_eq!(situation("contexts-come-again").value("contexts-ended"), "3");
}

#[test]
fn communicators_of_overlapping_gpus_are_used_at_once() {
    situation("overlapping-subsets");
}

#[test]
fn communicators_are_destroyed_behind_operations_in_flight() {
    situation("destroyed-in-flight");
}

#[test]
fn a_communicator_is_destroyed_while_another_spins() {
    situation("destroyed-beside-one-that-spins");
}

#[test]
fn threads_make_and_end_communicators_at_once() {
    situation("teams-at-once");
}

/// The simulated driver ends a process that frees what another one has open.
#[test]
fn memory_shared_by_legacy_ipc_is_freed_when_no_peer_has_it_open() {
    let legacy = [("DIME_LEGACY_IPC", "1")];
    for name in [
        "begins-and-ends",
        "splits",
        "shrinks",
        "destroyed-in-flight",
        "again-and-again",
        "init-all",
        "splits-of-threads",
        "teams-at-once",
    ] {
        situation_with(name, &legacy);
    }
}

#[test]
fn every_way_to_make_a_communicator_is_nccls_when_all_ranks_are_disabled() {
    for name in ["init-all", "splits", "grows", "non-blocking-parts"] {
        situation_with(name, &[("DIME_DISABLE", "1")]);
    }
}

#[test]
fn one_disabled_rank_makes_all_forward_however_a_communicator_was_made() {
    // Those that are there when it grows, its coordinator and who comes in; parts, also those whose handles NCCL writes later.
    for (name, ranks) in [("grows", 0..4), ("splits", 0..2), ("non-blocking-parts", 0..3)] {
        for rank in ranks {
            situation_with(name, &[("DISABLED_RANK", &rank.to_string())]);
        }
    }
}

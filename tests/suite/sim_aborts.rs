//! Aborts of several communicators with libdime.so in front, on the simulated node, whose driver waits for the device wherever the real
//! one may: tests/c/aborts_in_groups.c.

use crate::support::sim::{Leftovers, build_with_dime, simulated};
use crate::support::work_dir;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

fn program() -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| build_with_dime(&work_dir("sim_aborts"), "c/aborts_in_groups.c")).clone()
}

/// One at a time: they look for what processes leave behind, and need the processors.
fn situation(name: &str, variables: &[(&str, &str)]) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let before = Leftovers::now();
    let mut program = simulated(program()).arg(name).env("DIME_SIM_DEVICES", "4").env("DIME_SIM_SMS", "16");
    for (variable, value) in variables {
        program = program.env(variable, value);
    }
    let outcome = program.limit_s(60).succeeds();
    assert_eq!(outcome.value("right"), "1", "{name}");
    before.assert_nothing_new();
}

fn situations_of(how: &str, count: usize, variables: &[(&str, &str)]) {
    for what in ["all-spin", "first-is-idle", "last-is-idle", "forwarded-spin"] {
        situation(&format!("{how}-{count}-{what}"), variables);
    }
}

#[test]
fn two_communicators_are_aborted_in_a_group() {
    situations_of("in-a-group", 2, &[]);
}

#[test]
fn two_communicators_are_aborted_one_by_one() {
    situations_of("one-by-one", 2, &[]);
}

#[test]
fn three_communicators_are_aborted_in_a_group() {
    situations_of("in-a-group", 3, &[]);
}

#[test]
fn three_communicators_are_aborted_one_by_one() {
    situations_of("one-by-one", 3, &[]);
}

#[test]
fn eight_communicators_are_aborted_in_a_group() {
    situations_of("in-a-group", 8, &[]);
    situation("in-a-group-8-kinds-alternate", &[]);
}

#[test]
fn eight_communicators_are_aborted_one_by_one() {
    situations_of("one-by-one", 8, &[]);
    situation("one-by-one-8-kinds-alternate", &[]);
}

#[test]
fn communicators_that_spin_on_one_stream_are_aborted() {
    situation("in-a-group-3-all-spin-on-one-stream", &[]);
    situation("one-by-one-3-all-spin-on-one-stream", &[]);
}

#[test]
fn the_remaining_ranks_go_on_with_each_other() {
    situation("in-a-group-3-all-spin-and-the-rest-goes-on", &[]);
    situation("one-by-one-3-all-spin-and-the-rest-goes-on", &[]);
}

#[test]
fn communicators_that_share_memory_by_legacy_ipc_are_aborted() {
    situations_of("in-a-group", 3, &[("DIME_LEGACY_IPC", "1")]);
    situations_of("one-by-one", 3, &[("DIME_LEGACY_IPC", "1")]);
}

#[test]
fn communicators_under_the_watchdog_are_aborted() {
    situation("in-a-group-3-all-spin", &[("DIME_TIMEOUT_S", "1")]);
    situation("one-by-one-3-all-spin", &[("DIME_TIMEOUT_S", "1")]);
}

#[test]
fn a_group_destroys_one_communicator_and_aborts_another_in_any_order() {
    situation("destroyed-and-aborted-in-a-group", &[]);
    situation("finalized-and-aborted-in-a-group", &[]);
}

#[test]
fn an_all_reduce_on_a_communicator_that_its_group_aborts_is_not_issued() {
    situation("aborted-behind-a-call-in-a-group", &[]);
}

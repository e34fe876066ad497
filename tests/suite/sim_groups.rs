//! Groups with libdime.so in front, on the simulated node: tests/c/groups.c.

use crate::support::sim::{build_with_dime, simulated};
use crate::support::work_dir;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

fn program() -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| build_with_dime(&work_dir("sim_groups"), "c/groups.c")).clone()
}

/// One at a time: they need the processors.
fn situation(name: &str) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let outcome =
        simulated(program()).arg(name).env("DIME_SIM_DEVICES", "4").env("DIME_SIM_SMS", "16").limit_s(60).succeeds();
    assert_eq!(outcome.value("right"), "1");
}

#[test]
fn a_configuration_of_a_call_is_followed_or_goes_to_nccl_with_the_call() {
    situation("configurations");
}

#[test]
fn groups_nest() {
    situation("nested");
}

#[test]
fn a_group_holds_many_calls_on_one_communicator() {
    situation("many-calls");
}

#[test]
fn a_group_holds_calls_on_many_communicators_and_gpus() {
    situation("one-thread-with-all");
}

#[test]
fn fast_and_forwarded_operations_keep_their_order_on_a_stream() {
    situation("mixed");
    situation("mixed-by-threads");
}

#[test]
fn messages_and_sums_share_a_group() {
    situation("messages");
}

#[test]
fn a_process_with_two_gpus_groups_what_its_peers_do_not() {
    situation("two-gpus-beside-one");
}

#[test]
fn communicators_made_in_a_group_are_used_after_it() {
    situation("made-in-a-group");
}

#[test]
fn a_group_that_fails_leaves_nothing_behind() {
    situation("errors");
}

#[test]
fn a_simulated_end_drops_what_the_group_holds() {
    situation("simulated-ends");
}

#[test]
fn all_reduces_on_several_streams_of_a_group_make_the_streams_meet() {
    situation("several-streams");
}

#[test]
fn first_all_reduces_that_one_rank_groups_set_up_all() {
    situation("first-uses-grouped-by-one");
}

#[test]
fn first_all_reduces_are_grouped_in_different_orders() {
    situation("first-uses-in-another-order");
}

#[test]
fn first_all_reduces_of_two_gpus_are_grouped_beside_a_peer_that_does_not() {
    situation("first-uses-of-two-gpus");
}

#[test]
fn several_threads_come_to_first_all_reduces_at_once() {
    situation("first-uses-by-several-threads");
}

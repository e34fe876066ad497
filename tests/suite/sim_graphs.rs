//! Captures and graphs with libdime.so in front, on the simulated node: tests/c/graphs.c.

use crate::support::sim::{build_with_dime, simulated};
use crate::support::{Outcome, work_dir};
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

fn program() -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| build_with_dime(&work_dir("sim_graphs"), "c/graphs.c")).clone()
}

/// One at a time: they need the processors.
fn situation(name: &str) -> Outcome {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let outcome =
        simulated(program()).arg(name).env("DIME_SIM_DEVICES", "3").env("DIME_SIM_SMS", "16").limit_s(60).succeeds();
    assert_eq!(outcome.value("right"), "1");
    outcome
}

#[test]
fn captures_of_every_mode_are_replayed_between_eager_calls() {
    situation("modes");
}

#[test]
fn branches_of_a_capture_hold_all_reduces_that_depend_on_one_another() {
    situation("fork-and-join");
}

#[test]
fn captures_are_under_way_at_once() {
    situation("two-captures-at-once");
    situation("many-captures-at-once");
}

#[test]
fn what_is_captured_before_anything_else_is_forwarded_and_right() {
    situation("first-use-is-captured");
}

#[test]
fn a_capture_is_left_alone_by_calls_on_other_streams() {
    situation("earlier-stream-is-captured");
}

#[test]
fn a_capture_that_fails_is_no_harm_to_the_communicator() {
    // The driver of real GPUs may take it for joined.
    assert_eq!(situation("captures-that-fail").value("unjoined"), "refused");
}

#[test]
fn messages_of_several_launches_are_captured() {
    situation("several-launches");
}

#[test]
fn graphs_are_launched_in_any_order_on_any_stream_beside_eager_calls() {
    situation("any-order");
    situation("any-order-of-threads");
}

#[test]
fn graphs_that_the_application_orders_need_no_order_of_ours() {
    situation("without-mixing");
    situation("in-a-stream");
}

#[test]
fn graphs_have_event_nodes_unless_their_communicator_was_declared_not_to_mix_them() {
    situation("declared");
    situation("not-declared");
}

#[test]
fn the_environment_says_of_all_communicators_whether_their_graphs_mix() {
    situation("declared-and-overruled");
    situation("declared-and-switched-off");
}

#[test]
fn a_graph_outlives_its_communicator_and_takes_its_memory_along() {
    situation("outlives-communicator");
}

#[test]
fn an_executable_graph_is_updated_with_the_same_work_on_another_buffer() {
    situation("updated");
}

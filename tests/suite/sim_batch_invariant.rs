//! DIME_BATCH_INVARIANT=1 on the simulated node: tests/c/rows.c, and ranks that differ in it.

use crate::support::sim::{build_with_dime, simulated};
use crate::support::{Outcome, work_dir};
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

fn program(source: &str) -> PathBuf {
    let name = source.replace(['/', '.'], "_");
    build_with_dime(&work_dir(&format!("sim_batch_invariant/{name}")), source)
}

/// One at a time: they need the processors.
fn situation(name: &str) -> Outcome {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let outcome = simulated(PROGRAM.get_or_init(|| program("c/rows.c")))
        .arg(name)
        .env("DIME_SIM_DEVICES", "8")
        .env("DIME_SIM_SMS", "16")
        .limit_s(300)
        .succeeds();
    assert_eq!(outcome.value("right"), "1");
    outcome
}

#[test]
fn a_row_has_the_same_bits_in_messages_of_every_size_eager_and_captured() {
    for name in ["two", "three", "eight"] {
        let outcome = situation(name);
        assert!(!outcome.all().contains("DIME "), "nothing is logged at warn: {outcome}");
    }
}

#[test]
fn a_threshold_beside_it_is_an_error_in_the_log_and_holds_for_integers_alone() {
    let outcome = situation("four-with-a-threshold");
    let text = "DIME_BATCH_INVARIANT=1 and DIME_THRESHOLD_BYTES are both set";
    assert_eq!(outcome.all().matches(text).count(), 1, "once for the process: {outcome}");
    situation("what-goes-to-nccl");
}

#[test]
fn a_first_all_reduce_of_floats_in_a_capture_is_an_error_that_names_the_way_out() {
    situation("first-in-a-capture");
}

#[test]
fn a_communicator_that_was_made_before_the_variable_was_set_says_that_it_does_not_hold() {
    let outcome = situation("too-late");
    let text = "DIME_BATCH_INVARIANT=1 does not hold, since it was set after the communicator was made";
    assert_eq!(outcome.all().matches(text).count(), 2, "on each rank: {outcome}");
}

#[test]
fn parts_of_a_communicator_are_batch_invariant_too() {
    situation("parts");
}

/// Ranks in a process each, that begin with a message above every threshold.
fn ranks(ranks: usize, options: &[&str]) -> Outcome {
    simulated(program("c/rank.c"))
        .args(["--ranks", &ranks.to_string(), "--rounds", "1", "--counts", "8400000,16,1024"])
        .args(options)
        .env("DIME_SIM_DEVICES", ranks.to_string())
        .env("DIME_SIM_SMS", "16")
        .env("DIME_SETUP_TIMEOUT_S", "10")
        .env("DIME_DEBUG", "info")
        .limit_s(120)
        .succeeds()
}

#[test]
fn ranks_that_differ_in_it_all_forward_and_say_why() {
    for (count, of_some) in [(2, &["1"][..]), (3, &["0", "2"])] {
        let options: Vec<&str> = of_some.iter().flat_map(|rank| ["--env", rank, "DIME_BATCH_INVARIANT=1"]).collect();
        let outcome = ranks(count, &options);
        let why = "all-reduces are forwarded: the ranks have different DIME_ settings";
        let info = outcome.all().lines().filter(|line| line.contains(" INFO ") && line.contains(why)).count();
        assert_eq!(info, count, "every rank says so: {outcome}");
        let warn = "DIME_BATCH_INVARIANT=1 does not hold, since all-reduces are forwarded: the ranks have different";
        assert_eq!(outcome.all().matches(warn).count(), of_some.len(), "those that asked for it: {outcome}");
    }
}

#[test]
fn a_communicator_that_forwards_warns_that_it_does_not_hold() {
    let all = ["--env", "0", "DIME_BATCH_INVARIANT=1", "--env", "1", "DIME_BATCH_INVARIANT=1"];
    for (variable, why) in
        [("CUDA_LAUNCH_BLOCKING=1", "CUDA_LAUNCH_BLOCKING=1 makes"), ("DIME_DISABLE=1", "not every rank is on")]
    {
        let outcome = ranks(2, &[&all[..], &["--env", "1", variable]].concat());
        let warn = "DIME_BATCH_INVARIANT=1 does not hold, since all-reduces are forwarded: ";
        assert_eq!(outcome.all().matches(warn).count(), 2, "{outcome}");
        assert!(outcome.all().contains(&format!("{warn}{why}")), "{outcome}");
    }
}

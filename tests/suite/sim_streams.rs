//! The order of all-reduces across streams with libdime.so in front, on the simulated node: tests/c/streams.c.

use crate::support::sim::{build_with_dime, qa, simulated};
use crate::support::{Outcome, work_dir};
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

fn program() -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| build_with_dime(&work_dir("sim_streams/program"), "c/streams.c")).clone()
}

fn situation(name: &str) -> Outcome {
    situation_with(name, 16)
}

/// One at a time: they need the processors.
fn situation_with(name: &str, sms: u32) -> Outcome {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let program = simulated(program()).arg(name).env("DIME_SIM_DEVICES", "3").env("DIME_SIM_SMS", sms.to_string());
    let outcome = program.limit_s(120).succeeds();
    assert_eq!(outcome.value("right"), "1");
    outcome
}

#[test]
fn all_reduces_on_many_streams_run_one_after_the_other() {
    situation("many");
    situation("many-of-threads");
    situation("one-connection");
}

#[test]
fn messages_of_several_launches_change_streams() {
    situation("several-launches");
}

#[test]
fn the_stream_of_the_last_operation_may_be_destroyed() {
    situation("last-is-destroyed");
}

#[test]
fn a_stream_with_the_handle_of_one_whose_work_still_runs_is_no_danger() {
    for name in ["come-and-go", "come-and-go-of-threads"] {
        let same_handles: u32 = situation(name).value("same-handles").parse().expect("a number");
        assert!(same_handles > 20, "the driver gave the handle of the last stream again {same_handles} times only");
    }
}

#[test]
fn default_streams_are_streams() {
    situation("default-streams");
    situation("default-streams-of-threads");
}

#[test]
fn communicators_on_streams_of_their_own_may_be_called_in_any_order() {
    // Where the launches of all of them fit at once: two of each, half a small GPU each.
    situation_with("other-order-on-each-rank", 132);
}

#[test]
fn other_work_on_a_stream_delays_and_harms_nobody() {
    situation("behind-other-work");
}

#[test]
fn forwarded_and_fast_operations_are_ordered_by_events_of_the_application() {
    situation("with-forwarded");
    situation("with-forwarded-of-threads");
}

#[test]
fn operations_of_random_sizes_and_types_keep_their_order() {
    let soak =
        ["soak", "--streams", "3", "--graphs", "0", "--seconds", "6", "--usual-bytes", "4K", "--max-bytes", "20K"];
    let outcome = qa(3).args(soak).limit_s(120).succeeds();
    assert!(outcome.stdout.contains(" 0 mismatches"), "{outcome}");
}

/// The driver may wait for the device when memory is unmapped, or not: what is unmapped too early then ends the process.
#[test]
fn a_kernel_whose_launch_behind_it_failed_is_over_before_its_memory_goes() {
    let program = build_with_dime(&work_dir("sim_streams/failed_launches"), "c/failed_launches.c");
    for waits in ["1", "0"] {
        for name in ["aborted", "destroyed", "used-on"] {
            let outcome = simulated(&program)
                .arg(name)
                .env("DIME_SIM_DEVICES", "2")
                .env("DIME_SIM_SMS", "16")
                .env("DIME_SIM_UNMAP_WAITS", waits)
                .limit_s(60)
                .succeeds();
            assert_eq!(outcome.value("right"), "1", "{name}");
            assert!(outcome.stderr.contains("dime sim: fault fail@cuLaunchKernelEx:5"), "{outcome}");
        }
    }
}

//! What NCCL promises of groups, streams, graphs and processes holds with libdime.so in front, on the simulated node.

mod support;

use support::sim::{build_with_dime, simulated, tool};
use support::{include_dir, manifest_dir, work_dir};

fn situation(name: &str) {
    let program = build_with_dime(&work_dir(&format!("sim_semantics/{name}")), "c/semantics.c");
    simulated(program).arg(name).env("DIME_SIM_DEVICES", "2").limit_s(60).succeeds();
}

#[test]
fn one_rank_may_group_what_another_does_not() {
    situation("grouped-on-one-rank");
}

#[test]
fn a_graph_outlives_its_communicator_and_takes_its_memory_along() {
    situation("graph-outlives-communicator");
}

#[test]
fn a_capture_is_left_alone_by_calls_on_other_streams() {
    situation("earlier-stream-is-captured");
}

#[test]
fn the_stream_of_the_last_operation_may_be_destroyed() {
    situation("last-stream-is-destroyed");
}

#[test]
fn operations_on_several_streams_keep_their_order() {
    let soak =
        ["soak", "--streams", "3", "--graphs", "0", "--seconds", "6", "--usual-bytes", "4K", "--max-bytes", "20K"];
    let outcome = tool(3).args(soak).limit_s(120).succeeds();
    assert!(outcome.stdout.contains(" 0 mismatches"), "{outcome}");
}

#[test]
fn children_of_a_process_that_has_called_nccl_are_fast() {
    // The demo asks for NCCL's version, then forks its ranks.
    let dir = work_dir("sim_semantics/demo");
    let libraries = support::install_as_libnccl(&dir.join("lib"));
    let demo = support::Cc::c()
        .include(include_dir())
        .arg(manifest_dir().join("examples/demo.c"))
        .args(["-ldl", "-lnccl", "-L"])
        .arg(&libraries)
        .arg(format!("-Wl,--disable-new-dtags,-rpath,{}", libraries.display()))
        .build(dir.join("demo"));
    let outcome = simulated(demo).env("DIME_SIM_DEVICES", "4").limit_s(60).succeeds();
    assert!(outcome.stdout.contains("fast: one_shot_ll") && outcome.stdout.contains("forward: "), "{outcome}");
    assert!(outcome.stdout.contains("The GPUs are simulated"), "{outcome}");
}

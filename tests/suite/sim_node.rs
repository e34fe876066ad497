//! The unmodified libdime.so and the tool `dime-qa` on the simulated node: what `make gpu-test` runs on GPUs, smaller.

use crate::support;
use crate::support::sim::{qa, simulated};
use crate::support::{include_dir, manifest_dir, work_dir};

/// The runs of our kernels that `dime-qa check` counts on its last line.
fn runs_of(last_line: &str) -> u64 {
    let runs = last_line.strip_prefix("PASS: ").and_then(|rest| rest.split_once(' '));
    runs.and_then(|(runs, _)| runs.parse().ok()).unwrap_or_else(|| panic!("no number of runs in {last_line:?}"))
}

/// `dime-qa check` with these options; returns how often a kernel of ours ran.
fn check(ranks: usize, options: &[&str], variables: &[(&str, &str)]) -> u64 {
    let mut program =
        qa(ranks).args(["check", "--ranks", &ranks.to_string(), "--seconds", "900", "--wait-limit", "60"]);
    for (name, value) in variables {
        program = program.env(name, value);
    }
    let outcome = program.args(options).limit_s(900).succeeds();
    let last = outcome.stdout.lines().last().unwrap_or_default();
    println!("{ranks} ranks {options:?} {variables:?}: {last}");
    runs_of(last)
}

#[test]
fn every_type_operation_and_number_of_ranks_is_right_to_the_bit() {
    let mut runs = 0;
    for (ranks, model) in [
        (2, "threads"),
        (3, "processes"),
        (4, "one-thread"),
        (5, "own-gpu"),
        (6, "threads"),
        (7, "processes"),
        (8, "one-thread"),
    ] {
        runs += check(ranks, &["--model", model, "--max-bytes", "12K", "--cases", "420"], &[]);
    }
    println!("{runs} runs");
    assert!(runs > 12_000, "only {runs} runs");
}

#[test]
fn messages_larger_than_a_launch_and_the_largest_grids_are_right() {
    // Past the slots of the LL kernels, so that a message takes several launches.
    check(2, &["--bytes", "1M,4M", "--types", "f32,int32", "--ops", "sum", "--cases", "6"], &[]);
    check(4, &["--model", "processes", "--bytes", "2M", "--types", "bf16", "--ops", "sum", "--cases", "3"], &[]);
}

#[test]
fn weak_memory_changes_nothing() {
    for seed in ["1", "2", "3", "4"] {
        let small = ["--max-bytes", "700", "--cases", "30"];
        check(2, &small, &[("DIME_SIM_WEAK", seed)]);
        check(3, &[&["--model", "processes"], &small[..]].concat(), &[("DIME_SIM_WEAK", seed)]);
    }
}

#[test]
fn few_multiprocessors_make_blocks_wait_and_nothing_hang() {
    check(3, &["--max-bytes", "40K", "--cases", "60"], &[("DIME_SIM_SMS", "2")]);
}

#[test]
fn legacy_ipc_carries_scratch_between_processes() {
    check(3, &["--model", "processes", "--max-bytes", "5K", "--cases", "60"], &[("DIME_LEGACY_IPC", "1")]);
}

#[test]
fn eager_calls_and_replays_are_right_together_across_the_wrap_of_the_epoch() {
    for model in ["threads", "processes"] {
        let outcome = qa(3)
            .args(["soak", "--model", model, "--seconds", "12", "--usual-bytes", "2K", "--max-bytes", "40K"])
            .args(["--first-epoch", "4294967200", "--wait-limit", "60"])
            .limit_s(200)
            .succeeds();
        assert!(outcome.stdout.contains(" 0 mismatches"), "{outcome}");
        println!("{}", outcome.stdout.lines().next().unwrap_or_default());
    }
}

#[test]
fn communicators_leave_nothing_behind() {
    for via in ["init", "split"] {
        qa(3).args(["leak", "--cycles", "12", "--via", via]).limit_s(300).succeeds();
    }
}

#[test]
fn every_reason_to_forward_that_one_host_allows_is_named() {
    let outcome = qa(4).arg("forwards").limit_s(300).succeeds();
    assert!(outcome.stdout.matches("PASS").count() >= 13, "{outcome}");
}

#[test]
fn children_of_a_process_that_has_called_nccl_are_fast() {
    // The demo asks for NCCL's version, then forks its ranks.
    let dir = work_dir("sim_node/demo");
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

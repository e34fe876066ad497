//! Ranks that share a GPU (NCCL_MULTI_RANK_GPU_ENABLE=1), on the simulated node: forwarded, unless DIME_ALLOW_SHARED_GPU=1.

use crate::support::sim::{build_with_dime, qa, simulated};
use crate::support::{Program, work_dir};

/// Two GPUs, where NCCL takes any number of ranks.
fn shared(program: Program) -> Program {
    program.env("DIME_SIM_DEVICES", "2").env("NCCL_MULTI_RANK_GPU_ENABLE", "1")
}

/// `dime-qa check` over a list of GPUs, one for each rank.
fn check(gpus: &str, options: &[&str]) -> Program {
    let ranks = gpus.split(',').count().to_string();
    shared(qa(2))
        .args(["check", "--devices", gpus, "--ranks", &ranks, "--seconds", "600", "--wait-limit", "60"])
        .args(options)
        .limit_s(600)
}

#[test]
fn ranks_that_share_gpus_are_right_to_the_bit() {
    for (gpus, model) in [
        ("0,0", "threads"),
        ("0,1,0", "processes"),
        ("1,0,0,0", "one-thread"),
        ("0,1,0,1,0", "own-gpu"),
        ("0,1,0,1,0,1,0,1", "threads"),
    ] {
        check(gpus, &["--model", model, "--max-bytes", "12K", "--cases", "60"])
            .env("DIME_ALLOW_SHARED_GPU", "1")
            .succeeds();
    }
}

#[test]
fn the_largest_grids_of_all_ranks_of_a_gpu_run_at_once() {
    for multiprocessors in ["4", "16"] {
        let large = ["--bytes", "1M", "--types", "f32,int32", "--ops", "sum", "--cases", "3"];
        check("0,0,0,0", &large).env("DIME_ALLOW_SHARED_GPU", "1").env("DIME_SIM_SMS", multiprocessors).succeeds();
    }
}

#[test]
fn scratch_is_shared_by_legacy_ipc_too() {
    for model in ["threads", "processes"] {
        check("0,1,0", &["--model", model, "--max-bytes", "5K", "--cases", "30"])
            .env("DIME_ALLOW_SHARED_GPU", "1")
            .env("DIME_LEGACY_IPC", "1")
            .succeeds();
    }
}

#[test]
fn communicators_of_ranks_that_share_gpus_leave_nothing_behind() {
    shared(qa(2))
        .args(["leak", "--devices", "0,1,0", "--cycles", "12"])
        .env("DIME_ALLOW_SHARED_GPU", "1")
        .limit_s(300)
        .succeeds();
}

#[test]
fn programs_with_several_communicators_on_each_gpu_do_not_stop() {
    for (source, situations) in [
        ("groups", &["one-thread-with-all", "first-uses-in-another-order"][..]),
        ("lifecycle", &["splits", "splits-of-threads", "teams-at-once"]),
    ] {
        let program = build_with_dime(&work_dir("sim_shared_gpus"), &format!("c/{source}.c"));
        for situation in situations {
            let outcome = shared(simulated(&program))
                .arg(situation)
                .env("DIME_ALLOW_SHARED_GPU", "1")
                .env("DIME_SIM_SMS", "16")
                .limit_s(120)
                .succeeds();
            assert_eq!(outcome.value("right"), "1", "{situation}");
        }
    }
}

#[test]
fn without_the_setting_all_is_forwarded() {
    let outcome = check("0,1,0", &["--kernels", "auto", "--max-bytes", "4K", "--cases", "10"]).run();
    let reason = "two ranks share a GPU (DIME_ALLOW_SHARED_GPU=1 on all ranks allows it)";
    assert!(outcome.code != 0 && outcome.stdout.contains("0 runs of our kernels"), "{outcome}");
    assert!(outcome.stdout.contains(reason), "{outcome}");
}

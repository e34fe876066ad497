//! NCCL's own environment variables that Dime follows, on the simulated node: set on all ranks, and on one alone.

use std::path::PathBuf;
use std::sync::OnceLock;

use crate::support;
use crate::support::sim::{build_with_dime, simulated};
use crate::support::{Outcome, Program, work_dir};

const RANKS: &str = "3";

fn ranks() -> Program {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| build_with_dime(&work_dir("sim_nccl_variables/program"), "c/rank.c"));
    simulated(program)
        .args(["--ranks", RANKS, "--rounds", "2", "--counts", "1,1000"])
        .env("DIME_SIM_DEVICES", RANKS)
        .env("DIME_SIM_SMS", "16")
        .env("DIME_DEBUG", "info")
}

/// Once with the variable on all ranks, once on rank 1 alone. All results are right, and each rank has one line with `what` in the log.
fn all_say(variable: &str, value: &str, what: &str) {
    let on_all = ranks().env(variable, value).succeeds();
    let on_one = ranks().args(["--env", "1"]).arg(format!("{variable}={value}")).succeeds();
    for outcome in [&on_all, &on_one] {
        let lines = lines(outcome);
        assert_eq!(lines.len().to_string(), RANKS, "{outcome}");
        assert!(lines.iter().all(|line| line.contains(what)), "{variable}={value}: not {what}: {outcome}");
    }
}

fn lines(outcome: &Outcome) -> Vec<String> {
    let all = outcome.all();
    all.lines().filter(|line| line.contains(": all-reduces are ")).map(str::to_owned).collect()
}

#[test]
fn all_forward_when_a_rank_must_not_reach_its_peers_memory() {
    for (variable, value) in
        [("NCCL_P2P_DISABLE", "1"), ("NCCL_P2P_DISABLE", "0x1"), ("NCCL_P2P_LEVEL", "LOC"), ("NCCL_P2P_LEVEL", "0")]
    {
        all_say(variable, value, "forwarded: NCCL_P2P_DISABLE or NCCL_P2P_LEVEL does not allow");
    }
}

#[test]
fn levels_that_allow_nvlink_change_nothing_on_it() {
    for (variable, value) in [("NCCL_P2P_DISABLE", "0"), ("NCCL_P2P_LEVEL", "NVL"), ("NCCL_P2P_LEVEL", "SYS")] {
        all_say(variable, value, "fast: 64 MiB of scratch by Descriptor, ");
    }
}

#[test]
fn a_limit_of_blocks_holds_for_all_ranks_and_the_smallest_wins() {
    all_say("NCCL_MAX_CTAS", "3", ", with at most 3 blocks (NCCL_MAX_CTAS or maxCTAs), set up in");
    let differing = ["--env", "0", "NCCL_MAX_CTAS=8", "--env", "2", "NCCL_MAX_CTAS=2"];
    let outcome = ranks().args(differing).args(["--counts", "100003"]).succeeds();
    assert!(lines(&outcome).iter().all(|line| line.contains(", with at most 2 blocks")), "{outcome}");
    let outcome = ranks().env("NCCL_MAX_CTAS", "-1").succeeds();
    assert!(lines(&outcome).iter().all(|line| line.contains("fast: ") && !line.contains("at most")), "{outcome}");
}

#[test]
fn pcie_is_used_only_as_far_as_the_level_of_every_rank_allows() {
    let topology = support::write(
        work_dir("sim_nccl_variables/topology").join("pcie"),
        "pair 0 1 pcie\npair 0 2 pcie\npair 1 2 pcie\n",
    );

    let pcie = |level: &str| {
        ranks()
            .env("DIME_SIM_TOPOLOGY", &topology)
            .env("DIME_ALLOW_PCIE", "1")
            .args(["--env", "1"])
            .arg(format!("NCCL_P2P_LEVEL={level}"))
            .succeeds()
    };
    for (level, what) in
        [("SYS", "fast: "), ("PHB", "forwarded: NCCL_P2P_DISABLE or NCCL_P2P_LEVEL"), ("NVL", "forwarded: NCCL_")]
    {
        let outcome = pcie(level);
        let lines = lines(&outcome);
        assert!(!lines.is_empty() && lines.iter().all(|line| line.contains(what)), "{level}: not {what}: {outcome}");
    }
}

#[test]
fn scratch_is_shared_by_legacy_ipc_when_a_rank_must_not_use_cumem() {
    for value in ["0", "-1"] {
        all_say("NCCL_CUMEM_ENABLE", value, "fast: 64 MiB of scratch by LegacyIpc (");
    }
    all_say("NCCL_CUMEM_ENABLE", "1", "fast: 64 MiB of scratch by Descriptor, ");
    let one = ranks().args(["--env", "1", "NCCL_CUMEM_ENABLE=0"]).succeeds();
    let said = |what: &str| lines(&one).iter().filter(|line| line.contains(what)).count();
    assert_eq!((said("(NCCL_CUMEM_ENABLE is 0)"), said("(as rank 1 needs it)")), (1, 2), "{one}");
}

//! Launches that take as many places on the GPUs as they may, on the simulated node, which gives places to launches in the order in
//! which they come, as GPUs do: tests/c/crowded.c.

use crate::support::sim::{build_with_dime, simulated};
use crate::support::work_dir;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

/// One at a time: they need the processors.
fn situation(name: &str, devices: &str, multiprocessors: &str) {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let program = PROGRAM.get_or_init(|| build_with_dime(&work_dir("sim_crowded"), "c/crowded.c"));
    let outcome = simulated(program)
        .arg(name)
        .env("DIME_SIM_DEVICES", devices)
        .env("DIME_SIM_SMS", multiprocessors)
        .env("NCCL_MULTI_RANK_GPU_ENABLE", "1")
        .env("DIME_ALLOW_SHARED_GPU", "1")
        .limit_s(200)
        .succeeds();
    assert_eq!(outcome.value("right"), "1");
}

#[test]
fn two_communicators_that_ranks_come_to_in_different_order_find_room_for_all_their_launches() {
    situation("other-orders", "2", "8");
    situation("other-orders", "2", "132");
}

#[test]
fn a_rank_that_comes_late_to_a_gpu_that_it_shares_finds_room() {
    situation("late-ranks", "1", "16");
    situation("late-ranks", "2", "132");
}

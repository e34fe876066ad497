//! All-reduces beside kernels of the application with programmatic dependent launch, on the simulated node: tests/c/dependents.c.

use crate::support::sim::{build_with_dime, simulated};
use crate::support::{Outcome, work_dir};
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

fn program() -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| build_with_dime(&work_dir("sim_dependents"), "c/dependents.c")).clone()
}

/// One at a time: they need the processors.
fn situation(name: &str, settings: &[(&str, &str)]) -> Outcome {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let program = simulated(program()).arg(name).env("DIME_SIM_DEVICES", "3").env("DIME_SIM_SMS", "16").limit_s(60);
    let outcome = settings.iter().fold(program, |program, (name, value)| program.env(name, value)).succeeds();
    assert_eq!(outcome.value("right"), "1");
    outcome
}

#[test]
fn an_all_reduce_reads_what_the_kernel_before_it_writes_after_letting_it_start() {
    situation("behind-a-late-writer", &[]);
    situation("behind-a-late-writer-of-threads", &[]);
    // Nothing between them in a graph.
    situation("behind-a-late-writer", &[("NCCL_GRAPH_MIXING_SUPPORT", "0")]);
}

/// As of PTX for compute capability 8.9 that the driver compiles for a 9.0: such kernels do not wait.
#[test]
fn kernels_that_were_compiled_without_the_wait_do_not_start_early() {
    for arch in ["80", "89"] {
        situation("behind-a-late-writer", &[("DIME_SIM_KERNELS_ARCH", arch)]);
        let settings = [("DIME_SIM_KERNELS_ARCH", arch), ("NCCL_GRAPH_MIXING_SUPPORT", "0")];
        situation("behind-a-late-writer", &settings);
    }
    let outcome = situation("before-a-hasty-reader", &[("DIME_SIM_KERNELS_ARCH", "89")]);
    assert_eq!((outcome.value("eager"), outcome.value("graph")), ("behind", "behind"), "{outcome}");
}

/// A program that CUDA does not allow, but which may work behind NCCL.
#[test]
fn a_kernel_that_does_not_wait_starts_early_unless_early_launches_are_switched_off() {
    let found = |settings| {
        let outcome = situation("before-a-hasty-reader", settings);
        [outcome.value("eager").to_owned(), outcome.value("graph").to_owned()]
    };
    // Otherwise the switch would not be tested.
    assert_eq!(found(&[]), ["early", "early"]);
    assert_eq!(found(&[("DIME_EARLY_LAUNCH", "0")]), ["behind", "behind"]);
}

#[test]
fn all_reduces_are_right_without_early_launches() {
    situation("behind-a-late-writer", &[("DIME_EARLY_LAUNCH", "0")]);
    situation("behind-a-programmatic-event", &[("DIME_EARLY_LAUNCH", "0")]);
}

#[test]
fn a_captured_all_reduce_comes_behind_a_kernel_whose_programmatic_event_it_waits_for() {
    situation("behind-a-programmatic-event", &[]);
    situation("behind-a-programmatic-event", &[("DIME_SIM_KERNELS_ARCH", "89")]);
    situation("behind-a-programmatic-event", &[("NCCL_GRAPH_MIXING_SUPPORT", "0")]);
}

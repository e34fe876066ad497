//! Ranks that could not answer in a setup are noticed before it begins, on the simulated node.

mod support;

use std::path::Path;

use support::sim::{self, simulated};
use support::{Cc, Outcome, dime_lib, include_dir, test_file, work_dir};

/// Ranks 0 and 1 with libdime.so, rank 2 with this library.
fn mixed(name: &str, second: &Path) -> Outcome {
    let program = Cc::c()
        .include(include_dir())
        .arg(test_file("c/mixed.c"))
        .args(["-pthread", "-ldl"])
        .build(work_dir(&format!("sim_presence/{name}")).join("mixed"));
    simulated(program).arg(dime_lib()).arg(second).env("DIME_SIM_DEVICES", "3").limit_s(20).succeeds()
}

#[test]
fn a_rank_without_this_library_makes_all_forward_and_its_absence_is_seen_at_once() {
    let outcome = mixed("without", &sim::sim_dir().join("libnccl.so.2"));
    assert!(outcome.stdout.contains("whole=forward: not every rank is on this host with this library"), "{outcome}");
    assert!(outcome.stdout.contains("part=fast: "), "{outcome}");
    assert!(outcome.stdout.contains("right=1"), "{outcome}");
}

#[test]
fn with_this_library_in_every_rank_all_are_fast() {
    let outcome = mixed("with", &dime_lib());
    assert!(outcome.stdout.contains("whole=fast: ") && outcome.stdout.contains("part=fast: "), "{outcome}");
    assert!(outcome.stdout.contains("right=1"), "{outcome}");
}

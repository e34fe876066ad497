//! Drivers older than the newest, on the simulated node: target/sim/old_driver has a libcuda.so.1 without the functions that came after
//! CUDA 12.0, and DIME_SIM_DRIVER_VERSION has the driver refuse what such a driver refuses.

use crate::support::sim::{qa, sim_dir, sim_file};
use crate::support::{Outcome, Program};

/// dime-qa on a node with two devices and a driver of CUDA 12.0.
fn on_old_driver() -> Program {
    let folder = sim_dir();
    let old = sim_file("old_driver/libcuda.so.1");
    let path = format!("{}:{}", old.parent().expect("it lies in a folder").display(), folder.display());
    qa(2).env("LD_LIBRARY_PATH", path).env("DIME_SIM_DRIVER_VERSION", "12000").env("DIME_DEBUG", "info")
}

fn assert_fast(outcome: &Outcome) {
    assert!(outcome.stdout.contains(": all-reduces are fast: "), "{outcome}");
    assert!(!outcome.stdout.contains(": all-reduces are forwarded"), "{outcome}");
}

#[test]
fn driver_525_answers_eager_calls_and_graphs() {
    let symbols =
        Program::new("readelf").args(["--dyn-syms", "--wide"]).arg(sim_file("old_driver/libcuda.so.1")).succeeds();
    for (name, is_there) in [("cuFuncGetAttribute", true), ("cuFuncLoad", false), ("cuStreamGetCaptureInfo_v3", false)]
    {
        assert_eq!(symbols.stdout.contains(name), is_there, "{name}");
    }
    for model in ["processes", "threads"] {
        let check = ["check", "--ranks", "2", "--model", model, "--max-bytes", "8K", "--cases", "20"];
        assert_fast(&on_old_driver().args(check).limit_s(120).succeeds());
    }
}

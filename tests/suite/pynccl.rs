//! vLLM's and SGLang's own bindings of NCCL on libdime.so. What they do with them on GPUs is a stage of `make gpu-test`.

use crate::support::sim::simulated;
use crate::support::{dime_lib, manifest_dir};
use std::process::{Command, Stdio};

/// The folder with the files of a framework. Downloads its wheel when the cache lacks them.
fn files_of(framework: &str) -> String {
    let output = Command::new("python3")
        .arg(manifest_dir().join("tests/fetch_pynccl.py"))
        .arg(framework)
        .stderr(Stdio::inherit())
        .output()
        .expect("python3 runs tests/fetch_pynccl.py");
    assert!(output.status.success(), "tests/fetch_pynccl.py could not fetch the files of {framework}");
    String::from_utf8(output.stdout).expect("a path").trim().to_owned()
}

fn bindings_work(framework: &str) {
    let outcome = simulated("python3")
        .arg(manifest_dir().join("tests/gpu/pynccl.py"))
        .args(["--bindings", "--framework", framework, "--files", &files_of(framework), "--dime"])
        .arg(dime_lib())
        .succeeds();
    assert!(outcome.stdout.starts_with(&format!("PASS: {framework}'s bindings find their ")), "{outcome}");
}

#[test]
fn the_bindings_of_vllm_find_all_their_functions() {
    bindings_work("vllm");
}

#[test]
fn the_bindings_of_sglang_find_all_their_functions() {
    bindings_work("sglang");
}

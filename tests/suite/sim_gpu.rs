//! The simulated node against real GPUs: `tests/data/fingerprint-h200.txt` was written by `dime-qa fingerprint` on 4 H200, with the same
//! cases. Results to the bit, chosen kernels and error codes must be the same. `make gpu-test` does the comparison the other way.

use crate::support;
use crate::support::sim::qa;
use crate::support::test_file;

#[test]
fn results_kernels_and_error_codes_are_those_of_real_gpus() {
    let known = test_file("data/fingerprint-h200.txt");
    let outcome = qa(4).args(["fingerprint", "--compare"]).arg(&known).limit_s(400).succeeds();
    println!("{}", outcome.stderr);
    assert!(outcome.stderr.starts_with("PASS: ") && outcome.stderr.contains(" 0 unlike "), "{outcome}");
    let lines = std::fs::read_to_string(&known).expect("the known answers").lines().count();
    assert!(lines > 1500, "only {lines} known answers");
}

#[test]
fn a_changed_answer_is_noticed() {
    let dir = support::work_dir("sim_gpu");
    let known = std::fs::read_to_string(test_file("data/fingerprint-h200.txt")).expect("the known answers");
    let changed =
        support::write(dir.join("changed.txt"), known.replace("2 ranks, int8 sum of ", "2 ranks, int8 sum of 1"));
    let changed_hash = known.lines().find(|line| line.starts_with("2 ranks, int8 prod")).expect("a case").to_owned();
    let other = format!("{}0 equal", &changed_hash[..changed_hash.len() - "0 equal".len()]);
    let changed_result = support::write(dir.join("result.txt"), known.replace(&changed_hash, &other));
    for file in [changed, changed_result] {
        let outcome = qa(2).args(["fingerprint", "--ranks", "2", "--compare"]).arg(&file).limit_s(300).run();
        assert_eq!(outcome.code, 1, "{outcome}");
    }
}

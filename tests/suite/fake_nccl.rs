//! Every export against a fake NCCL that records what it is called with.

use crate::support;
use crate::support::fake::{Expect, Fake, Prototype, build_driver, driver_expectations, prototypes};
use crate::support::{Cc, NCCL_INVALID_USAGE, Program, Release, dime_lib, test_file, work_dir};

const NEWEST: Release = Release(2, 32, 3);

/// The calls that tests/fake/own_calls.c checks each time.
const OWN_CALLS: usize = 16;

#[test]
fn the_driver_and_the_fake_agree_when_nothing_is_between_them() {
    let dir = work_dir("fake/agree");
    let fake = Fake::complete(NEWEST).build(dir.join("libnccl.so.2"));
    let driver = build_driver(&dir, &|_| Expect::Forwarded);
    let outcome = Program::new(driver).arg(&fake).arg(&fake).succeeds();
    assert_eq!(outcome.value("right"), driver_expectations().to_string());
}

#[test]
fn arguments_and_results_pass_unchanged_through_all_193_exports() {
    assert_eq!(support::exported_names().len(), 193);
    let dir = work_dir("fake/all");
    let fake = Fake::complete(NEWEST).build(dir.join("libnccl.so.2"));
    let driver = build_driver(&dir, &|_| Expect::Forwarded);
    let outcome = Program::new(driver).arg(dime_lib()).arg(&fake).env("DIME_NCCL_LIB", &fake).succeeds();
    assert_eq!(outcome.value("right"), driver_expectations().to_string(), "{outcome}");
    assert_eq!(outcome.value("version"), NEWEST.code().to_string());
    assert_eq!(outcome.stderr, "", "nothing is logged at the default level");
}

/// One old release of each kind: without most functions, without some, and one short of the newest.
fn missing_functions_answer(release: Release) {
    let dir = work_dir(&format!("fake/missing-{release}"));
    let fake = Fake::old(release).build(dir.join("libnccl.so.2"));
    let missing: Vec<Prototype> = prototypes().into_iter().filter(|function| function.since > release).collect();
    assert!(!missing.is_empty());
    let driver = build_driver(&dir, &|function| match function.since > release {
        true => Expect::Failed(NCCL_INVALID_USAGE),
        false => Expect::Forwarded,
    });
    let outcome = Program::new(driver)
        .arg(dime_lib())
        .arg(&fake)
        .env("DIME_NCCL_LIB", &fake)
        .env("DIME_DEBUG", "warn")
        .succeeds();
    assert_eq!(outcome.value("right"), driver_expectations().to_string(), "{outcome}");
    let log = outcome.all();
    for function in &missing {
        let expected = format!(
            "{} needs NCCL >= {}.{}; loaded {} is {}.{}",
            function.name,
            function.since.0,
            function.since.1,
            fake.display(),
            release.0,
            release.1
        );
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(&format!(" {} needs", function.name))).collect();
        // Under both names it is the same function, and however often it is called it is said once.
        assert_eq!(lines.len(), 1, "warnings about {} in {outcome}", function.name);
        let line = lines[0];
        // A patch number may follow each release.
        let without_patches = remove_patches(line, function.since, release);
        assert!(without_patches.contains(&expected), "{line:?} should say {expected:?}");
        assert!(line.contains("DIME WARN"), "{line:?} should be a warning");
    }
    for function in prototypes().iter().filter(|function| function.since <= release) {
        assert!(!log.contains(&format!(" {} needs", function.name)), "{} is not missing: {outcome}", function.name);
    }
}

fn remove_patches(line: &str, since: Release, loaded: Release) -> String {
    line.replace(&format!(">= {since};"), &format!(">= {}.{};", since.0, since.1))
        .replace(&format!("is {loaded}"), &format!("is {}.{}", loaded.0, loaded.1))
}

#[test]
fn functions_newer_than_nccl_2_18_answer_invalid_usage_and_name_the_release_needed() {
    missing_functions_answer(Release(2, 18, 3));
}

#[test]
fn functions_newer_than_nccl_2_27_answer_invalid_usage_and_name_the_release_needed() {
    missing_functions_answer(Release(2, 27, 7));
}

#[test]
fn functions_newer_than_nccl_2_31_answer_invalid_usage_and_name_the_release_needed() {
    missing_functions_answer(Release(2, 31, 2));
}

#[test]
fn the_last_error_names_the_missing_function_until_nccl_has_a_newer_one() {
    let dir = work_dir("fake/last-error");
    let fake = Fake::old(Release(2, 18, 3)).build(dir.join("libnccl.so.2"));
    let program = Cc::c().arg(test_file("c/last_error.c")).args(["-pthread", "-ldl"]).build(dir.join("last_error"));
    let outcome = Program::new(program).arg(dime_lib()).arg(&fake).env("DIME_NCCL_LIB", &fake).succeeds();
    assert_eq!(outcome.value("before"), "the fake's ncclGetLastError");
    assert_eq!(outcome.value("window"), NCCL_INVALID_USAGE.to_string());
    let after = outcome.value("after");
    assert!(after.contains("ncclCommWindowRegister needs NCCL >= 2.27"), "{after:?}");
    assert!(after.contains(&format!("loaded {} is 2.18", fake.display())), "{after:?}");
    let other = outcome.value("after-another");
    assert!(other.contains("ncclSetEncryption needs NCCL >= 2.32"), "{other:?}");
    assert_eq!(outcome.value("after-success"), other, "a call that succeeds leaves the last error alone");
    assert_eq!(outcome.value("other-thread"), "the fake's ncclGetLastError", "the last error belongs to its thread");
    assert_eq!(outcome.value("after-failure-of-nccl"), "the fake's ncclGetLastError");
}

#[test]
fn calls_that_nccl_makes_to_its_own_functions_come_back_to_it() {
    let dir = work_dir("fake/own-calls");
    let fake = Fake { own_calls: true, ..Fake::complete(NEWEST) }.build(dir.join("real/libnccl.so.2"));
    let program = Cc::c()
        .include(test_file("fake"))
        .arg(test_file("c/own_calls.c"))
        .args(["-pthread", "-ldl"])
        .build(dir.join("own_calls"));
    // Alone, to know what this program sees when nothing is in front.
    let direct = Program::new(&program).arg(&fake).env("LD_PRELOAD", &fake).limit_s(20).succeeds();
    // In front: the fake's calls to its own functions arrive at the preloaded library first.
    let dime = Program::new(&program)
        .arg(&fake)
        .env("LD_PRELOAD", dime_lib())
        .env("DIME_NCCL_LIB", &fake)
        .limit_s(20)
        .succeeds();
    for outcome in [&direct, &dime] {
        assert_eq!(outcome.value("own-calls-arrive-in-front"), "1", "{outcome}");
        assert_eq!(outcome.value("failures"), "0", "{outcome}");
        assert_eq!(outcome.value("own-calls"), (3 * 2 * OWN_CALLS).to_string(), "{outcome}");
    }
    assert_eq!(direct.stdout, dime.stdout);
    assert!(dime.stderr.contains(&format!("front={}", dime_lib().display())), "{dime}");
}

//! Ranks that could not answer in a setup are noticed before it begins, and whatever one rank alone is not allowed, all have right results and
//! no call fails: on the simulated node. What is not allowed and when is up to tests/c/denied.c.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::support::sim::{self, simulated};
use crate::support::{Cc, Outcome, Program, dime_lib, include_dir, test_file, work_dir};

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
    assert!(outcome.stdout.contains("whole=forward: not every rank is on this host with Dime"), "{outcome}");
    assert!(outcome.stdout.contains("part=fast: "), "{outcome}");
    assert!(outcome.stdout.contains("right=1"), "{outcome}");
}

#[test]
fn with_this_library_in_every_rank_all_are_fast() {
    let outcome = mixed("with", &dime_lib());
    assert!(outcome.stdout.contains("whole=fast: ") && outcome.stdout.contains("part=fast: "), "{outcome}");
    assert!(outcome.stdout.contains("right=1"), "{outcome}");
}

const EPERM: &str = "1";
const ENOMEM: &str = "12";
const EACCES: &str = "13";
const EMFILE: &str = "24";
const ENOSYS: &str = "38";
const SETUP_TIMEOUT_MS: u32 = 1000;
const SKIPPED: i32 = 77;

fn denied() -> Program {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        Cc::c()
            .include(include_dir())
            .arg(test_file("c/denied.c"))
            .args(["-pthread", "-ldl"])
            .build(work_dir("sim_presence/denied").join("denied"))
    };
    simulated(PROGRAM.get_or_init(build))
        .arg(dime_lib())
        .arg(sim::sim_dir().join("libnccl.so.2"))
        .env("DIME_SIM_DEVICES", "3")
        .env("DIME_SIM_SMS", "16")
        .env("DIME_SETUP_TIMEOUT_S", (SETUP_TIMEOUT_MS / 1000).to_string())
        .limit_s(30)
}

/// Rank 1 of so many is denied something. No call fails, every result is right, and nobody waits much longer than a setup may take. None:
/// the kernel lacks what that needs.
fn deny(ranks: &str, when: &str, what: &str, more: &[&str]) -> Option<Outcome> {
    deny_with(&[], ranks, when, what, more)
}

fn deny_with(variables: &[(&str, &str)], ranks: &str, when: &str, what: &str, more: &[&str]) -> Option<Outcome> {
    let program = variables.iter().fold(denied(), |program, (name, value)| program.env(name, value));
    let outcome = program.args([ranks, "1", when, what]).args(more).run();
    if outcome.code == SKIPPED {
        eprintln!("NOT CHECKED: {}", outcome.value("skipped"));
        return None;
    }
    assert_eq!(outcome.code, 0, "{outcome}");
    assert_eq!(outcome.value("right"), "1", "{outcome}");
    let ms: u32 = outcome.value("ms").parse().expect("a time");
    assert!(ms < SETUP_TIMEOUT_MS + 5000, "{outcome}");
    Some(outcome)
}

/// What dimeExplain says to all ranks begins alike.
fn all_say(outcome: &Outcome, what: &str) {
    let lines: Vec<&str> = outcome.stdout.lines().filter(|line| line.starts_with("rank-")).collect();
    assert!(!lines.is_empty() && lines.iter().all(|line| line.contains(what)), "not {what}: {outcome}");
}

#[test]
fn a_rank_that_may_not_connect_any_more_does_not_forward_alone() {
    for (when, what, error) in [
        ("after", "connect", EACCES),
        ("after", "connect", EPERM),
        ("after", "socket", EMFILE),
        ("within", "connect", EACCES),
        ("within", "socket", EACCES),
    ] {
        for ranks in ["2", "3"] {
            let outcome = deny(ranks, when, what, &[error]).expect("seccomp is there");
            // All came to a setup, in which this rank said that it cannot go on: nobody had to wait for its socket.
            all_say(&outcome, "=forward: the ranks could not pass descriptors");
            let ms: u32 = outcome.value("ms").parse().expect("a time");
            assert!(ms < SETUP_TIMEOUT_MS, "{outcome}");
        }
    }
    // What may pass by itself is tried again until the time is over.
    let outcome = deny("3", "after", "connect", &[ENOMEM]).expect("seccomp is there");
    all_say(&outcome, "=forward: the ranks could not pass descriptors");
}

#[test]
fn with_legacy_ipc_too_a_rank_says_that_it_may_not_connect_before_anybody_waits() {
    // What is passed then is the lease of the memory.
    let outcome = deny_with(&[("DIME_LEGACY_IPC", "1")], "3", "after", "connect", &[EACCES]).expect("seccomp is there");
    all_say(&outcome, "=forward: the ranks could not pass descriptors");
    let ms: u32 = outcome.value("ms").parse().expect("a time");
    assert!(ms < SETUP_TIMEOUT_MS, "{outcome}");
}

#[test]
fn a_rank_in_a_landlock_domain_does_not_forward_alone() {
    // Bug report NVIDIA/nccl#2396 is of such a program. Before the communicator is made the simulated NCCL itself cannot live with it.
    let Some(outcome) = deny("3", "after", "scope", &[]) else { return };
    all_say(&outcome, "=forward: the ranks could not pass descriptors");
}

#[test]
fn a_rank_that_cannot_give_its_sign_makes_all_forward_without_a_setup() {
    for (what, error) in [("connect", EACCES), ("bind", EPERM), ("socket", EMFILE), ("socket", ENOSYS)] {
        let outcome = deny("3", "before", what, &[error]).expect("seccomp is there");
        for (rank, why) in
            [(0, "not every rank is on this host"), (1, "this rank cannot make a socket"), (2, "not every")]
        {
            let said = outcome.value(&format!("rank-{rank}"));
            assert!(said.starts_with(&format!("forward: {why}")), "{outcome}");
        }
    }
}

#[test]
fn a_rank_that_may_not_look_waits_for_a_word_and_without_one_forwards() {
    // Rank 0 has a NCCL alone, so nobody can tell rank 1, which could not look since NCCL began.
    let outcome = deny("2", "within", "connect", &[EACCES, "--without", "0"]).expect("seccomp is there");
    all_say(&outcome, "=forward: not every rank");
    let ms: u32 = outcome.value("ms").parse().expect("a time");
    assert!(ms >= SETUP_TIMEOUT_MS, "{outcome}");
    // Rank 0 can, and has.
    let outcome = deny("3", "within", "connect", &[EACCES, "--without", "2"]).expect("seccomp is there");
    all_say(&outcome, "=forward: not every rank");
    let ms: u32 = outcome.value("ms").parse().expect("a time");
    assert!(ms < SETUP_TIMEOUT_MS, "{outcome}");
    for when in ["before", "after"] {
        deny("3", when, "connect", &[EACCES, "--without", "2"]).expect("seccomp is there");
    }
}

/// Every call of the way through beacons, setup and passing, each denied before the communicator is made, meanwhile and afterwards.
fn every_moment(whats: &[&str], error: &str) {
    for what in whats {
        for when in ["before", "within", "after"] {
            deny("3", when, what, &[error]);
        }
    }
}

#[test]
fn whatever_call_of_the_signs_one_rank_may_not_make_all_results_are_right() {
    every_moment(&["socket", "bind", "connect", "sendto", "recvfrom", "shutdown"], EPERM);
}

#[test]
fn whatever_call_of_a_setup_one_rank_may_not_make_all_results_are_right() {
    every_moment(&["listen", "accept4", "sendmsg", "recvmsg", "getsockopt", "fcntl", "poll"], EPERM);
    every_moment(&["accept4", "sendmsg"], ENOMEM);
}

#[test]
fn a_rank_that_cannot_find_out_about_itself_says_so() {
    for (what, error) in [("getrandom", ENOSYS), ("openat", EACCES)] {
        let outcome = deny("3", "after", what, &[error]).expect("seccomp is there");
        all_say(&outcome, "=forward: a rank could not read its own");
    }
}

#[test]
fn a_rank_without_descriptors_or_of_another_user_says_so_before_anybody_waits() {
    let (itself, passing) = ("a rank could not read its own", "the ranks could not pass descriptors");
    for (when, what, why) in
        [("within", "descriptors", itself), ("after", "descriptors", itself), ("after", "user", passing)]
    {
        let Some(outcome) = deny("3", when, what, &[]) else { continue };
        all_say(&outcome, &format!("=forward: {why}"));
        let ms: u32 = outcome.value("ms").parse().expect("a time");
        assert!(ms < SETUP_TIMEOUT_MS, "{outcome}");
    }
}

#[test]
fn a_disabled_rank_waits_for_nobody_in_its_first_all_reduce() {
    let run =
        |disable: &str| denied().env("DIME_DISABLE", disable).args(["2", "-1", "never", "-", "--late", "1"]).succeeds();
    let call_ms = |outcome: &Outcome| outcome.value("call-ms").parse::<u32>().expect("a time");
    let disabled = run("1");
    all_say(&disabled, "=forward: DIME_DISABLE is set");
    assert!(call_ms(&disabled) < 400, "{disabled}");
    // Otherwise it waits, so this program would see it.
    let enabled = run("0");
    assert!(call_ms(&enabled) > 600, "{enabled}");
}

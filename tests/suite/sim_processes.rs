//! Processes with libdime.so in front, on the simulated node: they fork, end, are killed and interrupted, close the library, live in
//! namespaces, and run short of descriptors. The programs are tests/c/processes.c, endings.c, reopen.c and namespaces.c.

use crate::support::sim::{Leftovers, build_with_dime, simulated};
use crate::support::{Cc, Program, dime_lib, include_dir, test_file, work_dir};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// One at a time: they look for what processes leave behind, and need the processors.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn on_node(program: &Path) -> Program {
    simulated(program).env("DIME_SIM_DEVICES", "4").env("DIME_SIM_SMS", "16").limit_s(60)
}

/// All goes right, and nothing is left behind.
fn goes_right(program: Program) {
    let before = Leftovers::now();
    assert_eq!(program.succeeds().value("right"), "1");
    before.assert_nothing_new();
}

fn situation(name: &str) -> Program {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| build_with_dime(&work_dir("sim_processes/situations"), "c/processes.c"));
    on_node(program).arg(name)
}

fn ending(when: &str, how: &str) -> Program {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| build_with_dime(&work_dir("sim_processes/endings"), "c/endings.c"));
    on_node(program).args([when, how])
}

#[test]
fn a_child_does_not_hang_on_its_parents_communicators_and_the_parent_goes_on() {
    let _alone = alone();
    goes_right(situation("children-use-their-parents"));
}

#[test]
fn children_become_programs_with_communicators_of_their_own() {
    let _alone = alone();
    goes_right(situation("children-become-programs"));
}

#[test]
fn one_thread_forks_while_others_sum_and_set_up() {
    let _alone = alone();
    goes_right(situation("forks-beside"));
}

#[test]
fn a_child_finds_nothing_locked_by_a_thread_that_it_does_not_have() {
    let _alone = alone();
    // The watchdog's thread is busy with what it watches, and with a line of the log.
    goes_right(situation("fork-beside-a-blocked-log"));
    // Another thread opens the driver.
    goes_right(situation("fork-beside-an-opening-driver").env("DIME_SIM_FAULT", "delay@cuInit:*:300"));
}

#[test]
fn processes_end_in_every_way_while_kernels_spin() {
    let _alone = alone();
    for how in ["return", "exit", "quick_exit", "_exit", "exit-of-another-thread", "_exit-in-handler"] {
        goes_right(ending("in-flight", how));
    }
    for how in ["SIGTERM", "SIGINT", "SIGKILL"] {
        goes_right(ending("in-flight", how));
    }
}

#[test]
fn processes_end_while_the_watchdog_asks_kernels_that_spin() {
    let _alone = alone();
    for how in ["return", "quick_exit", "exit-of-another-thread"] {
        goes_right(ending("in-flight", how).env("DIME_TIMEOUT_S", "1"));
    }
}

#[test]
fn those_that_remain_when_one_is_killed_abort_and_go_on_with_each_other() {
    let _alone = alone();
    for when in ["before-the-first-operation", "in-an-operation", "between-operations", "at-any-moment"] {
        goes_right(ending("killed", when));
    }
}

#[test]
fn signals_at_a_high_rate_change_nothing_and_reach_no_thread_of_ours() {
    let _alone = alone();
    goes_right(situation("signals"));
}

#[test]
fn the_library_stays_when_it_is_closed_with_a_communicator_and_a_thread_in_it() {
    let _alone = alone();
    let dir = work_dir("sim_processes/reopen");
    let source = test_file("c/reopen.c");
    let program = Cc::c().include(include_dir()).arg(source).args(["-pthread", "-ldl"]).build(dir.join("reopen"));
    goes_right(on_node(&program).arg(dime_lib()));
    goes_right(on_node(&program).arg(dime_lib()).env("DIME_TIMEOUT_S", "1"));
}

#[test]
fn all_ranks_forward_at_once_when_one_runs_short_of_descriptors() {
    let _alone = alone();
    goes_right(situation("few-descriptors").limit_s(25));
}

#[test]
fn two_communicators_share_a_gpu_of_eight_multiprocessors() {
    let _alone = alone();
    goes_right(situation("two-at-once").env("DIME_SIM_SMS", "8"));
}

/// Whether this machine lets the user who runs the tests make namespaces, as the tool of util-linux sees it.
fn may_make_namespaces() -> bool {
    let all = ["--user", "--map-root-user", "--net", "--uts", "--ipc", "--mount", "--pid", "--fork", "true"];
    Command::new("unshare").args(all).status().is_ok_and(|status| status.success())
}

/// Ranks in namespaces of their own agree within a few seconds, far before a setup's time is over, that all-reduces are what
/// `verdict` begins with.
fn in_namespaces(kind: &str, verdict: &str) {
    const NOT_POSSIBLE: i32 = 78;
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let _alone = alone();
    let program = PROGRAM.get_or_init(|| build_with_dime(&work_dir("sim_processes/namespaces"), "c/namespaces.c"));
    let outcome = on_node(program).arg(kind).run();
    if outcome.code == NOT_POSSIBLE {
        assert!(!may_make_namespaces(), "{outcome}");
        eprintln!("NOT CHECKED: this machine does not let us make the namespaces: {}", outcome.value("not-possible"));
        return;
    }
    assert_eq!(outcome.code, 0, "{outcome}");
    assert!(outcome.value("verdict").starts_with(verdict), "{outcome}");
}

#[test]
fn ranks_in_network_namespaces_where_the_machine_permits_forward_at_once() {
    // Abstract sockets are the network's.
    in_namespaces("net", "forward: ");
}

#[test]
fn ranks_in_namespaces_of_host_names_where_the_machine_permits_are_fast() {
    in_namespaces("uts-and-ipc", "fast: ");
}

#[test]
fn ranks_in_pid_namespaces_where_the_machine_permits_are_fast() {
    // All with the same process id.
    in_namespaces("pid", "fast: ");
    in_namespaces("pid-with-its-proc", "fast: ");
}

#[test]
fn ranks_without_proc_where_the_machine_permits_forward_at_once() {
    // The boot of the host is not known.
    in_namespaces("no-proc", "forward: ");
}

#[test]
fn ranks_in_user_namespaces_where_the_machine_permits_are_fast() {
    in_namespaces("user", "fast: ");
    // Its own user and its peers' are the one that stands for all without a name.
    in_namespaces("user-without-a-map", "fast: ");
}

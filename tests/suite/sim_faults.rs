//! Faults on the simulated node, at chosen points of a communicator's life: ranks that die, driver calls that fail, delays.
//!
//! tests/c/rank.c runs the ranks, each in a process of its own, and says how each of them ended. What must never happen
//! is a hang, a wrong result, or something left behind.

use crate::support;
use crate::support::sim::{Leftovers, build_with_dime, simulated};
use crate::support::{Outcome, work_dir};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

const RANKS: usize = 3;
/// The rank that a fault happens to, where nothing else is said.
const FAULTY: usize = 1;
/// How long an abort may take, and after it the call that it interrupts.
const LIMIT_MS: f64 = 1000.0;

/// One at a time: they look for what processes leave behind, and need the processors.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn program() -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| build_with_dime(&work_dir("sim/faults"), "c/rank.c")).clone()
}

/// How a run with a fault ended.
struct Run {
    fault: String,
    faulty: usize,
    outcome: Outcome,
}

/// Runs the ranks with a fault in one of them. No rank hangs, no result is wrong, no abort is slow, nothing is left behind.
fn run(fault: &str) -> Run {
    run_with(FAULTY, fault)
}

fn run_with(faulty: usize, fault: &str) -> Run {
    run_in(faulty, fault, &[])
}

fn run_in(faulty: usize, fault: &str, variables: &[(&str, &str)]) -> Run {
    // Other programs can make an abort slow now and then, but not each time.
    const ATTEMPTS: usize = 5;
    for _ in 1..ATTEMPTS {
        let run = run_once(faulty, fault, variables);
        if run.slowest_ms() < LIMIT_MS {
            assert_eq!(run.outcome.code, 0, "{run}");
            return run;
        }
        // Nothing but the time may be wrong.
        let hung = (0..RANKS).any(|rank| ["wrong", "hung"].contains(&run.ended(rank)));
        assert!(!hung, "{run}");
    }
    let run = run_once(faulty, fault, variables);
    assert!(run.slowest_ms() < LIMIT_MS, "slow: {run}");
    assert_eq!(run.outcome.code, 0, "{run}");
    run
}

fn run_once(faulty: usize, fault: &str, variables: &[(&str, &str)]) -> Run {
    let before = Leftovers::now();
    let variable = format!("DIME_SIM_FAULT={fault}");
    let with = |program: support::Program, (name, value): &(&str, &str)| program.env(name, value);
    let outcome = variables
        .iter()
        .fold(simulated(program()), with)
        .args(["--ranks", &RANKS.to_string(), "--report", "--env", &faulty.to_string(), &variable])
        .env("DIME_SIM_SMS", "16")
        // As long as the others wait for a rank that cannot share its scratch.
        .env("DIME_SETUP_TIMEOUT_S", "5")
        // What is unmapped too early ends the process then.
        .env("DIME_SIM_UNMAP_WAITS", "0")
        .run();
    before.assert_nothing_new();
    for part in fault.split(',').filter(|part| !part.is_empty()) {
        assert!(outcome.stderr.contains(&format!("dime sim: fault {part}\n")), "{part} never came\n{outcome}");
    }
    Run { fault: fault.to_owned(), faulty, outcome }
}

impl Run {
    fn ended(&self, rank: usize) -> &str {
        self.outcome.value(&format!("rank-{rank}"))
    }

    /// The slowest abort, or call that one interrupted.
    fn slowest_ms(&self) -> f64 {
        let lines = self.outcome.stdout.lines().filter(|line| line.contains("-ms-"));
        lines
            .map(|line| line.split('=').next_back().and_then(|ms| ms.parse().ok()).expect("a time"))
            .fold(0.0, f64::max)
    }

    /// Asserts how the faulty rank and all others ended.
    fn assert_ended(&self, faulty: &str, others: &str) {
        for rank in 0..RANKS {
            let expected = if rank == self.faulty { faulty } else { others };
            assert_eq!(self.ended(rank), expected, "rank {rank}: {self}");
        }
    }

    /// Lines of rank 0 about the counts of the last round.
    fn reports(&self) -> Vec<&str> {
        self.outcome.stdout.lines().filter(|line| line.starts_with("count=")).collect()
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.fault, self.outcome)
    }
}

/// The survivors abort at once, wherever they are, and can go on using their GPUs.
fn killed(faults: &[&str]) {
    let _alone = alone();
    for (number, fault) in faults.iter().enumerate() {
        run_with(number % RANKS, &format!("kill@{fault}")).assert_ended("killed", "aborted");
    }
}

#[test]
fn without_a_fault_all_is_right_and_done_by_kernels() {
    let _alone = alone();
    let run = run("delay@cuInit:1:1");
    run.assert_ended("right", "right");
    assert_eq!(run.reports().len(), 4, "{run}");
    for line in run.reports() {
        assert!(line.contains(" right ") && line.contains(" fast: "), "{line}");
    }
}

#[test]
fn what_is_left_behind_would_be_seen() {
    let _alone = alone();
    let before = Leftovers::now();
    let name = format!("dime-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("an address");
    let _socket = UnixListener::bind_addr(&address).expect("a socket");
    assert!(before.new_since().contains(&format!("@{name}")));
}

#[test]
fn a_rank_that_dies_while_it_prepares_its_scratch_stops_nobody_for_long() {
    killed(&["cuModuleLoadData:1", "cuMemCreate:1", "cuMemMap:1", "cuMemHostRegister:1"]);
}

#[test]
fn a_rank_that_dies_while_scratch_is_shared_stops_nobody_for_long() {
    killed(&["cuMemExportToShareableHandle:1", "cuMemImportFromShareableHandle:1", "cuMemMap:2", "cuMemSetAccess:3"]);
}

#[test]
fn a_rank_that_dies_in_the_probe_stops_nobody_for_long() {
    killed(&["cuLaunchKernelEx:1", "cuLaunchKernelEx:3", "cuMemsetD32Async:2", "block:40"]);
}

#[test]
fn a_rank_that_dies_in_an_operation_stops_nobody_for_long() {
    killed(&["cuLaunchKernelEx:6", "cuLaunchKernelEx:9", "spin:100", "spin:5000", "barrier:100"]);
}

#[test]
fn a_rank_that_dies_between_operations_stops_nobody_for_long() {
    killed(&["cuMemcpyHtoDAsync:7", "cuMemcpyDtoHAsync:6", "cuStreamSynchronize:30"]);
}

#[test]
fn what_cannot_be_had_at_setup_makes_all_ranks_forward() {
    let _alone = alone();
    for place in [
        "cuModuleLoadData:1",
        "cuMemCreate:1",
        "cuMemAddressReserve:1",
        "cuMemMap:1",
        "cuMemMap:2",
        "cuMemSetAccess:2",
        "cuMemHostRegister:1",
        "cuMemHostGetDevicePointer:1",
        "cuMemExportToShareableHandle:1",
        "cuMemImportFromShareableHandle:1",
        "cuMemImportFromShareableHandle:2",
        "cuLaunchKernelEx:1",
        "cuLaunchKernelEx:4",
    ] {
        let run = run(&format!("fail@{place}"));
        run.assert_ended("right", "right");
        for line in run.reports() {
            assert!(line.contains(" right ") && line.contains(" forward: "), "{run}");
        }
    }
}

/// The simulated driver ends a process that frees what another one has open.
#[test]
fn nobody_frees_what_a_peer_has_open_by_legacy_ipc_whatever_fails() {
    let _alone = alone();
    let legacy = [("DIME_LEGACY_IPC", "1")];
    for place in [
        "cuIpcGetMemHandle:1",
        "cuIpcOpenMemHandle:1",
        "cuIpcOpenMemHandle:2",
        "cuMemHostRegister:1",
        "cuLaunchKernelEx:1",
        "cuLaunchKernelEx:4",
    ] {
        let run = run_in(FAULTY, &format!("fail@{place}"), &legacy);
        run.assert_ended("right", "right");
        assert!(run.reports().iter().all(|line| line.contains(" forward: ")), "{run}");
    }
    for place in ["cuIpcOpenMemHandle:2", "cuLaunchKernelEx:3", "cuLaunchKernelEx:6", "spin:100", "spin:5000"] {
        run_in(FAULTY, &format!("kill@{place}"), &legacy).assert_ended("killed", "aborted");
    }
    for place in ["cuLaunchKernelEx:5", "cuLaunchKernelEx:8"] {
        run_in(FAULTY, &format!("fail@{place}"), &legacy).assert_ended("error", "aborted");
    }
}

#[test]
fn a_launch_that_fails_is_an_error_of_the_call() {
    let _alone = alone();
    // After the launches of the probe. The others wait for the operation that did not begin, until they are told.
    for launch in [5, 8] {
        let run = run(&format!("fail@cuLaunchKernelEx:{launch}"));
        run.assert_ended("error", "aborted");
        assert_eq!(run.outcome.value(&format!("call-{FAULTY}")), "ncclAllReduce 1", "{run}");
    }
}

#[test]
fn whichever_call_fails_nobody_hangs_and_no_result_is_wrong() {
    let _alone = alone();
    // The first ones are made before there is a communicator.
    for (call, passings) in [
        ("cuStreamSynchronize", &[2, 4, 6][..]),
        ("cuMemcpyDtoHAsync", &[1, 2, 4]),
        ("cuMemcpyHtoDAsync", &[2, 4, 6]),
        ("cuMemsetD8Async", &[1, 2, 3]),
        ("cuStreamCreate", &[2, 3]),
        ("cuEventCreate", &[1, 2, 3]),
        ("cuMemAlloc", &[3]),
        ("cuDevicePrimaryCtxRetain", &[2, 3]),
    ] {
        for passing in passings {
            run(&format!("fail@{call}:{passing}"));
        }
    }
}

#[test]
fn delays_change_nothing_but_time() {
    let _alone = alone();
    for fault in [
        "delay@cuLaunchKernelEx:*:5",
        "delay@block:3:100,delay@block:60:100",
        "delay@spin:50:100,delay@spin:1000:100",
        "delay@cuMemExportToShareableHandle:1:200",
        "delay@cuMemMap:*:100",
        "delay@cuStreamSynchronize:*:10",
    ] {
        let run = run(fault);
        run.assert_ended("right", "right");
        assert!(run.reports().iter().all(|line| line.contains(" fast: ")), "{run}");
    }
}

#[test]
fn a_rank_without_room_for_its_message_still_tells_the_others() {
    let _alone = alone();
    // Its buffer in memory of the device, its stream: there are others. What the program itself allocates comes before.
    for place in ["cuMemAlloc:3", "cuStreamCreate:2", "cuStreamGetCaptureInfo:1"] {
        let run = run(&format!("fail@{place}"));
        run.assert_ended("right", "right");
        for line in run.reports() {
            assert!(line.contains(" right ") && line.contains(" fast: "), "{run}");
        }
    }
}

#[test]
fn a_rank_whose_driver_does_not_answer_makes_all_ranks_forward() {
    let _alone = alone();
    // The program itself opens the driver first.
    for place in ["cuInit:2", "cuDeviceGetName:1"] {
        let run = run(&format!("fail@{place}"));
        run.assert_ended("right", "right");
        for line in run.reports() {
            assert!(line.contains(" right ") && line.contains(" forward: "), "{run}");
        }
    }
}

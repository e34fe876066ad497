//! What can be seen of libdime.so from outside, on the simulated node: the lines of the log, the counters at the end of a process, the
//! ranges that a profiler gets.

use crate::support;
use crate::support::log_line::LogLine;
use crate::support::sim::{build_with_dime, qa, simulated};
use crate::support::{Cc, Outcome, Program, test_file, work_dir};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// All-reduces of each rank in [`ranks`], and how many of them are fast.
const ALL_REDUCES: usize = 4;
const FAST: usize = 2;

fn rank_program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| build_with_dime(&work_dir("sim_observed/program"), "c/rank.c"))
}

/// Ranks in a process each, that do [`ALL_REDUCES`] all-reduces of float32 each: two of 64 bytes, which one_shot_ll does, and two of
/// 4096, which are forwarded.
fn ranks(ranks: usize) -> Program {
    simulated(rank_program())
        .args(["--ranks", &ranks.to_string(), "--rounds", "2", "--counts", "16,1024"])
        .env("DIME_SIM_DEVICES", ranks.to_string())
        .env("DIME_SIM_SMS", "16")
        .env("DIME_SETUP_TIMEOUT_S", "10")
        .env("DIME_KERNEL", "one_shot_ll")
        .env("DIME_THRESHOLD_BYTES", "4095")
}

/// The texts of the log's lines of a level.
fn lines<'a>(lines: &'a [LogLine], level: &str) -> Vec<&'a str> {
    lines.iter().filter(|line| line.level == level).map(|line| line.text.as_str()).collect()
}

/// The lines of a level about communicators as wholes, or about single all-reduces.
fn decisions(log: &[LogLine]) -> Vec<&str> {
    lines(log, "INFO").into_iter().filter(|text| text.starts_with("communicator ")).collect()
}

fn operations(log: &[LogLine]) -> Vec<&str> {
    lines(log, "TRACE").into_iter().filter(|text| text.contains(": all-reduce of ")).collect()
}

/// Asserts that each rank says once what is decided, with these words, and on its own GPU.
fn assert_one_line_a_rank(outcome: &Outcome, log: &[LogLine], ranks: usize, words: &str) {
    let mut said: Vec<String> = log
        .iter()
        .filter(|line| line.level == "INFO" && line.text.starts_with("communicator "))
        .map(|line| {
            assert!(line.text.contains(words), "{words:?} is not in {:?}\n{outcome}", line.text);
            let (_, who) = line.text.split_once(" rank ").unwrap_or_else(|| panic!("no rank in {line:?}"));
            let (who, _) = who.split_once(": ").expect("a colon");
            assert!(who.ends_with(&format!(" on GPU {}", line.device)), "{line:?}");
            who.to_owned()
        })
        .collect();
    said.sort();
    let gpu_of = |rank: usize| if words.contains("share a GPU") { 0 } else { rank };
    let expected: Vec<String> = (0..ranks).map(|rank| format!("{rank} of {ranks} on GPU {}", gpu_of(rank))).collect();
    assert_eq!(said, expected, "{words:?} in {outcome}");
}

#[test]
fn each_rank_says_once_that_a_communicator_is_fast_and_nothing_at_warn() {
    let outcome = ranks(3).env("DIME_DEBUG", "info").succeeds();
    let log = LogLine::all(&outcome.stdout);
    assert_one_line_a_rank(&outcome, &log, 3, ": all-reduces are fast: ");
    assert_eq!(lines(&log, "TRACE"), Vec::<&str>::new(), "{outcome}");
    let outcome = ranks(3).env("DIME_DEBUG", "warn").succeeds();
    assert!(!outcome.all().contains("DIME "), "{outcome}");
}

#[test]
fn level_and_file_of_the_log_come_from_the_file_that_nccl_reads_at_its_first_communicator() {
    let dir = work_dir("sim_observed/nccl-conf");
    let conf = dir.join("nccl.conf");
    std::fs::write(&conf, format!("NCCL_DEBUG=INFO\nNCCL_DEBUG_FILE={}/log.%p\n", dir.display())).expect("a file");
    let outcome = ranks(2).env("DIME_DEBUG", "").env("NCCL_CONF_FILE", &conf).succeeds();
    assert!(!outcome.all().contains("DIME "), "the streams are the program's: {outcome}");
    let files = std::fs::read_dir(&dir).expect("the folder").map(|entry| entry.expect("a file").path());
    let logs = files.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("log.")));
    let logs: Vec<LogLine> =
        logs.flat_map(|path| LogLine::all(&std::fs::read_to_string(path).expect("a log"))).collect();
    assert_one_line_a_rank(&outcome, &logs, 2, ": all-reduces are fast: ");
}

/// Why a communicator is forwarded: what makes it so, and what each rank says.
struct Cause<'a> {
    ranks: usize,
    /// A variable of rank 1 alone.
    of_rank_1: &'a str,
    topology: &'a str,
    words: &'a str,
    /// What only rank 1 can say.
    detail: &'a str,
}

const PLAIN: Cause = Cause { ranks: 2, of_rank_1: "", topology: "", words: "", detail: "" };

/// Runs with a cause, at level info and at level warn.
fn forwarded_because(name: &str, cause: Cause) {
    let dir = work_dir(&format!("sim_observed/{name}"));
    let topology = support::write(dir.join("topology"), cause.topology);
    for level in ["info", "warn"] {
        let mut program = ranks(cause.ranks).env("DIME_DEBUG", level).env("DIME_SIM_TOPOLOGY", &topology);
        if !cause.of_rank_1.is_empty() {
            program = program.args(["--env", "1", cause.of_rank_1]);
        }
        let outcome = program.succeeds();
        let log = LogLine::all(&outcome.stdout);
        if level == "warn" {
            assert!(log.is_empty(), "{outcome}");
            continue;
        }
        assert_one_line_a_rank(&outcome, &log, cause.ranks, &format!(": all-reduces are forwarded: {}", cause.words));
        if !cause.detail.is_empty() {
            let with_detail =
                decisions(&log).into_iter().filter(|text| text.contains(cause.detail)).collect::<Vec<_>>();
            assert!(with_detail.len() == 1 && with_detail[0].contains(" rank 1 of "), "{}: {outcome}", cause.detail);
        }
    }
}

#[test]
fn a_rank_that_cannot_go_on_is_named_on_all_ranks_and_tells_its_own_reason_in_more_words() {
    let words = "scratch memory could not be allocated or shared (rank 1";
    let fault = "DIME_SIM_FAULT=fail@cuMemCreate:1";
    forwarded_because("memory", Cause { of_rank_1: fault, words, detail: "; this rank: cuMemCreate", ..PLAIN });
    let words = "the kernels could not be loaded (rank 1";
    let fault = "DIME_SIM_FAULT=fail@cuModuleLoadData:1";
    forwarded_because("load", Cause { of_rank_1: fault, words, detail: "; this rank: cuModuleLoadData", ..PLAIN });
    let fault = "DIME_SIM_DRIVER_VERSION=12000";
    // The node's PTX and its machine code for this GPU are of releases that such a driver does not know.
    let topology = "device 0 arch 100\ndevice 1 arch 100\n";
    let detail = "this driver is of CUDA 12.0 (driver 525), and the kernels for compute capability ";
    forwarded_because("old-driver", Cause { of_rank_1: fault, topology, words, detail, ..PLAIN });
}

#[test]
fn gpus_that_are_not_joined_as_needed_are_a_reason() {
    let words = "the GPUs are not all joined by NVLink (DIME_ALLOW_PCIE=1 on all ranks allows PCIe) (rank ";
    forwarded_because("pcie", Cause { topology: "pair 0 1 pcie\n", words, detail: "rank 1 of 2 on GPU 1", ..PLAIN });
    let words = "the GPUs cannot reach each other's memory (rank ";
    forwarded_because("none", Cause { topology: "pair 0 1 none\n", words, ..PLAIN });
    let words = "a rank runs on a MIG instance (rank 1)";
    forwarded_because("mig", Cause { topology: "device 1 mig\n", words, ..PLAIN });
    let words = "the GPUs differ in architecture or are older than compute capability 8.0 (rank 1)";
    forwarded_because("architecture", Cause { topology: "device 1 arch 80\n", words, ..PLAIN });
}

#[test]
fn more_ranks_than_the_kernels_serve_are_a_reason() {
    forwarded_because("many", Cause { ranks: 9, words: "the communicator has more than 8 ranks", ..PLAIN });
}

/// Communicators, all-reduces of each rank, what is said of the communicator, and of each all-reduce.
type Said = (usize, usize, &'static str, &'static str);

/// What is said in each scenario of `dime-qa forwards`, by its name. The names are checked to be all.
const SCENARIOS: &[(&str, Said)] = &[
    ("an eligible call", (2, 2, "fast: ", "fast: ")),
    (
        "a message past the default threshold",
        (2, 2, "forwarded so far: the message is larger", "the message is larger"),
    ),
    ("a message past DIME_THRESHOLD_BYTES", (2, 2, "fast: ", "the message is larger than the threshold")),
    ("DIME_DISABLE=1", (2, 2, "forwarded: DIME_DISABLE is set", "DIME_DISABLE is set")),
    ("CUDA_LAUNCH_BLOCKING=1", (2, 2, "forwarded: CUDA_LAUNCH_BLOCKING=1 makes", "CUDA_LAUNCH_BLOCKING=1 makes")),
    ("no elements", (2, 2, "forwarded so far: the count is 0", "the count is 0")),
    (
        "a first call inside a stream capture",
        (2, 1, "forwarded so far: the communicator is not set up", "the communicator is not set up"),
    ),
    ("a forced kernel that cannot carry the type", (2, 2, "fast: ", "the kernel that DIME_KERNEL forces")),
    ("one rank", (1, 2, "forwarded: the communicator has one rank", "the communicator has one rank")),
    (
        "an operation made by ncclRedOpCreatePreMulSum",
        (2, 2, "forwarded so far: the operation is not", "the operation is not one of sum, prod, max, min, avg"),
    ),
    // The simulated NCCL makes that communicator, as NCCL 2.30 does when it is told to.
    ("two ranks on one device", (2, 2, "forwarded: two ranks share a GPU (DIME_ALLOW", "two ranks share a GPU")),
    // The other one finds that not every rank would answer.
    ("DIME_DISABLE=1 on one rank only", (2, 2, "forwarded: ", "")),
    (
        "another DIME_THRESHOLD_BYTES on one rank",
        (
            2,
            2,
            "forwarded: the ranks have different DIME_ settings (rank 1)",
            "the ranks have different DIME_ settings",
        ),
    ),
];

#[test]
fn every_reason_is_said_once_of_a_communicator_and_at_trace_of_each_all_reduce() {
    let outcome = qa(2).arg("forwards").env("DIME_DEBUG", "trace").limit_s(300).succeeds();
    let mut scenarios: BTreeMap<&str, Said> = SCENARIOS.iter().copied().collect();
    let mut section = String::new();
    for line in outcome.stdout.lines() {
        // A scenario's result comes behind its log.
        let Some(rest) = line.strip_prefix("PASS  ") else {
            section.push_str(line);
            section.push('\n');
            continue;
        };
        let name = rest.split(": ").next().expect("a name");
        let said = scenarios.remove(name).unwrap_or_else(|| panic!("{name} is not expected: {outcome}"));
        let (communicators, all_reduces, decision, operation) = said;
        let log = LogLine::all(&section);
        let decision = format!(": all-reduces are {decision}");
        assert_one_line_a_rank(&outcome, &log, communicators, &decision);
        let operations = operations(&log);
        assert_eq!(operations.len(), communicators * all_reduces, "{name}: {section}");
        let how =
            if operation.starts_with("fast") { format!(": {operation}") } else { format!(": forwarded: {operation}") };
        assert!(operations.iter().all(|text| text.contains(&how)), "{name}: no {how:?}: {section}");
        section.clear();
    }
    assert!(scenarios.is_empty(), "not run: {scenarios:?}");
}

#[test]
fn at_trace_each_all_reduce_names_its_shape_and_its_kernel() {
    let outcome = ranks(2).env("DIME_DEBUG", "trace").succeeds();
    let log = LogLine::all(&outcome.stdout);
    let said = operations(&log);
    let of = |what: &str| said.iter().filter(|text| text.contains(what)).count();
    assert_eq!(said.len(), 2 * ALL_REDUCES, "{outcome}");
    assert_eq!(of(": all-reduce of 64 bytes, float32 sum: fast: one_shot_ll with up to "), 2 * FAST, "{outcome}");
    let forwarded = of(": all-reduce of 4096 bytes, float32 sum: forwarded: the message is larger than the threshold");
    assert_eq!(forwarded, 2 * (ALL_REDUCES - FAST), "{outcome}");
    assert_one_line_a_rank(&outcome, &log, 2, ": all-reduces are fast: ");
}

#[test]
fn the_counters_of_each_rank_are_in_its_file() {
    let files = work_dir("sim_observed/stats");
    let outcome = ranks(3).env("DIME_STATS_FILE", files.join("%p")).succeeds();
    let mut written = 0;
    for entry in std::fs::read_dir(&files).expect("the files").flatten() {
        let text = std::fs::read_to_string(entry.path()).expect("text");
        let (head, counters) = text.split_once('\n').expect("a head line");
        assert!(head.ends_with(&format!(" process {}", entry.file_name().to_string_lossy())), "{text}");
        let counters: Vec<&str> = counters.lines().collect();
        // The parent of the ranks makes no communicator, and writes nothing.
        let expected = ["fast 2", "forwarded 2", "one_shot_ll 2", "forward_too_large 2"];
        assert_eq!(counters, expected, "{outcome}");
        written += 1;
    }
    assert_eq!(written, 3, "{outcome}");
}

/// Runs ranks under a profiler of this kind; returns what it was told.
fn profiled(name: &str, kind: &str) -> (Outcome, String) {
    let dir = work_dir(&format!("sim_observed/{name}"));
    let profiler = Cc::c().shared("libprofiler.so").arg(test_file("c/profiler.c")).build(dir.join("libprofiler.so"));
    let told = dir.join("told");
    let outcome = ranks(2)
        .env("DIME_DEBUG", "info")
        .env("NVTX_INJECTION64_PATH", &profiler)
        .env("PROFILER_FILE", &told)
        .env("PROFILER_IS", kind)
        .succeeds();
    (outcome, std::fs::read_to_string(told).unwrap_or_default())
}

#[test]
fn a_profiler_gets_a_range_for_each_fast_all_reduce_and_none_for_a_forwarded_one() {
    let (outcome, told) = profiled("profiler", "");
    let mut of_thread: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in told.lines() {
        let (thread, call) = line.split_once(' ').expect("a thread and a call");
        of_thread.entry(thread).or_default().push(call);
    }
    let range = ["push dime one_shot_ll 64 B float32 sum", "pop dime"];
    let expected = [&["create dime"], &range[..], &range[..]].concat();
    assert_eq!(of_thread.values().collect::<Vec<_>>(), [&expected, &expected], "{told}\n{outcome}");
}

#[test]
fn ranges_name_type_and_operation() {
    let dir = work_dir("sim_observed/names");
    let profiler = Cc::c().shared("libprofiler.so").arg(test_file("c/profiler.c")).build(dir.join("libprofiler.so"));
    let told = dir.join("told");
    qa(2)
        .args(["check", "--ranks", "2", "--types", "bf16,int32", "--ops", "sum,avg", "--bytes", "4096"])
        .env("NVTX_INJECTION64_PATH", &profiler)
        .env("PROFILER_FILE", &told)
        .limit_s(120)
        .succeeds();
    let told = std::fs::read_to_string(told).expect("what the profiler was told");
    for name in ["one_shot_ll 4096 B int32 avg", "one_shot_ll 4096 B bfloat16 sum", "two_shot_bulk 4096 B bfloat16 avg"]
    {
        assert!(told.contains(&format!(" push dime {name}\n")), "{name}: {told}");
    }
    let count = |call: &str| told.lines().filter(|line| line.contains(call)).count();
    assert_eq!(count(" push dime "), count(" pop dime"));
}

#[test]
fn a_profiler_that_refuses_or_takes_nothing_gets_nothing() {
    let (outcome, told) = profiled("refusing", "refusing");
    assert_eq!(told, "", "{outcome}");
    assert_eq!(outcome.stdout.matches("all-reduces are not shown to the profiler at ").count(), 2, "{outcome}");
    let (outcome, told) = profiled("uninterested", "uninterested");
    assert_eq!(told, "", "{outcome}");
}

#[test]
fn a_profiler_that_cannot_be_opened_is_one_warning() {
    let outcome = ranks(2).env("NVTX_INJECTION64_PATH", "/nonexistent/profiler.so").succeeds();
    let log = LogLine::all(&outcome.stdout);
    let warnings = lines(&log, "WARN");
    assert_eq!(warnings.len(), 2, "one for each process: {outcome}");
    let expected =
        "all-reduces are not shown to the profiler at /nonexistent/profiler.so: /nonexistent/profiler.so: cannot open";
    assert!(warnings.iter().all(|text| text.starts_with(expected)), "{outcome}");
}

/// The libraries that the dynamic linker opened in all processes of a run.
fn libraries(dir: &Path, program: Program) -> Vec<String> {
    program.env("LD_DEBUG", "files").env("LD_DEBUG_OUTPUT", dir.join("linker")).succeeds();
    let mut libraries = Vec::new();
    for entry in std::fs::read_dir(dir).expect("the linker's files").flatten() {
        if entry.file_name().to_string_lossy().starts_with("linker.") {
            let text = std::fs::read_to_string(entry.path()).expect("text");
            let opened = text.lines().filter_map(|line| line.split_once("calling init: ")).map(|(_, path)| path.trim());
            let opened =
                opened.filter_map(|path| Path::new(path).file_name()).map(|name| name.to_string_lossy().into_owned());
            libraries.extend(opened);
            std::fs::remove_file(entry.path()).expect("removing a file of ours");
        }
    }
    libraries.sort();
    libraries.dedup();
    libraries
}

#[test]
fn without_a_profiler_nothing_is_opened_for_it() {
    let dir = work_dir("sim_observed/unprofiled");
    let profiler = Cc::c().shared("libprofiler.so").arg(test_file("c/profiler.c")).build(dir.join("libprofiler.so"));
    let alone = libraries(&dir, ranks(2));
    assert!(alone.iter().any(|name| name == "libcuda.so.1"), "{alone:?}");
    let profiled = ranks(2).env("NVTX_INJECTION64_PATH", &profiler).env("PROFILER_FILE", dir.join("told"));
    let mut profiled = libraries(&dir, profiled);
    profiled.retain(|name| name != "libprofiler.so");
    assert!(!alone.iter().any(|name| name.contains("profiler") || name.to_lowercase().contains("nvt")), "{alone:?}");
    // And with one, only its own.
    assert_eq!(alone, profiled);
}

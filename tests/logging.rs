//! The log, seen from outside: what is said at which level, where it goes, and how a line looks.

mod support;

use std::path::{Path, PathBuf};
use support::fake::Fake;
use support::log_line::LogLine;
use support::places::{build_report, fake_nccl};
use support::{Cc, Outcome, Program, Release, dime_lib, test_file, tool, work_dir};

/// A program that calls a function which its NCCL lacks, so that there is something to warn about.
struct Warner {
    program: PathBuf,
    fake: PathBuf,
}

impl Warner {
    fn build(dir: &Path) -> Warner {
        let fake = Fake::old(Release(2, 18, 3)).build(dir.join("old/libnccl.so.2"));
        let program = Cc::c().arg(test_file("c/last_error.c")).args(["-pthread", "-ldl"]).build(dir.join("last_error"));
        Warner { program, fake }
    }

    fn run(&self, settings: &[(&str, &str)]) -> Outcome {
        let program = Program::new(&self.program).arg(dime_lib()).arg(&self.fake).env("DIME_NCCL_LIB", &self.fake);
        settings.iter().fold(program, |program, (name, value)| program.env(name, value)).succeeds()
    }

    /// The levels of the lines that are logged.
    fn levels(&self, settings: &[(&str, &str)]) -> Vec<String> {
        let outcome = self.run(settings);
        LogLine::all(&outcome.all()).into_iter().map(|line| line.level).collect()
    }
}

fn has(levels: &[String], level: &str) -> bool {
    levels.iter().any(|found| found == level)
}

#[test]
fn each_level_lets_through_what_is_as_grave_or_graver() {
    let warner = Warner::build(&work_dir("logging/levels"));
    for quiet in ["none", "error"] {
        let outcome = warner.run(&[("DIME_DEBUG", quiet)]);
        assert!(!outcome.all().contains("DIME "), "at level {quiet}: {outcome}");
    }
    let warn = warner.levels(&[("DIME_DEBUG", "warn")]);
    assert!(has(&warn, "WARN") && !has(&warn, "INFO"), "{warn:?}");
    let info = warner.levels(&[("DIME_DEBUG", "info")]);
    assert!(has(&info, "WARN") && has(&info, "INFO") && !has(&info, "TRACE"), "{info:?}");
    let trace = warner.levels(&[("DIME_DEBUG", "trace")]);
    assert!(has(&trace, "WARN") && has(&trace, "INFO"), "{trace:?}");
}

#[test]
fn by_default_nothing_is_said_but_errors() {
    let dir = work_dir("logging/default");
    let outcome = Warner::build(&dir).run(&[]);
    assert!(!outcome.all().contains("DIME "), "{outcome}");
    let outcome = Program::new(build_report(&dir)).arg(dime_lib()).env("DIME_NCCL_LIB", "/nonexistent").succeeds();
    let lines = LogLine::all(&outcome.all());
    assert!(!lines.is_empty() && lines.iter().all(|line| line.level == "ERROR"), "{outcome}");
}

#[test]
fn at_level_none_not_even_an_error_is_said() {
    let dir = work_dir("logging/none");
    let outcome = Program::new(build_report(&dir))
        .arg(dime_lib())
        .env("DIME_NCCL_LIB", "/nonexistent")
        .env("DIME_DEBUG", "none")
        .succeeds();
    assert!(!outcome.all().contains("DIME "), "{outcome}");
    assert_eq!(outcome.stderr, "", "{outcome}");
}

#[test]
fn level_version_says_the_version_once_and_calls_it_no_error() {
    let dir = work_dir("logging/version");
    let outcome = Warner::build(&dir).run(&[("DIME_DEBUG", "version")]);
    let lines: Vec<&str> = outcome.stdout.lines().filter(|line| line.contains("DIME ")).collect();
    assert_eq!(lines.len(), 1, "{outcome}");
    assert!(lines[0].contains(env!("CARGO_PKG_VERSION")), "{outcome}");
    assert!(!lines[0].contains("ERROR") && !lines[0].contains("WARN"), "{outcome}");
}

#[test]
fn the_level_of_nccl_counts_when_there_is_none_of_ours() {
    let warner = Warner::build(&work_dir("logging/nccl-debug"));
    for name in ["WARN", "warn", "Warn"] {
        let levels = warner.levels(&[("NCCL_DEBUG", name)]);
        assert!(has(&levels, "WARN") && !has(&levels, "INFO"), "NCCL_DEBUG={name}: {levels:?}");
    }
    let levels = warner.levels(&[("NCCL_DEBUG", "INFO")]);
    assert!(has(&levels, "INFO"), "{levels:?}");
    let levels = warner.levels(&[("NCCL_DEBUG", "INFO"), ("DIME_DEBUG", "warn")]);
    assert!(has(&levels, "WARN") && !has(&levels, "INFO"), "{levels:?}");
    assert!(warner.levels(&[("NCCL_DEBUG", "INFO"), ("DIME_DEBUG", "none")]).is_empty());
    assert!(has(&warner.levels(&[("NCCL_DEBUG", "VERSION"), ("DIME_DEBUG", "info")]), "INFO"));
}

#[test]
fn a_line_names_host_process_thread_and_device() {
    let dir = work_dir("logging/format");
    let fake = fake_nccl(dir.join("real"), "2.27.7");
    let outcome = Program::new(build_report(&dir))
        .arg(dime_lib())
        .env("DIME_NCCL_LIB", &fake)
        .env("DIME_DEBUG", "info")
        .succeeds();
    let lines = LogLine::all(&outcome.stdout);
    assert!(!lines.is_empty(), "{outcome}");
    let host = tool("uname", ["-n"]);
    let host = host.trim().split('.').next().expect("a host's name");
    for line in &lines {
        assert_eq!(line.host, host);
        assert_eq!(line.pid.to_string(), outcome.value("pid"));
        // The calls come from the first thread, whose id is the process's.
        assert_eq!(line.tid, line.pid);
        assert_eq!(line.device, -1, "no device is known");
        assert!(!line.text.is_empty());
    }
    // The most useful line of all: what stands in front of what.
    let named =
        lines.iter().any(|line| line.text.contains(&fake.display().to_string()) && line.text.contains("2.27.7"));
    assert!(named, "no line names the library that is used: {outcome}");
    assert_eq!(outcome.stderr, "", "the log goes where NCCL's goes, to standard output");
}

#[test]
fn every_line_of_a_message_of_many_lines_has_the_format() {
    let dir = work_dir("logging/many-lines");
    let outcome = Program::new(build_report(&dir))
        .arg(dime_lib())
        .env("DIME_DEBUG", "trace")
        .env("DIME_NCCL_LIB", "/nonexistent")
        .succeeds();
    // Everything before the program's own first line is the log.
    let log = outcome.stdout.split("pid=").next().unwrap_or("");
    for line in log.lines() {
        assert!(LogLine::parse(line).is_some(), "{line:?} in {outcome}");
    }
}

#[test]
fn a_log_file_is_named_by_host_and_process_and_takes_all_lines() {
    let dir = work_dir("logging/file");
    let logs = dir.join("logs");
    std::fs::create_dir_all(&logs).expect("a directory");
    let fake = fake_nccl(dir.join("real"), "2.27.7");
    let program = build_report(&dir);
    let host = tool("uname", ["-n"]);
    let host = host.trim().split('.').next().expect("a host's name").to_string();
    let mut names = Vec::new();
    for _ in 0..2 {
        let outcome = Program::new(&program)
            .arg(dime_lib())
            .env("DIME_NCCL_LIB", &fake)
            .env("DIME_DEBUG", "info")
            .env("DIME_DEBUG_FILE", logs.join("dime.%h.%p.log"))
            .succeeds();
        assert!(!outcome.all().contains("DIME "), "the streams are the program's: {outcome}");
        let name = format!("dime.{host}.{}.log", outcome.value("pid"));
        let text = std::fs::read_to_string(logs.join(&name)).unwrap_or_else(|_| panic!("no file {name}"));
        assert!(text.ends_with('\n'));
        let lines = LogLine::all(&text);
        assert_eq!(lines.len(), text.lines().count(), "{text}");
        assert!(!lines.is_empty());
        assert!(lines.iter().all(|line| line.pid.to_string() == outcome.value("pid")));
        names.push(name);
    }
    assert_eq!(std::fs::read_dir(&logs).expect("the logs").count(), 2, "{names:?}");
}

#[test]
fn a_log_file_is_appended_to_and_made_only_when_there_is_something_to_say() {
    let dir = work_dir("logging/append");
    let fake = fake_nccl(dir.join("real"), "2.27.7");
    let program = build_report(&dir);
    let log = dir.join("log");
    let run = |level: &str| {
        Program::new(&program)
            .arg(dime_lib())
            .env("DIME_NCCL_LIB", &fake)
            .env("DIME_DEBUG", level)
            .env("DIME_DEBUG_FILE", &log)
            .succeeds()
    };
    run("error");
    assert!(!log.exists(), "nothing was said");
    run("info");
    let first = std::fs::read_to_string(&log).expect("the log");
    run("info");
    let both = std::fs::read_to_string(&log).expect("the log");
    assert!(both.starts_with(&first) && both.len() > first.len());
}

#[test]
fn a_log_file_that_cannot_be_opened_costs_no_line() {
    let dir = work_dir("logging/unopenable");
    let fake = fake_nccl(dir.join("real"), "2.27.7");
    let outcome = Program::new(build_report(&dir))
        .arg(dime_lib())
        .env("DIME_NCCL_LIB", &fake)
        .env("DIME_DEBUG", "info")
        .env("DIME_DEBUG_FILE", dir.join("no/such/directory/log"))
        .succeeds();
    assert!(LogLine::all(&outcome.all()).iter().any(|line| line.level == "INFO"), "{outcome}");
}

#[test]
fn lines_of_many_threads_and_processes_do_not_mix() {
    let dir = work_dir("logging/threads");
    let fake = Fake::old(Release(2, 18, 3)).build(dir.join("old/libnccl.so.2"));
    let program = Cc::c().arg(test_file("c/warn_from_threads.c")).args(["-pthread", "-ldl"]).build(dir.join("threads"));
    let log = dir.join("log");
    Program::new(program)
        .arg(dime_lib())
        .env("DIME_NCCL_LIB", &fake)
        .env("DIME_DEBUG", "warn")
        .env("DIME_DEBUG_FILE", &log)
        .succeeds();
    let text = std::fs::read_to_string(&log).expect("the log");
    let lines = LogLine::all(&text);
    assert_eq!(lines.len(), text.lines().count(), "{text}");
    let processes: std::collections::BTreeSet<u32> = lines.iter().map(|line| line.pid).collect();
    assert_eq!(processes.len(), 8, "{text}");
    for line in &lines {
        assert!(line.text.ends_with("is 2.18.3") || line.text.ends_with("is 2.18"), "{line:?}");
        assert_ne!(line.tid, line.pid, "the calls come from threads: {line:?}");
    }
}

//! The log, seen from outside: what is said at which level, where it goes, and how a line looks.

use crate::support::fake::Fake;
use crate::support::log_line::LogLine;
use crate::support::places::{build_report, fake_nccl};
use crate::support::{Cc, Outcome, Program, Release, dime_lib, real_releases, test_file, tool, work_dir};
use std::path::{Path, PathBuf};

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

/// A program that makes libdime.so and an NCCL log.
struct Beside {
    program: PathBuf,
    nccl: PathBuf,
}

impl Beside {
    fn build(dir: &Path) -> Beside {
        let nccl = Cc::c().shared("libnccl.so.2").arg(test_file("c/logging_nccl.c"));
        Beside {
            program: Cc::c().arg(test_file("c/log_beside.c")).args(["-pthread", "-ldl"]).build(dir.join("log_beside")),
            nccl: nccl.arg("-pthread").build(dir.join("nccl/libnccl.so.2")),
        }
    }

    fn run(&self, steps: &str, settings: &[(&str, &str)]) -> Outcome {
        let program = Program::new(&self.program).arg(dime_lib()).arg(steps).env("DIME_NCCL_LIB", &self.nccl);
        settings.iter().fold(program, |program, (name, value)| program.env(name, value)).succeeds()
    }
}

/// The lines of a log file, each of which is whole: ours of a level, and how many are of NCCL.
fn counted(text: &str, level: &str) -> (usize, usize) {
    let is_of_nccl = |line: &&str| line.contains("NCCL ") && !line.contains("] DIME ") || line.is_empty();
    let ours: Vec<LogLine> = LogLine::all(text).into_iter().filter(|line| line.level == level).collect();
    let nccls = text.lines().filter(is_of_nccl).count();
    assert_eq!(LogLine::all(text).len() + nccls, text.lines().count(), "a line is broken: {text}");
    (ours.len(), nccls)
}

#[test]
fn the_file_of_nccl_takes_our_lines_too_and_none_of_either_is_lost() {
    let dir = work_dir("logging/nccl-file");
    let beside = Beside::build(&dir);
    for (index, (steps, ours, nccls)) in [
        ("d", 1, 0),
        ("dn", 1, 1),
        ("nd", 1, 1),
        ("di", 1, 1),
        // With a communicator the lines before are safe, and with the next line.
        ("ddix", 2, 1),
        ("ddndx", 3, 1),
        ("dndnidddnnd", 6, 5),
        ("b", 200, 200),
        ("dbd", 202, 200),
        ("bdin", 201, 202),
    ]
    .into_iter()
    .enumerate()
    {
        let log = dir.join(format!("{index}.log"));
        // NCCL empties the file, so what was there is no part of it.
        let before = if nccls > 0 { "from an earlier run\n".repeat(1000) } else { String::new() };
        std::fs::write(&log, before).expect("a file");
        let settings = [("NCCL_DEBUG", "TRACE"), ("NCCL_DEBUG_FILE", log.to_str().expect("a path"))];
        let outcome = beside.run(steps, &settings);
        assert_eq!(outcome.all(), "", "the streams are the program's");
        let text = std::fs::read_to_string(&log).expect("the log");
        assert_eq!(counted(&text, "TRACE"), (ours, nccls), "{steps}: {text}");
        assert_eq!(counted(&text, "INFO").0, 2, "{steps}: the library and the communicator are named: {text}");
        let numbers = text.lines().filter(|line| line.contains("] NCCL INFO ")).map(|line| line.rsplit(' ').next());
        let expected = (1..=nccls).map(|number| number.to_string()).collect::<Vec<_>>();
        assert!(numbers.eq(expected.iter().map(|number| Some(number.as_str()))), "{steps}: {text}");
    }
}

#[test]
fn a_file_of_our_own_wins_over_that_of_nccl() {
    let dir = work_dir("logging/own-file");
    let (ours, nccls) = (dir.join("dime.log"), dir.join("nccl.%h.%p.%x"));
    let outcome = Beside::build(&dir).run(
        "dnd",
        &[
            ("NCCL_DEBUG", "TRACE"),
            ("NCCL_DEBUG_FILE", nccls.to_str().expect("a path")),
            ("DIME_DEBUG_FILE", ours.to_str().expect("a path")),
        ],
    );
    assert_eq!(outcome.all(), "", "the streams are the program's");
    assert_eq!(counted(&std::fs::read_to_string(&ours).expect("the log"), "TRACE"), (2, 0));
}

#[test]
fn the_file_of_nccl_is_named_by_host_and_process_whatever_asks_for_our_lines() {
    let dir = work_dir("logging/nccl-file-name");
    let fake = fake_nccl(dir.join("real"), "2.27.7");
    let host = tool("uname", ["-n"]);
    let host = host.trim().split('.').next().expect("a host's name").to_string();
    let program = build_report(&dir);
    for level in ["DIME_DEBUG", "NCCL_DEBUG"] {
        let outcome = Program::new(&program)
            .arg(dime_lib())
            .env("DIME_NCCL_LIB", &fake)
            .env(level, "info")
            .env("NCCL_DEBUG_FILE", dir.join("%h-%p-%%-%x"))
            .succeeds();
        assert!(!outcome.all().contains("DIME "), "the streams are the program's: {outcome}");
        let file = dir.join(format!("{host}-{}-%-%x", outcome.value("pid")));
        let text = std::fs::read_to_string(&file).unwrap_or_else(|_| panic!("no file {}", file.display()));
        assert!(counted(&text, "INFO").0 > 0, "{text}");
    }
}

#[test]
fn a_file_of_nccl_that_cannot_be_opened_costs_no_line() {
    let dir = work_dir("logging/nccl-file-unopenable");
    let path = dir.join("no/such\ndirectory/log");
    let outcome =
        Beside::build(&dir).run("dn", &[("NCCL_DEBUG", "INFO"), ("NCCL_DEBUG_FILE", path.to_str().expect("a path"))]);
    let (warnings, nccls) = counted(&outcome.stdout, "WARN");
    assert_eq!((warnings, nccls), (1, 1), "it says why: {outcome}");
    assert!(outcome.stdout.contains("WARN NCCL_DEBUG_FILE: "), "{outcome}");
}

#[test]
fn real_releases_of_nccl_lose_no_line_and_take_none_of_ours() {
    let dir = work_dir("logging/real");
    let program = Beside::build(&dir).program;
    for nccl in real_releases() {
        let run = |library: &Path, name: &str| {
            let log = dir.join(format!("{}-{name}.log", nccl.release));
            let program = Program::new(&program).arg(library).arg("ciic").env("DIME_NCCL_LIB", nccl.library());
            let settled = program.env("NCCL_DEBUG", "INFO").env("NCCL_DEBUG_FILE", &log);
            let outcome = settled.env("NCCL_SOCKET_IFNAME", "lo").succeeds();
            assert!(!outcome.all().contains("DIME "), "{outcome}");
            std::fs::read_to_string(&log).unwrap_or_else(|_| panic!("no log: {outcome}"))
        };
        let (alone, beside) = (run(&nccl.library(), "alone"), run(&dime_lib(), "beside"));
        // Before and behind what makes a communicator. Some of its other lines do not come each time.
        let warnings = |text: &str| text.matches(" NCCL WARN ").count();
        assert!(warnings(&alone) >= 2, "NCCL {}: {alone}", nccl.release);
        assert_eq!(warnings(&beside), warnings(&alone), "NCCL {}: {beside}", nccl.release);
        assert!(counted(&beside, "INFO").0 > 0, "NCCL {}: {beside}", nccl.release);
    }
}

#[test]
fn a_level_that_cannot_be_is_reported_whatever_the_level_is() {
    let warner = Warner::build(&work_dir("logging/bad-level"));
    for value in ["debug", "2", "warn,info"] {
        for nccls in [None, Some("VERSION"), Some("INFO"), Some("NONE")] {
            let mut settings = vec![("DIME_DEBUG", value)];
            settings.extend(nccls.map(|level| ("NCCL_DEBUG", level)));
            let outcome = warner.run(&settings);
            let errors: Vec<LogLine> =
                LogLine::all(&outcome.stdout).into_iter().filter(|line| line.level == "ERROR").collect();
            assert!(
                matches!(errors.as_slice(), [line] if line.text.contains("DIME_DEBUG") && line.text.contains(value)),
                "{settings:?}: {outcome}"
            );
        }
    }
}

#[test]
fn a_path_with_the_end_of_a_line_makes_no_line_of_its_own() {
    let dir = work_dir("logging/control-characters");
    let outcome = Program::new(build_report(&dir))
        .arg(dime_lib())
        .env("DIME_DEBUG", "trace")
        .env("DIME_NCCL_LIB", "/nonexistent\nvm:1:1 [0] DIME ERROR not ours\r\x1b[2J/libnccl.so.2")
        .succeeds();
    let log = outcome.stdout.split("pid=").next().unwrap_or("");
    assert!(log.contains("\\nvm:1:1") && log.contains("\\r\\u{1b}[2J"), "{outcome}");
    for line in log.lines() {
        assert_ne!(LogLine::parse(line).unwrap_or_else(|| panic!("{line:?}")).pid, 1, "{outcome}");
    }
    assert!(!log.contains(['\r', '\x1b']), "{outcome}");
}

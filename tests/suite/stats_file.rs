//! DIME_STATS_FILE: who writes the counters at the end of a process, where, and what they say.

use crate::support::log_line::LogLine;
use crate::support::places::fake_nccl;
use crate::support::{Cc, Outcome, Program, dime_lib, test_file, tool, work_dir};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// How a process ends that is killed by SIGTERM.
const BY_SIGTERM: i32 = -15;

struct Setting {
    program: PathBuf,
    fake: PathBuf,
    /// Empty at first.
    files: PathBuf,
}

impl Setting {
    fn build(name: &str) -> Setting {
        let dir = work_dir(&format!("stats_file/{name}"));
        let files = dir.join("files");
        std::fs::create_dir(&files).expect("a directory");
        let program = Cc::c().arg(test_file("c/exits.c")).arg("-ldl").build(dir.join("exits"));
        Setting { program, fake: fake_nccl(dir.join("real"), "2.27.7"), files }
    }

    /// Does the actions of tests/c/exits.c with the file of this name asked for.
    fn program(&self, file: &str, actions: &[&str]) -> Program {
        Program::new(&self.program)
            .arg(dime_lib())
            .args(actions)
            .env("DIME_NCCL_LIB", &self.fake)
            .env("DIME_DEBUG", "warn")
            .env("DIME_STATS_FILE", self.files.join(file))
    }

    fn run(&self, file: &str, actions: &[&str]) -> Outcome {
        let outcome = self.program(file, actions).succeeds();
        assert!(!outcome.all().contains("DIME "), "there is nothing to warn of: {outcome}");
        outcome
    }

    /// What was written, by file name.
    fn written(&self) -> BTreeMap<String, String> {
        let entries = std::fs::read_dir(&self.files).expect("the directory").flatten();
        let name = |path: &Path| path.file_name().expect("a name").to_string_lossy().into_owned();
        entries.map(|entry| (name(&entry.path()), std::fs::read_to_string(entry.path()).expect("text"))).collect()
    }
}

fn host() -> String {
    let name = tool("uname", ["-n"]);
    name.trim().split('.').next().expect("a host's name").to_owned()
}

/// The file of a process that did so many all-reduces, all of them forwarded for this reason.
fn forwarded(process: &str, times: usize, reason: &str) -> String {
    let (version, host) = (env!("CARGO_PKG_VERSION"), host());
    format!("# Dime {version}, host {host}, process {process}\nfast 0\nforwarded {times}\nforward_{reason} {times}\n")
}

#[test]
fn the_counters_are_written_at_exit_over_what_was_there() {
    let setting = Setting::build("exit");
    std::fs::write(setting.files.join("stats.txt"), "something long ".repeat(100)).expect("a file");
    let outcome = setting.run("stats.txt", &["all-reduce", "all-reduce", "all-reduce"]);
    let expected = forwarded(outcome.value("pid"), 3, "one_rank");
    assert_eq!(setting.written(), BTreeMap::from([("stats.txt".to_owned(), expected)]));
}

#[test]
fn host_and_process_are_filled_into_the_name() {
    let setting = Setting::build("name");
    let names = [(); 2].map(|()| {
        let outcome = setting.run("%h.%p.%%", &["all-reduce"]);
        format!("{}.{}.%", host(), outcome.value("pid"))
    });
    assert_eq!(setting.written().into_keys().collect::<Vec<_>>(), {
        let mut names = names.to_vec();
        names.sort();
        names
    });
}

#[test]
fn a_process_without_an_all_reduce_or_that_does_not_exit_writes_nothing() {
    let setting = Setting::build("nothing");
    setting.run("stats.txt", &[]);
    setting.run("stats.txt", &["all-reduce", "_exit"]);
    let killed = setting.program("stats.txt", &["all-reduce", "kill"]).run();
    assert_eq!(killed.code, BY_SIGTERM, "{killed}");
    assert_eq!(setting.written(), BTreeMap::new());
}

#[test]
fn without_the_variable_nothing_is_registered() {
    let setting = Setting::build("unset");
    // A handler at the end of the process would look up the name of the host.
    let trace = |file: &str| {
        let trace = setting.files.with_file_name("trace");
        let program = Program::new("strace").args(["-f", "-qq", "-o"]).arg(&trace).arg(&setting.program);
        let program = program.arg(dime_lib()).arg("all-reduce").env("DIME_NCCL_LIB", &setting.fake);
        program.env("DIME_STATS_FILE", if file.is_empty() { "".into() } else { setting.files.join(file) }).succeeds();
        std::fs::read_to_string(trace).expect("the trace")
    };
    assert!(!trace("").contains("/proc/sys/kernel/hostname"));
    assert_eq!(setting.written(), BTreeMap::new());
    // The check notices what it is for.
    assert!(trace("stats.txt").contains("/proc/sys/kernel/hostname"));
}

#[test]
fn a_file_of_one_name_stays_the_process_s_that_forked() {
    let setting = Setting::build("fork-one-name");
    // The child outlives nothing: it ends before its parent, and then the file must not be there.
    let outcome = setting.run("stats.txt", &["all-reduce", "fork", "all-reduce", "join", "_exit"]);
    assert_eq!(setting.written(), BTreeMap::new(), "{outcome}");
    let outcome = setting.run("stats.txt", &["all-reduce", "fork", "all-reduce", "join", "all-reduce"]);
    let expected = forwarded(outcome.value("pid"), 2, "one_rank");
    assert_eq!(setting.written(), BTreeMap::from([("stats.txt".to_owned(), expected)]));
}

#[test]
fn a_child_of_fork_with_a_name_of_its_own_writes_what_it_did_itself() {
    let setting = Setting::build("fork-own-name");
    // The first child does nothing, the second something.
    let actions = ["all-reduce", "fork", "join", "fork", "all-reduce", "all-reduce", "join", "all-reduce"];
    let outcome = setting.run("%p", &actions);
    let children: Vec<&str> = outcome.stdout.lines().filter_map(|line| line.strip_prefix("child=")).collect();
    assert_eq!(children.len(), 2, "{outcome}");
    let (parent, busy) = (outcome.value("pid").to_owned(), children[1].to_owned());
    let expected = [
        (parent.clone(), forwarded(&parent, 2, "one_rank")),
        // The communicator is its parent's.
        (busy.clone(), forwarded(&busy, 2, "forked")),
    ];
    assert_eq!(setting.written(), BTreeMap::from(expected));
}

#[test]
fn a_child_whose_parent_did_nothing_writes_as_any_process() {
    let setting = Setting::build("fork-first");
    let outcome = setting.run("stats.txt", &["fork", "all-reduce", "join"]);
    let expected = forwarded(outcome.value("child"), 1, "one_rank");
    assert_eq!(setting.written(), BTreeMap::from([("stats.txt".to_owned(), expected)]));
}

#[test]
fn a_program_that_the_process_becomes_starts_anew() {
    let setting = Setting::build("exec");
    let outcome = setting.run("stats.txt", &["all-reduce", "all-reduce", "exec", "all-reduce"]);
    let expected = forwarded(outcome.value("pid"), 1, "one_rank");
    assert_eq!(setting.written(), BTreeMap::from([("stats.txt".to_owned(), expected)]));
}

#[test]
fn a_file_that_cannot_be_opened_is_one_warning_that_names_it() {
    let setting = Setting::build("unopenable");
    let outcome = setting.program("no/such/directory", &["all-reduce"]).succeeds();
    let lines = LogLine::all(&outcome.all());
    let path = setting.files.join("no/such/directory");
    let expected = format!("DIME_STATS_FILE: {} cannot be written (No such file or directory", path.display());
    assert!(lines.len() == 1 && lines[0].level == "WARN" && lines[0].text.starts_with(&expected), "{outcome}");
}

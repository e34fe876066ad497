//! The command-line tools `dime` and `dime-qa` as a shell sees them: what `dime run` starts and what it refuses, exit codes, output
//! that nobody reads, and the values that options take.

use crate::support::places::{build_report, fake_nccl, other_library};
use crate::support::sim::simulated;
use crate::support::{Cc, Outcome, Program, dime_lib, test_file, tool_path, work_dir, write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn dime() -> Program {
    Program::new(tool_path("dime"))
}

fn qa() -> Program {
    Program::new(tool_path("dime-qa"))
}

fn run() -> Program {
    dime().arg("run").arg("--dime").arg(dime_lib())
}

/// Fails unless the tool refuses with this exit code and one sentence, which has all the words.
fn assert_refused(outcome: &Outcome, code: i32, words: &[&str]) {
    assert_eq!(outcome.code, code, "{outcome}");
    assert_eq!(outcome.stdout, "", "nothing was to be started: {outcome}");
    assert!(outcome.stderr.starts_with("dime: ") && outcome.stderr.lines().count() == 1, "{outcome}");
    for word in words {
        assert!(outcome.stderr.contains(word), "no {word:?} in {outcome}");
    }
}

/// An environment of Python: the program as its interpreter, and a fake NCCL among its packages.
fn environment(prefix: PathBuf, program: &Path, release: &str) -> PathBuf {
    fake_nccl(prefix.join("lib/python3.12/site-packages/nvidia/nccl/lib"), release);
    write(prefix.join("pyvenv.cfg"), "");
    let python = prefix.join("bin/python3");
    std::fs::create_dir_all(prefix.join("bin")).expect("a directory");
    std::fs::copy(program, &python).expect("a copy of the program");
    python
}

#[test]
fn run_starts_the_program_with_the_nccl_that_a_preload_would_find() {
    // NVIDIA/nccl#1180, pytorch/pytorch#119072: the environment on the PATH is not that of the program.
    let dir = work_dir("tool/same-search");
    let program = Cc::c()
        .args(["-DPROGRAM", "-DFUNCTION=version"])
        .arg(test_file("c/asks_loader.c"))
        .arg("-ldl")
        .build(dir.join("asks"));
    let new = environment(dir.join("new"), &program, "2.28.9");
    environment(dir.join("old"), &program, "2.18.3");
    let of_path = fake_nccl(dir.join("in-path"), "2.29.7");
    let path = format!("{}:/usr/bin:/bin", dir.join("old/bin").display());
    for (variable, value) in [
        ("UNUSED", dir.clone()),
        ("LD_LIBRARY_PATH", of_path.parent().expect("a directory").to_path_buf()),
        ("CONDA_PREFIX", dir.join("old")),
        ("VIRTUAL_ENV", dir.join("old")),
    ] {
        let settings = |program: Program| program.env("PATH", &path).env(variable, &value);
        let preloaded = settings(Program::new(&new).env("LD_PRELOAD", dime_lib())).succeeds();
        let started = settings(run().arg("--").arg(&new)).succeeds();
        assert_eq!(started.value("version"), preloaded.value("version"), "{variable}: {started}");
        let expected = if variable == "LD_LIBRARY_PATH" { "22907" } else { "22809" };
        assert_eq!(started.value("version"), expected, "{variable}");
    }
}

#[test]
fn run_starts_no_interpreter_and_runs_no_file_of_the_current_folder() {
    let dir = work_dir("tool/no-interpreter");
    let ran = dir.join("ran");
    write(dir.join("nvidia/nccl/__init__.py"), format!("open({:?}, 'w')\n", ran.display().to_string()));
    let python = write(dir.join("bin/python3"), format!("#!/bin/sh\necho run > {}\n", ran.display()));
    std::fs::set_permissions(python, std::fs::Permissions::from_mode(0o755)).expect("an executable script");
    let path = format!("{}:/usr/bin:/bin", dir.join("bin").display());
    run().args(["--", "true"]).env("PATH", &path).current_dir(&dir).succeeds();
    // Nor do the commands that need an NCCL.
    let outcome = qa().arg("forwards").env("PATH", &path).current_dir(&dir).run();
    assert_eq!(outcome.code, 2, "{outcome}");
    assert!(!ran.exists(), "an interpreter was started");
}

#[test]
fn run_pins_nothing_but_what_it_is_told() {
    let dir = work_dir("tool/pins");
    let fake = fake_nccl(dir.join("fake"), "2.27.7");
    let show = ["--", "sh", "-c", "echo nccl=$DIME_NCCL_LIB; echo preload=$LD_PRELOAD; echo vllm=$VLLM_NCCL_SO_PATH"];
    let environment = dir.join("environment");
    fake_nccl(environment.join("lib/python3.12/site-packages/nvidia/nccl/lib"), "2.18.3");
    let outcome = run().args(show).env("CONDA_PREFIX", environment).succeeds();
    assert_eq!(outcome.value("nccl"), "", "{outcome}");
    assert_eq!(Path::new(outcome.value("preload")), dime_lib());
    assert_eq!(Path::new(outcome.value("vllm")), dime_lib());
    let outcome = run().arg("--nccl").arg(&fake).args(show).succeeds();
    assert_eq!(Path::new(outcome.value("nccl")), fake, "{outcome}");
    // The variable goes through as it is: libdime.so in the program judges it.
    let outcome = run().args(show).env("DIME_NCCL_LIB", "/nonexistent").succeeds();
    assert_eq!(outcome.value("nccl"), "/nonexistent", "{outcome}");
}

#[test]
fn commands_that_need_an_nccl_say_where_libdime_so_looked() {
    let dir = work_dir("tool/search");
    let outcome = qa().arg("forwards").env("LD_LIBRARY_PATH", &dir).run();
    assert_eq!(outcome.code, 2, "{outcome}");
    assert_eq!(outcome.stdout, "", "{outcome}");
    for words in [&format!("LD_LIBRARY_PATH ({}): nothing there", dir.display()), "Set DIME_NCCL_LIB", "--nccl PATH"] {
        assert!(outcome.stderr.contains(words), "no {words:?} in {outcome}");
    }
    // What it finds is what the library finds.
    let fake = fake_nccl(&dir, "2.27.7");
    let outcome = qa().arg("forwards").env("LD_LIBRARY_PATH", &dir).run();
    assert!(!outcome.stderr.contains("nothing there"), "{} was not found: {outcome}", fake.display());
}

#[test]
fn run_refuses_a_path_that_the_loader_would_not_take_for_one() {
    let dir = work_dir("tool/loader-list");
    for (name, what) in [("a space", "a space"), ("a:colon", "a colon"), ("a$ORIGIN", "a dollar sign")] {
        let library = dir.join(name).join("libdime.so");
        std::fs::create_dir_all(dir.join(name)).expect("a directory");
        std::fs::copy(dime_lib(), &library).expect("a copy of libdime.so");
        let outcome = dime().arg("run").arg("--dime").arg(&library).args(["--", "echo", "ran"]).run();
        assert_refused(&outcome, 2, &[&library.display().to_string(), what, "ln -s", "--dime PATH"]);
        // The way out that the message names.
        let link = dir.join(what.replace(' ', "-")).with_extension("so");
        symlink(&library, &link).expect("a symlink");
        let outcome = dime()
            .arg("run")
            .arg("--dime")
            .arg(&link)
            .args(["--", "sh", "-c", "grep -c libdime.so /proc/self/maps >/dev/null && echo in=yes"])
            .succeeds();
        assert_eq!(outcome.value("in"), "yes", "{outcome}");
        assert_eq!(outcome.stderr, "", "{outcome}");
    }
}

/// A copy of a library that claims another processor.
fn foreign_library(path: PathBuf) -> PathBuf {
    let mut bytes = std::fs::read(dime_lib()).expect("libdime.so");
    const E_MACHINE_OFFSET: usize = 18;
    bytes[E_MACHINE_OFFSET] = if bytes[E_MACHINE_OFFSET] == 62 { 183 } else { 62 };
    write(path, bytes)
}

/// Files that are neither libdime.so nor an NCCL, and what is to be said of each.
fn useless_files(dir: &Path) -> Vec<(PathBuf, &'static str)> {
    let truncated = std::fs::read(dime_lib()).expect("libdime.so")[..5000].to_vec();
    let dies = write(
        dir.join("dies.c"),
        "#include <stdlib.h>\n__attribute__((constructor)) static void end(void) { abort(); }\n",
    );
    vec![
        (dir.join("missing.so"), "no such file"),
        (dir.to_path_buf(), "is a directory"),
        ("/etc/passwd".into(), "is not a shared library"),
        ("/dev/null".into(), "is not a file"),
        (write(dir.join("empty.so"), ""), "is not a shared library"),
        (write(dir.join("truncated.so"), truncated), "dies of signal 7"),
        (foreign_library(dir.join("foreign.so")), "is built for"),
        (Cc::c().shared("dies.so").arg(dies).build(dir.join("dies.so")), "dies of signal 6"),
    ]
}

#[test]
fn run_refuses_a_libdime_so_that_is_none() {
    let dir = work_dir("tool/bad-dime");
    let mut cases = useless_files(&dir);
    cases.push((other_library(dir.join("other.so")), "it has no dimeVersion"));
    cases.push((fake_nccl(dir.join("nccl"), "2.27.7"), "it has no dimeVersion"));
    for (file, words) in cases {
        let outcome = dime().arg("run").arg("--dime").arg(&file).args(["--", "echo", "ran"]).run();
        assert_refused(
            &outcome,
            2,
            &[&format!("dime: {}: ", file.display()), words, "name libdime.so with --dime PATH"],
        );
    }
}

#[test]
fn run_refuses_an_nccl_that_is_none() {
    let dir = work_dir("tool/bad-nccl");
    let mut cases = useless_files(&dir);
    let copy = dir.join("copy.so");
    std::fs::copy(dime_lib(), &copy).expect("a copy of libdime.so");
    let half =
        write(dir.join("half.c"), "int ncclGetVersion(int *v);\nint ncclGetVersion(int *v) { return *v = 0; }\n");
    cases.push((Cc::c().shared("half.so").arg(half).build(dir.join("half.so")), "it has no ncclGetUniqueId"));
    cases.push((other_library(dir.join("other.so")), "it has no ncclGetVersion"));
    cases.push((dime_lib(), "is Dime itself"));
    cases.push((copy, "is a copy of Dime"));
    for (file, words) in cases {
        let outcome = run().arg("--nccl").arg(&file).args(["--", "echo", "ran"]).run();
        let name = format!("dime: {}: ", file.display());
        assert_refused(&outcome, 2, &[&name, words, "name a libnccl.so.2 with --nccl PATH"]);
    }
}

#[test]
fn run_refuses_what_cannot_be_read() {
    // The superuser reads everything, so this takes another user's rights where it can.
    let dir = work_dir("tool/unreadable");
    let library = dir.join("libdime.so");
    std::fs::copy(dime_lib(), &library).expect("a copy of libdime.so");
    std::fs::set_permissions(&library, std::fs::Permissions::from_mode(0o000)).expect("its permissions");
    let tool = dir.join("dime");
    std::fs::copy(tool_path("dime"), &tool).expect("a copy of the tool");
    for (option, way_out) in [("--dime", "--dime PATH"), ("--nccl", "--nccl PATH")] {
        // SAFETY: asks for a number.
        let program = if unsafe { libc::geteuid() } == 0 {
            Program::new("setpriv")
                .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"])
                .arg(&tool)
        } else {
            Program::new(&tool)
        };
        let program = program.arg("run");
        let program = if option == "--nccl" { program.arg("--dime").arg(dime_lib()) } else { program };
        let outcome = program.arg(option).arg(&library).args(["--", "echo", "ran"]).run();
        assert_refused(&outcome, 2, &["cannot be read: Permission denied", way_out]);
    }
}

#[test]
fn run_ends_as_a_shell_does_when_the_program_cannot_be_started() {
    let dir = work_dir("tool/exit-codes");
    let text = write(dir.join("text"), "no program\n");
    for (program, code) in
        [(PathBuf::from("no-such-program-anywhere"), 127), (dir.join("missing"), 127), (text, 126), (dir.clone(), 126)]
    {
        let outcome = run().arg("--").arg(&program).run();
        assert_refused(&outcome, code, &[&format!("cannot start {}", program.display())]);
    }
    // The program's own exit code goes through.
    assert_eq!(run().args(["--", "sh", "-c", "exit 42"]).run().code, 42);
}

#[test]
fn output_that_nobody_reads_ends_the_tool_without_a_word() {
    for command in [
        &["dime", "devices"][..],
        &["dime", "devices", "--count"],
        &["dime", "--help"],
        &["dime", "bench", "--help"],
        &["dime", "--version"],
        &["dime-qa", "--help"],
        &["dime-qa", "check", "--help"],
        &["dime-qa", "--version"],
    ] {
        let outcome = sh("\"$@\" | true; echo ${PIPESTATUS[0]}", command);
        assert_eq!(outcome.stderr, "", "{outcome}");
        // Either the reader was still there, or it ended by SIGPIPE.
        assert!(["0\n", "141\n"].contains(&outcome.stdout.as_str()), "{outcome}");
    }
}

#[test]
fn output_to_a_closed_pipe_ends_by_sigpipe() {
    for command in [&["dime", "devices"][..], &["dime", "--help"], &["dime-qa", "--help"], &["dime-qa", "forwards"]] {
        // The reader is gone before the tool starts.
        let outcome = sh("{ sleep 0.3; \"$@\"; echo $? >&2; } | true", command);
        assert_eq!(outcome.stderr, "141\n", "{outcome}");
    }
}

#[test]
fn output_to_a_full_disk_is_an_error() {
    for command in [
        &["dime", "devices"][..],
        &["dime", "devices", "--short"],
        &["dime", "--help"],
        &["dime", "--version"],
        &["dime-qa", "--help"],
        &["dime-qa", "--version"],
        &["dime-qa", "forwards"],
    ] {
        let outcome = sh("\"$@\" > /dev/full", command);
        assert_eq!(outcome.code, 2, "{outcome}");
        assert_eq!(
            outcome.stderr,
            format!("{}: cannot write the output: No space left on device (os error 28)\n", command[0]),
            "{outcome}"
        );
    }
    // Standard error that cannot be written is no reason to fail.
    assert_eq!(sh("\"$@\" 2> /dev/full", &["dime", "devices"]).code, 0);
    assert_eq!(sh("\"$@\" 2> /dev/full", &["dime", "run", "--dime", "/nonexistent", "true"]).code, 2);
}

/// Runs a line of bash with a tool and its arguments as "$@", on the simulated node.
fn sh(line: &str, command: &[&str]) -> Outcome {
    simulated("bash")
        .args(["-c", line, "bash"])
        .arg(tool_path(command[0]))
        .args(&command[1..])
        .env("DIME_SIM_DEVICES", "2")
        .env("DIME_DEBUG", "none")
        .limit_s(120)
        .run()
}

#[test]
fn counts_for_which_zero_has_no_meaning_are_refused_by_name_and_value() {
    for (command, option, value) in [
        ("leak", "--cycles", "0"),
        ("leak", "--cycles", "6"),
        ("leak", "--seconds", "0"),
        ("bench", "--repeat", "0"),
        ("bench", "--limit", "0"),
        ("bench", "--gpus", "0"),
        ("bench", "--gpus", "1"),
        ("bench", "--bytes", "0"),
        ("soak", "--seconds", "0"),
        ("soak", "--wait-limit", "0"),
        ("soak", "--streams", "0"),
        ("soak", "--usual-bytes", "0"),
        ("soak", "--max-bytes", "0"),
        ("check", "--seconds", "0"),
        ("check", "--wait-limit", "0"),
        ("check", "--batch", "0"),
        ("check", "--cases", "0"),
        ("check", "--ranks", "0"),
        ("check", "--ranks", "1"),
        ("check", "--max-bytes", "0"),
        ("check", "--bytes", "0"),
        ("check", "--around", "0"),
        ("fingerprint", "--ranks", "0"),
        ("fingerprint", "--wait-limit", "0"),
    ] {
        let tool = if command == "bench" { dime() } else { qa() };
        let outcome = tool.args([command, option, value]).run();
        assert_eq!((outcome.code, outcome.stdout.as_str()), (2, ""), "{command} {option}: {outcome}");
        let named = format!("error: invalid value '{value}' for '{option} <");
        assert!(outcome.stderr.starts_with(&named), "{command} {option}: {outcome}");
    }
}

#[test]
fn a_program_that_run_starts_ends_by_sigpipe_as_it_would_without() {
    let tool = tool_path("dime");
    let mut child = Command::new(&tool)
        .args(["run", "--dime"])
        .arg(dime_lib())
        .args(["--", "sh", "-c", "grep SigIgn /proc/self/status"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the tool starts");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut child.stdout.take().expect("a pipe"), &mut text).expect("text");
    child.wait().expect("an end");
    let ignored = text.trim().rsplit('\t').next().and_then(|mask| u64::from_str_radix(mask, 16).ok()).expect("a mask");
    assert_eq!(ignored >> 12 & 1, 0, "SIGPIPE is ignored in the program: {text}");
}

#[test]
fn the_tool_beside_libdime_so_needs_no_option() {
    let dir = work_dir("tool/beside");
    let fake = fake_nccl(dir.join("fake"), "2.27.7");
    let report = build_report(&dir);
    let outcome = dime().args(["run", "--"]).arg(&report).env("DIME_NCCL_LIB", &fake).succeeds();
    assert_eq!(outcome.value("version"), "22707", "{outcome}");
    assert_eq!(Path::new(outcome.value("answered-by")), dime_lib());
}

#[test]
fn dime_qa_beside_libdime_so_needs_no_option() {
    // Both copied to a folder of their own, on the simulated node.
    let dir = work_dir("tool/qa-beside");
    for file in [dime_lib(), tool_path("dime-qa")] {
        std::fs::copy(&file, dir.join(file.file_name().expect("a name"))).expect("a copy");
    }
    let outcome = simulated(dir.join("dime-qa")).args(["leak", "--cycles", "7"]).limit_s(120);
    let outcome = outcome.env("DIME_SIM_DEVICES", "2").env("DIME_DEBUG", "info").succeeds();
    assert!(outcome.stdout.lines().last() == Some("PASS"), "{outcome}");
    std::fs::remove_file(dir.join("libdime.so")).expect("libdime.so is there");
    let outcome = Program::new(dir.join("dime-qa")).args(["leak", "--cycles", "7"]).run();
    assert_eq!(outcome.code, 2, "{outcome}");
    let missing =
        format!("dime-qa: {}: no such file; name libdime.so with --dime PATH\n", dir.join("libdime.so").display());
    assert_eq!(outcome.stderr, missing, "{outcome}");
}

#[test]
fn dime_names_dime_qa_for_its_subcommands() {
    for command in ["check", "soak", "leak", "forwards", "fingerprint"] {
        let outcome = dime().args([command, "--devices", "0,1"]).run();
        assert_eq!((outcome.code, outcome.stdout.as_str()), (2, ""), "{outcome}");
        let named = format!("error: '{command}' is a subcommand of dime-qa: dime-qa {command}\n");
        assert!(outcome.stderr.starts_with(&named), "{outcome}");
        // That is where it is.
        let help = qa().args([command, "--help"]).succeeds();
        assert!(help.stdout.contains(&format!("Usage: dime-qa {command} ")), "{help}");
    }
    let outcome = dime().arg("chek").run();
    assert_eq!(outcome.code, 2, "{outcome}");
    assert!(outcome.stderr.starts_with("error: unrecognized subcommand 'chek'\n"), "{outcome}");
}

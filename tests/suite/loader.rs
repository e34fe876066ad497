//! libdime.so in a process, whichever way it came there, and the real NCCL behind it.
//!
//! Most tests put a fake NCCL of a made-up release behind it: the version that is answered then tells which file was
//! taken. tests/suite/loader_search.rs has the places that are searched, tests/suite/loader_refusals.rs what is refused.

use crate::support;
use crate::support::places::{build_linked_report, build_report, build_report_with_runpath, fake_nccl, other_library};
use crate::support::{Cc, Outcome, Program, dime_lib, install_as_libnccl, test_file, tool, work_dir};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// What every way must end in: our library answers, with the fake's release, and says nothing.
fn assert_dime_answers(outcome: &Outcome, fake: &Path, version: &str) {
    assert_eq!(outcome.value("version-result"), "0", "{outcome}");
    assert_eq!(outcome.value("version"), version, "{outcome}");
    assert_eq!(Path::new(outcome.value("real")), fake, "{outcome}");
    assert_eq!(outcome.value("end"), "reached", "{outcome}");
    assert_eq!(outcome.stderr, "", "{outcome}");
}

#[test]
fn preloaded_it_answers_a_program_that_is_linked_with_another_nccl() {
    let dir = work_dir("loader/preload");
    let linked = fake_nccl(dir.join("linked"), "2.18.3");
    let real = fake_nccl(dir.join("real"), "2.27.7");
    let program = build_linked_report(&dir, &linked);
    let outcome = Program::new(&program).succeeds();
    assert_eq!(outcome.value("version"), "21803", "without us: {outcome}");
    let outcome = Program::new(&program).env("LD_PRELOAD", dime_lib()).env("DIME_NCCL_LIB", &real).succeeds();
    assert_dime_answers(&outcome, &real, "22707");
    assert_eq!(Path::new(outcome.value("answered-by")), dime_lib());
}

#[test]
fn preloaded_it_finds_the_nccl_that_only_the_run_path_of_the_program_names() {
    let dir = work_dir("loader/run-path");
    let linked = fake_nccl(dir.join("linked"), "2.18.3");
    for program in [build_linked_report(&dir, &linked), build_report_with_runpath(&dir, &linked)] {
        let outcome = Program::new(&program).env("LD_PRELOAD", dime_lib()).succeeds();
        assert_dime_answers(&outcome, &linked, "21803");
    }
}

#[test]
fn needed_as_libnccl_it_answers_a_program_that_was_linked_with_nccl() {
    let dir = work_dir("loader/needed");
    let linked = fake_nccl(dir.join("linked"), "2.18.3");
    let real = fake_nccl(dir.join("real"), "2.27.7");
    let program = build_linked_report(&dir, &linked);
    // The file in the place that the program looks in becomes ours.
    std::fs::remove_file(&linked).expect("removing the fake that the program was linked with");
    symlink(dime_lib(), &linked).expect("a symlink");
    let outcome = Program::new(&program).env("DIME_NCCL_LIB", &real).succeeds();
    assert_dime_answers(&outcome, &real, "22707");
}

#[test]
fn a_bare_dlopen_finds_the_preloaded_library() {
    let dir = work_dir("loader/bare");
    let program = build_report(&dir);
    let real = fake_nccl(dir.join("real"), "2.27.7");
    let elsewhere = fake_nccl(dir.join("elsewhere"), "2.18.3");
    for flag in [None, Some("--global")] {
        let outcome = Program::new(&program)
            .args(flag)
            .arg("libnccl.so.2")
            .env("LD_PRELOAD", dime_lib())
            .env("LD_LIBRARY_PATH", elsewhere.parent().expect("a directory"))
            .env("DIME_NCCL_LIB", &real)
            .succeeds();
        assert_dime_answers(&outcome, &real, "22707");
    }
}

#[test]
fn a_bare_dlopen_finds_it_in_the_library_path() {
    let dir = work_dir("loader/bare-path");
    let real = fake_nccl(dir.join("real"), "2.27.7");
    let outcome = Program::new(build_report(&dir))
        .arg("libnccl.so.2")
        .env("LD_LIBRARY_PATH", install_as_libnccl(&dir.join("lib")))
        .env("DIME_NCCL_LIB", &real)
        .succeeds();
    assert_dime_answers(&outcome, &real, "22707");
}

#[test]
fn opened_by_its_path_it_answers_in_local_and_in_global_scope() {
    let dir = work_dir("loader/absolute");
    let program = build_report(&dir);
    let real = fake_nccl(dir.join("real"), "2.27.7");
    for flag in [None, Some("--global")] {
        let outcome = Program::new(&program).args(flag).arg(dime_lib()).env("DIME_NCCL_LIB", &real).succeeds();
        assert_dime_answers(&outcome, &real, "22707");
    }
}

#[test]
fn opened_by_a_symlink_or_as_a_copy_it_answers() {
    let dir = work_dir("loader/names");
    let program = build_report(&dir);
    let real = fake_nccl(dir.join("real"), "2.27.7");
    let link = install_as_libnccl(&dir.join("link")).join("libnccl.so.2");
    let copy = dir.join("copy.so");
    std::fs::copy(dime_lib(), &copy).expect("a copy of libdime.so");
    for name in [&link, &copy] {
        let outcome = Program::new(&program).arg(name).env("DIME_NCCL_LIB", &real).succeeds();
        assert_dime_answers(&outcome, &real, "22707");
    }
    // Two of us in one process: the copy is another library to the dynamic linker.
    let outcome =
        Program::new(&program).arg(&copy).env("LD_PRELOAD", dime_lib()).env("DIME_NCCL_LIB", &real).succeeds();
    assert_dime_answers(&outcome, &real, "22707");
    assert_eq!(Path::new(outcome.value("answered-by")), copy);
}

#[test]
fn a_plugin_in_local_scope_reaches_it() {
    let dir = work_dir("loader/plugin");
    let real = fake_nccl(dir.join("real"), "2.27.7");
    let lib = install_as_libnccl(&dir.join("lib"));
    let plugin = Cc::c()
        .args(["-shared", "-fPIC", "-Wl,--no-as-needed"])
        .arg(test_file("c/plugin.c"))
        .arg("-L")
        .arg(&lib)
        .arg("-lnccl")
        .arg(format!("-Wl,-rpath,{}", lib.display()))
        .build(dir.join("plugin.so"));
    let host = Cc::c().arg(test_file("c/plugin_host.c")).arg("-ldl").build(dir.join("host"));
    let outcome = Program::new(host).arg(plugin).env("DIME_NCCL_LIB", &real).succeeds();
    assert_eq!(outcome.value("version"), "22707", "{outcome}");
    assert_eq!(outcome.value("visible-to-host"), "0", "{outcome}");
}

const CTYPES: &str = "
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
version = ctypes.c_int(0)
print('version-result=%d' % library.ncclGetVersion(ctypes.byref(version)))
print('version=%d' % version.value)
real = library.dimeRealLibrary
real.restype = ctypes.c_char_p
print('real=' + real().decode())
text = library.ncclGetErrorString
text.restype = ctypes.c_char_p
print('error-string=' + text(4).decode())
print('end=reached')
";

#[test]
fn python_reaches_it_through_ctypes() {
    let dir = work_dir("loader/ctypes");
    let real = fake_nccl(dir.join("real"), "2.27.7");
    let by_path = Program::new("python3").args(["-c", CTYPES]).arg(dime_lib()).env("DIME_NCCL_LIB", &real).succeeds();
    assert_dime_answers(&by_path, &real, "22707");
    assert_eq!(by_path.value("error-string"), "the fake's ncclGetErrorString");
    let bare = Program::new("python3")
        .args(["-c", CTYPES, "libnccl.so.2"])
        .env("LD_PRELOAD", dime_lib())
        .env("DIME_NCCL_LIB", &real)
        .succeeds();
    assert_dime_answers(&bare, &real, "22707");
}

/// A library of the system by the beginning of its file name.
fn system_library(name: &str, package: &str) -> PathBuf {
    let cache = tool("/sbin/ldconfig", ["-p"]);
    let line = cache
        .lines()
        .find(|line| line.trim_start().starts_with(name) && line.contains("x86-64"))
        .unwrap_or_else(|| panic!("{name} is not installed; `make test` installs {package}"));
    PathBuf::from(line.rsplit(" => ").next().expect("a path"))
}

/// The ways in which an allocator's preload comes together with us, over a fake and over the newest real NCCL.
fn works_beside(name: &str, allocator: &Path) {
    let dir = work_dir(&format!("loader/{name}"));
    let program = build_report(&dir);
    let fake = fake_nccl(dir.join("real"), "2.27.7");
    let newest = support::newest_release();
    for (real, version) in [(fake, 22707), (newest.library(), newest.release.code())] {
        let opened = Program::new(&program).arg(dime_lib()).env("LD_PRELOAD", allocator).env("DIME_NCCL_LIB", &real);
        assert_dime_answers(&opened.succeeds(), &real, &version.to_string());
        for preload in [
            format!("{}:{}", allocator.display(), dime_lib().display()),
            format!("{}:{}", dime_lib().display(), allocator.display()),
        ] {
            let outcome = Program::new(&program).env("LD_PRELOAD", preload).env("DIME_NCCL_LIB", &real).succeeds();
            assert_dime_answers(&outcome, &real, &version.to_string());
        }
    }
}

#[test]
fn it_works_beside_a_tcmalloc_preload() {
    works_beside("tcmalloc", &system_library("libtcmalloc_minimal.so.4", "libtcmalloc-minimal4"));
}

#[test]
fn it_works_beside_a_jemalloc_preload() {
    works_beside("jemalloc", &system_library("libjemalloc.so.2", "libjemalloc2"));
}

#[test]
fn it_works_in_a_host_with_address_sanitizer() {
    let dir = work_dir("loader/asan");
    let fake = fake_nccl(dir.join("real"), "2.27.7");
    let newest = support::newest_release();
    let asan = |cc: Cc| cc.args(["-fsanitize=address", "-g"]).arg(test_file("c/report.c"));
    let opener = asan(Cc::c()).args(["-pthread", "-ldl"]).build(dir.join("opener"));
    let lib = install_as_libnccl(&dir.join("lib"));
    let linked = asan(Cc::c().args(["-DLINKED", "-Wl,--no-as-needed"]))
        .arg("-L")
        .arg(&lib)
        .args(["-lnccl", "-pthread", "-ldl"])
        .arg(format!("-Wl,-rpath,{}", lib.display()))
        .build(dir.join("linked"));
    for (real, version) in [(fake, 22707), (newest.library(), newest.release.code())] {
        for program in [Program::new(&opener).arg(dime_lib()), Program::new(&linked)] {
            // Leak checking needs ptrace, which containers may refuse; leaks are not what this test is about.
            let outcome =
                program.env("ASAN_OPTIONS", "detect_leaks=0").env("DIME_NCCL_LIB", &real).limit_s(120).succeeds();
            assert_dime_answers(&outcome, &real, &version.to_string());
        }
    }
}

#[test]
fn it_answers_in_a_forked_child_used_before_or_not() {
    let dir = work_dir("loader/fork");
    let program = build_report(&dir);
    let fake = fake_nccl(dir.join("real"), "2.27.7");
    let newest = support::newest_release();
    for (real, version) in [(fake, 22707), (newest.library(), newest.release.code())] {
        for when in ["before", "after"] {
            let outcome =
                Program::new(&program).args(["--fork", when]).arg(dime_lib()).env("DIME_NCCL_LIB", &real).succeeds();
            assert_dime_answers(&outcome, &real, &version.to_string());
            assert_eq!(outcome.value("child-status"), "0", "{outcome}");
        }
    }
}

#[test]
fn many_threads_may_make_the_first_call_at_once() {
    let dir = work_dir("loader/threads");
    let program = build_report(&dir);
    let fake = fake_nccl(dir.join("real"), "2.27.7");
    let newest = support::newest_release();
    for (real, version) in [(fake, 22707), (newest.library(), newest.release.code())] {
        for _ in 0..5 {
            let outcome =
                Program::new(&program).args(["--threads", "16"]).arg(dime_lib()).env("DIME_NCCL_LIB", &real).succeeds();
            assert_eq!(outcome.value("wrong-in-threads"), "0", "{outcome}");
            assert_dime_answers(&outcome, &real, &version.to_string());
        }
    }
}

/// The files that a program opens, in order, and its output.
fn opened_files(dir: &Path, label: &str, command: &[&str], preload: Option<&Path>) -> (Vec<String>, Outcome) {
    let trace = dir.join(format!("{label}.trace"));
    let mut program = Program::new("strace")
        .args(["-f", "-qq", "-e", "trace=open,openat,openat2,creat,socket,clone3,clone", "-o"])
        .arg(&trace);
    // strace itself is not to be preloaded.
    if let Some(preload) = preload {
        program = program.arg("-E").arg(format!("LD_PRELOAD={}", preload.display()));
    }
    let outcome = program.args(command).succeeds();
    let text = std::fs::read_to_string(&trace).expect("the trace of strace");
    let opened = text
        .lines()
        .filter(|line| !line.contains("+++") && !line.contains("---"))
        // Process ids differ, and the descriptors and sizes behind the name do not matter.
        .map(|line| line.split_once(' ').map_or(line, |(_, rest)| rest).trim().to_string())
        .map(|line| line.split(" = ").next().unwrap_or("").trim().to_string())
        .map(|line| line.split("child_tidptr").next().unwrap_or("").to_string())
        .collect();
    (opened, outcome)
}

#[test]
fn a_process_that_never_uses_nccl_sees_no_output_no_file_no_thread_and_no_socket() {
    let dir = work_dir("loader/unused");
    // The interpreter itself: what `python3` names may be a script that looks for one.
    let python = tool("python3", ["-c", "import sys; print(sys.executable)"]);
    let commands: [&[&str]; 3] = [
        &["/bin/true"],
        &["/bin/sh", "-c", "echo one; /bin/echo two"],
        &[python.trim(), "-S", "-c", "import os, threading; print('three')"],
    ];
    let needed = tool("readelf", ["-d".as_ref(), dime_lib().as_os_str()]);
    for (index, command) in commands.iter().enumerate() {
        let (alone, alone_outcome) = opened_files(&dir, &format!("{index}-alone"), command, None);
        let (with_us, outcome) = opened_files(&dir, &format!("{index}-preloaded"), command, Some(&dime_lib()));
        assert!(alone.iter().any(|call| call.contains("libc.so.6")), "strace saw nothing: {alone:?}");
        assert_eq!((&outcome.stdout, &outcome.stderr), (&alone_outcome.stdout, &alone_outcome.stderr), "{command:?}");
        // What is new is the dynamic linker's: our file and the libraries that it needs.
        let mut rest = alone.clone();
        let mut ours = 0;
        for call in with_us {
            if let Some(at) = rest.iter().position(|known| *known == call) {
                rest.remove(at);
                continue;
            }
            let file = call.split('"').nth(1).unwrap_or(&call).to_string();
            let name = file.rsplit('/').next().unwrap_or("").to_string();
            let is_needed = needed.contains(&format!("[{name}]"));
            assert!(Path::new(&file) == dime_lib() || is_needed, "preloaded into {command:?} there is {call}");
            ours += usize::from(Path::new(&file) == dime_lib());
        }
        assert!(ours > 0, "libdime.so was not loaded into {command:?}");
        // Nothing is created either way, in particular no file that a log would go to.
        assert!(std::fs::read_dir(&dir).expect("the work directory").count() <= 2 * commands.len());
    }
}

#[test]
fn settings_do_not_make_an_unused_preload_speak() {
    let dir = work_dir("loader/unused-settings");
    let log = dir.join("log.%h.%p");
    let outcome = Program::new("/bin/true")
        .env("LD_PRELOAD", dime_lib())
        .env("DIME_DEBUG", "trace")
        .env("NCCL_DEBUG", "TRACE")
        .env("DIME_DEBUG_FILE", &log)
        .env("DIME_NCCL_LIB", "/nonexistent")
        .env("DIME_NO_SUCH_THING", "1")
        .succeeds();
    assert_eq!(outcome.all(), "");
    assert_eq!(std::fs::read_dir(&dir).expect("the work directory").count(), 0, "a log file was made");
}

#[test]
fn loading_it_runs_no_code_of_ours() {
    let dir = work_dir("loader/constructor");
    let profile = dir.join("callgrind.out");
    Program::new("valgrind")
        .args(["--tool=callgrind", "--quiet", "--compress-strings=no", "--compress-pos=no"])
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg("/bin/true")
        .env("LD_PRELOAD", dime_lib())
        .limit_s(120)
        .succeeds();
    let functions = support::callgrind::instructions_per_function(&profile);
    assert!(functions.iter().any(|function| function.object.contains("libc.so")), "callgrind saw nothing");
    let ours: Vec<_> = functions.iter().filter(|function| Path::new(&function.object) == dime_lib()).collect();
    let total: u64 = ours.iter().map(|function| function.instructions).sum();
    println!("loading libdime.so and leaving it executes {total} instructions of its own: {ours:?}");
    // The compiler's start and end files and the standard library's note of argc and argv take some forty.
    assert!((1..=100).contains(&total), "{total} instructions: {ours:?}");
}

#[test]
fn another_library_of_the_process_is_not_taken_for_nccl() {
    let dir = work_dir("loader/other");
    let other = other_library(dir.join("libother.so"));
    let real = fake_nccl(dir.join("real"), "2.27.7");
    let outcome =
        Program::new(build_report(&dir)).arg("--map").arg(other).arg(dime_lib()).env("DIME_NCCL_LIB", &real).succeeds();
    assert_dime_answers(&outcome, &real, "22707");
}

//! The same program against a real NCCL and against libdime.so in front of it, release by release: whatever works
//! without a GPU answers the same.
//!
//! The releases come from PyPI (tests/fetch_nccl.py); on a machine with a GPU the same comparison covers more.

use crate::support;
use crate::support::{
    Cc, NCCL_INVALID_USAGE, Outcome, Program, RealNccl, dime_lib, install_as_libnccl, test_file, work_dir,
};
use std::path::{Path, PathBuf};

/// The program's own exit status, to know that it came to its end.
const EXIT: i32 = 7;

fn build_opener(directory: &Path) -> PathBuf {
    Cc::c().arg(test_file("c/differential.c")).arg("-ldl").build(directory.join("opener"))
}

/// The program linked against `library`, which it finds again by an rpath that LD_LIBRARY_PATH cannot override.
fn build_linked(directory: &Path, name: &str, library: &Path) -> PathBuf {
    Cc::c()
        .arg("-DLINKED")
        .arg(test_file("c/differential.c"))
        .arg(library)
        .args(["-Wl,--disable-new-dtags", "-ldl"])
        .arg(format!("-Wl,-rpath,{}", library.parent().expect("a library has a directory").display()))
        .build(directory.join(name))
}

/// What libdime.so must print, given what the real library printed: the same, but a function that the release lacks is
/// there and says so.
fn expected(real: &str, real_nccl: &RealNccl) -> String {
    let exports = support::exports();
    let mut lines = Vec::new();
    for line in real.lines() {
        let Some((what, "absent")) = line.split_once(": ") else {
            lines.push(line.to_string());
            continue;
        };
        if what == "last error after MemAlloc" {
            lines.push(format!("{what}: ncclMemAlloc needs NCCL >= 2.19"));
            continue;
        }
        let plain = what.strip_prefix('p').unwrap_or(what);
        let export = exports.iter().find(|export| export.name == plain).expect("a function of the table");
        assert!(export.since > real_nccl.release, "{} lacks {what}, against the table", real_nccl.release);
        let answer = if plain == "ncclLLA2ACalcSlots" { -1 } else { NCCL_INVALID_USAGE };
        lines.push(format!("{what}: {answer}"));
    }
    lines.join("\n")
}

/// The warning names the library by its path and release; only its beginning is the same everywhere.
fn shorten_missing_warning(dime: &str) -> String {
    let shorten = |line: &str| match line.split_once("needs NCCL >= ") {
        Some((start, rest)) => {
            let release: Vec<&str> = rest.split(';').next().unwrap_or(rest).split('.').take(2).collect();
            format!("{start}needs NCCL >= {}", release.join("."))
        }
        None => line.to_string(),
    };
    dime.lines().map(shorten).collect::<Vec<_>>().join("\n")
}

fn assert_same(how: &str, real_nccl: &RealNccl, real: &Outcome, dime: &Outcome) {
    assert_eq!(real.code, EXIT, "{how}, NCCL {} itself: {real}", real_nccl.release);
    assert_eq!(dime.code, EXIT, "{how}, in front of NCCL {}: {dime}", real_nccl.release);
    let expected = expected(&real.stdout, real_nccl);
    let got = shorten_missing_warning(&dime.stdout);
    for (expected, got) in expected.lines().zip(got.lines()) {
        assert_eq!(got, expected, "{how}, NCCL {}: left is libdime.so, right is expected", real_nccl.release);
    }
    assert_eq!(expected.lines().count(), got.lines().count(), "{how}, NCCL {}: {dime}", real_nccl.release);
    assert_eq!(without_numbers(&dime.stderr), without_numbers(&real.stderr), "{how}, NCCL {}", real_nccl.release);
}

/// Process and thread ids, ports and addresses differ between any two runs; so does the device that old releases name
/// where they have none, which can be negative.
fn without_numbers(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '0'..='9' if out.ends_with('#') => {}
            '0'..='9' => out.push('#'),
            _ => out.push(c),
        }
    }
    out.replace("[-#]", "[#]")
}

#[test]
fn opened_by_path_every_release_answers_the_same_with_libdime_in_front() {
    let dir = work_dir("differential/opened");
    let program = build_opener(&dir);
    for real_nccl in support::real_releases() {
        let library = real_nccl.library();
        let real = Program::new(&program).arg(&library).run();
        assert!(real.stdout.contains(&format!("ncclGetVersion: 0, {}", real_nccl.release.code())), "{real}");
        let dime = Program::new(&program).arg(dime_lib()).env("DIME_NCCL_LIB", &library).run();
        assert_same("opened by path", &real_nccl, &real, &dime);
    }
}

#[test]
fn linked_every_release_answers_the_same_with_libdime_preloaded_or_in_its_place() {
    let dir = work_dir("differential/linked");
    let in_place = install_as_libnccl(&dir.join("lib"));
    let program_for_dime = build_linked(&dir, "linked-with-dime", &in_place.join("libnccl.so"));
    for real_nccl in support::real_releases() {
        let library = real_nccl.library();
        let program = build_linked(&dir, &format!("linked-with-{}", real_nccl.release), &library);
        let real = Program::new(&program).run();
        let preloaded = Program::new(&program).env("LD_PRELOAD", dime_lib()).env("DIME_NCCL_LIB", &library).run();
        assert_same("linked and preloaded", &real_nccl, &real, &preloaded);
        let replaced = Program::new(&program_for_dime).env("DIME_NCCL_LIB", &library).run();
        assert_same("linked with libdime.so", &real_nccl, &real, &replaced);
    }
}

#[test]
fn what_nccl_itself_logs_is_the_same_with_libdime_in_front() {
    let dir = work_dir("differential/logged");
    let program = build_opener(&dir);
    let run = |library: &Path, real: &Path| {
        let outcome = Program::new(&program)
            .arg(library)
            .env("NCCL_DEBUG", "WARN")
            .env("DIME_DEBUG", "none")
            .env("DIME_NCCL_LIB", real)
            .run();
        assert_eq!(outcome.code, EXIT, "{outcome}");
        let logged: Vec<String> =
            outcome.all().lines().filter(|line| line.contains("NCCL")).map(without_numbers).collect();
        (outcome, logged)
    };
    for real_nccl in support::real_releases() {
        let library = real_nccl.library();
        let (real, real_log) = run(&library, &library);
        let (dime, dime_log) = run(&dime_lib(), &library);
        assert!(real_log.iter().any(|line| line.contains("NCCL WARN")), "{real}");
        // Functions that the release lacks are named in results, never in its own log.
        let dime_log: Vec<String> = dime_log.into_iter().filter(|line| !line.contains("needs NCCL")).collect();
        assert_eq!(dime_log, real_log, "NCCL {}\n{dime}", real_nccl.release);
    }
}

#[test]
fn at_least_ten_releases_are_compared_by_default() {
    if std::env::var_os("DIME_TEST_NCCL").is_none() {
        let releases = support::real_releases();
        assert!(releases.len() >= 10, "only {} releases", releases.len());
        for real_nccl in &releases {
            assert!(real_nccl.library().is_file());
        }
    }
}

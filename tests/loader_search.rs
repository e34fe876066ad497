//! Where libdime.so looks for the real NCCL, and in which order. Every place holds a fake of a release of its own; the
//! version that is answered tells which was taken.

mod support;

use std::path::{Path, PathBuf};
use support::places::{build_report, fake_nccl, other_library};
use support::{NCCL_SYSTEM_ERROR, Outcome, Program, dime_lib, install_as_libnccl, work_dir};

/// One place and the variable or argument that makes it one.
struct Place {
    version: &'static str,
    library: PathBuf,
    settings: Vec<(&'static str, PathBuf)>,
    mapped: Option<PathBuf>,
}

/// All places that can be set up without touching the system, in the order in which they are searched.
fn places(dir: &Path) -> Vec<Place> {
    let fake = |place: &str, release: &str| fake_nccl(dir.join(place), release);
    let parent = |library: &Path| library.parent().expect("a library has a directory").to_path_buf();
    let named = fake("named", "2.32.3");
    let mapped = fake("mapped", "2.31.2");
    let beside_torch = fake("site/nvidia/nccl/lib", "2.30.7");
    let torch = other_library(dir.join("site/torch/lib/libtorch_cuda.so"));
    let in_path = fake("in-path", "2.29.7");
    let in_venv = fake("venv/lib/python3.12/site-packages/nvidia/nccl/lib", "2.28.9");
    let in_conda = fake("conda/lib/python3.10/site-packages/nvidia/nccl/lib", "2.27.7");
    vec![
        Place { version: "23203", settings: vec![("DIME_NCCL_LIB", named.clone())], library: named, mapped: None },
        Place { version: "23102", settings: vec![], mapped: Some(mapped.clone()), library: mapped },
        Place { version: "23007", settings: vec![], mapped: Some(torch), library: beside_torch },
        Place {
            version: "22907",
            settings: vec![("LD_LIBRARY_PATH", parent(&in_path))],
            library: in_path,
            mapped: None,
        },
        Place { version: "22809", settings: vec![("VIRTUAL_ENV", dir.join("venv"))], library: in_venv, mapped: None },
        Place {
            version: "22707",
            settings: vec![("CONDA_PREFIX", dir.join("conda"))],
            library: in_conda,
            mapped: None,
        },
    ]
}

fn run_with(program: &Path, places: &[&Place]) -> Outcome {
    let mut run = Program::new(program);
    for place in places {
        for (variable, value) in &place.settings {
            run = run.env(variable, value);
        }
        if let Some(mapped) = &place.mapped {
            run = run.arg("--map").arg(mapped);
        }
    }
    run.arg(dime_lib()).succeeds()
}

fn assert_taken(outcome: &Outcome, place: &Place) {
    assert_eq!(outcome.value("version"), place.version, "{} should be taken: {outcome}", place.library.display());
    let real = std::fs::canonicalize(outcome.value("real")).expect("the path of the library that is used");
    assert_eq!(real, std::fs::canonicalize(&place.library).expect("a path"));
}

#[test]
fn each_place_is_found_when_it_is_the_only_one() {
    let dir = work_dir("search/each");
    let program = build_report(&dir);
    for place in &places(&dir) {
        assert_taken(&run_with(&program, &[place]), place);
    }
}

#[test]
fn the_first_place_in_the_order_wins() {
    let dir = work_dir("search/order");
    let program = build_report(&dir);
    let all = places(&dir);
    for first in 0..all.len() {
        let present: Vec<&Place> = all[first..].iter().collect();
        assert_taken(&run_with(&program, &present), &all[first]);
    }
}

#[test]
fn the_library_beside_the_xla_and_the_cupy_plugins_is_found() {
    let dir = work_dir("search/plugins");
    let program = build_report(&dir);
    let real = fake_nccl(dir.join("site/nvidia/nccl/lib"), "2.30.7");
    for plugin in ["site/jax_plugins/xla_cuda12/xla_cuda_plugin.so", "site/cupy/cuda/nccl.so"] {
        // The search is by what is mapped: some file of these packages that is a shared library.
        let mapped = other_library(dir.join(plugin));
        let outcome = Program::new(&program).arg("--map").arg(&mapped).arg(dime_lib()).run();
        assert_eq!(outcome.value("version"), "23007", "beside {plugin}: {outcome}");
        assert!(outcome.value("real").ends_with("nvidia/nccl/lib/libnccl.so.2"), "{} in {outcome}", real.display());
    }
}

#[test]
fn the_site_packages_of_the_running_python_are_searched() {
    let dir = work_dir("search/python");
    let venv = dir.join("env");
    Program::new("python3").args(["-m", "venv", "--without-pip"]).arg(&venv).limit_s(120).succeeds();
    let library = venv.join("lib");
    let python = std::fs::read_dir(&library)
        .expect("the lib directory of a virtual environment")
        .map(|entry| entry.expect("an entry").path())
        .find(|path| path.join("site-packages").is_dir())
        .expect("site-packages");
    fake_nccl(python.join("site-packages/nvidia/nccl/lib"), "2.26.5");
    // Called by its path, as when the environment was never activated.
    let outcome = Program::new(venv.join("bin/python"))
        .args([
            "-c",
            "import ctypes, sys; v = ctypes.c_int(0); print('result=%d' % \
             ctypes.CDLL(sys.argv[1]).ncclGetVersion(ctypes.byref(v))); print('version=%d' % v.value)",
        ])
        .arg(dime_lib())
        .succeeds();
    assert_eq!(outcome.value("result"), "0", "{outcome}");
    assert_eq!(outcome.value("version"), "22605", "{outcome}");
}

#[test]
fn every_directory_of_the_library_path_is_searched_and_ourselves_are_passed_over() {
    let dir = work_dir("search/path");
    let program = build_report(&dir);
    let link = install_as_libnccl(&dir.join("link"));
    let copy = dir.join("copy");
    std::fs::create_dir_all(&copy).expect("a directory");
    std::fs::copy(dime_lib(), copy.join("libnccl.so.2")).expect("a copy of libdime.so");
    let empty = dir.join("empty");
    std::fs::create_dir_all(&empty).expect("a directory");
    let real = fake_nccl(dir.join("real"), "2.29.7");
    let real_dir = real.parent().expect("a directory");
    let path = [&link, &copy, &empty, &PathBuf::from("/nonexistent")]
        .map(|directory| directory.display().to_string())
        .join(":")
        + "::"
        + &real_dir.display().to_string();
    let outcome = Program::new(&program).arg(dime_lib()).env("LD_LIBRARY_PATH", &path).succeeds();
    assert_eq!(outcome.value("version"), "22907", "{outcome}");
    // The same by the way of an installation: we are what the program finds under NCCL's name.
    let outcome = Program::new(&program).arg("libnccl.so.2").env("LD_LIBRARY_PATH", &path).succeeds();
    assert_eq!(outcome.value("version"), "22907", "{outcome}");
}

#[test]
fn a_copy_of_ourselves_that_is_mapped_is_not_taken_for_nccl() {
    let dir = work_dir("search/mapped-copy");
    let copy = dir.join("copy/libnccl.so.2");
    std::fs::create_dir_all(copy.parent().expect("a directory")).expect("a directory");
    std::fs::copy(dime_lib(), &copy).expect("a copy of libdime.so");
    let real = fake_nccl(dir.join("real"), "2.29.7");
    let outcome = Program::new(build_report(&dir))
        .arg("--map")
        .arg(&copy)
        .arg(dime_lib())
        .env("LD_LIBRARY_PATH", real.parent().expect("a directory"))
        .succeeds();
    assert_eq!(outcome.value("version"), "22907", "{outcome}");
}

#[test]
fn an_installation_that_replaced_the_file_beside_torch_finds_another_nccl() {
    let dir = work_dir("search/replaced");
    let torch = other_library(dir.join("site/torch/lib/libtorch_cuda.so"));
    install_as_libnccl(&dir.join("site/nvidia/nccl/lib"));
    let real = fake_nccl(dir.join("real"), "2.29.7");
    let outcome = Program::new(build_report(&dir))
        .arg("--map")
        .arg(&torch)
        .arg(dime_lib())
        .env("LD_LIBRARY_PATH", real.parent().expect("a directory"))
        .succeeds();
    assert_eq!(outcome.value("version"), "22907", "{outcome}");
}

/// Fails on a machine with an NCCL among the system's libraries, where these tests could show nothing.
fn assert_no_system_nccl() {
    let cache = support::tool("/sbin/ldconfig", ["-p"]);
    assert!(!cache.contains("libnccl.so"), "this machine has a system NCCL; the tests of the search need one without");
}

#[test]
fn without_any_nccl_every_call_fails_and_the_log_lists_what_was_searched() {
    use support::fake::{Expect, build_driver, driver_expectations};
    assert_no_system_nccl();
    let dir = work_dir("search/nothing");
    let driver = build_driver(&dir, &|_| Expect::Failed(NCCL_SYSTEM_ERROR));
    let outcome = Program::new(driver)
        .arg(dime_lib())
        .arg("-")
        .env("LD_LIBRARY_PATH", "/nonexistent/in-path:/nonexistent/in-path-too")
        .env("VIRTUAL_ENV", "/nonexistent/venv")
        .env("CONDA_PREFIX", "/nonexistent/conda")
        .succeeds();
    assert_eq!(outcome.value("right"), driver_expectations(), "{outcome}");
    let log: Vec<String> = outcome.all().lines().filter(|line| line.contains("DIME ")).map(str::to_string).collect();
    let text = log.join("\n");
    for place in [
        "DIME_NCCL_LIB",
        "/nonexistent/in-path",
        "/nonexistent/in-path-too",
        "/nonexistent/venv",
        "/nonexistent/conda",
        "ld",
    ] {
        assert!(text.contains(place), "the log does not name {place}:\n{text}");
    }
    // Once is enough: 2,000 calls were made.
    assert!(log.len() < 60, "{} lines of log:\n{text}", log.len());
}

#[test]
fn without_any_nccl_the_last_error_says_so() {
    assert_no_system_nccl();
    let dir = work_dir("search/nothing-last-error");
    let outcome = Program::new(build_report(&dir)).arg(dime_lib()).succeeds();
    assert_eq!(outcome.value("version-result"), NCCL_SYSTEM_ERROR.to_string());
    assert_eq!(outcome.value("init-all"), NCCL_SYSTEM_ERROR.to_string());
    assert_eq!(outcome.value("real"), "(null)");
    let text = outcome.value("last-error");
    assert!(text.contains("NCCL") && text.contains("DIME_NCCL_LIB"), "{text:?}");
}

//! Where libdime.so looks for the real NCCL, and in which order. Every place holds a fake of a release of its own; the
//! version that is answered tells which was taken.

use crate::support;
use crate::support::places::{build_report, fake_nccl, other_library};
use crate::support::{
    Cc, NCCL_SYSTEM_ERROR, Outcome, Program, dime_lib, install_as_libnccl, test_file, work_dir, write,
};
use std::path::{Path, PathBuf};

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

/// tests/c/asks_loader.c with a run path of either kind; an empty one is none.
struct Asker<'a> {
    options: &'a [&'a str],
    tag: &'a str,
    run_path: &'a str,
}

const RPATH: &str = "--disable-new-dtags";
const RUNPATH: &str = "--enable-new-dtags";

impl Asker<'_> {
    fn cc(&self) -> Cc {
        let cc = Cc::c().args(self.options).arg(test_file("c/asks_loader.c")).arg("-ldl");
        if self.run_path.is_empty() { cc } else { cc.arg(format!("-Wl,{},-rpath,{}", self.tag, self.run_path)) }
    }

    fn program(&self, path: PathBuf) -> PathBuf {
        self.cc().args(["-DPROGRAM", "-DFUNCTION=version"]).build(path)
    }

    fn library(&self, path: PathBuf, function: &str, needed: Option<&Path>) -> PathBuf {
        let name = path.file_name().expect("a file name").to_string_lossy().into_owned();
        let cc = self.cc().shared(&name).arg(format!("-DFUNCTION={function}"));
        needed.into_iter().fold(cc, |cc, needed| cc.arg(needed)).build(path)
    }
}

fn asker<'a>(tag: &'a str, run_path: &'a str) -> Asker<'a> {
    Asker { options: &[], tag, run_path }
}

/// Runs without us and with us preloaded: what the loader finds must be what we find. Returns the version.
fn found_with_and_without_us(program: impl Fn() -> Program) -> String {
    let alone = program().succeeds();
    let with_us = program().env("LD_PRELOAD", dime_lib()).succeeds();
    assert_eq!(with_us.value("version"), alone.value("version"), "{alone}\nand with us: {with_us}");
    alone.value("version").to_owned()
}

#[test]
fn what_the_run_path_of_the_program_leads_to_is_found_though_nothing_is_linked_with_nccl() {
    let dir = work_dir("search/program-run-path");
    fake_nccl(dir.join("env/lib"), "2.27.7");
    for (name, tag) in [("conda", RPATH), ("new", RUNPATH)] {
        let program = asker(tag, "$ORIGIN/../lib").program(dir.join("env/bin").join(name));
        assert_eq!(found_with_and_without_us(|| Program::new(&program)), "22707", "{tag}");
    }
}

#[test]
fn the_tokens_of_a_run_path_are_filled_in_as_the_loader_does() {
    let dir = work_dir("search/tokens");
    // What $LIB and $PLATFORM stand for is the loader's affair. Whatever it is, it is one of these.
    for folder in ["lib", "lib64", "lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu", "x86_64", "haswell", "aarch64"] {
        fake_nccl(dir.join("tokens").join(folder), "2.28.9");
    }
    for (name, run_path) in [
        ("origin", "${ORIGIN}/../tokens/lib"),
        ("lib", "$ORIGIN/../tokens/$LIB"),
        ("braces", "$ORIGIN/../tokens/${LIB}"),
        ("platform", "$ORIGIN/../tokens/$PLATFORM"),
    ] {
        for tag in [RPATH, RUNPATH] {
            let program = asker(tag, run_path).program(dir.join("bin").join(name));
            assert_eq!(found_with_and_without_us(|| Program::new(&program)), "22809", "{run_path}, {tag}");
        }
    }
}

#[test]
fn the_library_path_comes_after_dt_rpath_and_before_dt_runpath() {
    let dir = work_dir("search/against-library-path");
    fake_nccl(dir.join("env/lib"), "2.27.7");
    let other = fake_nccl(dir.join("other"), "2.29.7");
    let another = fake_nccl(dir.join("another"), "2.30.7");
    let [other, another] = [other, another].map(|library| library.parent().expect("a directory").display().to_string());
    for (name, tag, version) in [("old", RPATH, "22707"), ("new", RUNPATH, "22907")] {
        let program = asker(tag, "$ORIGIN/../lib").program(dir.join("env/bin").join(name));
        for separator in [":", ";"] {
            let path = format!("{other}{separator}{another}");
            let found = found_with_and_without_us(|| Program::new(&program).env("LD_LIBRARY_PATH", &path));
            assert_eq!(found, version, "{tag}");
        }
    }
}

#[test]
fn a_library_that_asks_by_name_gets_what_its_own_run_path_leads_to() {
    let dir = work_dir("search/caller");
    fake_nccl(dir.join("of-host"), "2.27.7");
    fake_nccl(dir.join("of-plugin"), "2.28.9");
    fake_nccl(dir.join("of-other"), "2.30.7");
    let of_host = dir.join("of-host").display().to_string();
    let of_plugin = dir.join("of-plugin").display().to_string();
    let host = |name: &str, tag: &str| {
        Cc::c()
            .arg(test_file("c/plugin_host.c"))
            .arg("-ldl")
            // Another library with a run path, which asks for nothing.
            .arg("-Wl,--no-as-needed")
            .arg(asker(RPATH, &dir.join("of-other").display().to_string()).library(dir.join("other.so"), "other", None))
            .arg(format!("-Wl,{tag},-rpath,{of_host}:{}", dir.display()))
            .build(dir.join(name))
    };
    let hosts = [host("host-rpath", RPATH), host("host-runpath", RUNPATH)];
    for (name, plugin, with_host_rpath, with_host_runpath) in [
        // DT_RPATH of what loaded it is inherited, DT_RUNPATH is not.
        ("bare", asker(RPATH, ""), "22707", "-1"),
        ("rpath", asker(RPATH, &of_plugin), "22809", "22809"),
        ("runpath", asker(RUNPATH, &of_plugin), "22809", "22809"),
    ] {
        let plugin = plugin.library(dir.join(name).with_extension("so"), "plugin_version", None);
        for (host, version) in hosts.iter().zip([with_host_rpath, with_host_runpath]) {
            let program = || Program::new(host).arg(&plugin);
            if version == "-1" {
                assert_eq!(program().succeeds().value("version"), version);
                continue;
            }
            assert_eq!(found_with_and_without_us(program), version, "{} in {}", plugin.display(), host.display());
        }
    }
}

#[test]
fn dt_rpath_is_inherited_from_the_library_that_needed_the_one_that_asks() {
    let dir = work_dir("search/chain");
    fake_nccl(dir.join("of-outer"), "2.28.9");
    let host = Cc::c().arg(test_file("c/plugin_host.c")).arg("-ldl").build(dir.join("host"));
    let run_path = format!("$ORIGIN/of-outer:{}", dir.display());
    let outer = Asker { options: &["-DCALLS=inner_version"], tag: RPATH, run_path: &run_path };
    let inner = asker(RPATH, "").library(dir.join("libinner.so"), "inner_version", None);
    let outer = outer.library(dir.join("libouter.so"), "plugin_version", Some(&inner));
    assert_eq!(found_with_and_without_us(|| Program::new(&host).arg(&outer)), "22809");
}

#[test]
fn an_interpreter_that_is_not_activated_is_served_from_its_own_environment() {
    let dir = work_dir("search/not-activated");
    let program = asker(RPATH, "").program(dir.join("report"));
    for (name, library) in
        [("conda", "lib"), ("venv", "lib/python3.12/site-packages/nvidia/nccl/lib"), ("plain", "lib")]
    {
        let prefix = dir.join(name);
        fake_nccl(prefix.join(library), "2.28.9");
        std::fs::create_dir_all(prefix.join("bin")).expect("a directory");
        std::fs::copy(&program, prefix.join("bin/python")).expect("a copy of the program");
    }
    write(dir.join("venv/pyvenv.cfg"), "");
    write(dir.join("conda/conda-meta/history"), "");
    let active = fake_nccl(dir.join("active/lib/python3.12/site-packages/nvidia/nccl/lib"), "2.18.3");
    assert!(active.is_file());
    for (name, variable) in [("conda", "CONDA_PREFIX"), ("venv", "VIRTUAL_ENV")] {
        let run = || Program::new(dir.join(name).join("bin/python")).env("LD_PRELOAD", dime_lib());
        assert_eq!(run().succeeds().value("version"), "22809", "{name}");
        // Some other environment is the active one.
        let outcome = run().env(variable, dir.join("active")).succeeds();
        assert_eq!(outcome.value("version"), "22809", "{name}: {outcome}");
    }
    let outcome = Program::new(dir.join("plain/bin/python")).env("LD_PRELOAD", dime_lib()).succeeds();
    assert_eq!(outcome.value("version"), "22809", "{outcome}");
}

/// An auditor that has the loader open us for each libnccl.so.2, as some installations of other libraries do.
fn auditor(dir: &Path) -> PathBuf {
    Cc::c().args(["-shared", "-fPIC"]).arg(test_file("c/auditor.c")).build(dir.join("auditor.so"))
}

#[test]
fn an_auditor_that_turns_every_nccl_into_us_is_named_with_the_way_out() {
    // microsoft/mscclpp#654
    let dir = work_dir("search/auditor");
    let real = fake_nccl(dir.join("real"), "2.29.7");
    let copy = dir.join("copy.so");
    std::fs::copy(dime_lib(), &copy).expect("a copy of libdime.so");
    let program = build_report(&dir);
    let auditor = auditor(&dir);
    for stand_in in [dime_lib(), copy] {
        let run = |variable: &str, value: &Path| {
            Program::new(&program)
                .arg(dime_lib())
                .env("LD_AUDIT", &auditor)
                .env("STAND_IN", &stand_in)
                .env(variable, value)
                .succeeds()
        };
        for (variable, value) in [("DIME_NCCL_LIB", real.as_path()), ("LD_LIBRARY_PATH", real.parent().expect("one"))] {
            let outcome = run(variable, value);
            assert_eq!(outcome.value("version-result"), NCCL_SYSTEM_ERROR.to_string(), "{outcome}");
            let error = outcome.value("last-error");
            assert!(error.contains(&format!("{}: is not what the loader opens", real.display())), "{error}");
            assert!(error.contains("it opens Dime itself") && error.contains("LD_AUDIT"), "{error}");
            assert!(error.contains(&stand_in.display().to_string()), "{error}");
            assert!(error.contains("set DIME_NCCL_LIB to a copy or hard link"), "{error}");
            assert!(!error.contains("not NCCL"), "{error}");
        }
        // The way out.
        let renamed = dir.join("real/renamed.so");
        let _ = std::fs::remove_file(&renamed);
        std::fs::hard_link(&real, &renamed).expect("a hard link");
        assert_eq!(run("DIME_NCCL_LIB", &renamed).value("version"), "22907");
    }
}

#[test]
fn where_we_stand_in_nccls_place_each_candidate_is_said_to_be_us() {
    assert_no_system_nccl();
    let dir = work_dir("search/only-us");
    let link = install_as_libnccl(&dir.join("link"));
    let copy = dir.join("copy/libnccl.so.2");
    std::fs::create_dir_all(copy.parent().expect("a directory")).expect("a directory");
    std::fs::copy(dime_lib(), &copy).expect("a copy of libdime.so");
    let path = format!("{}:{}", link.display(), copy.parent().expect("a directory").display());
    let outcome = Program::new(build_report(&dir)).arg("libnccl.so.2").env("LD_LIBRARY_PATH", path).succeeds();
    let error = outcome.value("last-error");
    for candidate in [
        format!("libraries mapped into this process: {}: is Dime itself", link.join("libnccl.so.2").display()),
        format!("LD_LIBRARY_PATH: {}: is Dime itself", link.join("libnccl.so.2").display()),
        format!("LD_LIBRARY_PATH: {}: is a copy of Dime", copy.display()),
        "Dime stands in the place of NCCL there. Set DIME_NCCL_LIB".to_owned(),
    ] {
        assert!(error.contains(&candidate), "no {candidate:?} in {error}");
    }
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
        "/etc/ld.so.cache",
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

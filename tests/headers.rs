//! C and C++ programs that use our headers, or NVIDIA's, and libdime.so as their libnccl.

mod support;

use std::path::{Path, PathBuf};
use support::places::fake_nccl;
use support::{
    Cc, NCCL_INVALID_ARGUMENT, Outcome, Program, dime_lib, include_dir, install_as_libnccl, test_file, work_dir, write,
};

const HEADERS: &[&str] = &["nccl.h", "nccl_device_host.h", "dime.h"];

/// Language standards in which the headers must be clean.
const STANDARDS: &[&str] = &["c99", "c11", "c17", "c++11", "c++17", "c++20"];

/// Directories of CUDA headers to compile with: none, a stand-in, and the toolkit's where `make` has put it.
fn cuda_includes() -> Vec<Option<PathBuf>> {
    let toolkit = support::manifest_dir().join("target/cuda/nvidia/cu13/include");
    let mut all = vec![None, Some(test_file("c/cuda_stand_in"))];
    if toolkit.join("cuda_runtime.h").is_file() {
        all.push(Some(toolkit));
    }
    all
}

fn compile(dir: &Path, name: &str, text: &str, standard: &str, cuda: Option<&Path>) {
    let cxx = standard.starts_with("c++");
    let source = write(dir.join(format!("{name}.{}", if cxx { "cc" } else { "c" })), text);
    let cc = if cxx { Cc::cxx() } else { Cc::c() };
    let cc = cuda.into_iter().fold(cc, |cc, directory| cc.arg("-isystem").arg(directory));
    cc.arg(format!("-std={standard}"))
        .args(["-pedantic-errors", "-Wconversion", "-Wundef"])
        .args((!cxx).then_some("-Wstrict-prototypes"))
        .include(include_dir())
        .arg("-c")
        .arg(source)
        .build(dir.join(format!("{name}.o")));
}

#[test]
fn each_header_compiles_alone_and_twice_in_every_standard() {
    let dir = work_dir("headers/alone");
    for standard in STANDARDS {
        for header in HEADERS {
            let text = format!("#include \"{header}\"\n#include \"{header}\"\nextern int unused;\n");
            compile(&dir, "alone", &text, standard, None);
        }
    }
}

#[test]
fn the_headers_compile_together_in_any_order_with_and_without_cudas() {
    let dir = work_dir("headers/together");
    for standard in ["c99", "c++17"] {
        for cuda in cuda_includes() {
            for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
                let includes: String = order.iter().map(|i| format!("#include \"{}\"\n", HEADERS[*i])).collect();
                let used = "extern ncclResult_t use(ncclComm_t comm, cudaStream_t stream, ncclTeam_t team);\n";
                compile(&dir, "together", &format!("{includes}{used}"), standard, cuda.as_deref());
                if cuda.is_some() {
                    let first = format!("#include <cuda_runtime.h>\n{includes}{used}");
                    compile(&dir, "cuda-first", &first, standard, cuda.as_deref());
                    let last = format!("{includes}#include <cuda_runtime.h>\n{used}");
                    compile(&dir, "cuda-last", &last, standard, cuda.as_deref());
                }
            }
        }
    }
}

fn consumer(dir: &Path, name: &str, include: &Path, cxx: bool, lib: &Path) -> PathBuf {
    let text = format!("#include <nccl.h>\n#include \"{}\"\n", test_file("c/consumer.h").display());
    let source = write(dir.join(format!("{name}.{}", if cxx { "cc" } else { "c" })), text);
    let cc = if cxx { Cc::cxx() } else { Cc::c().arg("-std=c99") };
    cc.arg("-isystem")
        .arg(include)
        .arg("-isystem")
        .arg(test_file("c/cuda_stand_in"))
        .arg(source)
        .arg("-L")
        .arg(lib)
        .arg("-lnccl")
        .build(dir.join(name))
}

fn assert_consumer(outcome: &Outcome, version: &str) {
    assert_eq!(outcome.value("version"), version, "{outcome}");
    assert_eq!(outcome.value("bytes"), "19", "{outcome}");
    assert_eq!(outcome.value("all-reduce"), "4", "{outcome}");
    assert_eq!(outcome.value("error"), "the fake's ncclGetErrorString", "{outcome}");
    assert_eq!(outcome.value("end"), "reached", "{outcome}");
    assert_eq!(outcome.stderr, "", "{outcome}");
}

#[test]
fn a_program_built_with_our_header_runs_linked_and_preloaded() {
    let dir = work_dir("headers/ours");
    let lib = install_as_libnccl(&dir.join("lib"));
    let fake = fake_nccl(dir.join("real"), "2.27.7");
    for (name, cxx) in [("c", false), ("cxx", true)] {
        let program = consumer(&dir, name, &include_dir(), cxx, &lib);
        let linked = Program::new(&program).env("LD_LIBRARY_PATH", &lib).env("DIME_NCCL_LIB", &fake).succeeds();
        assert_consumer(&linked, "22707");
        let preloaded = Program::new(&program).env("LD_PRELOAD", dime_lib()).env("DIME_NCCL_LIB", &fake).succeeds();
        assert_consumer(&preloaded, "22707");
        // The same program on the plain library.
        let plain = Program::new(&program).env("LD_LIBRARY_PATH", fake.parent().expect("a directory")).succeeds();
        assert_consumer(&plain, "22707");
    }
}

#[test]
fn a_program_built_with_nvidias_header_of_any_release_runs_with_us_as_its_libnccl() {
    let dir = work_dir("headers/nvidias");
    let lib = install_as_libnccl(&dir.join("lib"));
    let fake = fake_nccl(dir.join("real"), "2.32.3");
    for real_nccl in support::real_releases() {
        for (kind, cxx) in [("c", false), ("cxx", true)] {
            let name = format!("{kind}-{}", real_nccl.release);
            let program = consumer(&dir, &name, &real_nccl.directory, cxx, &lib);
            let outcome = Program::new(&program).env("LD_LIBRARY_PATH", &lib).env("DIME_NCCL_LIB", &fake).succeeds();
            assert_consumer(&outcome, "23203");
        }
    }
}

#[test]
fn the_functions_of_dime_h_answer_as_documented() {
    let dir = work_dir("headers/dime-h");
    let lib = install_as_libnccl(&dir.join("lib"));
    let fake = fake_nccl(dir.join("real"), "2.27.7");
    let program = Cc::c()
        .include(include_dir())
        .arg(test_file("c/dime_h.c"))
        .arg("-L")
        .arg(&lib)
        .arg("-lnccl")
        .arg(format!("-Wl,-rpath,{}", lib.display()))
        .build(dir.join("dime_h"));
    let outcome = Program::new(program).env("DIME_NCCL_LIB", &fake).succeeds();
    assert_eq!(outcome.value("version"), env!("CARGO_PKG_VERSION"));
    let parts: Vec<u32> = env!("CARGO_PKG_VERSION").split('.').map(|part| part.parse().expect("a number")).collect();
    assert_eq!(outcome.value("version-number"), (parts[0] * 10000 + parts[1] * 100 + parts[2]).to_string());
    assert_eq!(outcome.value("real-before"), "(null)");
    assert_eq!(Path::new(outcome.value("real-after")), fake);
    let counters: u32 = outcome.value("counters").parse().expect("a number");
    assert!(counters > 5, "a counter for each of five kernels and for each reason: {outcome}");
    for kernel in ["one_shot_ll", "one_shot_sentinel", "two_shot_ll", "two_shot_sentinel", "two_shot_bulk"] {
        let named = outcome.stdout.lines().any(|line| line.starts_with("counter=") && line.contains(kernel));
        assert!(named, "no counter of {kernel}: {outcome}");
    }
    assert_eq!(outcome.value("same-names"), "0", "{outcome}");
    assert_eq!(outcome.value("past-the-last"), "1 0", "{outcome}");
    assert_eq!(outcome.value("negative"), "1 0", "{outcome}");
    let moved: Vec<&str> = outcome.stdout.lines().filter_map(|line| line.strip_prefix("moved=")).collect();
    assert_eq!(moved.len(), 1, "each forwarded all-reduce counts under one reason: {outcome}");
    assert!(moved[0].starts_with("forward_") && moved[0].ends_with(" by 10"), "{outcome}");
    assert_eq!(outcome.value("explain"), "0", "{outcome}");
    assert!(outcome.value("explanation").starts_with("forward: "), "{outcome}");
    assert_eq!(outcome.value("explain-eligible"), "0", "{outcome}");
    let explanation = outcome.value("explanation-eligible");
    // No GPU answers here: it cannot be fast, but it may be too early to tell.
    assert!(["forward: ", "undecided: "].iter().any(|start| explanation.starts_with(start)), "{outcome}");
    assert_eq!(outcome.value("explain-cut"), "0", "{outcome}");
    assert_eq!(outcome.value("cut-length"), "5", "{outcome}");
    assert_eq!(outcome.value("cut-is-start"), "1", "{outcome}");
    assert_eq!(outcome.value("untouched"), "xx", "{outcome}");
    for wrong in ["explain-no-text", "explain-no-room", "explain-no-communicator"] {
        assert_eq!(outcome.value(wrong), NCCL_INVALID_ARGUMENT.to_string(), "{wrong} of {outcome}");
    }
}

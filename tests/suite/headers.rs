//! C and C++ programs that use our headers, or NVIDIA's, and libdime.so as their libnccl.

use crate::catalogue::NAMES as KERNELS;
use crate::support;
use crate::support::places::fake_nccl;
use crate::support::{
    Cc, NCCL_INVALID_ARGUMENT, Outcome, Program, dime_lib, include_dir, install_as_libnccl, test_file, work_dir, write,
};
use std::path::{Path, PathBuf};

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

/// The two faces of nccl.h: as it is by default, and with all functions.
fn faces() -> [Option<String>; 2] {
    [None, Some(support::newest_api())]
}

fn compile(dir: &Path, name: &str, text: &str, standard: &str, cuda: Option<&Path>) {
    for face in faces() {
        compile_face(dir, name, text, standard, cuda, face);
    }
}

fn compile_face(dir: &Path, name: &str, text: &str, standard: &str, cuda: Option<&Path>, face: Option<String>) {
    let cxx = standard.starts_with("c++");
    let source = write(dir.join(format!("{name}.{}", if cxx { "cc" } else { "c" })), text);
    let cc = if cxx { Cc::cxx() } else { Cc::c() };
    let cc = cuda.into_iter().fold(cc, |cc, directory| cc.arg("-isystem").arg(directory));
    cc.arg(format!("-std={standard}"))
        .args(face.map(|face| format!("-D{face}")))
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

/// A CUDA compiler for programs: that of NVCC, of the PATH, of the system, or the one that `make nvcc` puts into target/nvcc.
fn nvcc() -> PathBuf {
    let named = std::env::var_os("NVCC").filter(|nvcc| !nvcc.is_empty()).map(PathBuf::from);
    let on_path = std::env::var_os("PATH");
    let folders = on_path.iter().flat_map(std::env::split_paths);
    let known = ["/usr/local/cuda/bin".into(), support::manifest_dir().join("target/nvcc/nvidia/cu13/bin")];
    let candidates = named.into_iter().chain(folders.chain(known).map(|folder| folder.join("nvcc")));
    candidates.into_iter().find(|nvcc| nvcc.is_file()).expect("a CUDA compiler: `make nvcc` puts one into target/nvcc")
}

/// A call of the CUDA compiler for programs of one architecture, which can be linked without the rest of a toolkit.
fn cuda_program(source: &Path) -> Program {
    Program::new(nvcc())
        .args(["-std=c++17", "-arch=sm_90", "--Werror", "all-warnings", "-I"])
        .arg(include_dir())
        .arg(source)
}

/// The toolkit that the compiler belongs to.
fn toolkit() -> PathBuf {
    let nvcc = std::fs::canonicalize(nvcc()).expect("the path of nvcc");
    nvcc.ancestors().nth(2).expect("nvcc lies in a toolkit").to_path_buf()
}

/// Its libraries.
fn toolkit_libraries() -> PathBuf {
    let folders = ["lib64", "lib"].map(|name| toolkit().join(name));
    folders.into_iter().find(|folder| folder.join("libcudart_static.a").is_file()).expect("the toolkit's libraries")
}

#[test]
fn programs_that_ask_for_the_release_and_the_types_find_all_types_in_cxx_and_cuda() {
    let dir = work_dir("headers/gates");
    let lib = install_as_libnccl(&dir.join("lib"));
    let fake = fake_nccl(dir.join("real"), "2.32.3");
    let toolkit = toolkit();
    let source = write(dir.join("gates.cc"), format!("#include \"{}\"\n", test_file("c/version_gates.h").display()));
    let cxx = Cc::cxx()
        .include(include_dir())
        .arg("-isystem")
        .arg(toolkit.join("include"))
        .arg(source)
        .arg("-L")
        .arg(&lib)
        .arg("-lnccl")
        .build(dir.join("gates-cxx"));
    let cuda = dir.join("gates-cuda");
    cuda_program(&test_file("c/version_gates.cu"))
        .arg("-L")
        .arg(toolkit_libraries())
        .arg("-L")
        .arg(&lib)
        .args(["-lnccl", "-o"])
        .arg(&cuda)
        .limit_s(300)
        .succeeds();
    for program in [cxx, cuda] {
        let outcome = Program::new(program).env("LD_LIBRARY_PATH", &lib).env("DIME_NCCL_LIB", &fake).succeeds();
        for (what, value) in [
            ("header", "22707"),
            ("library", "23203"),
            ("types", "12"),
            ("bf16", "1"),
            ("fp8", "1"),
            ("named", "10"),
            ("make", "0"),
            ("window", "0"),
            // Each type with each operation.
            ("all-reduces", "60"),
        ] {
            assert_eq!(outcome.value(what), value, "{what} of {outcome}");
        }
    }
}

#[test]
fn nccls_device_code_is_refused_with_the_ways_out() {
    let dir = work_dir("headers/device-code");
    let gates = format!("#include \"{}\"\n", test_file("c/version_gates.h").display());
    for (name, text, face) in [
        ("asked-for", "#include <nccl_device.h>\n", None),
        ("by-a-gate", gates.as_str(), Some(support::newest_api())),
        ("with-newest", "#include <nccl.h>\n#include <nccl_device.h>\n", Some(support::newest_api())),
    ] {
        let source = write(dir.join(format!("{name}.cc")), text);
        let outcome = Cc::cxx()
            .include(include_dir())
            .args(face.map(|face| format!("-D{face}")))
            .args(["-c", "-o", "/dev/null"])
            .arg(source)
            .run();
        assert_ne!(outcome.code, 0, "{name}: {outcome}");
        for words in ["has no device code of NCCL", "without DIME_NCCL_API", "NVIDIA's nccl.h", "nccl_device_host.h"] {
            assert!(outcome.stderr.contains(words), "{name}: no {words:?} in {outcome}");
        }
    }
}

#[test]
fn a_face_that_the_header_has_not_is_refused_with_those_that_it_has() {
    let dir = work_dir("headers/faces");
    let source = write(dir.join("face.c"), "#include <nccl.h>\n");
    for face in ["22809", "1", "2.32.3"] {
        let cc = Cc::c().include(include_dir()).arg(format!("-DDIME_NCCL_API={face}"));
        let outcome = cc.args(["-c", "-o", "/dev/null"]).arg(&source).run();
        assert_ne!(outcome.code, 0, "{outcome}");
        assert!(outcome.stderr.contains("22707") && outcome.stderr.contains("23203"), "{face}: {outcome}");
    }
}

#[test]
fn the_newest_face_declares_what_is_newer_and_the_default_does_not() {
    let dir = work_dir("headers/newest");
    let text = "#include <nccl.h>\nvoid *newer(void);\nvoid *newer(void) { return (void *)ncclAlltoAll; }\n";
    let source = write(dir.join("newer.c"), text);
    let compiled = |face: Option<String>| {
        let cc = Cc::c().include(include_dir()).args(face.map(|face| format!("-D{face}")));
        cc.args(["-c", "-o", "/dev/null"]).arg(&source).run().code
    };
    assert_ne!(compiled(None), 0);
    assert_eq!(compiled(Some(support::newest_api())), 0);
}

/// NCCL_TESTS_SRC names the sources of nccl-tests: they are built as they are, all programs, for one architecture.
#[test]
fn nccl_tests_are_built_with_our_header_when_their_sources_are_named() {
    let Some(sources) = std::env::var_os("NCCL_TESTS_SRC").filter(|sources| !sources.is_empty()) else { return };
    let dir = work_dir("headers/nccl-tests");
    install_as_libnccl(&dir.join("nccl/lib"));
    std::os::unix::fs::symlink(include_dir(), dir.join("nccl/include")).expect("a symlink");
    Program::new("make")
        .arg("-C")
        .arg(Path::new(&sources).join("src"))
        .arg(format!("NVCC={}", nvcc().display()))
        .arg(format!("CUDA_HOME={}", toolkit().display()))
        .arg(format!("CUDA_LIB={}", toolkit_libraries().display()))
        .arg(format!("NCCL_HOME={}", dir.join("nccl").display()))
        .arg(format!("BUILDDIR={}", dir.join("build").display()))
        .arg("CUDARTLIB=cudart_static")
        .arg("NVCC_GENCODE=-gencode=arch=compute_90,code=sm_90")
        .limit_s(3600)
        .succeeds();
    let built = std::fs::read_dir(dir.join("build")).expect("the programs").flatten();
    let programs: Vec<PathBuf> =
        built.map(|entry| entry.path()).filter(|path| path.to_string_lossy().ends_with("_perf")).collect();
    assert!(programs.len() >= 9, "{programs:?}");
    let types = support::tool("strings", [dir.join("build/all_reduce_perf").as_os_str()]);
    for name in ["bfloat16", "f8e4m3", "f8e5m2"] {
        assert!(types.lines().any(|line| line == name), "all_reduce_perf does not know {name}");
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
    assert!(counters as usize > KERNELS.len(), "a counter for each kernel and for each reason: {outcome}");
    for kernel in KERNELS {
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
    assert_eq!(outcome.value("suspend-of-nothing"), "0 0");
    for wrong in [
        "explain-no-text",
        "explain-no-room",
        "explain-no-communicator",
        "suspend-no-communicator",
        "resume-no-communicator",
    ] {
        assert_eq!(outcome.value(wrong), NCCL_INVALID_ARGUMENT.to_string(), "{wrong} of {outcome}");
    }
}

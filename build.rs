//! Gives libdime.so its SONAME and build hash, compiles kernels/ into one fatbin, and sets the `cfg`s of the source.
//!
//! Environment:
//! - `NVCC`: the CUDA compiler to use, before any that is found.
//! - `DIME_CUDA_ARCHS`: a comma list such as `90` or `80,90`. Machine code for each, and PTX for the last, replace
//!   the default set.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Machine code is made for each of these. PTX of the last one serves newer GPUs.
const DEFAULT_ARCHS: &str = "80,86,89,90,100,103,120";
const KERNELS: &str = "kernels/instances.cu";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=kernels");
    println!("cargo:rerun-if-changed=src");
    for name in ["NVCC", "DIME_CUDA_ARCHS", "CUDA_HOME", "PATH"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    println!("cargo:rustc-check-cfg=cfg(dime_kernels)");
    // Marks what nccl.h declares only when it is asked to (src/nccl/header.rs).
    println!("cargo:rustc-check-cfg=cfg(nccl_2_28)");
    println!("cargo:rustc-cfg=nccl_2_28");
    // Set by tools/sanitize.sh.
    println!("cargo:rustc-check-cfg=cfg(dime_race_checker)");

    // With NCCL's own SONAME, one file serves LD_PRELOAD, a NEEDED entry and dlopen("libnccl.so.2"). The library must
    // never be unmapped, because fork handlers and other threads refer to its code and thread-local storage.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libnccl.so.2");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");

    let mut sources = files_below(Path::new("kernels"));
    let kernels_hash = hash(&sources);
    sources.extend(files_below(Path::new("src")));
    // Ranks compare this hash in the setup, to detect different builds.
    println!("cargo:rustc-env=DIME_BUILD_HASH={:016x}", hash(&sources));

    if env::var_os("CARGO_FEATURE_FORWARD_ONLY").is_none() && Path::new(KERNELS).exists() {
        compile_kernels(kernels_hash);
        println!("cargo:rustc-cfg=dime_kernels");
    }
}

/// Writes `OUT_DIR/kernels.fatbin`.
///
/// The compiler runs for minutes, and each cargo profile has its own `OUT_DIR`. So results are kept in the target
/// folder, under a hash of all inputs, and copied from there.
fn compile_kernels(kernels_hash: u64) {
    let nvcc = find_nvcc();
    let archs = env::var("DIME_CUDA_ARCHS").unwrap_or_else(|_| DEFAULT_ARCHS.to_owned());
    let archs: Vec<&str> = archs.split(',').map(str::trim).filter(|arch| !arch.is_empty()).collect();
    assert!(!archs.is_empty(), "DIME_CUDA_ARCHS names no architecture");

    let mut arguments: Vec<OsString> =
        ["--fatbin", "-O3", "-std=c++17", "-lineinfo", "--compress-mode=size", "-Ikernels", KERNELS]
            .map(OsString::from)
            .to_vec();
    for arch in &archs {
        arguments.push(format!("-gencode=arch=compute_{arch},code=sm_{arch}").into());
    }
    let newest = archs[archs.len() - 1];
    arguments.push(format!("-gencode=arch=compute_{newest},code=compute_{newest}").into());

    let out_dir = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let out = out_dir.join("kernels.fatbin");
    let mut key = Hasher::new();
    key.add(&kernels_hash.to_le_bytes());
    key.add(version_of(&nvcc).as_bytes());
    arguments.iter().for_each(|argument| key.add(argument.as_encoded_bytes()));
    // OUT_DIR is TARGET/PROFILE/build/NAME/out.
    let kept_dir = out_dir.ancestors().nth(4).expect("OUT_DIR lies in the target folder").join("kernels");
    let kept = kept_dir.join(format!("{:016x}.fatbin", key.value()));

    if !kept.exists() {
        fs::create_dir_all(&kept_dir).expect("the target folder is writable");
        // Renamed when complete, so that an interrupted compiler leaves nothing that looks finished.
        let partial = out_dir.join("kernels.fatbin.partial");
        let jobs = env::var("NUM_JOBS").unwrap_or_else(|_| "1".to_owned());
        let status = Command::new(&nvcc)
            .args(&arguments)
            .args(["--threads", &jobs, "-o"])
            .arg(&partial)
            .status()
            .unwrap_or_else(|error| panic!("cannot run {}: {error}", nvcc.display()));
        assert!(
            status.success(),
            "{} failed on {KERNELS} ({status}). For all of {DEFAULT_ARCHS} it must be of CUDA 12.9 or newer: NVCC can name \
             another one, such as the copy that `make` puts into target/cuda, and DIME_CUDA_ARCHS fewer architectures",
            nvcc.display()
        );
        fs::rename(&partial, &kept).expect("both lie in the target folder");
    }
    fs::copy(&kept, &out).expect("OUT_DIR is writable");
}

fn find_nvcc() -> PathBuf {
    if let Some(nvcc) = env::var_os("NVCC").filter(|nvcc| !nvcc.is_empty()) {
        return nvcc.into();
    }
    let mut folders: Vec<PathBuf> = Vec::new();
    folders.extend(env::var_os("CUDA_HOME").map(|home| Path::new(&home).join("bin")));
    folders.extend(env::var_os("PATH").iter().flat_map(env::split_paths));
    folders.push("/usr/local/cuda/bin".into());
    // Where `make` unpacks the compiler from its Python packages.
    folders.push("target/cuda/nvidia/cu13/bin".into());
    folders.iter().map(|folder| folder.join("nvcc")).find(|nvcc| nvcc.is_file()).unwrap_or_else(|| {
        panic!(
            "no CUDA compiler: nvcc is not in $NVCC, $CUDA_HOME/bin, $PATH, /usr/local/cuda/bin or target/cuda. Three ways out:\n\
             1. `make` puts one into target/cuda and builds with it;\n\
             2. set NVCC to the path of an nvcc of CUDA 12.9 or newer;\n\
             3. build with `--features forward-only`: no kernels, every call goes to NCCL."
        )
    })
}

fn version_of(nvcc: &Path) -> String {
    let output = Command::new(nvcc)
        .arg("--version")
        .output()
        .unwrap_or_else(|error| panic!("cannot run {}: {error}", nvcc.display()));
    assert!(output.status.success(), "{} --version failed ({})", nvcc.display(), output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// All files below a folder, sorted, so that the hash does not depend on the order of the file system.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

fn hash(files: &[PathBuf]) -> u64 {
    let mut hasher = Hasher::new();
    hasher.add(env::var("CARGO_PKG_VERSION").expect("cargo sets CARGO_PKG_VERSION").as_bytes());
    for file in files {
        hasher.add(file.as_os_str().as_encoded_bytes());
        hasher.add(&fs::read(file).unwrap_or_else(|error| panic!("cannot read {}: {error}", file.display())));
    }
    hasher.value()
}

/// FNV-1a over length-prefixed parts. It distinguishes builds; it is no protection against forgery.
struct Hasher(u64);

impl Hasher {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, part: &[u8]) {
        for byte in (part.len() as u64).to_le_bytes().iter().chain(part) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }

    fn value(&self) -> u64 {
        self.0
    }
}

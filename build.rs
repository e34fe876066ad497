//! Gives libdime.so its SONAME and build hash, compiles kernels/ into one image for each architecture, and sets the `cfg`s of the
//! source.
//!
//! Environment:
//! - `DIME_NVRTC`: the CUDA compiler to use, a libnvrtc.so.12, in place of the one that `make` puts into target/cuda.
//! - `DIME_CUDA_ARCHS`: a comma list such as `90` or `80,90`. Machine code for each, and PTX for the newest,
//!   replace the default set.

#[path = "build/images.rs"]
mod images;
#[path = "build/nvrtc.rs"]
mod nvrtc;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

const KERNELS: &str = "kernels/instances.cu";

fn main() {
    if images::compile_if_child() {
        return;
    }
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=build");
    println!("cargo:rerun-if-changed=kernels");
    println!("cargo:rerun-if-changed=src");
    for name in ["DIME_NVRTC", "DIME_CUDA_ARCHS"] {
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

    let mut hasher = Hasher::new();
    add_files_below(Path::new("kernels"), &mut hasher);
    let kernels_hash = hasher.value();
    add_files_below(Path::new("src"), &mut hasher);
    hasher.add(env::var("CARGO_PKG_VERSION").expect("cargo sets CARGO_PKG_VERSION").as_bytes());
    // Ranks compare this hash in the setup, to detect different builds.
    println!("cargo:rustc-env=DIME_BUILD_HASH={:016x}", hasher.value());

    if env::var_os("CARGO_FEATURE_FORWARD_ONLY").is_none() && Path::new(KERNELS).exists() {
        images::build(kernels_hash);
        println!("cargo:rustc-cfg=dime_kernels");
    }
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

fn add_files_below(folder: &Path, hasher: &mut Hasher) {
    for file in files_below(folder) {
        hasher.add(file.as_os_str().as_encoded_bytes());
        hasher.add(&fs::read(&file).unwrap_or_else(|error| panic!("cannot read {}: {error}", file.display())));
    }
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

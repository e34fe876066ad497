//! Compiles kernels/ into one image for each architecture, packs them, and writes the source that includes them.
//!
//! A compiler runs for a minute and more. So each runs in a process of its own, which is this build script once more, as
//! many at once as cargo has jobs. Packed images are kept in the target folder, under a hash of all that goes in, because
//! each cargo profile has its own `OUT_DIR`.

use std::collections::VecDeque;
use std::env;
use std::ffi::CString;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, SystemTime};

use crate::Hasher;
use crate::nvrtc::{Compiled, Nvrtc};

/// Machine code is compiled for each of these, and PTX for the newest, which serves newer GPUs.
const DEFAULT_ARCHS: &str = "80,86,89,90,100,103,120";
/// GPUs of this compute capability and later are known to drivers of CUDA 12.8 and later only.
const FIRST_ARCH_OF_NEW_DRIVERS: u32 = 100;
/// ELF ABI version 7, which drivers from 525 on load. CUDA 13's compilers write 8, which drivers before 580 refuse.
const OLD_ABI: u8 = 7;
/// The offset of the ABI version in an ELF file.
const ABI_OFFSET: usize = 8;
/// In a child, whose current folder has the sources: the architecture to compile for, the compiler, and the folder to write
/// to.
const CHILD: [&str; 3] = ["DIME_BUILD_ARCH", "DIME_BUILD_COMPILER", "DIME_BUILD_OUT"];
/// Where the sources of a compilation are: the folders of kernels/ and of CUDA's headers. The compiler writes the paths
/// and times of files into what it makes, and builds of one commit are to be equal.
const SOURCES: [&str; 2] = ["/proc/self/cwd/kernels", "/proc/self/cwd/cuda"];
/// The time that the sources have, in seconds after 1970 began.
const TIME_OF_SOURCES: Duration = Duration::from_secs(86_400);
/// What the kernels include of CUDA.
const HEADERS: [&str; 6] =
    ["cuda_bf16.h", "cuda_bf16.hpp", "cuda_fp16.h", "cuda_fp16.hpp", "cuda_fp8.h", "cuda_fp8.hpp"];
/// Of zstd: an eighth of the size in a second. Level 19 makes a tenth, in 22 seconds for each architecture.
const ZSTD_LEVEL: i32 = 12;

/// The compiler and its headers.
struct Toolkit {
    library: PathBuf,
    include: PathBuf,
}

/// The child's part, when this process is one: writes machine code and PTX for one architecture, packed.
pub fn compile_if_child() -> bool {
    let [Some(arch), Some(library), Some(out)] = CHILD.map(env::var_os) else { return false };
    let arch = arch.to_str().and_then(|arch| arch.parse().ok()).expect("a child's architecture is a number");
    match compile(Path::new(&library), arch) {
        Ok(Compiled { code, ptx }) => {
            for (image, content) in images_of(arch).into_iter().zip([code, ptx]) {
                let packed = zstd::bulk::compress(&content, ZSTD_LEVEL).expect("zstd packs everything");
                fs::write(Path::new(&out).join(partial(&image)), packed).expect("OUT_DIR is writable");
            }
        }
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(1);
        }
    }
    true
}

fn compile(library: &Path, arch: u32) -> Result<Compiled, String> {
    let nvrtc = Nvrtc::open(library).map_err(|error| format!("{}: {error}", library.display()))?;
    let source = fs::read(super::KERNELS).map_err(|error| format!("{}: {error}", super::KERNELS))?;
    let source = CString::new(source).map_err(|_| format!("{} holds a NUL", super::KERNELS))?;
    let name = CString::new(format!("/proc/self/cwd/{}", super::KERNELS)).expect("no NUL");
    let compiled = nvrtc.compile(&source, &name, arch, &options()).map_err(|error| error.to_string())?;
    let abi = compiled.code.get(ABI_OFFSET).copied().unwrap_or(0);
    if arch < FIRST_ARCH_OF_NEW_DRIVERS && abi != OLD_ABI {
        return Err(format!(
            "{} writes machine code that drivers before 580 refuse (ELF ABI version {abi}, not {OLD_ABI}): set DIME_NVRTC to \
             an NVRTC of CUDA 12",
            library.display()
        ));
    }
    Ok(compiled)
}

fn options() -> Vec<String> {
    let includes = SOURCES.map(|folder| format!("-I{folder}"));
    ["-std=c++17", "-lineinfo"].map(str::to_owned).into_iter().chain(includes).collect()
}

/// Writes `OUT_DIR/images.rs`, and what it includes.
pub fn build(kernels_hash: u64) {
    let toolkit = Toolkit::find();
    println!("cargo:rerun-if-changed={}", toolkit.library.display());
    for header in HEADERS {
        println!("cargo:rerun-if-changed={}", toolkit.include.join(header).display());
    }
    let archs = env::var("DIME_CUDA_ARCHS").unwrap_or_else(|_| DEFAULT_ARCHS.to_owned());
    let archs: Vec<&str> = archs.split(',').map(str::trim).filter(|arch| !arch.is_empty()).collect();
    let archs: Vec<u32> = archs
        .into_iter()
        .map(|arch| {
            arch.parse()
                .unwrap_or_else(|_| panic!("DIME_CUDA_ARCHS={arch}: an architecture is a number such as 90, for 9.0"))
        })
        .collect();
    if let Some(twice) = archs.iter().enumerate().find(|(index, arch)| archs[..*index].contains(arch)) {
        panic!("DIME_CUDA_ARCHS names {} twice: name each architecture once", twice.1);
    }
    let newest = archs.iter().max().expect("DIME_CUDA_ARCHS names no architecture");
    let images: Vec<String> =
        archs.iter().map(|arch| format!("sm_{arch}")).chain([format!("compute_{newest}")]).collect();

    let out_dir = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    // OUT_DIR is TARGET/PROFILE/build/NAME/out.
    let kept_dir = out_dir.ancestors().nth(4).expect("OUT_DIR lies in the target folder").join("kernels");
    fs::create_dir_all(&kept_dir).expect("the target folder is writable");
    let key = key(&toolkit, kernels_hash);
    let kept = |image: &str| kept_dir.join(format!("{key:016x}.{image}.zst"));

    let missing = archs
        .iter()
        .copied()
        .filter(|arch| images_of(*arch).iter().any(|image| images.contains(image) && !kept(image).exists()));
    let missing: VecDeque<u32> = missing.collect();
    if !missing.is_empty() {
        compile_all(missing, &toolkit, &out_dir, kept);
    }
    for image in &images {
        fs::copy(kept(image), out_dir.join(format!("{image}.zst"))).expect("OUT_DIR is writable");
    }
    fs::write(out_dir.join("images.rs"), source(&images, &out_dir)).expect("OUT_DIR is writable");
}

/// Of all that goes into the images, except their architectures.
fn key(toolkit: &Toolkit, kernels_hash: u64) -> u64 {
    let version = Nvrtc::open(&toolkit.library).and_then(|nvrtc| nvrtc.version());
    let version = version.unwrap_or_else(|error| panic!("cannot use {}: {error}", toolkit.library.display()));
    let bytes = fs::metadata(&toolkit.library).expect("it was opened").len();
    let mut key = Hasher::new();
    key.add(&kernels_hash.to_le_bytes());
    for header in HEADERS {
        let path = toolkit.include.join(header);
        key.add(&fs::read(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display())));
    }
    key.add(format!("{version:?} {bytes} {ZSTD_LEVEL}").as_bytes());
    key.add(options().join(" ").as_bytes());
    key.add(include_bytes!("nvrtc.rs"));
    key.value()
}

fn images_of(arch: u32) -> [String; 2] {
    [format!("sm_{arch}"), format!("compute_{arch}")]
}

/// The file of an image that a compiler is writing, in OUT_DIR.
fn partial(image: &str) -> String {
    format!("{image}.partial")
}

/// Compiles for architectures, as many at once as cargo has jobs.
fn compile_all(archs: VecDeque<u32>, toolkit: &Toolkit, out_dir: &Path, kept: impl Fn(&str) -> PathBuf + Sync) {
    let sources = out_dir.join("sources");
    gather_sources(toolkit, &sources);
    let library = fs::canonicalize(&toolkit.library).expect("it was opened");
    let jobs = env::var("NUM_JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(1);
    let this = env::current_exe().expect("a build script knows its own path");
    let queue = Mutex::new(archs);
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let Some(arch) = queue.lock().expect("no thread panics with it").pop_front() else { break };
                    let status = Command::new(&this)
                        .current_dir(&sources)
                        .env(CHILD[0], arch.to_string())
                        .env(CHILD[1], &library)
                        .env(CHILD[2], out_dir)
                        .status()
                        .expect("a build script can run itself");
                    assert!(status.success(), "the kernels did not compile for sm_{arch} ({status})");
                    // Renamed when complete, so that an interrupted compiler leaves nothing that looks finished.
                    for image in images_of(arch) {
                        fs::rename(out_dir.join(partial(&image)), kept(&image)).expect("both lie in the target folder");
                    }
                }
            });
        }
    });
}

/// Copies what is compiled into a folder, with one time for all files.
fn gather_sources(toolkit: &Toolkit, folder: &Path) {
    let _ = fs::remove_dir_all(folder); // of an earlier build
    let cuda = HEADERS.map(|header| (toolkit.include.join(header), Path::new("cuda").join(header)));
    let kernels = super::files_below(Path::new("kernels")).into_iter().map(|path| (path.clone(), path));
    for (from, to) in kernels.chain(cuda) {
        let to = folder.join(to);
        let copied = fs::create_dir_all(to.parent().expect("a file lies in a folder"))
            .and_then(|()| fs::copy(&from, &to))
            .and_then(|_| fs::File::options().append(true).open(&to))
            .and_then(|file| file.set_modified(SystemTime::UNIX_EPOCH + TIME_OF_SOURCES));
        copied.unwrap_or_else(|error| panic!("cannot copy {} to {}: {error}", from.display(), to.display()));
    }
}

/// The source that includes the images. Each has a section of libdime.so to itself, so that what a library holds can be
/// read without loading it: `.dime.sm_90`, and `.dime.compute_120` for PTX.
fn source(images: &[String], out_dir: &Path) -> String {
    let mut source = String::new();
    for (number, image) in images.iter().enumerate() {
        let file = out_dir.join(format!("{image}.zst"));
        let bytes = fs::metadata(&file).expect("it was just copied").len();
        writeln!(
            source,
            "#[unsafe(link_section = \".dime.{image}\")]\nstatic IMAGE_{number}: [u8; {bytes}] = *include_bytes!({:?});",
            file
        )
        .expect("a String takes everything");
    }
    let list: Vec<String> =
        images.iter().enumerate().map(|(number, image)| format!("({image:?}, &IMAGE_{number})")).collect();
    writeln!(source, "static PACKED: &[(&str, &[u8])] = &[{}];", list.join(", ")).expect("a String takes everything");
    source
}

impl Toolkit {
    fn find() -> Self {
        let named = env::var_os("DIME_NVRTC").filter(|path| !path.is_empty()).map(PathBuf::from);
        // Where `make` unpacks it from its Python package.
        let library = named.unwrap_or_else(|| "target/cuda/nvidia/cuda_nvrtc/lib/libnvrtc.so.12".into());
        assert!(
            library.is_file(),
            "no CUDA compiler: {} is no file. Three ways out:\n\
             1. `make` puts an NVRTC of CUDA 12.9 into target/cuda and builds with it;\n\
             2. set DIME_NVRTC to the path of a libnvrtc.so.12 (of CUDA 12.9 for all of {DEFAULT_ARCHS}; DIME_CUDA_ARCHS names fewer);\n\
             3. build with `--features forward-only`: no kernels, every call goes to NCCL.",
            library.display()
        );
        // In a toolkit's lib64, in its targets/x86_64-linux/lib, and beside the package of the compiler.
        let folder = library.parent().expect("a file lies in a folder");
        let candidates = ["../include", "../../include", "../../cuda_runtime/include"].map(|path| folder.join(path));
        let include = candidates
            .iter()
            .find(|folder| folder.join("cuda_fp16.h").is_file())
            .unwrap_or_else(|| panic!("no cuda_fp16.h beside {}: it is in none of {candidates:?}", library.display()));
        Self { include: include.clone(), library }
    }
}

//! The simulated node: where its libraries are, and programs that run on it with libdime.so in front.

use super::{Cc, Program, include_dir, install_as_libnccl, manifest_dir, test_file, tool_path};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The folder with the simulated libcuda.so.1 and libnccl.so.2, as built by `make sim`, or the one that DIME_SIM_DIR names.
pub fn sim_dir() -> PathBuf {
    let folder = std::env::var_os("DIME_SIM_DIR").map_or_else(|| manifest_dir().join("target/sim"), PathBuf::from);
    for library in ["libcuda.so.1", "libnccl.so.2"] {
        let path = folder.join(library);
        assert!(path.is_file(), "{} is missing: run make sim (or name another folder in DIME_SIM_DIR)", path.display());
    }
    std::fs::canonicalize(folder).expect("the path of the simulated node")
}

/// A program on the simulated node. What it is linked with is its own affair.
pub fn simulated(program: impl AsRef<Path>) -> Program {
    let folder = sim_dir();
    Program::new(program.as_ref())
        .env("LD_LIBRARY_PATH", &folder)
        .env("DIME_NCCL_LIB", folder.join("libnccl.so.2"))
        .env("DIME_DEBUG", "warn")
}

/// Compiles a program of ours so that its libnccl.so.2 is libdime.so.
pub fn build_with_dime(dir: &Path, source: &str) -> PathBuf {
    let libraries = install_as_libnccl(&dir.join("lib"));
    let name = Path::new(source).file_stem().expect("a source has a name");
    Cc::c()
        .include(include_dir())
        .arg(test_file(source))
        .args(["-pthread", "-ldl", "-lnccl", "-L"])
        .arg(&libraries)
        // The old kind of run path, which is searched before LD_LIBRARY_PATH: the simulated libnccl.so.2 lies there.
        .arg(format!("-Wl,--disable-new-dtags,-rpath,{}", libraries.display()))
        .build(dir.join(name))
}

/// What processes of this host can leave behind: shared memory and our abstract sockets.
pub struct Leftovers(BTreeSet<String>);

impl Leftovers {
    /// What there is now.
    pub fn now() -> Leftovers {
        let memory = std::fs::read_dir("/dev/shm").into_iter().flatten().flatten();
        let memory = memory.map(|entry| format!("/dev/shm/{}", entry.file_name().to_string_lossy()));
        let sockets = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
        let names = sockets.lines().filter_map(|line| line.split_whitespace().nth(7));
        let names = names.filter(|name| name.starts_with("@dime-")).map(str::to_owned);
        Leftovers(memory.chain(names).collect())
    }

    /// What there is now and was not before.
    pub fn new_since(&self) -> BTreeSet<String> {
        Leftovers::now().0.difference(&self.0).cloned().collect()
    }

    /// Fails when there is more now than before, and still is a little later: other programs come and go meanwhile.
    pub fn assert_nothing_new(&self) {
        // Communicators of other programs keep their sockets for as long as they have done no all-reduce.
        let deadline = Instant::now() + Duration::from_secs(180);
        let mut new = self.new_since();
        while !new.is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
            let now = Leftovers::now().0;
            new.retain(|name| now.contains(name));
        }
        assert!(new.is_empty(), "left behind: {new:?}");
    }
}

/// Another file that `make sim` builds beside the libraries.
pub fn sim_file(name: &str) -> PathBuf {
    let path = sim_dir().join(name);
    assert!(path.is_file(), "{} is missing: run make sim (or name another folder in DIME_SIM_DIR)", path.display());
    path
}

/// The tool `dime-qa` beside libdime.so, on a node with so many devices.
pub fn qa(devices: usize) -> Program {
    simulated(tool_path("dime-qa")).env("DIME_SIM_DEVICES", devices.to_string())
}

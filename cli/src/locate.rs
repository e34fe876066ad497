//! Finding libdime.so and the real NCCL.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::Fallible;
use crate::nccl::Library;

/// Options that say where the libraries are.
#[derive(clap::Args, Clone, Debug)]
pub struct Paths {
    /// libdime.so [default: beside this program]
    #[arg(long, value_name = "PATH")]
    pub dime: Option<PathBuf>,
    /// The real libnccl.so.2 [default: DIME_NCCL_LIB, else searched for]
    #[arg(long, value_name = "PATH")]
    pub nccl: Option<PathBuf>,
}

impl Paths {
    /// The path of libdime.so.
    pub fn find_dime(&self) -> Fallible<PathBuf> {
        if let Some(path) = &self.dime {
            return existing(path);
        }
        let program = std::env::current_exe().map_err(|e| e.to_string())?;
        let beside = program.with_file_name("libdime.so");
        existing(&beside).map_err(|e| format!("{e}; say --dime PATH"))
    }

    /// The path of the real NCCL.
    pub fn find_nccl(&self) -> Fallible<PathBuf> {
        if let Some(path) = &self.nccl {
            return existing(path);
        }
        if let Some(path) = std::env::var_os("DIME_NCCL_LIB").filter(|path| !path.is_empty()) {
            return existing(Path::new(&path));
        }
        let candidates = candidates();
        candidates.iter().find(|path| path.is_file() && !is_dime(path)).cloned().ok_or_else(|| {
            let list: Vec<String> = candidates.iter().map(|path| format!("  {}", path.display())).collect();
            format!("no libnccl.so.2 found; say --nccl PATH or set DIME_NCCL_LIB. Looked at:\n{}", list.join("\n"))
        })
    }

    /// The same with both paths found, so that the search happens once and before any fork.
    pub fn resolve(&self) -> Fallible<Paths> {
        Ok(Paths { dime: Some(self.find_dime()?), nccl: Some(self.find_nccl()?) })
    }

    /// Both libraries, loaded on the first call in this process. Call it after any fork, before the first CUDA call.
    pub fn libraries(&self) -> Fallible<&'static Libraries> {
        static LIBRARIES: OnceLock<Fallible<Libraries>> = OnceLock::new();
        LIBRARIES.get_or_init(|| self.load()).as_ref().map_err(Clone::clone)
    }

    /// Loads the real library first, and tells libdime.so where it is.
    fn load(&self) -> Fallible<Libraries> {
        let real = Library::real(&self.find_nccl()?)?;
        let path = real.path.to_str().ok_or("the path of the real NCCL is not UTF-8")?;
        // Other threads wait for this initialisation, so nobody reads the environment meanwhile.
        crate::team::set_variables(&[("DIME_NCCL_LIB", path)]);
        let dime = Library::dime(&self.find_dime()?)?;
        let (ours, theirs) = (dime.version()?, real.version()?);
        if ours != theirs {
            return Err(format!(
                "libdime.so answers ncclGetVersion with {ours}, {path} with {theirs}: it found another NCCL"
            ));
        }
        Ok(Libraries { dime, real })
    }
}

/// Both libraries, side by side.
pub struct Libraries {
    pub dime: Library,
    pub real: Library,
}

fn existing(path: &Path) -> Fallible<PathBuf> {
    std::fs::canonicalize(path).map_err(|e| format!("{}: {e}", path.display()))
}

/// Whether the file exports our marker symbol. Reads the file instead of loading it.
fn is_dime(path: &Path) -> bool {
    // The real library is hundreds of megabytes; ours is small.
    let small = std::fs::metadata(path).is_ok_and(|data| data.len() < 64 << 20);
    small && std::fs::read(path).is_ok_and(|bytes| bytes.windows(12).any(|window| window == b"dimeVersion\0"))
}

/// Places where the real NCCL may be, best first.
fn candidates() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for variable in ["VIRTUAL_ENV", "CONDA_PREFIX"] {
        if let Some(prefix) = std::env::var_os(variable) {
            let libraries = std::fs::read_dir(Path::new(&prefix).join("lib")).into_iter().flatten().flatten();
            let pythons = libraries.filter(|entry| entry.file_name().to_string_lossy().starts_with("python"));
            found.extend(pythons.map(|entry| entry.path().join("site-packages/nvidia/nccl/lib/libnccl.so.2")));
        }
    }
    found.extend(from_python());
    for folder in std::env::var_os("LD_LIBRARY_PATH").iter().flat_map(std::env::split_paths) {
        found.push(folder.join("libnccl.so.2"));
    }
    for folder in
        ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/local/lib", "/usr/lib64", "/usr/lib"]
    {
        found.push(Path::new(folder).join("libnccl.so.2"));
    }
    found
}

fn from_python() -> Option<PathBuf> {
    let question = "import nvidia.nccl as n; print(list(n.__path__)[0])";
    let output = Command::new("python3").args(["-c", question]).env_remove("LD_PRELOAD").output().ok()?;
    let folder = String::from_utf8(output.stdout).ok()?;
    let folder = folder.trim();
    (!folder.is_empty()).then(|| Path::new(folder).join("lib/libnccl.so.2"))
}

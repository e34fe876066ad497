//! A Python interpreter: which environment it runs in, which packages lie there, and which NCCL Dime finds inside it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use dime_harness::Fallible;

use crate::doctor::child::{self, LIMIT};
use crate::doctor::program::{Program, find_in_path};

/// Nothing is imported that could lie in the current folder.
const ASK_PATHS: &str = "import sys
print(sys.prefix)
for folder in sys.path:
    if folder: print(folder)";

/// Opens libdime.so and has it search; the last line is the outcome.
const ASK_NCCL: &str = "import sys
sys.path = [folder for folder in sys.path if folder]
import ctypes
dime = ctypes.CDLL(sys.argv[1])
dime.dimeRealLibrary.restype = dime.ncclGetLastError.restype = ctypes.c_char_p
dime.ncclGetLastError.argtypes = [ctypes.c_void_p]
version = ctypes.c_int(0)
code = dime.ncclGetVersion(ctypes.byref(version))
path = dime.dimeRealLibrary()
if path is not None and code == 0: print('\\nfound=' + path.decode(errors='replace'))
else: print('\\nnone=' + (dime.ncclGetLastError(None) or b'').decode(errors='replace'))";

/// An interpreter and where it looks for packages.
pub struct Python {
    /// The interpreter.
    pub program: Program,
    /// The root of its environment.
    pub prefix: PathBuf,
    folders: Vec<PathBuf>,
}

/// A package that is installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its version.
    pub version: String,
    /// The folder that it lies in.
    pub folder: PathBuf,
}

impl Python {
    /// The interpreter that a program is.
    pub fn of_program(program: Program) -> Fallible<Self> {
        let output = child::run(program.command(&program.path).args(["-c", ASK_PATHS]), LIMIT)?;
        let mut lines = output.stdout.lines().map(PathBuf::from);
        let failed = || {
            let last = output.stderr.lines().last().unwrap_or_default();
            format!("{} {}: {last}", program.path.display(), child::ending(output.status))
        };
        if !output.status.success() {
            return Err(failed());
        }
        let prefix = lines.next().ok_or_else(failed)?;
        let folders = lines.collect();
        Ok(Self { program, prefix, folders })
    }

    /// The interpreter of the environment that is active here, else the first on the PATH. None: there is no Python.
    pub fn active() -> Option<Fallible<Self>> {
        let environment = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let of_environment = ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(environment);
        let candidates = of_environment.map(|prefix| Path::new(&prefix).join("bin/python").into_os_string());
        let candidates = candidates.chain(["python3", "python"].map(Into::into));
        let path = std::env::var_os("PATH");
        let found = candidates.filter_map(|name| find_in_path(&name, path.as_deref()).ok()).next()?;
        Some(Program::of_command(&[found.into_os_string()]).and_then(Self::of_program))
    }

    /// A package, by the name of its metadata folder. Nothing is imported.
    pub fn package(&self, name: &str) -> Option<Package> {
        self.folders.iter().find_map(|folder| {
            let entries = std::fs::read_dir(folder).ok()?.flatten();
            let mut versions = entries.filter_map(|entry| version_of(&entry.file_name(), name));
            versions.next().map(|version| Package { version, folder: folder.clone() })
        })
    }

    /// A file among its packages.
    pub fn find(&self, file: &str) -> Option<PathBuf> {
        self.folders.iter().map(|folder| folder.join(file)).find(|path| path.is_file())
    }

    /// The NCCL that this libdime.so finds in a process of this interpreter; else what it says about the search.
    pub fn ask_nccl(&self, dime: &Path) -> Fallible<PathBuf> {
        let mut command = self.program.command(&self.program.path);
        command.args(["-c", ASK_NCCL]).arg(dime).env("DIME_DEBUG", "none");
        for name in ["DIME_DEBUG_FILE", "NCCL_DEBUG_FILE", "DIME_STATS_FILE"] {
            command.env_remove(name);
        }
        let output = child::run(&mut command, LIMIT)?;
        if let Some((_, path)) = output.stdout.rsplit_once("\nfound=") {
            return Ok(path.trim_end_matches('\n').into());
        }
        match output.stdout.rsplit_once("\nnone=") {
            Some((_, why)) => Err(why.trim_end().to_owned()),
            None => {
                let last = output.stderr.lines().last().unwrap_or_default();
                Err(format!("libdime.so could not be tried in {}: {last}", self.program.path.display()))
            }
        }
    }
}

/// The version in the name of a metadata folder, `torch-2.9.0+cu128.dist-info`, if that is the package's.
fn version_of(folder: &OsStr, name: &str) -> Option<String> {
    let folder = std::str::from_utf8(folder.as_bytes()).ok()?;
    let (found, version) = folder.strip_suffix(".dist-info")?.split_once('-')?;
    let same = found.to_ascii_lowercase().replace(['-', '.'], "_") == name;
    same.then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metadata_folder_names_package_and_version() {
        let version = |folder: &str, name: &str| version_of(OsStr::new(folder), name);
        assert_eq!(version("torch-2.9.0+cu128.dist-info", "torch").as_deref(), Some("2.9.0+cu128"));
        assert_eq!(version("tensorrt_llm-1.0.dist-info", "tensorrt_llm").as_deref(), Some("1.0"));
        assert_eq!(version("TensorRT.LLM-1.0.dist-info", "tensorrt_llm").as_deref(), Some("1.0"));
        for other in ["torchvision-0.2.dist-info", "torch", "torch-2.9.0", "torch.dist-info"] {
            assert_eq!(version(other, "torch"), None, "{other}");
        }
    }
}

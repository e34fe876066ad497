//! Finding libdime.so and the real NCCL. There is one search for NCCL, that of libdime.so: this asks it.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::Fallible;
use crate::nccl::Library;
use crate::team::{ask_child, set_variables};

#[path = "../../src/real/library_file.rs"]
mod library_file;

/// Options that say where the libraries are.
#[derive(clap::Args, Clone, Debug)]
pub struct Paths {
    /// libdime.so [default: beside this program, else where its package has it]
    #[arg(long, value_name = "PATH")]
    pub dime: Option<PathBuf>,
    /// The real libnccl.so.2 [default: DIME_NCCL_LIB, else what libdime.so finds]
    #[arg(long, value_name = "PATH")]
    pub nccl: Option<PathBuf>,
}

impl Paths {
    /// The file that is to be libdime.so: absolute, with links as they were given. It is a shared library for this machine.
    pub fn dime_file(&self) -> Fallible<PathBuf> {
        let path = match &self.dime {
            Some(path) => path.clone(),
            None => library_of(&std::env::current_exe().map_err(|error| error.to_string())?),
        };
        let absolute = std::path::absolute(&path).map_err(|error| not_dime(&path, &error.to_string()))?;
        library_file::check(&absolute).map_err(|unfit| not_dime(&path, &unfit.to_string()))?;
        Ok(absolute)
    }

    /// The same file. It can be loaded, and is libdime.so.
    pub fn find_dime(&self) -> Fallible<PathBuf> {
        let file = self.dime_file()?;
        ask_child(|| Library::dime(&file).map(|_| Vec::new())).map_err(|reason| not_dime(&file, &reason))?;
        Ok(file)
    }

    /// The path of the real NCCL, which libdime.so has opened as one.
    pub fn find_nccl(&self) -> Fallible<PathBuf> {
        let dime = self.find_dime()?;
        let Some(path) = &self.nccl else {
            return ask_dime(&dime, None).map_err(|error| format!("{error}\nHere, --nccl PATH names it too."));
        };
        let refused = |reason: &str| format!("{}: {reason}; name a libnccl.so.2 with --nccl PATH", path.display());
        let absolute =
            std::fs::canonicalize(path).map_err(|error| refused(&library_file::Unfit::from(error).to_string()))?;
        ask_dime(&dime, Some(&absolute)).map_err(|error| {
            // The line about this file, which libdime.so writes after its path; all of it if there is no such line.
            let about_it =
                error.split_once(&format!("{}: ", absolute.display())).and_then(|(_, rest)| rest.lines().next());
            refused(about_it.unwrap_or(&error))
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
        let (Some(dime), Some(nccl)) = (&self.dime, &self.nccl) else {
            return Err("the paths of the libraries were not resolved".to_owned());
        };
        let named = |path: &Path| {
            let path = path.display().to_string();
            move |error: String| format!("{path}: {error}")
        };
        let real = Library::real(nccl).map_err(named(nccl))?;
        let path = real.path.to_str().ok_or("the path of the real NCCL is not UTF-8")?;
        // Other threads wait for this initialisation, so nobody reads the environment meanwhile.
        set_variables(&[("DIME_NCCL_LIB", path)]);
        let dime = Library::dime(dime).map_err(named(dime))?;
        let (ours, theirs) = (dime.version()?, real.version()?);
        if ours != theirs {
            return Err(format!(
                "libdime.so answers ncclGetVersion with {ours}, {path} with {theirs}: it found another NCCL"
            ));
        }
        Ok(Libraries { dime, real })
    }
}

/// Where a package has libdime.so when its tool is in the folder bin: the Python package, the archive, Debian's package.
const PACKAGED: [&str; 3] = ["lib/libdime.so", "lib/dime/libdime.so", "lib/x86_64-linux-gnu/dime/libdime.so"];

/// The libdime.so that belongs to a tool: the one beside it, else that of its package. The tool's path is to be without links.
pub fn library_of(tool: &Path) -> PathBuf {
    let beside = tool.with_file_name("libdime.so");
    let prefix = tool.parent().and_then(Path::parent).filter(|_| !beside.exists());
    let mut packaged = prefix.into_iter().flat_map(|prefix| PACKAGED.map(|path| prefix.join(path)));
    packaged.find(|path| path.exists()).unwrap_or(beside)
}

fn not_dime(path: &Path, reason: &str) -> String {
    format!("{}: {reason}; name libdime.so with --dime PATH", path.display())
}

/// Both libraries, side by side.
pub struct Libraries {
    /// libdime.so, which uses the NCCL beside it.
    pub dime: Library,
    /// The real NCCL.
    pub real: Library,
}

/// Asks libdime.so which NCCL it uses, or whether it uses this one. In a child: it decides once in a process.
fn ask_dime(dime: &Path, nccl: Option<&Path>) -> Fallible<PathBuf> {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let answer = ask_child(|| {
        // Its log is for the program that is to run. Here the last error says the same.
        be_silent()?;
        set_variables(&[("DIME_DEBUG_FILE", ""), ("NCCL_DEBUG_FILE", ""), ("DIME_STATS_FILE", "")]);
        if let Some(nccl) = nccl {
            // SAFETY: this child has one thread.
            unsafe { std::env::set_var("DIME_NCCL_LIB", nccl) };
        }
        Library::dime(dime)?.real_library().map(|path| path.as_os_str().as_bytes().to_vec())
    })?;
    Ok(std::ffi::OsString::from_vec(answer).into())
}

/// Sends standard output and standard error of this process to nowhere.
fn be_silent() -> Fallible<()> {
    use std::os::fd::AsRawFd;
    let nowhere =
        std::fs::File::options().write(true).open("/dev/null").map_err(|error| format!("/dev/null: {error}"))?;
    for stream in [libc::STDOUT_FILENO, libc::STDERR_FILENO] {
        // SAFETY: both are descriptors; what the second was is closed.
        if unsafe { libc::dup2(nowhere.as_raw_fd(), stream) } < 0 {
            return Err(format!("dup2: {}", std::io::Error::last_os_error()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_finds_its_library_in_each_layout() {
        let root = std::env::temp_dir().join(format!("dime-locate-{}", std::process::id()));
        std::fs::create_dir_all(&root).expect("a folder");
        let root = root.canonicalize().expect("its path");
        let tool = root.join("bin/dime");
        std::fs::create_dir_all(root.join("bin")).expect("a folder");
        assert_eq!(library_of(&tool), root.join("bin/libdime.so"), "the path that an error names");
        // From the last to the first, so that each is found before those that are there already.
        for folder in ["lib/x86_64-linux-gnu/dime", "lib/dime", "lib", "bin"] {
            let library = root.join(folder).join("libdime.so");
            std::fs::create_dir_all(root.join(folder)).expect("a folder");
            std::fs::write(&library, "").expect("a file");
            assert_eq!(library_of(&tool), library);
        }
        std::fs::remove_dir_all(root).expect("the folder goes");
    }
}

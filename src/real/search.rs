//! Where the real NCCL may be. Pure: what is known about the process comes in as [`Surroundings`], places come out in the
//! order in which they are tried. Only the file system is read.

use std::cmp::Reverse;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The name that programs ask the loader for.
const LIBRARY: &str = "libnccl.so.2";
/// Where the Python packages put NCCL, seen from the folder that holds all packages.
const IN_PACKAGES: &str = "nvidia/nccl/lib";
/// Folders that the loader knows by itself.
const LOADER_FOLDERS: &[&str] = &[
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
];

/// What the search knows about the process.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// DIME_NCCL_LIB.
    pub configured: Option<PathBuf>,
    /// Libraries mapped into the process, without this one.
    pub mapped: Vec<PathBuf>,
    /// Run paths of the program and of libraries that need NCCL.
    pub run_paths: Vec<PathBuf>,
    /// LD_LIBRARY_PATH.
    pub library_path: Option<OsString>,
    /// VIRTUAL_ENV.
    pub virtual_env: Option<PathBuf>,
    /// CONDA_PREFIX.
    pub conda_prefix: Option<PathBuf>,
    /// The running program, by the name it was started with and by the file that is executed.
    pub programs: Vec<PathBuf>,
    /// The loader's configuration file.
    pub loader_configuration: PathBuf,
    /// Folders of the loader that are in no configuration file.
    pub loader_folders: Vec<PathBuf>,
}

/// One place, with the files there that may be NCCL.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    /// What the place is, for the log.
    pub what: String,
    /// Files to try in this order. They exist, unless the user named them.
    pub files: Vec<PathBuf>,
}

impl Surroundings {
    /// Looks at the process as it is now.
    pub fn of_this_process(configured: Option<PathBuf>, mapped: Vec<PathBuf>, run_paths: Vec<PathBuf>) -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        Self {
            configured,
            mapped,
            run_paths,
            library_path: variable("LD_LIBRARY_PATH"),
            virtual_env: variable("VIRTUAL_ENV").map(PathBuf::from),
            conda_prefix: variable("CONDA_PREFIX").map(PathBuf::from),
            programs: running_programs(variable("PATH")),
            loader_configuration: "/etc/ld.so.conf".into(),
            loader_folders: LOADER_FOLDERS.iter().map(PathBuf::from).collect(),
        }
    }
}

/// All places, best first. A place that the user configured is the only one: a wrong setting must show, not be papered over.
pub fn places(surroundings: &Surroundings) -> Vec<Place> {
    if let Some(path) = &surroundings.configured {
        return vec![Place { what: "DIME_NCCL_LIB".to_owned(), files: vec![path.clone()] }];
    }
    let mut places = vec![Place {
        what: "libraries mapped into this process".to_owned(),
        files: surroundings.mapped.iter().filter(|path| is_nccl_name(path)).cloned().collect(),
    }];

    places.push(Place {
        what: "beside the frameworks mapped into this process".to_owned(),
        files: distinct(surroundings.mapped.iter().filter(|path| is_framework(path)).flat_map(|path| {
            // Some frameworks lie one folder deeper than others.
            path.ancestors()
                .skip(2)
                .take(4)
                .flat_map(|folder| nccl_files_in(&folder.join(IN_PACKAGES)))
                .collect::<Vec<_>>()
        })),
    });

    for folder in surroundings.library_path.iter().flat_map(std::env::split_paths) {
        // An empty entry means the current folder to the loader. Not to us: what lies there is chance.
        if !folder.as_os_str().is_empty() {
            places.push(Place { what: format!("LD_LIBRARY_PATH {}", folder.display()), files: nccl_files_in(&folder) });
        }
    }

    let run_paths = distinct(surroundings.run_paths.iter().cloned());
    if !run_paths.is_empty() {
        places.push(Place {
            what: format!("run paths of what needs NCCL here ({})", listed(&run_paths)),
            files: run_paths.iter().flat_map(|folder| nccl_files_in(folder)).collect(),
        });
    }

    for (name, prefix) in [("VIRTUAL_ENV", &surroundings.virtual_env), ("CONDA_PREFIX", &surroundings.conda_prefix)] {
        let Some(prefix) = prefix else { continue };
        let mut files: Vec<PathBuf> =
            packages_below(prefix).flat_map(|p| nccl_files_in(&p.join(IN_PACKAGES))).collect();
        files.extend(nccl_files_in(&prefix.join("lib")));
        places.push(Place { what: format!("{name} {}", prefix.display()), files });
    }

    let of_programs =
        surroundings.programs.iter().filter_map(|program| program.parent()?.parent()).flat_map(packages_below);
    let of_modules = surroundings.mapped.iter().filter_map(|path| packages_above(path));
    let packages = distinct(of_programs.chain(of_modules));
    places.push(Place {
        what: format!("Python packages of the running program ({})", listed(&packages)),
        files: packages.iter().flat_map(|packages| nccl_files_in(&packages.join(IN_PACKAGES))).collect(),
    });

    let mut folders = Vec::new();
    configured_loader_folders(&surroundings.loader_configuration, &mut Vec::new(), &mut folders);
    folders.extend(surroundings.loader_folders.iter().cloned());
    let folders = distinct(folders.into_iter().filter(|folder| folder.is_dir()));
    places.push(Place {
        what: format!("folders of the loader ({})", listed(&folders)),
        files: folders.iter().flat_map(|folder| nccl_files_in(folder)).collect(),
    });
    places
}

/// Files of a folder that are NCCL by name: the name that programs ask for first, then versions, the newest first.
///
/// Versions count because whoever puts this library in the place of libnccl.so.2 leaves the real one under another name.
fn nccl_files_in(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| is_nccl_name(path))
        .collect();
    files.sort_by_key(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let version: Vec<u32> = name.split('.').filter_map(|part| part.parse().ok()).collect();
        (name != LIBRARY, Reverse(version))
    });
    files
}

fn is_nccl_name(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_bytes();
    let Some(version) = name.strip_prefix(b"libnccl.so") else { return false };
    version.is_empty() || version.starts_with(b".")
}

fn is_framework(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with("libtorch_cuda")
        || name.contains("xla_cuda_plugin")
        || path.components().any(|part| part.as_os_str().to_string_lossy().starts_with("cupy"))
}

/// The folder of Python packages that a file lies in.
fn packages_above(path: &Path) -> Option<PathBuf> {
    path.ancestors().find(|folder| folder.file_name().is_some_and(is_packages_name)).map(Path::to_owned)
}

fn is_packages_name(name: &OsStr) -> bool {
    name == "site-packages" || name == "dist-packages"
}

/// Folders of Python packages of an installation at `prefix`.
fn packages_below(prefix: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let mut folders = Vec::new();
    for lib in ["lib", "lib64", "local/lib"] {
        for entry in fs::read_dir(prefix.join(lib)).into_iter().flatten().flatten() {
            if entry.file_name().as_bytes().starts_with(b"python3") {
                folders.extend(["site-packages", "dist-packages"].map(|name| entry.path().join(name)));
            }
        }
    }
    folders.retain(|folder| folder.is_dir());
    // Newest Python first, and the same order every time.
    folders.sort_by(|a, b| b.cmp(a));
    folders.into_iter()
}

/// Reads the loader's configuration: a folder a line, and `include` lines whose last part may hold one `*`. Paths are bytes, and so
/// is the file: a comment in some other encoding must not cost the rest. `read` has the files that were read, links resolved.
fn configured_loader_folders(file: &Path, read: &mut Vec<PathBuf>, folders: &mut Vec<PathBuf>) {
    let Ok(resolved) = fs::canonicalize(file) else { return };
    // Each once: includes that lead in a circle must end, and soon.
    if read.contains(&resolved) {
        return;
    }
    read.push(resolved);
    let text = fs::read(file).unwrap_or_default();
    for line in text.split(|byte| *byte == b'\n') {
        let line = line.split(|byte| *byte == b'#').next().unwrap_or_default().trim_ascii();
        if let Some(patterns) =
            line.strip_prefix(b"include").filter(|rest| rest.starts_with(b" ") || rest.starts_with(b"\t"))
        {
            for pattern in patterns.split(u8::is_ascii_whitespace).filter(|pattern| !pattern.is_empty()) {
                let pattern = file.parent().unwrap_or(Path::new("/")).join(OsStr::from_bytes(pattern));
                for included in files_matching(&pattern) {
                    configured_loader_folders(&included, read, folders);
                }
            }
        } else if line.starts_with(b"/") {
            folders.push(OsStr::from_bytes(line).into());
        }
    }
}

fn files_matching(pattern: &Path) -> Vec<PathBuf> {
    let (Some(folder), Some(name)) = (pattern.parent(), pattern.file_name()) else { return Vec::new() };
    let name = name.to_string_lossy();
    let Some((before, after)) = name.split_once('*') else { return vec![pattern.to_owned()] };
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.len() >= before.len() + after.len() && name.starts_with(before) && name.ends_with(after)
        })
        .map(|entry| entry.path())
        .collect();
    files.sort();
    files
}

/// The program by the name it was started with, which still shows a virtual environment, and by the file behind it.
fn running_programs(path: Option<OsString>) -> Vec<PathBuf> {
    let mut programs = Vec::new();
    let arguments = fs::read("/proc/self/cmdline").unwrap_or_default();
    let name = arguments.split(|byte| *byte == 0).next().unwrap_or_default();
    if name.contains(&b'/') {
        programs.extend(std::path::absolute(OsStr::from_bytes(name)));
    } else if !name.is_empty() {
        let on_path = path.iter().flat_map(std::env::split_paths).map(|folder| folder.join(OsStr::from_bytes(name)));
        programs.extend(on_path.filter(|program| program.is_file()).take(1));
    }
    programs.extend(fs::read_link("/proc/self/exe"));
    distinct(programs)
}

fn distinct(paths: impl IntoIterator<Item = PathBuf>) -> Vec<PathBuf> {
    let mut kept: Vec<PathBuf> = Vec::new();
    for path in paths {
        if !kept.contains(&path) {
            kept.push(path);
        }
    }
    kept
}

fn listed(paths: &[PathBuf]) -> String {
    if paths.is_empty() {
        return "none".to_owned();
    }
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of its own for a test, gone at its end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("dime-search-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir_all(&folder).expect("the temporary folder is writable");
            Self(folder)
        }

        fn file(&self, path: &str, text: impl AsRef<[u8]>) -> PathBuf {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().expect("below the folder")).expect("the temporary folder is writable");
            fs::write(&path, text).expect("the temporary folder is writable");
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// All files below the folder that would be tried, in order.
    fn found(folder: &Folder, surroundings: &Surroundings) -> Vec<PathBuf> {
        let files = places(surroundings).into_iter().flat_map(|place| place.files);
        distinct(files.filter(|file| file.starts_with(&folder.0)))
    }

    #[test]
    fn a_configured_path_is_the_only_place() {
        let surroundings = Surroundings {
            configured: Some("/nowhere/libnccl.so.2".into()),
            mapped: vec!["/x/libnccl.so.2".into()],
            ..Surroundings::default()
        };
        let places = places(&surroundings);
        assert_eq!(places.len(), 1);
        assert_eq!(places[0].files, [PathBuf::from("/nowhere/libnccl.so.2")]);
    }

    #[test]
    fn places_are_tried_in_the_documented_order() {
        let folder = Folder::new("order");
        let library = |path: &str| folder.file(path, "");
        let mapped = library("mapped/libnccl.so.2");
        let beside = library("torch-env/site-packages/nvidia/nccl/lib/libnccl.so.2");
        let on_path = library("on-path/libnccl.so.2");
        let on_run_path = library("run-path/libnccl.so.2");
        let of_venv = library("venv/lib/python3.11/site-packages/nvidia/nccl/lib/libnccl.so.2");
        let of_conda = library("conda/lib/libnccl.so.2");
        let of_program = library("usr/lib/python3.12/site-packages/nvidia/nccl/lib/libnccl.so.2");
        let of_loader = library("opt/libnccl.so.2");
        let of_system = library("lib/libnccl.so.2");
        let configuration = folder.file("ld.so.conf", "include conf.d/*.conf\n");
        folder.file("conf.d/opt.conf", format!("# comment\n{}\n", folder.0.join("opt").display()));
        let surroundings = Surroundings {
            configured: None,
            mapped: vec![folder.0.join("torch-env/site-packages/torch/lib/libtorch_cuda.so"), mapped.clone()],
            run_paths: vec![folder.0.join("nowhere"), folder.0.join("run-path")],
            library_path: Some(format!(":{}", folder.0.join("on-path").display()).into()),
            virtual_env: Some(folder.0.join("venv")),
            conda_prefix: Some(folder.0.join("conda")),
            programs: vec![folder.0.join("usr/bin/python3")],
            loader_configuration: configuration,
            loader_folders: vec![folder.0.join("lib")],
        };
        assert_eq!(
            found(&folder, &surroundings),
            [mapped, beside, on_path, on_run_path, of_venv, of_conda, of_program, of_loader, of_system]
        );
    }

    #[test]
    fn the_asked_for_name_comes_before_versions_and_those_from_the_newest() {
        let folder = Folder::new("versions");
        for name in
            ["libnccl.so.2.9.1", "libnccl.so.2", "libnccl.so.2.27.5", "libnccl.so", "libnccl-net.so", "libnccl.so2"]
        {
            folder.file(name, "");
        }
        let names: Vec<_> = nccl_files_in(&folder.0)
            .iter()
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(names, ["libnccl.so.2", "libnccl.so.2.27.5", "libnccl.so.2.9.1", "libnccl.so"]);
    }

    fn configured(file: &Path) -> Vec<PathBuf> {
        let mut folders = Vec::new();
        configured_loader_folders(file, &mut Vec::new(), &mut folders);
        folders
    }

    #[test]
    fn a_configuration_is_read_once_however_often_and_by_whatever_name_it_includes_itself() {
        let folder = Folder::new("loop");
        let name = folder.0.file_name().expect("a name").to_string_lossy().into_owned();
        let include = format!("include *.conf ./a.conf ../{name}/b.conf\n").repeat(50);
        for file in ["a", "b", "c"] {
            folder.file(&format!("{file}.conf"), format!("{include}/{file}\n"));
        }
        let mut folders = configured(&folder.0.join("a.conf"));
        folders.sort();
        assert_eq!(folders, ["/a", "/b", "/c"].map(PathBuf::from));
    }

    #[test]
    fn a_configuration_need_not_be_utf8() {
        let folder = Folder::new("bytes");
        let configuration = folder.file("ld.so.conf", b"# \xfcber\n/first\n/se\xe7ond\r\n");
        assert_eq!(configured(&configuration), [Path::new("/first"), Path::new(OsStr::from_bytes(b"/se\xe7ond"))]);
    }
}

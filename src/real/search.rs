//! Where the real NCCL may be. Pure: what is known about the process comes in as [`Surroundings`], places come out in
//! the order in which they are tried. Only the file system is read.

use std::cmp::Reverse;
use std::ffi::{OsStr, OsString};
use std::fmt;
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
    /// Libraries mapped into the process.
    pub mapped: Vec<PathBuf>,
    /// The program and the libraries that may ask the loader for NCCL, the most likely first.
    pub callers: Vec<Caller>,
    /// LD_LIBRARY_PATH.
    pub library_path: Option<OsString>,
    /// VIRTUAL_ENV.
    pub virtual_env: Option<PathBuf>,
    /// CONDA_PREFIX.
    pub conda_prefix: Option<PathBuf>,
    /// The running program, by the name it was started with and by the file that is executed.
    pub programs: Vec<PathBuf>,
    /// The loader's list of libraries, as ldconfig writes it.
    pub loader_cache: PathBuf,
    /// The configuration file that ldconfig reads.
    pub loader_configuration: PathBuf,
    /// Folders of the loader that are in no configuration file.
    pub loader_folders: Vec<PathBuf>,
}

/// A program or library, and where the loader searches for what it asks for.
#[derive(Debug, Default)]
pub struct Caller {
    /// It is linked with NCCL or made the first call. Any other may have asked for NCCL too, or may do so later.
    pub is_known: bool,
    /// It has a DT_RUNPATH, so no DT_RPATH counts for it.
    pub has_runpath: bool,
    /// The loader's folders for it, in the loader's order: DT_RPATH, LD_LIBRARY_PATH, DT_RUNPATH, those of the system.
    pub folders: Vec<PathBuf>,
}

/// One place to search, with the files that may be NCCL.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// What the place is, for the log.
    pub what: String,
    /// Files that are known by name.
    pub named: Vec<PathBuf>,
    /// Folders in which NCCL may lie.
    pub folders: Vec<PathBuf>,
}

impl Place {
    /// Files to try in this order. Those from folders exist.
    pub fn files(&self) -> Vec<PathBuf> {
        let in_folders = self.folders.iter().flat_map(|folder| nccl_files_in(folder));
        distinct(self.named.iter().cloned().chain(in_folders))
    }
}

/// The place and its folders.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        for (index, folder) in self.folders.iter().enumerate() {
            write!(f, "{}{}", if index == 0 { " (" } else { ", " }, folder.display())?;
        }
        f.write_str(if self.folders.is_empty() { "" } else { ")" })
    }
}

impl Surroundings {
    /// Looks at the process as it is now.
    pub fn of_this_process(configured: Option<PathBuf>, mapped: Vec<PathBuf>, callers: Vec<Caller>) -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        Self {
            configured,
            mapped,
            callers,
            library_path: variable("LD_LIBRARY_PATH"),
            virtual_env: variable("VIRTUAL_ENV").map(PathBuf::from),
            conda_prefix: variable("CONDA_PREFIX").map(PathBuf::from),
            programs: running_programs(variable("PATH")),
            loader_cache: "/etc/ld.so.cache".into(),
            loader_configuration: "/etc/ld.so.conf".into(),
            loader_folders: LOADER_FOLDERS.iter().map(PathBuf::from).collect(),
        }
    }

    /// LD_LIBRARY_PATH as a list. To the loader an empty entry means the current folder. Dime ignores it, since what
    /// lies there is arbitrary.
    fn library_path(&self) -> Vec<PathBuf> {
        let text = self.library_path.as_deref().unwrap_or_default().as_bytes();
        let entries = text.split(|byte| matches!(byte, b':' | b';')).filter(|entry| !entry.is_empty());
        distinct(entries.map(|entry| PathBuf::from(OsStr::from_bytes(entry))))
    }
}

/// All places, best first. A configured path is the only place: a wrong setting must be noticed, not hidden by
/// another find.
pub fn places(surroundings: &Surroundings) -> Vec<Place> {
    if let Some(path) = &surroundings.configured {
        return vec![Place { what: "DIME_NCCL_LIB".to_owned(), named: vec![path.clone()], folders: Vec::new() }];
    }
    let named =
        |what: &str, named: Vec<PathBuf>| Place { what: what.to_owned(), named: distinct(named), folders: Vec::new() };
    let folders = |what: &str, folders: Vec<PathBuf>| Place {
        what: what.to_owned(),
        named: Vec::new(),
        folders: distinct(folders),
    };
    let mapped = &surroundings.mapped;
    let mut places = vec![
        named("libraries mapped into this process", mapped.iter().filter(|path| is_nccl_name(path)).cloned().collect()),
        // Some frameworks lie one folder deeper than others.
        named(
            "beside the frameworks mapped into this process",
            mapped
                .iter()
                .filter(|path| is_framework(path))
                .flat_map(|path| path.ancestors().skip(2).take(4))
                .flat_map(|folder| nccl_files_in(&folder.join(IN_PACKAGES)))
                .collect(),
        ),
    ];

    let library_path = surroundings.library_path();
    let (rpath, runpath) = run_paths(surroundings, &library_path, true);
    let (other_rpath, other_runpath) = run_paths(surroundings, &library_path, false);
    let mut others = [other_rpath, other_runpath].concat();
    others.retain(|folder| !rpath.contains(folder) && !runpath.contains(folder));
    places.push(folders("DT_RPATH for what uses NCCL here", rpath));
    for folder in library_path {
        places.push(folders("LD_LIBRARY_PATH", vec![folder]));
    }
    places.push(folders("DT_RUNPATH of what uses NCCL here", runpath));

    // The environment that the program runs from is certain. The variables only say which one a shell had activated.
    let prefixes =
        distinct(surroundings.programs.iter().filter_map(|program| Some(program.parent()?.parent()?.into())));
    let (environments, installations): (Vec<_>, Vec<_>) =
        prefixes.into_iter().partition(|prefix| is_environment(prefix));
    for prefix in &environments {
        places.push(folders("environment of the running program", folders_of_prefix(prefix)));
    }
    for (name, prefix) in [("VIRTUAL_ENV", &surroundings.virtual_env), ("CONDA_PREFIX", &surroundings.conda_prefix)] {
        let Some(prefix) = prefix else { continue };
        places.push(folders(&format!("{name} {}", prefix.display()), folders_of_prefix(prefix)));
    }
    places.push(folders("run paths of the program and all its libraries", others));
    let mut installed: Vec<PathBuf> = installations.iter().flat_map(|prefix| folders_of_prefix(prefix)).collect();
    installed.extend(mapped.iter().filter_map(|path| packages_above(path)).map(|packages| packages.join(IN_PACKAGES)));
    // Those come last.
    installed.retain(|folder| !surroundings.loader_folders.contains(folder));
    places.push(folders("installation of the running program", installed));

    places.push(named(&surroundings.loader_cache.display().to_string(), cached_files(&surroundings.loader_cache)));
    let mut of_loader = Vec::new();
    configured_loader_folders(&surroundings.loader_configuration, &mut Vec::new(), &mut of_loader);
    of_loader.extend(surroundings.loader_folders.iter().cloned());
    of_loader.retain(|folder| folder.is_dir());
    places.push(folders("folders of the loader", of_loader));
    places
}

/// The folders of DT_RPATH, which the loader searches before LD_LIBRARY_PATH, and those of DT_RUNPATH, which it
/// searches after it: of the callers with this `known`.
///
/// The loader returns one list for each caller. The loader's own folders and those of LD_LIBRARY_PATH are cut off,
/// since they are separate places.
fn run_paths(surroundings: &Surroundings, library_path: &[PathBuf], known: bool) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let is_of_library_path = |folder: &PathBuf| library_path.contains(folder);
    let (mut rpath, mut runpath) = (Vec::new(), Vec::new());
    for caller in surroundings.callers.iter().filter(|caller| caller.is_known == known) {
        let mut folders = caller.folders.as_slice();
        while let Some((last, rest)) = folders.split_last()
            && surroundings.loader_folders.contains(last)
        {
            folders = rest;
        }
        if caller.has_runpath {
            runpath.extend(folders.iter().filter(|folder| !is_of_library_path(folder)).cloned());
            continue;
        }
        // A folder may be in both, so only as many are cut off as LD_LIBRARY_PATH has.
        for _ in library_path {
            match folders.split_last() {
                Some((last, rest)) if is_of_library_path(last) => folders = rest,
                _ => break,
            }
        }
        rpath.extend_from_slice(folders);
    }
    // Relative paths depend on the current folder, and what lies there is arbitrary.
    [&mut rpath, &mut runpath].into_iter().for_each(|list| list.retain(|folder| folder.is_absolute()));
    (rpath, runpath)
}

/// Whether this is an environment of Python's venv or of conda.
fn is_environment(prefix: &Path) -> bool {
    ["pyvenv.cfg", "conda-meta"].iter().any(|mark| prefix.join(mark).exists())
}

/// Where NCCL lies in an installation of Python at `prefix`: among its packages, or among its libraries.
fn folders_of_prefix(prefix: &Path) -> Vec<PathBuf> {
    let packages = packages_below(prefix).map(|packages| packages.join(IN_PACKAGES));
    packages.chain(["lib", "lib64"].map(|lib| prefix.join(lib))).collect()
}

/// Versions count, since a user who puts Dime in the place of libnccl.so.2 keeps the real one under another name.
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
        || name.starts_with("libtensorflow")
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

/// Files of the loader's cache that are NCCL by name, in its order.
fn cached_files(cache: &Path) -> Vec<PathBuf> {
    fs::read(cache).map_or_else(|_| Vec::new(), |bytes| cached(&bytes).unwrap_or_default())
}

/// The same for the bytes of the cache: a head with the number of entries at byte 20, then entries of 24 bytes whose
/// third word is the offset of the path. None: the cache is cut short. An older format may come before this one.
fn cached(bytes: &[u8]) -> Option<Vec<PathBuf>> {
    const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
    const HEAD: usize = 48;
    const ENTRY: usize = 24;
    let start = bytes.windows(MAGIC.len()).position(|window| window == MAGIC)?;
    let bytes = &bytes[start..];
    let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize);
    let text = |at: usize| bytes.get(at..)?.split(|byte| *byte == 0).next();
    let mut files = Vec::new();
    for entry in 0..word(MAGIC.len())? {
        let at = HEAD + entry * ENTRY;
        let path = Path::new(OsStr::from_bytes(text(word(at + 8)?)?));
        if is_nccl_name(path) && path.is_absolute() {
            files.push(path.to_owned());
        }
    }
    // The name that programs ask for first.
    files.sort_by_key(|path| path.file_name() != Some(OsStr::new(LIBRARY)));
    Some(files)
}

/// Reads the loader's configuration: a folder on each line, and `include` lines whose last part may contain one `*`.
/// The file is read as bytes, since a comment in another encoding must not hide the rest. `read`: the files that were
/// read, with links resolved.
fn configured_loader_folders(file: &Path, read: &mut Vec<PathBuf>, folders: &mut Vec<PathBuf>) {
    let Ok(resolved) = fs::canonicalize(file) else { return };
    // Each file is read once, so that circular includes end.
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
        let files = places(surroundings).into_iter().flat_map(|place| place.files());
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
        assert_eq!(places[0].files(), [PathBuf::from("/nowhere/libnccl.so.2")]);
    }

    #[test]
    fn places_are_tried_in_the_documented_order() {
        let folder = Folder::new("order");
        let library = |path: &str| folder.file(path, "");
        let mapped = library("mapped/libnccl.so.2");
        let beside = library("torch-env/site-packages/nvidia/nccl/lib/libnccl.so.2");
        let on_rpath = library("rpath/libnccl.so.2");
        let on_path = library("on-path/libnccl.so.2");
        let on_runpath = library("runpath/libnccl.so.2");
        let of_other = library("other/libnccl.so.2");
        let of_program = library("env/lib/python3.12/site-packages/nvidia/nccl/lib/libnccl.so.2");
        let beside_program = library("env/lib/libnccl.so.2");
        folder.file("env/pyvenv.cfg", "");
        let of_venv = library("venv/lib/python3.11/site-packages/nvidia/nccl/lib/libnccl.so.2");
        let of_conda = library("conda/lib/libnccl.so.2");
        let of_installation = library("usr/lib/python3.12/site-packages/nvidia/nccl/lib/libnccl.so.2");
        let of_cache = library("cached/libnccl.so.2");
        let of_loader = library("opt/libnccl.so.2");
        let of_system = library("lib/libnccl.so.2");
        let configuration = folder.file("ld.so.conf", "include conf.d/*.conf\n");
        folder.file("conf.d/opt.conf", format!("# comment\n{}\n", folder.0.join("opt").display()));
        let cache = folder.file("ld.so.cache", cache_with(&[("libnccl.so.2", &of_cache)]));
        let [rpath, path, runpath, of_others, lib] =
            ["rpath", "on-path", "runpath", "other", "lib"].map(|name| folder.0.join(name));
        let surroundings = Surroundings {
            configured: None,
            mapped: vec![folder.0.join("torch-env/site-packages/torch/lib/libtorch_cuda.so"), mapped.clone()],
            callers: vec![
                Caller { is_known: true, has_runpath: true, folders: vec![path.clone(), runpath, lib.clone()] },
                Caller { is_known: true, has_runpath: false, folders: vec![rpath, path.clone(), lib.clone()] },
                Caller { is_known: false, has_runpath: false, folders: vec![of_others, path.clone()] },
            ],
            library_path: Some(format!(":{}", path.display()).into()),
            virtual_env: Some(folder.0.join("venv")),
            conda_prefix: Some(folder.0.join("conda")),
            programs: vec![folder.0.join("usr/bin/python3"), folder.0.join("env/bin/python3")],
            loader_cache: cache,
            loader_configuration: configuration,
            loader_folders: vec![lib],
        };
        assert_eq!(
            found(&folder, &surroundings),
            [
                mapped,
                beside,
                on_rpath,
                on_path,
                on_runpath,
                of_program,
                beside_program,
                of_venv,
                of_conda,
                of_other,
                of_installation,
                of_cache,
                of_loader,
                of_system
            ]
        );
    }

    /// The list of DT_RPATH and that of DT_RUNPATH that are made of one caller's folders.
    fn split(has_runpath: bool, folders: &[&str], library_path: &str) -> [Vec<PathBuf>; 2] {
        let surroundings = Surroundings {
            callers: vec![Caller { is_known: true, has_runpath, folders: folders.iter().map(PathBuf::from).collect() }],
            library_path: Some(library_path.into()),
            loader_folders: vec!["/lib".into(), "/usr/lib".into()],
            ..Surroundings::default()
        };
        let (rpath, runpath) = run_paths(&surroundings, &surroundings.library_path(), true);
        [rpath, runpath]
    }

    fn paths(list: &[&str]) -> Vec<PathBuf> {
        list.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn what_is_the_loaders_and_the_library_paths_is_cut_off_the_run_paths() {
        assert_eq!(split(false, &["/r", "/p", "/lib", "/usr/lib"], "/p"), [paths(&["/r"]), paths(&[])]);
        assert_eq!(split(true, &["/p", "/r", "/lib", "/usr/lib"], "/p"), [paths(&[]), paths(&["/r"])]);
        // A folder in both lists keeps its place in the first.
        assert_eq!(split(false, &["/p", "/r", "/p", "/lib"], "/p"), [paths(&["/p", "/r"]), paths(&[])]);
        assert_eq!(split(false, &["/a", "/b", "/a", "/lib"], "/b;/a"), [paths(&["/a"]), paths(&[])]);
        assert_eq!(split(false, &["/usr/lib", "/r", "/lib"], ""), [paths(&["/usr/lib", "/r"]), paths(&[])]);
    }

    #[test]
    fn relative_run_paths_do_not_count() {
        assert_eq!(split(false, &[".", "lib", "/r"], ""), [paths(&["/r"]), paths(&[])]);
        assert_eq!(split(true, &["/r", ""], ""), [paths(&[]), paths(&["/r"])]);
    }

    /// A cache of the loader as ldconfig writes it.
    fn cache_with(entries: &[(&str, &Path)]) -> Vec<u8> {
        let mut head = b"glibc-ld.so.cache1.1".to_vec();
        head.extend((entries.len() as u32).to_ne_bytes());
        head.resize(48, 0);
        let (mut list, mut texts) = (Vec::new(), Vec::new());
        let texts_at = head.len() + 24 * entries.len();
        for (name, path) in entries {
            list.extend(0x303_u32.to_ne_bytes());
            for text in [name.as_bytes(), path.as_os_str().as_bytes()] {
                list.extend(((texts_at + texts.len()) as u32).to_ne_bytes());
                texts.extend(text);
                texts.push(0);
            }
            list.extend([0; 12]);
        }
        [head, list, texts].concat()
    }

    #[test]
    fn the_cache_is_read_in_either_format_and_the_asked_for_name_comes_first() {
        let [exact, versioned, other] = ["/b/libnccl.so.2", "/a/libnccl.so.2.9", "/a/libnccl-net.so"].map(Path::new);
        let new = cache_with(&[("libnccl.so.2.9", versioned), ("libnccl-net.so", other), ("libnccl.so.2", exact)]);
        assert_eq!(cached(&new), Some(vec![exact.to_owned(), versioned.to_owned()]));
        let behind_old = [&b"ld.so-1.7.0\0\0\0\0\0"[..], &new].concat();
        assert_eq!(cached(&behind_old), cached(&new));
    }

    #[test]
    fn a_damaged_cache_is_passed_over() {
        let whole = cache_with(&[("libnccl.so.2", Path::new("/b/libnccl.so.2"))]);
        for length in 0..whole.len() {
            // A text at the end need not be closed.
            let files = cached(&whole[..length]).unwrap_or_default();
            assert!(files.iter().all(|file| file.starts_with("/b")), "{length}: {files:?}");
        }
        for at in 20..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] = 0xff;
            let _ = cached(&damaged);
        }
        assert_eq!(cached(b"no cache"), None);
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

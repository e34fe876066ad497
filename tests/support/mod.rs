//! What the integration tests share: where the product and its headers are, a C compiler, programs run in a known
//! environment, the table of NCCL's functions, and the cache of real NCCL releases.
//!
//! The tests look at libdime.so from outside, as an application does: they compile C programs, run them and read what
//! they print. Nothing here links the library.

// Every test file takes the part it needs; what one leaves unused is used by another.
#![allow(dead_code)]

pub mod callgrind;
pub mod fake;
pub mod header;
pub mod log_line;
pub mod packages;
pub mod places;
pub mod sim;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Result codes of NCCL that the tests expect by name.
pub const NCCL_SYSTEM_ERROR: i32 = 2;
pub const NCCL_INVALID_ARGUMENT: i32 = 4;
pub const NCCL_INVALID_USAGE: i32 = 5;

pub fn manifest_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn target_dir() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("cargo's tmp directory lies in the target directory")
}

/// libdime.so as built by `make`, or the file that DIME_LIB names.
pub fn dime_lib() -> PathBuf {
    let path = match std::env::var_os("DIME_LIB") {
        Some(path) => PathBuf::from(path),
        None => target_dir().join("release/libdime.so"),
    };
    assert!(path.is_file(), "{} is missing: `make` builds it (or name another libdime.so in DIME_LIB)", path.display());
    fs::canonicalize(path).expect("the path of libdime.so")
}

/// A command-line tool beside libdime.so: dime or dime-qa.
pub fn tool_path(name: &str) -> PathBuf {
    let path = dime_lib().with_file_name(name);
    assert!(path.is_file(), "{} is missing: `make` builds it", path.display());
    path
}

/// The directory of nccl.h and dime.h.
pub fn include_dir() -> PathBuf {
    manifest_dir().join("include")
}

/// A C or C++ source of ours, or another file under tests/.
pub fn test_file(relative: &str) -> PathBuf {
    manifest_dir().join("tests").join(relative)
}

/// An empty directory for one test. `name` must be unique among all tests: they run at the same time.
pub fn work_dir(name: &str) -> PathBuf {
    let path = target_dir().join("test-work").join(name);
    if path.exists() {
        fs::remove_dir_all(&path).expect("clearing a work directory");
    }
    fs::create_dir_all(&path).expect("making a work directory");
    path
}

pub fn write(path: impl AsRef<Path>, text: impl AsRef<[u8]>) -> PathBuf {
    let path = path.as_ref();
    fs::create_dir_all(path.parent().expect("a file has a directory")).expect("making a directory");
    fs::write(path, text).expect("writing a file");
    path.to_path_buf()
}

/// One NCCL function and the release that first exports it.
pub struct Export {
    pub name: String,
    pub since: Release,
}

impl Export {
    /// All functions have a twin under a `p`, except the one that is not meant for applications.
    pub fn twin(&self) -> Option<String> {
        (self.name != "ncclResetDebugInitInternal").then(|| format!("p{}", self.name))
    }
}

/// A release number such as 2.30.7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release(pub u32, pub u32, pub u32);

impl Release {
    pub fn parse(text: &str) -> Release {
        let parts: Vec<u32> = text.split('.').map(|part| part.parse().expect("a number in a release")).collect();
        Release(parts[0], parts[1], parts[2])
    }

    /// The number that ncclGetVersion gives for it.
    pub fn code(self) -> u32 {
        self.0 * 10000 + self.1 * 100 + self.2
    }
}

impl std::fmt::Display for Release {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// tests/data/nccl_exports.tsv: what NCCL exports, by name, in the table's order.
pub fn exports() -> Vec<Export> {
    rows("data/nccl_exports.tsv")
        .into_iter()
        .map(|row| Export { name: row[0].clone(), since: Release::parse(&row[1]) })
        .collect()
}

/// All exported names of NCCL: the functions and their twins.
pub fn exported_names() -> Vec<String> {
    exports().into_iter().flat_map(|export| export.twin().into_iter().chain([export.name])).collect()
}

/// The rows of a tab-separated file under tests/, without its comments.
pub fn rows(relative: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(test_file(relative)).expect("a table of the tests");
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| line.split('\t').map(str::to_string).collect())
        .collect()
}

/// A real NCCL release in the cache.
pub struct RealNccl {
    pub release: Release,
    pub directory: PathBuf,
}

impl RealNccl {
    pub fn library(&self) -> PathBuf {
        self.directory.join("libnccl.so.2")
    }
}

/// The releases that the tests compare against: those named in DIME_TEST_NCCL (separated by spaces), or the default
/// set of tests/fetch_nccl.py. Downloads what the cache lacks.
pub fn real_releases() -> Vec<RealNccl> {
    let wanted = std::env::var("DIME_TEST_NCCL").unwrap_or_default();
    fetch(wanted.split_whitespace())
}

/// The newest release of the table.
pub fn newest_release() -> RealNccl {
    let newest = exports().iter().map(|export| export.since).max().expect("a release in the table");
    fetch([newest.to_string().as_str()]).remove(0)
}

/// The release whose interface our nccl.h has when it is not asked for more.
pub fn default_release() -> RealNccl {
    fetch(["2.27.7"]).remove(0)
}

/// Has our nccl.h declare all that it knows.
pub fn newest_api() -> String {
    format!("DIME_NCCL_API={}", exports().iter().map(|export| export.since).max().expect("a release").code())
}

fn fetch<'a>(wanted: impl IntoIterator<Item = &'a str>) -> Vec<RealNccl> {
    let output = Command::new("python3")
        .arg(test_file("fetch_nccl.py"))
        .args(wanted)
        .stderr(Stdio::inherit())
        .output()
        .expect("python3 runs tests/fetch_nccl.py");
    assert!(output.status.success(), "tests/fetch_nccl.py could not fill the cache of NCCL releases");
    let releases: Vec<RealNccl> = String::from_utf8(output.stdout)
        .expect("a path")
        .lines()
        .map(|line| {
            let directory = PathBuf::from(line);
            let name = directory.file_name().expect("a release").to_string_lossy().into_owned();
            RealNccl { release: Release::parse(&name), directory }
        })
        .collect();
    assert!(!releases.is_empty(), "tests/fetch_nccl.py named no release");
    releases
}

/// A command and the environment it runs in: only what the test says, a PATH, and a HOME without settings of the user.
pub struct Program {
    command: Command,
    limit: Duration,
    label: String,
}

/// What a program left behind.
pub struct Outcome {
    label: String,
    pub stdout: String,
    pub stderr: String,
    /// The exit status, or minus the signal that ended it.
    pub code: i32,
}

impl Program {
    pub fn new(path: impl AsRef<OsStr>) -> Program {
        let mut command = Command::new(path.as_ref());
        command.env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()));
        command.env("HOME", "/nonexistent").env("LC_ALL", "C");
        Program { command, limit: Duration::from_secs(60), label: path.as_ref().to_string_lossy().into_owned() }
    }

    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Program {
        self.command.arg(arg);
        self
    }

    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Program {
        self.command.args(args);
        self
    }

    pub fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Program {
        self.command.env(key, value);
        self
    }

    pub fn current_dir(mut self, path: impl AsRef<Path>) -> Program {
        self.command.current_dir(path);
        self
    }

    /// A longer or shorter limit than the usual one; passing it fails the test.
    pub fn limit_s(mut self, seconds: u64) -> Program {
        self.limit = Duration::from_secs(seconds);
        self
    }

    /// Runs to the end. Output goes through files, so that a grandchild that keeps them open cannot hold us up.
    pub fn run(mut self) -> Outcome {
        let mut stdout = Capture::new("out");
        let mut stderr = Capture::new("err");
        self.command.stdin(Stdio::null()).stdout(stdout.stdio()).stderr(stderr.stdio());
        let mut child = self.command.spawn().unwrap_or_else(|error| panic!("{} does not start: {error}", self.label));
        let deadline = Instant::now() + self.limit;
        let status = loop {
            if let Some(status) = child.try_wait().expect("waiting for a program") {
                break status;
            }
            if Instant::now() > deadline {
                child.kill().expect("ending a program that hangs");
                child.wait().expect("waiting for a program");
                panic!(
                    "{} was still running after {} s\nstdout:\n{}\nstderr:\n{}",
                    self.label,
                    self.limit.as_secs(),
                    stdout.take(),
                    stderr.take()
                );
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let code = status.code().unwrap_or_else(|| -status.signal().expect("an exit status or a signal"));
        Outcome { label: format!("{:?}", self.command), stdout: stdout.take(), stderr: stderr.take(), code }
    }

    /// Runs, and fails the test unless the exit status is 0.
    pub fn succeeds(self) -> Outcome {
        let outcome = self.run();
        assert_eq!(outcome.code, 0, "exit status of {outcome}");
        outcome
    }
}

impl Outcome {
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// The value that a C program printed as `key=value` on a line of its own.
    pub fn value(&self, key: &str) -> &str {
        let prefix = format!("{key}=");
        self.stdout
            .lines()
            .find_map(|line| line.strip_prefix(&prefix))
            .unwrap_or_else(|| panic!("no line {prefix} from {self}"))
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\ncode {}\nstdout:\n{}\nstderr:\n{}", self.label, self.code, self.stdout, self.stderr)
    }
}

/// An unlinked temporary file that takes a program's output.
struct Capture(fs::File);

impl Capture {
    fn new(kind: &str) -> Capture {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("dime-test-{}-{number}.{kind}", std::process::id()));
        let file = fs::File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .expect("a temporary file");
        fs::remove_file(&path).expect("unlinking a temporary file");
        Capture(file)
    }

    fn stdio(&self) -> Stdio {
        Stdio::from(self.0.try_clone().expect("a second handle of a temporary file"))
    }

    fn take(&mut self) -> String {
        use std::io::{Read, Seek};
        let mut bytes = Vec::new();
        self.0.rewind().expect("rewinding a temporary file");
        self.0.read_to_end(&mut bytes).expect("reading a temporary file");
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// A call of the C compiler.
pub struct Cc {
    compiler: OsString,
    args: Vec<OsString>,
}

impl Cc {
    /// C99 with warnings as errors.
    pub fn c() -> Cc {
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        Cc { compiler, args: Vec::new() }.args(["-std=gnu99", "-O2", "-Wall", "-Wextra", "-Werror"])
    }

    /// C++17 with warnings as errors.
    pub fn cxx() -> Cc {
        let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
        Cc { compiler, args: Vec::new() }.args(["-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror"])
    }

    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Cc {
        self.args.push(arg.as_ref().to_os_string());
        self
    }

    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Cc {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_os_string()));
        self
    }

    pub fn include(self, directory: impl AsRef<Path>) -> Cc {
        self.arg("-I").arg(directory.as_ref())
    }

    /// Options of a shared library under the given SONAME.
    pub fn shared(self, soname: &str) -> Cc {
        self.args(["-shared", "-fPIC", "-pthread", "-Wl,-z,defs"]).arg(format!("-Wl,-soname,{soname}"))
    }

    pub fn run(self) -> Outcome {
        let mut program = Program::new(&self.compiler);
        program.command.args(&self.args);
        program.run()
    }

    /// Compiles to `output` or fails the test with what the compiler says.
    pub fn build(self, output: impl AsRef<Path>) -> PathBuf {
        let output = output.as_ref();
        fs::create_dir_all(output.parent().expect("a file has a directory")).expect("making a directory");
        let outcome = self.arg("-o").arg(output).run();
        assert_eq!(outcome.code, 0, "the compiler refuses: {outcome}");
        output.to_path_buf()
    }
}

/// Runs a tool of the system and returns what it prints; fails the test with a hint when it is not installed.
pub fn tool<S: AsRef<OsStr>>(name: &str, args: impl IntoIterator<Item = S>) -> String {
    let output = Command::new(name)
        .args(args)
        .env("LC_ALL", "C")
        .output()
        .unwrap_or_else(|error| panic!("{name} does not run ({error}); `make test` installs it"));
    assert!(output.status.success(), "{name} failed: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text from a tool")
}

/// The dynamic symbols that a shared library defines, with nm's letter of each.
pub fn defined_symbols(library: &Path) -> Vec<(String, char)> {
    tool("nm", ["-D".as_ref(), "--defined-only".as_ref(), library.as_os_str()])
        .lines()
        .map(|line| {
            let mut fields = line.split_whitespace().rev();
            let name = fields.next().expect("a symbol's name");
            let kind = fields.next().and_then(|kind| kind.chars().next()).expect("a symbol's kind");
            (name.split('@').next().expect("a name").to_string(), kind)
        })
        .collect()
}

/// A directory in which libnccl.so.2 (and libnccl.so, for the linker) are libdime.so.
pub fn install_as_libnccl(directory: &Path) -> PathBuf {
    fs::create_dir_all(directory).expect("making a directory");
    for name in ["libnccl.so.2", "libnccl.so"] {
        std::os::unix::fs::symlink(dime_lib(), directory.join(name)).expect("a symlink");
    }
    directory.to_path_buf()
}

//! What a setup leaves for others to find: descriptors that a started program would inherit, files, secrets in the log.
//!
//! Ranks set a communicator up on the simulated node under strace, so that every descriptor counts, however short its life.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::support::sim::{Leftovers, build_with_dime, simulated};
use crate::support::{Outcome, work_dir};

const RANKS: usize = 3;
const UMASK: u32 = 0o027;
/// Tokens and names of sockets.
const SECRET_BYTES: usize = 16;

/// The calls that make descriptors, and what in their arguments makes those close-on-exec.
const MAKERS: &[(&str, &str)] = &[
    ("open", "O_CLOEXEC"),
    ("openat", "O_CLOEXEC"),
    ("openat2", "O_CLOEXEC"),
    ("creat", "never"),
    ("dup", "never"),
    ("dup2", "never"),
    ("dup3", "O_CLOEXEC"),
    ("pipe", "never"),
    ("pipe2", "O_CLOEXEC"),
    ("socket", "SOCK_CLOEXEC"),
    ("socketpair", "SOCK_CLOEXEC"),
    ("accept", "never"),
    ("accept4", "SOCK_CLOEXEC"),
    ("memfd_create", "MFD_CLOEXEC"),
    ("eventfd", "never"),
    ("eventfd2", "EFD_CLOEXEC"),
    ("epoll_create", "never"),
    ("epoll_create1", "EPOLL_CLOEXEC"),
    ("timerfd_create", "TFD_CLOEXEC"),
    ("signalfd", "never"),
    ("signalfd4", "SFD_CLOEXEC"),
    ("inotify_init", "never"),
    ("inotify_init1", "IN_CLOEXEC"),
];
/// The calls that make names in the file system, besides opening with O_CREAT.
const NAMERS: &[&str] = &[
    "creat",
    "mkdir",
    "mkdirat",
    "mknod",
    "mknodat",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "rename",
    "renameat",
    "renameat2",
];

/// A system call that succeeded, as strace writes it: `name(arguments) = result`.
struct Call {
    name: String,
    arguments: String,
    result: i64,
}

impl Call {
    fn parse(line: &str) -> Option<Call> {
        let (name, rest) = line.split_once('(')?;
        let (arguments, result) = rest.rsplit_once(" = ")?;
        let result = result.split(' ').next()?.parse().ok().filter(|result| *result >= 0)?;
        let arguments = arguments.trim_end().strip_suffix(')')?;
        Some(Call { name: name.to_owned(), arguments: arguments.to_owned(), result })
    }

    /// The bytes of a string among the arguments, behind `before`. All of them are written as `\x` and two digits.
    fn bytes_behind(&self, before: &str) -> Vec<u8> {
        let (_, text) = self.arguments.split_once(before).unwrap_or_else(|| panic!("no {before} in {self}"));
        let text = text.split('"').next().expect("a string ends");
        text.split("\\x").skip(1).map(|digits| u8::from_str_radix(digits, 16).expect("hex digits")).collect()
    }

    fn path(&self) -> PathBuf {
        String::from_utf8(self.bytes_behind("\"")).expect("a path of ours").into()
    }

    fn carries_descriptors(&self) -> bool {
        self.arguments.contains("SCM_RIGHTS")
    }

    /// Makes a descriptor that a program which is started now would inherit.
    fn is_inheritable(&self) -> bool {
        match self.name.as_str() {
            "fcntl" => self.arguments.contains("F_DUPFD") && !self.arguments.contains("F_DUPFD_CLOEXEC"),
            "recvmsg" => self.carries_descriptors() && !self.arguments.contains("MSG_CMSG_CLOEXEC"),
            name => MAKERS.iter().any(|(maker, flag)| *maker == name && !self.arguments.contains(flag)),
        }
    }
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}({}) = {}", self.name, self.arguments, self.result)
    }
}

/// What would be inherited from one thread's calls. One that makes its descriptor close-on-exec with its next call does what it
/// can: the driver exports memory without asking. The C library names threads through a file that it closes at once.
fn inheritable(calls: &[Call]) -> Vec<&Call> {
    let is_put_right = |call: &Call, next: Option<&Call>| {
        let expected = format!("{}, F_SETFD, FD_CLOEXEC", call.result);
        next.is_some_and(|next| next.name == "fcntl" && next.arguments == expected)
    };
    let is_of_libc = |call: &Call| {
        let path = if call.name == "openat" { call.path() } else { PathBuf::new() };
        path.starts_with("/proc/self/task") && path.ends_with("comm")
    };
    calls
        .iter()
        .enumerate()
        .filter(|(at, call)| call.is_inheritable() && !is_put_right(call, calls.get(at + 1)) && !is_of_libc(call))
        .map(|(_, call)| call)
        .collect()
}

/// A run of the ranks: what they did, thread by thread, and what they left.
struct Run {
    dir: PathBuf,
    threads: Vec<Vec<Call>>,
    outcome: Outcome,
}

impl Run {
    fn new(name: &str, fault: &str) -> Run {
        Run::with(name, fault, "0")
    }

    fn with(name: &str, fault: &str, disable: &str) -> Run {
        let dir = work_dir(&format!("sim_trust/{name}"));
        let program = build_with_dime(&dir, "c/rank.c");
        let (home, traces) = (dir.join("home"), dir.join("traces"));
        for folder in [&home, &traces] {
            std::fs::create_dir(folder).expect("a folder");
        }
        let script = format!("umask {UMASK:o}; exec strace -ff -qq -xx -s 256 -e trace=%desc,%file,%network -o \"$@\"");
        let before = Leftovers::now();
        let outcome = simulated("sh")
            .args(["-c", &script, "sh"])
            .arg(traces.join("thread"))
            .arg(program)
            .args(["--ranks", &RANKS.to_string(), "--rounds", "1", "--counts", "1,1000"])
            .env("DIME_SIM_DEVICES", RANKS.to_string())
            .env("DIME_SIM_SMS", "16")
            .env("DIME_SIM_FAULT", fault)
            .env("DIME_DISABLE", disable)
            .env("DIME_DEBUG", "trace")
            .env("DIME_DEBUG_FILE", home.join("log.%p"))
            .env("HOME", &home)
            .env("TMPDIR", &home)
            .current_dir(&home)
            .succeeds();
        before.assert_nothing_new();
        let threads = files_in(&traces).into_iter().map(|trace| {
            let text = std::fs::read_to_string(trace).expect("a trace is text");
            text.lines().filter_map(Call::parse).collect()
        });
        Run { threads: threads.collect(), outcome, dir }
    }

    fn calls(&self) -> impl Iterator<Item = &Call> {
        self.threads.iter().flatten()
    }

    fn count(&self, is_such: impl Fn(&Call) -> bool) -> usize {
        self.calls().filter(|call| is_such(call)).count()
    }

    fn logs(&self) -> Vec<PathBuf> {
        files_in(&self.dir.join("home"))
    }

    /// What the ranks show each other at their sockets, and the sockets' names.
    fn secrets(&self) -> (BTreeSet<Vec<u8>>, BTreeSet<Vec<u8>>) {
        let messages = self.calls().filter(|call| call.name == "sendmsg" && call.carries_descriptors());
        let tokens = messages.map(|call| call.bytes_behind("iov_base=\"").split_off(16)).collect();
        let bound = self.calls().filter(|call| call.name == "bind");
        let names = bound.map(|call| {
            let name = String::from_utf8(call.bytes_behind("sun_path=@\"")).expect("hex digits");
            let digits = name.strip_prefix("dime-").expect("sockets are named after Dime");
            // Of a beacon: the hash of what brings the ranks together, and the rank's number.
            let digits = digits.strip_prefix("here-").map_or(digits, |sign| sign.split('-').next().unwrap_or_default());
            let digit = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("hex digits");
            (0..digits.len()).step_by(2).map(digit).collect()
        });
        (tokens, names.collect())
    }
}

/// A run that ends with ranks that are fast, and one that ends in the middle of a setup.
fn runs() -> &'static [Run; 2] {
    static RUNS: OnceLock<[Run; 2]> = OnceLock::new();
    RUNS.get_or_init(|| [Run::new("fast", ""), Run::new("forward", "fail@cuMemImportFromShareableHandle:1")])
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

#[test]
fn every_descriptor_is_close_on_exec_from_its_first_moment() {
    for run in runs() {
        // Each rank has a listener, and passes its scratch to each of the others.
        let passed = RANKS * (RANKS - 1);
        assert!(run.count(|call| call.name == "socket") >= RANKS + passed, "{}", run.outcome);
        assert!(run.count(|call| call.name == "recvmsg" && call.carries_descriptors()) >= passed, "{}", run.outcome);
        for calls in &run.threads {
            let inheritable: Vec<String> = inheritable(calls).iter().map(ToString::to_string).collect();
            assert!(inheritable.is_empty(), "{inheritable:#?}");
        }
    }
}

#[test]
fn a_descriptor_that_is_inherited_would_be_seen() {
    let parse = |lines: &[&str]| lines.iter().map(|line| Call::parse(line).expect("a call")).collect::<Vec<_>>();
    for line in [
        r#"openat(AT_FDCWD, "\x2f\x61", O_RDONLY) = 3"#,
        "socket(AF_UNIX, SOCK_SEQPACKET|SOCK_NONBLOCK, 0) = 3",
        "accept4(3, NULL, NULL, SOCK_NONBLOCK) = 4",
        "fcntl(3, F_DUPFD, 0) = 4",
        "recvmsg(3, {msg_control=[{cmsg_type=SCM_RIGHTS, cmsg_data=[4]}], msg_flags=0}, 0) = 32",
    ] {
        assert_eq!(inheritable(&parse(&[line])).len(), 1, "{line}");
        assert_eq!(inheritable(&parse(&[line, "fcntl(9, F_SETFD, FD_CLOEXEC) = 0"])).len(), 1, "{line}");
    }
    assert!(inheritable(&parse(&["fcntl(3, F_DUPFD, 0) = 4", "fcntl(4, F_SETFD, FD_CLOEXEC) = 0"])).is_empty());
}

#[test]
fn the_log_is_the_only_file_that_is_made_and_the_umask_holds_for_it() {
    for run in runs() {
        let made = |call: &&Call| {
            call.arguments.contains("O_CREAT") || NAMERS.contains(&call.name.as_str()) || {
                // A socket with a name in the file system.
                call.name == "bind" && !call.arguments.contains("sun_path=@")
            }
        };
        let made: BTreeSet<PathBuf> = run.calls().filter(made).map(Call::path).collect();
        let logs = run.logs();
        assert_eq!(made.into_iter().collect::<Vec<_>>(), logs, "{}", run.outcome);
        assert_eq!(logs.len(), RANKS, "{}", run.outcome);
        for log in &logs {
            let mode = std::fs::metadata(log).expect("a log").permissions().mode() & 0o7777;
            assert_eq!(mode, 0o666 & !UMASK, "{} has mode {mode:o}", log.display());
        }
    }
}

#[test]
fn tokens_differ_and_are_in_no_log() {
    for run in runs() {
        let (tokens, names) = run.secrets();
        // The signs that the ranks are here have one hash together.
        assert_eq!((tokens.len(), names.len()), (RANKS, RANKS + 1), "each rank has its own\n{}", run.outcome);
        assert_eq!(tokens.union(&names).count(), 2 * RANKS + 1, "a name says nothing of a token");
        let mut said: Vec<u8> = run.outcome.all().into_bytes();
        for log in run.logs() {
            said.extend(std::fs::read(log).expect("a log"));
        }
        assert!(String::from_utf8_lossy(&said).contains(" DIME INFO "), "nothing was logged\n{}", run.outcome);
        for secret in tokens.union(&names) {
            assert_eq!(secret.len(), SECRET_BYTES);
            let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
            let numbers = format!("{secret:?}");
            for form in [secret.as_slice(), hex.as_bytes(), hex.to_uppercase().as_bytes(), numbers.as_bytes()] {
                assert!(!said.windows(form.len()).any(|part| part == form), "a secret is in the log\n{}", run.outcome);
            }
        }
    }
}

#[test]
fn a_disabled_process_makes_no_socket_and_takes_nothing_of_the_gpu() {
    const OF_SOCKETS: &[&str] =
        &["socket", "bind", "listen", "connect", "accept4", "sendto", "recvfrom", "sendmsg", "recvmsg"];
    let of_sockets = |run: &Run| run.count(|call| OF_SOCKETS.contains(&call.name.as_str()));
    assert!(runs().iter().all(|run| of_sockets(run) > 0));
    // What would fail is the first call of ours, behind those of the program.
    let faults = "fail@cuMemAlloc:3,fail@cuStreamCreate:2,fail@cuMemCreate:1,fail@cuMemHostAlloc:1";
    let run = Run::with("disabled", faults, "1");
    assert!(!run.outcome.all().contains("dime sim: fault"), "{}", run.outcome);
    // The simulated NCCL makes none either.
    assert_eq!(of_sockets(&run), 0, "{}", run.outcome);
}

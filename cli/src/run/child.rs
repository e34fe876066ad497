//! A command as a child, such that it looks from outside as if this process had become it: signals go to it, its streams and its
//! terminal are this process's, and this process ends as it did.
//!
//! The child stays in this process group, so that it keeps the terminal. A terminal signals the whole group, so what comes from there has
//! reached the child already, and is not sent to it again. Signals wait in a descriptor meanwhile: nothing is handled, and what was
//! ignored when this process began is ignored by the child too.

use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use dime_harness::Fallible;
use nix::errno::Errno;
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawnp};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal, kill, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid, getsid};

/// How a command ended.
#[derive(Clone, Copy, Debug)]
pub enum End {
    /// With this exit code.
    Code(i32),
    /// By the signal of this number.
    Signal(i32),
}

/// What is sent on.
const SENT_ON: [Signal; 6] =
    [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGUSR2];

/// A signal's code when the kernel sent it, as it does for a terminal (SI_KERNEL).
const OF_KERNEL: i32 = 0x80;

/// Runs the command to its end. The inner error: it cannot be started.
pub fn run(command: &Command) -> Fallible<io::Result<End>> {
    check_child_signal()?;
    let failed = |error: Errno| format!("signals cannot be watched: {error}");
    let before = SigSet::thread_get_mask().map_err(failed)?;
    let mut signals: SigSet = SENT_ON.into_iter().collect();
    signals.add(Signal::SIGCHLD);
    signals.thread_block().map_err(failed)?;
    let descriptor = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC).map_err(failed)?;
    let child = match spawn(command, &before) {
        Ok(child) => child,
        Err(error) => return Ok(Err(error)),
    };
    loop {
        if let Some(end) = end_of(child).map_err(|error| format!("the end of the command cannot be seen: {error}"))? {
            return Ok(Ok(end));
        }
        match descriptor.read_signal() {
            Ok(Some(signal)) => send_on(child, &signal),
            Ok(None) | Err(Errno::EINTR) => {}
            Err(error) => return Err(failed(error)),
        }
    }
}

/// Starts the command with this signal mask. std's own way would give it this thread's, in which signals are blocked by now.
fn spawn(command: &Command, mask: &SigSet) -> io::Result<Pid> {
    let mut attributes = PosixSpawnAttr::init()?;
    attributes.set_flags(PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF)?;
    attributes.set_sigmask(mask)?;
    // Ignored by this process alone, as by every program in Rust.
    attributes.set_sigdefault(&SigSet::from(Signal::SIGPIPE))?;
    let mut variables: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => variables.insert(name.to_owned(), value.to_owned()),
            None => variables.remove(name),
        };
    }
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words = words.map(|word| CString::new(word.as_bytes())).collect::<Result<Vec<_>, _>>()?;
    let variables = variables.into_iter().map(|(name, value)| {
        let both = [name.as_bytes(), value.as_bytes()];
        CString::new(both.join(&b'='))
    });
    let variables = variables.collect::<Result<Vec<_>, _>>()?;
    Ok(posix_spawnp(&words[0], &PosixSpawnFileActions::init()?, &attributes, &words, &variables)?)
}

/// How the child ended, if it did.
fn end_of(child: Pid) -> nix::Result<Option<End>> {
    // Read before the child is gone: nix has no name for a signal of real time.
    let by_signal = signal_of(child);
    match waitpid(child, Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::Exited(_, code)) => Ok(Some(End::Code(code))),
        Ok(WaitStatus::Signaled(_, signal, _)) => Ok(Some(End::Signal(signal as i32))),
        Ok(_) | Err(Errno::EINTR) => Ok(None),
        Err(Errno::EINVAL) => Ok(by_signal.map(End::Signal)),
        Err(error) => Err(error),
    }
}

/// The signal that ended a process which nobody has waited for: in the last field of its line in /proc.
fn signal_of(process: Pid) -> Option<i32> {
    let line = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let status: i32 = line.split_whitespace().last()?.parse().ok()?;
    Some(status & 0x7f).filter(|signal| *signal != 0)
}

/// Where SIGCHLD is ignored the kernel throws away how a child ended.
fn check_child_signal() -> Fallible<()> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    if ignored >> (Signal::SIGCHLD as i32 - 1) & 1 == 1 {
        return Err("--stats: SIGCHLD is ignored here, so the end of the command could not be seen; start this with \
                    env --default-signal=CHLD dime run ..., or leave --stats out"
            .to_owned());
    }
    Ok(())
}

fn send_on(child: Pid, info: &siginfo) {
    let Ok(signal) = Signal::try_from(info.ssi_signo as i32) else { return };
    // A terminal that goes away tells the leader of its session alone.
    let leader_alone = signal == Signal::SIGHUP && getsid(None) == Ok(getpid());
    let is_from_terminal = info.ssi_code == OF_KERNEL && !leader_alone;
    // It has sent it to its whole group, itself included.
    let is_from_child = info.ssi_pid as i32 == child.as_raw();
    if SENT_ON.contains(&signal) && !is_from_terminal && !is_from_child {
        // Nobody has waited for the child, so the number is still its own.
        let _ = kill(child, signal);
    }
}

/// What a shell adds to the number of the signal that ended a program.
const SHELL_BASE: i32 = 128;

/// Ends this process as the command did: with its exit code, or by its signal.
pub fn end_as(end: End) -> ! {
    let number = match end {
        End::Code(code) => std::process::exit(code),
        End::Signal(number) => number,
    };
    if let Ok(signal) = Signal::try_from(number) {
        // The command has left a core if it was to leave one.
        let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
        let _ = SigSet::from(signal).thread_unblock();
        // Twice: of some signals the first takes away std's handler for a full stack.
        let _ = raise(signal);
        let _ = raise(signal);
    }
    std::process::exit(SHELL_BASE + number)
}

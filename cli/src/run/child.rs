//! A command as a child, such that it looks from outside as if this process had become it: signals go to it, its streams and its
//! terminal are this process's, and this process ends as it did.
//!
//! The child stays in this process group, so that it keeps the terminal. A terminal signals the whole group, so what comes from there has
//! reached the child already, and is not sent to it again. Signals wait in a descriptor meanwhile: nothing is handled, and what was
//! ignored when this process began is ignored by the child too.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};

use dime_harness::Fallible;
use nix::errno::Errno;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal, kill, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use nix::unistd::{Pid, getpid, getsid};

/// What is sent on.
const SENT_ON: [Signal; 6] =
    [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGUSR2];

/// A signal's code when the kernel sent it, as it does for a terminal (SI_KERNEL).
const OF_KERNEL: i32 = 0x80;

/// Runs the command to its end. The inner error: it cannot be started.
pub fn run(command: &mut Command) -> Fallible<io::Result<ExitStatus>> {
    check_child_signal()?;
    let failed = |error: Errno| format!("signals cannot be watched: {error}");
    let mut signals: SigSet = SENT_ON.into_iter().collect();
    signals.add(Signal::SIGCHLD);
    // The child begins with none blocked: std sees to that, as it does when this process becomes the program.
    signals.thread_block().map_err(failed)?;
    let descriptor = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC).map_err(failed)?;
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Ok(Err(error)),
    };
    loop {
        match child.try_wait() {
            Ok(None) => {}
            Ok(Some(status)) => return Ok(Ok(status)),
            Err(error) => return Err(format!("the end of the command cannot be seen: {error}")),
        }
        match descriptor.read_signal() {
            Ok(Some(signal)) => send_on(&child, &signal),
            Ok(None) | Err(Errno::EINTR) => {}
            Err(error) => return Err(failed(error)),
        }
    }
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

fn send_on(child: &Child, info: &siginfo) {
    let Ok(signal) = Signal::try_from(info.ssi_signo as i32) else { return };
    let child = Pid::from_raw(child.id() as i32);
    // A terminal that goes away tells the leader of its session alone.
    let leader_alone = signal == Signal::SIGHUP && getsid(None) == Ok(getpid());
    let is_from_terminal = info.ssi_code == OF_KERNEL && !leader_alone;
    let is_from_child = info.ssi_pid as i32 == child.as_raw();
    if SENT_ON.contains(&signal) && !is_from_terminal && !is_from_child {
        // It is a child that nobody has waited for, so the number is still its own.
        let _ = kill(child, signal);
    }
}

/// Ends this process as the command did: with its exit code, or by its signal.
pub fn end_as(status: ExitStatus) -> ! {
    let Some(number) = status.signal() else { std::process::exit(status.code().unwrap_or(1)) };
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

/// What a shell adds to the number of the signal that ended a program.
const SHELL_BASE: i32 = 128;

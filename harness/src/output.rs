//! Standard output and standard error. The macros of the standard library panic when a reader has gone or a disk is full, and
//! clippy keeps them out of the tools.

use std::fmt;
use std::io::{self, Write};

use crate::Fallible;

/// Prints a line, or the reason why that failed. Ends the process when nobody reads any more.
#[macro_export]
macro_rules! say {
    ($($argument:tt)*) => { $crate::output::print(format_args!("{}\n", format_args!($($argument)*))) };
}

/// Prints a line to standard error, if that is possible.
#[macro_export]
macro_rules! note {
    ($($argument:tt)*) => { $crate::output::note_line(format_args!($($argument)*)) };
}

pub use crate::{note, say};

/// Prints a text as it is.
pub fn print(text: impl fmt::Display) -> Fallible<()> {
    let mut out = io::stdout().lock();
    // At once: what fails later would have no line of its own to blame.
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => end_by_broken_pipe(),
        Err(error) => Err(format!("cannot write the output: {error}")),
    }
}

/// See [`note!`].
pub fn note_line(text: fmt::Arguments) {
    // Where a failure of standard error could be told is nowhere.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Ends as a program does that leaves SIGPIPE alone: without a word, by that signal.
fn end_by_broken_pipe() -> ! {
    const BY_SIGPIPE: i32 = 128 + libc::SIGPIPE;
    // SAFETY: plain system calls; the status is what a shell shows for the signal, in case it is blocked.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::raise(libc::SIGPIPE);
        libc::_exit(BY_SIGPIPE)
    }
}

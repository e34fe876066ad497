//! The frame of a command-line program: from its command line to its exit code.

use crate::output::{self, note};

/// A failure of the whole command.
pub struct Failure {
    /// The exit code.
    pub code: i32,
    /// A sentence for the user.
    pub text: String,
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self { code: 2, text }
    }
}

/// Executes a command line and ends the process: with 0 when all was right, with 1 when something that was checked was
/// wrong, with 2 when the command line is no good, and with the code of the failure when there is one.
pub fn run<C>(name: &str, parsed: Result<C, clap::Error>, execute: impl FnOnce(&C) -> Result<bool, Failure>) -> ! {
    let outcome = match parsed {
        Ok(command) => execute(&command),
        Err(error) if error.use_stderr() => error.exit(),
        // It asks for a text: the help or the version.
        Err(error) => output::print(error.render()).map(|()| true).map_err(Failure::from),
    };
    let code = match outcome {
        Ok(true) => 0,
        Ok(false) => 1,
        Err(Failure { code, text }) => {
            note!("{name}: {text}");
            code
        }
    };
    // Exit handlers of CUDA libraries can wait for a GPU that still spins after a failure: leave without them.
    // SAFETY: output is flushed when it is written; nothing else needs to run.
    unsafe { libc::_exit(code) }
}

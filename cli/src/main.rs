//! `dime`: the command-line tool beside libdime.so.
//!
//! `run` starts a program with libdime.so in front of its NCCL. `bench` times all-reduces, `check` compares them with a
//! host reference, `soak` mixes them for a long time, `leak` repeats a communicator's life, `forwards` shows each reason
//! to hand a call to the real NCCL, `fingerprint` writes down results to compare with those of another machine. The tool
//! talks to both libraries through NCCL's C API only.

#![deny(clippy::print_stdout, clippy::print_stderr)]

mod args;
mod bench;
mod check;
mod control;
mod cuda;
mod devices;
mod fingerprint;
mod forwards;
mod leak;
mod locate;
mod nccl;
mod number;
mod output;
mod payload;
mod random;
mod reference;
mod rig;
mod run;
mod soak;
mod stats;
mod table;
mod team;

use clap::{Parser, Subcommand};

use output::note;

/// A result whose error is a sentence for the user. Commands return whether everything they checked was right.
pub type Fallible<T> = Result<T, String>;

#[derive(Parser)]
#[command(name = "dime", version, about = "Runs, times and checks all-reduces with libdime.so")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a program with libdime.so in front of its NCCL
    Run(run::Options),
    /// Time all-reduces of libdime.so against the real NCCL
    Bench(bench::Options),
    /// Compare all-reduces of every kind with a reference computed on the host
    Check(check::Options),
    /// Mix sizes, types, eager calls and graph replays for a long time, and check every result
    Soak(soak::Options),
    /// Create, use and destroy communicators many times, and compare memory, descriptors and mappings
    Leak(leak::Options),
    /// Show reasons to forward a call, in a run each, and check that the forwarded result is right
    Forwards(forwards::Options),
    /// Write down results, routes and error codes, which must be the same on every node of the same GPUs
    Fingerprint(fingerprint::Options),
    /// Print the GPUs of this machine
    Devices(devices::Options),
}

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

fn main() {
    let code = match parse().and_then(|cli| cli.map_or(Ok(true), |cli| execute(&cli.command))) {
        Ok(true) => 0,
        Ok(false) => 1,
        Err(Failure { code, text }) => {
            note!("dime: {text}");
            code
        }
    };
    // Exit handlers of CUDA libraries can wait for a GPU that still spins after a failure: leave without them.
    // SAFETY: output is flushed when it is written; nothing else needs to run.
    unsafe { libc::_exit(code) }
}

/// The command line; None when it asked for a text, which has been printed.
fn parse() -> Result<Option<Cli>, Failure> {
    match Cli::try_parse() {
        Ok(cli) => Ok(Some(cli)),
        Err(error) if error.use_stderr() => error.exit(),
        Err(error) => Ok(output::print(error.render()).map(|()| None)?),
    }
}

fn execute(command: &Command) -> Result<bool, Failure> {
    Ok(match command {
        Command::Run(options) => run::run(options)?,
        Command::Bench(options) => bench::run(options)?,
        Command::Check(options) => check::run(options)?,
        Command::Soak(options) => soak::run(options)?,
        Command::Leak(options) => leak::run(options)?,
        Command::Forwards(options) => forwards::run(options)?,
        Command::Fingerprint(options) => fingerprint::run(options)?,
        Command::Devices(options) => devices::run(options)?,
    })
}

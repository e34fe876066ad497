//! `dime`: the command-line tool beside libdime.so.
//!
//! `run` starts a program with libdime.so in front of its NCCL. `bench` times all-reduces, `check` compares them with a
//! host reference, `soak` mixes them for a long time, `leak` repeats a communicator's life, `forwards` shows each reason
//! to hand a call to the real NCCL, `fingerprint` writes down results to compare with those of another machine. The tool
//! talks to both libraries through NCCL's C API only.

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
mod payload;
mod random;
mod reference;
mod rig;
mod run;
mod soak;
mod stats;
mod table;
mod team;

use std::io::Write;

use clap::{Parser, Subcommand};

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

fn main() {
    let outcome = match Cli::parse().command {
        Command::Run(options) => run::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Check(options) => check::run(&options),
        Command::Soak(options) => soak::run(&options),
        Command::Leak(options) => leak::run(&options),
        Command::Forwards(options) => forwards::run(&options),
        Command::Fingerprint(options) => fingerprint::run(&options),
        Command::Devices(options) => devices::run(&options),
    };
    let code = match outcome {
        Ok(true) => 0,
        Ok(false) => 1,
        Err(error) => {
            eprintln!("dime: {error}");
            2
        }
    };
    let _ = std::io::stdout().flush();
    // Exit handlers of CUDA libraries can wait for a GPU that still spins after a failure: leave without them.
    // SAFETY: output is flushed; nothing else needs to run.
    unsafe { libc::_exit(code) }
}

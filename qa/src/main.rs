//! `dime-qa`: checks libdime.so on the GPUs of this machine.
//!
//! `check` compares all-reduces with a host reference, `soak` mixes them for a long time, `leak` repeats a communicator's
//! life, `forwards` shows each reason to hand a call to the real NCCL, `fingerprint` writes down results to compare with those
//! of another machine. It talks to both libraries through NCCL's C API only.

#![deny(clippy::print_stdout, clippy::print_stderr)]

mod check;
mod devices;
mod fingerprint;
mod forwards;
mod leak;
mod soak;
mod summary;

use clap::{Parser, Subcommand};
use dime_harness::Fallible;
use dime_harness::command;

#[derive(Parser)]
#[command(name = "dime-qa", version, about = "Checks libdime.so")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
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
}

fn main() {
    command::run("dime-qa", Cli::try_parse(), |cli| Ok(execute(&cli.command)?))
}

/// Returns whether everything that was checked was right.
fn execute(command: &Command) -> Fallible<bool> {
    match command {
        Command::Check(options) => check::run(options),
        Command::Soak(options) => soak::run(options),
        Command::Leak(options) => leak::run(options),
        Command::Forwards(options) => forwards::run(options),
        Command::Fingerprint(options) => fingerprint::run(options),
    }
}

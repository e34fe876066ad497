//! `dime`: the command-line tool beside libdime.so.
//!
//! `run` starts a program with libdime.so in front of its NCCL, `bench` times all-reduces of libdime.so and of the real NCCL, `plot`
//! draws what it measured, `tune` writes a tuning file for the GPUs here, `devices` lists them, `doctor` says whether all-reduces
//! here would be fast, `path` prints where libdime.so is. The tool talks to both libraries through NCCL's C API; `doctor` and `tune`
//! also have the library's routing and memory code linked in, without its exports. The checks of libdime.so itself are subcommands
//! of `dime-qa`.

#![deny(clippy::print_stdout, clippy::print_stderr)]

mod bench;
mod devices;
mod doctor;
mod plot;
mod run;
mod texts;
mod tune;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand};
use dime_harness::Fallible;
use dime_harness::command::{self, Failure};
use dime_harness::locate::Paths;
use dime_harness::output::say;

#[derive(Parser)]
#[command(name = "dime", version, about = "Runs and times all-reduces with libdime.so")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a program with libdime.so in front of its NCCL
    Run(run::Options),
    /// Time all-reduces of libdime.so against the real NCCL
    Bench(Box<bench::Options>),
    /// Draw measurements that `dime bench --json` wrote
    Plot(plot::Options),
    /// Find the fastest kernels, grids and thresholds on the GPUs here, and write a tuning file
    Tune(tune::Options),
    /// Print the GPUs of this machine
    Devices(devices::Options),
    /// Check libraries, GPUs and settings here, and say what to do about what is not right
    Doctor(doctor::Options),
    /// Print the path of libdime.so: LD_PRELOAD=$(dime path)
    Path,
    /// Print what completes this tool's command line in a shell
    Completions(texts::Completions),
    /// Write the pages of the manual into a folder
    #[command(hide = true)]
    Manual(texts::Manual),
}

/// Subcommands of dime-qa, for users who look for them here.
const SUBCOMMANDS_OF_QA: [&str; 5] = ["check", "soak", "leak", "forwards", "fingerprint"];

fn main() {
    command::run("dime", Cli::try_parse().map_err(name_qa), execute)
}

fn execute(cli: &Cli) -> Result<bool, Failure> {
    match &cli.command {
        Command::Run(options) => run::run(options),
        Command::Bench(options) => Ok(bench::run(options)?),
        Command::Plot(options) => Ok(plot::run(options)?),
        Command::Tune(options) => Ok(tune::run(options)?),
        Command::Devices(options) => Ok(devices::run(options)?),
        Command::Doctor(options) => doctor::run(options),
        Command::Path => Ok(path()?),
        Command::Completions(options) => Ok(texts::completions::<Cli>(options)?),
        Command::Manual(options) => Ok(texts::manual::<Cli>(options)?),
    }
}

/// `dime path`: prints where libdime.so is.
fn path() -> Fallible<bool> {
    say!("{}", Paths { dime: None, nccl: None }.find_dime()?.display())?;
    Ok(true)
}

/// The same error, or one that names dime-qa when the subcommand is one of its.
fn name_qa(error: clap::Error) -> clap::Error {
    match error.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(name)) if SUBCOMMANDS_OF_QA.contains(&name.as_str()) => Cli::command()
            .error(ErrorKind::InvalidSubcommand, format!("'{name}' is a subcommand of dime-qa: dime-qa {name}")),
        _ => error,
    }
}

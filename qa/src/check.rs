//! `dime-qa check`: compares all-reduces of every kind with a reference computed on the host.
//!
//! A case is a type, an operation, a count, the misalignment of each pointer, in place or not, and a kind of data. It
//! runs on several communicators in turn, its columns: one for each forced kernel and one that chooses for itself. Cases
//! are drawn in a seeded random order, many are queued between two synchronisations, and a time limit leaves a fair
//! sample. Each number of ranks has a process of its own, so that a crash or a hang costs no more than its own part.

mod batch;
mod cases;
mod tally;
mod work;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use dime_harness::Fallible;
use dime_harness::args::Sizes;
use dime_harness::control::Control;
use dime_harness::kernel::KERNELS;
use dime_harness::locate::Paths;
use dime_harness::number::{Dtype, Op};
use dime_harness::output::{note, print};
use dime_harness::payload::{self, Kind};
use dime_harness::team::{Model, Team, set_variables};

use crate::devices::{choose_devices, choose_rank_counts};
use tally::Report;

/// Options of `dime-qa check`.
#[derive(clap::Args, Clone)]
pub struct Options {
    #[command(flatten)]
    paths: Paths,
    /// Numbers of ranks [default: 2 up to the number of devices]
    #[arg(long, value_delimiter = ',', value_parser = dime_harness::args::at_least(2_usize))]
    ranks: Vec<usize>,
    /// Devices to use; n ranks take the first n [default: all]
    #[arg(long, value_delimiter = ',')]
    devices: Vec<usize>,
    /// Which threads or processes drive the GPUs
    #[arg(long, value_enum, default_value = "threads")]
    model: Model,
    /// Columns: auto, the name of a kernel to force, or nccl for the real library itself
    #[arg(long, value_delimiter = ',', default_values_t = default_columns())]
    kernels: Vec<String>,
    /// Types [default: all]
    #[arg(long, value_delimiter = ',')]
    types: Vec<Dtype>,
    /// Operations [default: all]
    #[arg(long, value_delimiter = ',')]
    ops: Vec<Op>,
    /// Kinds of data: exact, random, special [default: all]
    #[arg(long, value_delimiter = ',')]
    kinds: Vec<Kind>,
    /// Largest message
    #[arg(long, default_value = "32M", value_parser = dime_harness::args::parse_bytes)]
    max_bytes: usize,
    /// Only these message sizes, instead of the sizes around every boundary
    #[arg(long)]
    bytes: Option<Sizes>,
    /// More boundaries, in bytes, around which messages end, for example where a kernel's memory is full
    #[arg(long)]
    around: Option<Sizes>,
    /// Time for cases, shared between the numbers of ranks, in seconds
    #[arg(long, default_value_t = 120, value_parser = dime_harness::args::at_least(1_u64))]
    seconds: u64,
    /// Time a setup, a batch or a barrier may take before it counts as a hang, in seconds
    #[arg(long, default_value_t = 30, value_parser = dime_harness::args::at_least(1_u64))]
    wait_limit: u64,
    /// Cases queued between two synchronisations
    #[arg(long, default_value_t = 48, value_parser = clap::value_parser!(u16).range(1..=64))]
    batch: u16,
    /// Skip this many cases of the order
    #[arg(long, default_value_t = 0)]
    from: usize,
    /// Stop after this many cases
    #[arg(long, default_value_t = usize::MAX, hide_default_value = true, value_parser = dime_harness::args::at_least(1_usize))]
    cases: usize,
    /// Seed of the data and of the order of the cases
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Failures printed in full for each number of ranks
    #[arg(long, default_value_t = 10)]
    show: usize,
    /// Keep threads in this process instead of a forked one; for tools that cannot follow a fork
    #[arg(long)]
    no_fork: bool,
    /// Write the summary to PATH.json and PATH.txt
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
}

fn default_columns() -> Vec<String> {
    std::iter::once("auto").chain(KERNELS).map(str::to_owned).collect()
}

/// Runs the sweep, prints a table, and returns whether all was right.
pub fn run(options: &Options) -> Fallible<bool> {
    let mut options = options.clone();
    options.paths = options.paths.resolve()?;
    if let Some(bad) = options.kernels.iter().find(|column| !is_column(column)) {
        return Err(format!("no kernel {bad:?}; there are auto, {}, nccl", KERNELS.join(", ")));
    }
    if options.types.is_empty() {
        options.types = Dtype::ALL.to_vec();
    }
    if options.ops.is_empty() {
        options.ops = Op::ALL.to_vec();
    }
    if options.kinds.is_empty() {
        options.kinds = Kind::ALL.to_vec();
    }
    if options.no_fork && !matches!(options.model, Model::Threads | Model::OneThread) {
        return Err("--no-fork goes with --model threads or one-thread".to_owned());
    }
    let devices = choose_devices(&options.devices)?;
    let rank_counts = choose_rank_counts(&options.ranks, devices.len())?;
    // Values that are there from the start are later replaced in place, never added while threads run.
    set_variables(&[("DIME_KERNEL", "auto")]);
    let start = Instant::now();
    let mut reports = Vec::new();
    for (index, &ranks) in rank_counts.iter().enumerate() {
        let left = Duration::from_secs(options.seconds).saturating_sub(start.elapsed());
        let share = left / (rank_counts.len() - index) as u32;
        reports.push(one_rank_count(&options, &devices[..ranks], share)?);
    }
    let all_right = reports.iter().all(Report::all_right);
    let text = tally::summary(&options, &reports);
    print(&text)?;
    if let Some(path) = &options.out {
        tally::save(path, &text, &options, &reports)?;
    }
    Ok(all_right)
}

fn one_rank_count(options: &Options, devices: &[usize], time: Duration) -> Fallible<Report> {
    let ranks = devices.len();
    let control = Control::new()?;
    let payloads = payload::make(&options.types, &options.kinds, &options.ops, ranks, options.seed);
    let wait_limit = Duration::from_secs(options.wait_limit);
    let team = Team {
        model: options.model,
        devices,
        control,
        wait_limit,
        // Contexts, communicators of every column, pools, the cases, and the end.
        limit: time + wait_limit * 2 + Duration::from_secs(5 * options.kernels.len() as u64),
        in_process: options.no_fork,
    };
    let start = Instant::now();
    let outcome = team.run(|seat| work::work(options, seat, &payloads, time));
    let mut report = Report::parse(&control.report());
    report.ranks = ranks;
    report.wall_s = start.elapsed().as_secs_f64();
    report.log = control.log_text();
    report.error = outcome.err();
    note!("{}", report.progress());
    Ok(report)
}

fn is_column(name: &str) -> bool {
    name == "auto" || name == "nccl" || KERNELS.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_columns_are_auto_and_every_kernel() {
        assert_eq!(default_columns().len(), 6);
        assert!(default_columns().iter().all(|column| is_column(column)));
        assert!(is_column("nccl") && !is_column("two_shot"));
    }
}

//! `dime bench`: times all-reduces of libdime.so and of the real NCCL in one run.
//!
//! Graph mode: a CUDA graph of 50 all-reduces (16 from 4 MiB up) that depend on each other by stream order, 24 replays
//! that all ranks start together, the first 4 dropped, the median of each rank, the smallest of these divided by the
//! number of operations. Eager mode: back-to-back calls timed by events the same way, and the host's time for a call.
//! Before anything is timed its result is checked exactly, once eagerly and once from the graph. docs/bench.md says
//! what each number means.
//!
//! The workers are forked: this process touches neither CUDA nor an NCCL, so that it can start others, and Python for
//! the peers. The first worker writes each measurement to a file, which is read when the team is done.

pub mod measure;
mod peers;
pub mod plan;
pub mod plot;
pub mod progress;
mod refused;
mod report;
pub mod row;
pub mod rows;
pub mod simulated;

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use dime_harness::args::{Sizes, at_least, parse_bytes};
use dime_harness::control::Control;
use dime_harness::kernel::{KERNELS, takes};
use dime_harness::locate::Paths;
use dime_harness::nccl::Library;
use dime_harness::number::{Dtype, Op};
use dime_harness::output::{note, print};
use dime_harness::payload::{Kind, Payload};
use dime_harness::rig::{Buffers, Communicator, Gpu, open_gpus, wait_all};
use dime_harness::team::{Seat, Team, set_variables};
use dime_harness::{Fallible, cuda, stats};

use plan::{Drive, Method, Mode, Ops, Range, Types};
use progress::Progress;
use row::{Column, Facts, Row};
use rows::RowFile;
use simulated::Node;

/// Options of `dime bench`. Those with a short form are nccl-tests' options.
#[derive(clap::Args)]
pub struct Options {
    #[command(flatten)]
    paths: Paths,
    /// Numbers of GPUs; each run uses the first of those visible [default: 2, 4 and 8 as far as there are so many]
    #[arg(long, value_delimiter = ',', value_parser = at_least(2_usize))]
    gpus: Vec<usize>,
    /// Number of GPUs, times --nthreads
    #[arg(short = 'g', long, value_name = "COUNT", conflicts_with = "gpus", value_parser = at_least(1_usize))]
    ngpus: Option<usize>,
    /// Threads of the process, one for each GPU: -t 4 is -g 4
    #[arg(short = 't', long, value_name = "COUNT", conflicts_with = "gpus", value_parser = at_least(1_usize))]
    nthreads: Option<usize>,
    /// Who drives the GPUs
    #[arg(long, default_value = "threads")]
    model: Drive,
    /// Message sizes: a list of sizes and of doubling ranges [default: 256..16M]
    #[arg(long, conflicts_with_all = ["minbytes", "maxbytes", "stepfactor", "stepbytes"])]
    bytes: Option<Sizes>,
    /// Smallest message, such as 8, 32K, 1M or 1G [default: 256]
    #[arg(short = 'b', long, value_name = "SIZE", value_parser = parse_bytes)]
    minbytes: Option<usize>,
    /// Largest message [default: 16M]
    #[arg(short = 'e', long, value_name = "SIZE", value_parser = parse_bytes)]
    maxbytes: Option<usize>,
    /// Each size is the last one times this [default: 2]
    #[arg(short = 'f', long, value_name = "FACTOR", value_parser = at_least(2_usize), conflicts_with = "stepbytes")]
    stepfactor: Option<usize>,
    /// Each size is the last one plus this
    #[arg(short = 'i', long, value_name = "SIZE", value_parser = parse_bytes)]
    stepbytes: Option<usize>,
    /// All-reduces in one graph, or eager calls in one go [default: 50 and 500, from 4 MiB on 16 and 100]
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = at_least(1_usize))]
    iters: Option<usize>,
    /// Replays, or goes of eager calls, that are not counted [default: 4, eager 1]
    #[arg(short = 'w', long = "warmup_iters", alias = "warmup-iters", value_name = "COUNT")]
    warmup_iters: Option<usize>,
    /// How often each result is checked; 0: not at all
    #[arg(short = 'c', long, value_name = "COUNT", default_value_t = 1)]
    check: usize,
    /// Replays of the graph that count [default: 20]; 0: no graph, as --mode eager
    #[arg(short = 'G', long, value_name = "COUNT")]
    cudagraph: Option<usize>,
    /// 0: ordinary buffers, the only ones that are timed
    #[arg(short = 'R', long = "local_register", alias = "local-register", value_name = "KIND", default_value_t = 0)]
    local_register: usize,
    /// Types: a list, or all
    #[arg(short = 'd', long, visible_alias = "datatype", default_value = "bf16")]
    dtype: Types,
    /// Operations: a list, or all
    #[arg(short = 'o', long, default_value = "sum")]
    op: Ops,
    /// What to time [default: graph]
    #[arg(long, value_delimiter = ',')]
    mode: Vec<Mode>,
    /// Which libraries to time
    #[arg(long, value_delimiter = ',', default_value = "dime,nccl")]
    lib: Vec<Which>,
    /// Also time each kernel, forced by DIME_KERNEL (those that take the type): all, or a list of names
    #[arg(long, value_delimiter = ',', num_args = 0.., default_missing_value = "all")]
    kernels: Vec<String>,
    /// Also time what is installed of torch symmetric memory, NCCL with registered windows, FlashInfer and MSCCL++
    #[arg(long)]
    peers: bool,
    /// The Python that has the peers
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    python: PathBuf,
    /// Reduce in place
    #[arg(long)]
    in_place: bool,
    /// Repeat everything this often; the table shows the median
    #[arg(long, default_value_t = 1, value_parser = at_least(1_usize))]
    repeat: usize,
    /// Append one JSON object a measurement to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw time against size: a .svg or .png file
    #[arg(long, value_name = "FILE", value_parser = plot::parse_file)]
    plot: Option<PathBuf>,
    #[command(flatten)]
    refused: refused::Refused,
    /// Seed of the data
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Longest time for one number of GPUs, in seconds
    #[arg(long, default_value_t = 240, value_parser = at_least(1_u64))]
    limit: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Which {
    Dime,
    Nccl,
}

/// What the options ask for on this machine.
struct Plan {
    drive: Drive,
    gpu_counts: Vec<usize>,
    sizes: Vec<usize>,
    types: Vec<Dtype>,
    ops: Vec<Op>,
    modes: Vec<Mode>,
    columns: Vec<Column>,
    method: Method,
    in_place: bool,
    repeats: usize,
}

impl Plan {
    /// The pairs of type and operation.
    fn pairs(&self) -> impl Iterator<Item = (Dtype, Op)> {
        self.types.iter().flat_map(|&dtype| self.ops.iter().map(move |&op| (dtype, op)))
    }
}

/// Runs the benchmark and prints a table for each number of GPUs and mode.
pub fn run(options: &Options) -> Fallible<bool> {
    options.refused.check()?;
    plan::check_registration(options.local_register)?;
    let (modes, replays) = plan::modes(&options.mode, options.cudagraph)?;
    let gpu_counts = plan::gpu_counts(&options.gpus, options.ngpus, options.nthreads, options.model)?;
    let columns = columns(options)?;
    let range =
        Range { least: options.minbytes, most: options.maxbytes, factor: options.stepfactor, step: options.stepbytes };
    range.sizes(false)?;
    let node = Node::find_or_simulate()?;
    let plan = Plan {
        drive: options.model,
        gpu_counts: plan::present_gpu_counts(&gpu_counts, node.gpus)?,
        sizes: options.bytes.clone().map_or_else(|| range.sizes(node.is_simulated), Ok)?.0,
        types: options.dtype.0.clone(),
        ops: options.op.0.clone(),
        modes,
        columns,
        method: Method::new(options.iters, replays, options.warmup_iters, options.check, node.is_simulated),
        in_place: options.in_place,
        repeats: options.repeat,
    };
    let paths = options.paths.resolve()?;
    if std::env::var_os("NCCL_NVLS_ENABLE").is_none() {
        set_variables(&[("NCCL_NVLS_ENABLE", "0")]);
    }
    set_variables(&[("DIME_KERNEL", "auto")]);
    node.warn();
    if options.check == 0 {
        note!("dime: -c 0: results are not checked");
    }
    let mut all_rows = Vec::new();
    let mut all_right = true;
    for &gpus in &plan.gpu_counts {
        let file = RowFile::create(options.json.as_deref())?;
        let outcome = measure(options, &plan, &node, &paths, gpus, &file);
        let (mut rows, facts) = file.read()?;
        if let (true, Some(facts), Ok(())) = (options.peers, &facts, &outcome) {
            let rows_of_peers = peers::measure(&options.python, &plan, gpus)?;
            rows_of_peers.iter().try_for_each(|row| file.write(row, facts))?;
            rows.extend(rows_of_peers);
        }
        all_right &= rows.iter().all(Row::is_right);
        if let Some(facts) = facts {
            print(report::tables(&facts, gpus, &plan.columns, &plan.modes, &rows))?;
            all_rows.extend(rows.into_iter().map(|row| (row, facts.clone())));
        }
        outcome?;
    }
    if let Some(path) = &options.plot {
        plot::draw(path, &all_rows)?;
    }
    Ok(all_right)
}

/// Times everything on so many GPUs.
fn measure(options: &Options, plan: &Plan, node: &Node, paths: &Paths, gpus: usize, file: &RowFile) -> Fallible<()> {
    let of_type = |&dtype| Payload::new(dtype, Kind::Exact, &plan.ops, gpus, options.seed);
    let payloads: Vec<Payload> = plan.types.iter().map(of_type).collect();
    let devices: Vec<usize> = (0..gpus).collect();
    let team = Team {
        model: plan.drive.model(),
        devices: &devices,
        control: Control::new()?,
        // Threads of a simulated GPU share the processors with everything else.
        wait_limit: Duration::from_secs(if node.is_simulated { 180 } else { 30 }),
        limit: Duration::from_secs(options.limit),
        in_process: false,
    };
    let steps = plan.pairs().count() * plan.sizes.len() * plan.columns.len() * plan.repeats;
    let progress = Mutex::new(Progress::new(gpus, steps));
    team.run(|seat| {
        let libraries = paths.libraries()?;
        cuda::init()?;
        let facts = Facts {
            gpu: node.gpu.clone(),
            driver: cuda::kernel_driver_version().unwrap_or_else(|| "unknown".to_owned()),
            nccl_version: libraries.real.version()?,
            dime_version: libraries.dime.dime_version().unwrap_or_else(|| "unknown".to_owned()),
            in_place: plan.in_place,
            drive: plan.drive,
            is_simulated: node.is_simulated,
            date: stats::now_utc(),
        };
        let bench = Bench { plan, seat, payloads: &payloads, facts: &facts, file, progress: &progress };
        let gpus = open_gpus(seat)?;
        let communicators = plan
            .columns
            .iter()
            .map(|column| {
                let library = if column.forced().is_some() { &libraries.dime } else { &libraries.real };
                connect(seat, &gpus, column, library, &payloads[0])
            })
            .collect::<Fallible<Vec<Communicator>>>()?;
        seat.set_variables(&[("DIME_KERNEL", "auto")])?;
        bench.work(&gpus, &communicators)?;
        for communicator in communicators {
            communicator.check_async_error()?;
            communicator.destroy(seat, &gpus)?;
        }
        seat.barrier()
    })
}

fn columns(options: &Options) -> Fallible<Vec<Column>> {
    let mut columns = Vec::new();
    if options.lib.contains(&Which::Dime) {
        columns.push(Column::Dime);
        let kernels = forced_kernels(&options.kernels, &options.dtype.0)?;
        columns.extend(kernels.into_iter().map(|kernel| Column::Kernel(kernel.to_owned())));
    }
    if options.lib.contains(&Which::Nccl) {
        columns.push(Column::Nccl);
    }
    Ok(columns)
}

/// The kernels that a list of names (or "all") stands for and that take one of the types.
fn forced_kernels(names: &[String], types: &[Dtype]) -> Fallible<Vec<&'static str>> {
    let everything = names.iter().any(|name| name == "all");
    if let Some(name) = names.iter().find(|name| *name != "all" && !KERNELS.contains(&name.as_str())) {
        return Err(format!("no kernel {name:?}; there are {}", KERNELS.join(", ")));
    }
    let wanted = |kernel: &&str| everything || names.iter().any(|name| name == kernel);
    let is_usable = |kernel: &&str| types.iter().any(|&dtype| takes(kernel, dtype));
    Ok(KERNELS.into_iter().filter(wanted).filter(is_usable).collect())
}

/// Makes the communicator of a column, and sets it up with a first all-reduce.
pub fn connect<'l>(
    seat: &Seat,
    gpus: &[Gpu],
    column: &Column,
    library: &'l Library,
    payload: &Payload,
) -> Fallible<Communicator<'l>> {
    if let Some(kernel) = column.forced() {
        seat.set_variables(&[("DIME_KERNEL", kernel)])?;
    }
    let communicator = Communicator::create(seat, library, gpus)?;
    seat.doing(&format!("the first all-reduce of {}", column.label()));
    let place = measure::Place::new(&gpus[0], payload, 256, false)?;
    let buffers = Buffers { input: place.input(), output: place.output() };
    communicator.all_reduce(gpus, &[buffers], 64, Dtype::F32, Op::Sum)?;
    wait_all(seat, gpus)?;
    seat.barrier()?;
    Ok(communicator)
}

/// One worker's part of the benchmark.
struct Bench<'a> {
    plan: &'a Plan,
    seat: &'a Seat,
    payloads: &'a [Payload],
    facts: &'a Facts,
    file: &'a RowFile,
    progress: &'a Mutex<Progress>,
}

impl Bench<'_> {
    fn work(&self, gpus: &[Gpu], communicators: &[Communicator]) -> Fallible<()> {
        let plan = self.plan;
        let largest = plan.sizes.iter().copied().max().unwrap_or(0);
        for payload in self.payloads {
            let place = measure::Place::new(&gpus[0], payload, largest, plan.in_place)?;
            for (&op, repeat) in plan.ops.iter().flat_map(|op| (0..plan.repeats).map(move |repeat| (op, repeat))) {
                for &bytes in &plan.sizes {
                    for (column, communicator) in plan.columns.iter().zip(communicators) {
                        self.show(&format!(
                            "{} {} {bytes} bytes, {}",
                            payload.dtype.name(),
                            op.name(),
                            column.label()
                        ))?;
                        let measure = measure::Measure {
                            seat: self.seat,
                            gpus,
                            communicator,
                            place: &place,
                            payload,
                            op,
                            count: (bytes / payload.dtype.bytes()).max(1),
                            method: &plan.method,
                        };
                        for row in measure.all(column, &plan.modes)? {
                            self.file.write(&Row { repeat, ..row }, self.facts)?;
                        }
                    }
                }
            }
            // Freeing host memory waits for all GPUs of the process: no rank may be at the next type by then.
            drop(place);
            self.seat.barrier()?;
        }
        self.show("done")
    }

    /// Shows how far the run is: on the first worker, which measures nothing while it does.
    fn show(&self, what: &str) -> Fallible<()> {
        if self.seat.worker == 0 {
            self.progress.lock().map_err(|error| error.to_string())?.show(what);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_have_no_sentinel_kernels() {
        let all = ["all".to_owned()];
        assert_eq!(forced_kernels(&all, &[Dtype::Bf16]).unwrap().len(), 5);
        assert_eq!(forced_kernels(&all, &[Dtype::I8]), Ok(vec!["one_shot_ll", "two_shot_ll", "two_shot_bulk"]));
        assert_eq!(forced_kernels(&all, &[Dtype::I8, Dtype::F32]).unwrap().len(), 5);
        assert_eq!(forced_kernels(&["two_shot_ll".to_owned()], &[Dtype::I8]), Ok(vec!["two_shot_ll"]));
        assert!(forced_kernels(&["three_shot".to_owned()], &[Dtype::I8]).is_err());
        assert_eq!(forced_kernels(&[], &[Dtype::I8]), Ok(vec![]));
    }
}

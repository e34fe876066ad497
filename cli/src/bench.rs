//! `dime bench`: times all-reduces of libdime.so and of the real NCCL in one run.
//!
//! One process, one thread a GPU, one stream each. Graph mode: a CUDA graph of 50 all-reduces (16 from 4 MiB up) that
//! depend on each other by stream order, 24 replays that all ranks start together, the first 4 dropped, the median of
//! each rank, the smallest of these divided by the number of operations. Eager mode: back-to-back calls timed by
//! events the same way, and the host's time for a call. Before anything is timed its result is checked exactly, once
//! eagerly and once from the graph.

mod measure;
mod report;

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use dime_harness::Fallible;
use dime_harness::args::Sizes;
use dime_harness::control::Control;
use dime_harness::kernel::{KERNELS, takes};
use dime_harness::locate::Paths;
use dime_harness::nccl::Library;
use dime_harness::number::{Dtype, Op};
use dime_harness::output::print;
use dime_harness::payload::{Kind, Payload};
use dime_harness::rig::{Buffers, Communicator, open_gpus, wait_all};
use dime_harness::team::{Model, Seat, Team};
use dime_harness::{cuda, stats};

/// Options of `dime bench`.
#[derive(clap::Args)]
pub struct Options {
    #[command(flatten)]
    paths: Paths,
    /// Numbers of GPUs; each run uses the first of those visible [default: 2, 4 and 8 as far as there are so many]
    #[arg(long, value_delimiter = ',', value_parser = dime_harness::args::at_least(2_usize))]
    gpus: Vec<usize>,
    /// Message sizes: a list of sizes and of doubling ranges
    #[arg(long, default_value = "256..16M")]
    bytes: Sizes,
    #[arg(long, default_value = "bf16")]
    dtype: Dtype,
    #[arg(long, default_value = "sum")]
    op: Op,
    /// What to time
    #[arg(long, value_delimiter = ',', default_value = "graph")]
    mode: Vec<Mode>,
    /// Which libraries to time
    #[arg(long, value_delimiter = ',', default_value = "dime,nccl")]
    lib: Vec<Which>,
    /// Also time each kernel, forced by DIME_KERNEL (those that take the type): all, or a list of names
    #[arg(long, value_delimiter = ',', num_args = 0.., default_missing_value = "all")]
    kernels: Vec<String>,
    /// Reduce in place
    #[arg(long)]
    in_place: bool,
    /// Repeat everything this often; the table shows the median
    #[arg(long, default_value_t = 1, value_parser = dime_harness::args::at_least(1_usize))]
    repeat: usize,
    /// Append one JSON object a measurement to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Seed of the data
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Longest time for one number of GPUs, in seconds
    #[arg(long, default_value_t = 240, value_parser = dime_harness::args::at_least(1_u64))]
    limit: u64,
}

/// What is timed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Mode {
    Graph,
    Eager,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Mode::Graph => "graph",
            Mode::Eager => "eager",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Which {
    Dime,
    Nccl,
}

/// One column of the table: a library, and for libdime.so possibly a forced kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lane {
    /// DIME_KERNEL while its communicator is set up; None for the real NCCL.
    pub kernel: Option<String>,
}

impl Lane {
    fn label(&self) -> &str {
        self.kernel.as_deref().map_or("nccl", |kernel| if kernel == "auto" { "dime" } else { kernel })
    }

    fn is_forced(&self) -> bool {
        self.kernel.as_deref().is_some_and(|kernel| kernel != "auto")
    }
}

/// One measurement.
#[derive(Clone, Debug)]
pub struct Row {
    pub gpus: usize,
    pub bytes: usize,
    pub lane: Lane,
    pub mode: Mode,
    pub repeat: usize,
    pub us: f64,
    pub host_us: Option<f64>,
    pub host_min_us: Option<f64>,
    /// The kernel that ran, or "nccl".
    pub kernel: String,
    /// Why libdime.so forwarded, where it did.
    pub reason: Option<String>,
    /// "ok", or what is wrong.
    pub check: String,
}

/// Runs the benchmark and prints a table for each number of GPUs and mode.
pub fn run(options: &Options) -> Fallible<bool> {
    let paths = options.paths.resolve()?;
    if std::env::var_os("NCCL_NVLS_ENABLE").is_none() {
        dime_harness::team::set_variables(&[("NCCL_NVLS_ENABLE", "0")]);
    }
    dime_harness::team::set_variables(&[("DIME_KERNEL", "auto")]);
    let libraries = paths.libraries()?;
    cuda::init()?;
    let present = cuda::device_count()?;
    let gpu_counts = choose_gpu_counts(&options.gpus, present)?;
    let lanes = lanes(options)?;
    let facts = report::Facts {
        gpu: cuda::device_name(0)?,
        driver: cuda::kernel_driver_version().unwrap_or_else(|| "unknown".to_owned()),
        nccl_version: libraries.real.version()?,
        dime_version: libraries.dime.dime_version().unwrap_or_else(|| "unknown".to_owned()),
        dtype: options.dtype,
        op: options.op,
        in_place: options.in_place,
    };
    let mut all_right = true;
    for gpus in gpu_counts {
        let rows = Mutex::new(Vec::new());
        let mut json = report::JsonFile::open(options.json.as_deref())?;
        let payload = Payload::new(options.dtype, Kind::Exact, &[options.op], gpus, options.seed);
        let devices: Vec<usize> = (0..gpus).collect();
        let team = Team {
            model: Model::Threads,
            devices: &devices,
            control: Control::new()?,
            patience: Duration::from_secs(30),
            limit: Duration::from_secs(options.limit),
            in_process: true,
        };
        let writer = Mutex::new(&mut json);
        let outcome = team.run(|seat| {
            let bench = Bench { options, seat, lanes: &lanes, payload: &payload };
            bench.work(&libraries.dime, &libraries.real, &|row: Row| {
                let written = writer.lock().map_err(|e| e.to_string())?.write(&facts, &row);
                rows.lock().map_err(|e| e.to_string())?.push(row);
                written
            })
        });
        let rows = rows.into_inner().map_err(|e| e.to_string())?;
        print(report::tables(&facts, gpus, &lanes, &options.mode, &rows))?;
        all_right &= rows.iter().all(|row| row.check == "ok");
        outcome?;
    }
    Ok(all_right)
}

fn choose_gpu_counts(asked: &[usize], present: usize) -> Fallible<Vec<usize>> {
    if asked.is_empty() {
        let counts: Vec<usize> = [2, 4, 8].into_iter().filter(|&count| count <= present).collect();
        return if counts.is_empty() { Err(format!("{present} GPU here; a bench needs two")) } else { Ok(counts) };
    }
    match asked.iter().find(|&&count| count > present || !(2..=8).contains(&count)) {
        Some(count) => Err(format!("--gpus {count}: {present} GPUs here, and 2 to 8 can be used")),
        None => Ok(asked.to_vec()),
    }
}

fn lanes(options: &Options) -> Fallible<Vec<Lane>> {
    let mut lanes = Vec::new();
    if options.lib.contains(&Which::Dime) {
        lanes.push(Lane { kernel: Some("auto".to_owned()) });
        for kernel in forced_kernels(&options.kernels, options.dtype)? {
            lanes.push(Lane { kernel: Some(kernel.to_owned()) });
        }
    }
    if options.lib.contains(&Which::Nccl) {
        lanes.push(Lane { kernel: None });
    }
    Ok(lanes)
}

/// The kernels that a list of names (or "all") stands for and that take the type.
fn forced_kernels(names: &[String], dtype: Dtype) -> Fallible<Vec<&'static str>> {
    let everything = names.iter().any(|name| name == "all");
    if let Some(name) = names.iter().find(|name| *name != "all" && !KERNELS.contains(&name.as_str())) {
        return Err(format!("no kernel {name:?}; there are {}", KERNELS.join(", ")));
    }
    let wanted = |kernel: &&str| everything || names.iter().any(|name| name == kernel);
    Ok(KERNELS.into_iter().filter(wanted).filter(|kernel| takes(kernel, dtype)).collect())
}

/// One worker's part of the benchmark.
struct Bench<'a> {
    options: &'a Options,
    seat: &'a Seat,
    lanes: &'a [Lane],
    payload: &'a Payload,
}

impl Bench<'_> {
    fn work(&self, dime: &Library, real: &Library, keep: &dyn Fn(Row) -> Fallible<()>) -> Fallible<()> {
        let (options, seat) = (self.options, self.seat);
        let gpus = open_gpus(seat)?;
        let largest = options.bytes.0.iter().copied().max().unwrap_or(0);
        let place = measure::Place::new(&gpus[0], self.payload, largest, options.in_place)?;
        let mut communicators = Vec::new();
        for lane in self.lanes {
            let library = if lane.kernel.is_some() { dime } else { real };
            if let Some(kernel) = &lane.kernel {
                seat.set_variables(&[("DIME_KERNEL", kernel)])?;
            }
            let communicator = Communicator::create(seat, library, &gpus)?;
            seat.doing(&format!("the first all-reduce of {}", lane.label()));
            let buffers = Buffers { input: place.input(), output: place.output() };
            communicator.all_reduce(&gpus, &[buffers], 64, Dtype::F32, Op::Sum)?;
            wait_all(seat, &gpus)?;
            seat.barrier()?;
            communicators.push(communicator);
        }
        seat.set_variables(&[("DIME_KERNEL", "auto")])?;
        for repeat in 0..options.repeat {
            for &bytes in &options.bytes.0 {
                for (lane, communicator) in self.lanes.iter().zip(&communicators) {
                    let measure = measure::Measure {
                        seat,
                        gpus: &gpus,
                        communicator,
                        place: &place,
                        payload: self.payload,
                        op: options.op,
                        count: (bytes / options.dtype.bytes()).max(1),
                    };
                    for mut row in measure.all(lane, &options.mode)? {
                        row.repeat = repeat;
                        keep(row)?;
                    }
                }
            }
        }
        for communicator in communicators {
            communicator.check_async_error()?;
            communicator.destroy(seat, &gpus)?;
        }
        seat.barrier()
    }
}

/// The median of what several repeats gave, for the table.
fn typical(values: impl Iterator<Item = f64>) -> f64 {
    stats::median(&values.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_uses_two_four_and_eight_as_far_as_present() {
        assert_eq!(choose_gpu_counts(&[], 8), Ok(vec![2, 4, 8]));
        assert_eq!(choose_gpu_counts(&[], 5), Ok(vec![2, 4]));
        assert!(choose_gpu_counts(&[], 1).is_err());
        assert_eq!(choose_gpu_counts(&[3], 4), Ok(vec![3]));
        assert!(choose_gpu_counts(&[8], 4).is_err());
        assert!(choose_gpu_counts(&[1], 4).is_err());
    }

    #[test]
    fn integers_have_no_sentinel_kernels() {
        let all = ["all".to_owned()];
        assert_eq!(forced_kernels(&all, Dtype::Bf16).unwrap().len(), 5);
        assert_eq!(forced_kernels(&all, Dtype::I8), Ok(vec!["one_shot_ll", "two_shot_ll", "two_shot_bulk"]));
        assert_eq!(forced_kernels(&["two_shot_ll".to_owned()], Dtype::I8), Ok(vec!["two_shot_ll"]));
        assert!(forced_kernels(&["three_shot".to_owned()], Dtype::I8).is_err());
        assert_eq!(forced_kernels(&[], Dtype::I8), Ok(vec![]));
    }
}

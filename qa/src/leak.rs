//! `dime-qa leak`: creates, uses and destroys communicators many times and compares what the process holds before and after.
//!
//! The real NCCL alone goes first: what it keeps by itself is not counted against libdime.so.

use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dime_harness::control::Control;
use dime_harness::cuda::DeviceBuffer;
use dime_harness::locate::Paths;
use dime_harness::nccl::Library;
use dime_harness::number::{Dtype, Op};
use dime_harness::output::{print, say};
use dime_harness::rig::{Buffers, Communicator, Gpu, open_gpus, wait_all};
use dime_harness::team::{Model, Seat, Team};
use dime_harness::{Fallible, table};

use crate::devices::choose_devices;

/// Options of `dime-qa leak`.
#[derive(clap::Args, Clone)]
pub struct Options {
    #[command(flatten)]
    paths: Paths,
    /// Devices to use, one rank each [default: all]
    #[arg(long, value_delimiter = ',')]
    devices: Vec<usize>,
    /// Communicators made of each library; the first six are not compared
    #[arg(long, default_value_t = 200, value_parser = dime_harness::args::at_least(WARM_UP + 2))]
    cycles: u64,
    /// How a communicator is made; a split is faster
    #[arg(long, value_enum, default_value = "init")]
    via: Via,
    /// Longest time for each library, in seconds; fewer cycles are made when it is over
    #[arg(long, default_value_t = 240, value_parser = dime_harness::args::at_least(1_u64))]
    seconds: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Via {
    Init,
    Split,
}

/// Cycles before the first sample, in which caches of the driver and of NCCL fill.
const WARM_UP: u64 = 5;
/// Growth beyond the real NCCL's own that does not count as a leak.
const SLACK_BYTES: i64 = 8 << 20;
const SLACK_DESCRIPTORS: i64 = 8;
const SLACK_MAPPINGS: i64 = 32;

/// What the process holds.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    /// Device memory in use on the fullest device.
    device_bytes: i64,
    descriptors: i64,
    mappings: i64,
}

/// Growth from the first sample to the last, and what one live communicator holds.
#[derive(Clone, Copy, Debug, Default)]
struct Growth {
    cycles: u64,
    seconds: f64,
    grown: Sample,
    live_device_bytes: i64,
}

/// Runs both libraries and returns whether libdime.so keeps nothing.
pub fn run(options: &Options) -> Fallible<bool> {
    let mut options = options.clone();
    options.paths = options.paths.resolve()?;
    let devices = choose_devices(&options.devices)?;
    if options.via == Via::Split {
        // Without this a split costs as much as a new communicator.
        dime_harness::team::set_variables(&[("NCCL_COMM_SPLIT_SHARE_RESOURCES", "1")]);
    }
    let libraries = options.paths.libraries()?;
    let theirs = measure(&options, &devices, &libraries.real)?;
    let ours = measure(&options, &devices, &libraries.dime)?;
    let header =
        ["library", "cycles", "s/cycle", "device KiB", "descriptors", "mappings", "live MiB"].map(str::to_owned);
    let row = |name: &str, growth: &Growth| {
        vec![
            name.to_owned(),
            growth.cycles.to_string(),
            format!("{:.2}", growth.seconds / growth.cycles.max(1) as f64),
            format!("{:+}", growth.grown.device_bytes >> 10),
            format!("{:+}", growth.grown.descriptors),
            format!("{:+}", growth.grown.mappings),
            (growth.live_device_bytes >> 20).to_string(),
        ]
    };
    say!("growth over the cycles after the first {WARM_UP}; live: device memory that one communicator holds")?;
    print(table::render(&header, &[row("nccl", &theirs), row("dime", &ours)]))?;
    say!("scratch of one dime communicator: about {} MiB", (ours.live_device_bytes - theirs.live_device_bytes) >> 20)?;
    let leaks = leaks(&ours.grown, &theirs.grown);
    say!("{}", if leaks.is_empty() { "PASS".to_owned() } else { format!("FAIL: leaks {}", leaks.join(", ")) })?;
    Ok(leaks.is_empty())
}

/// What grew more with our library than without.
fn leaks(ours: &Sample, theirs: &Sample) -> Vec<&'static str> {
    let beyond = |ours: i64, theirs: i64, slack: i64| ours - theirs.max(0) > slack;
    let mut leaks = Vec::new();
    if beyond(ours.device_bytes, theirs.device_bytes, SLACK_BYTES) {
        leaks.push("device memory");
    }
    if beyond(ours.descriptors, theirs.descriptors, SLACK_DESCRIPTORS) {
        leaks.push("descriptors");
    }
    if beyond(ours.mappings, theirs.mappings, SLACK_MAPPINGS) {
        leaks.push("mappings");
    }
    leaks
}

fn measure(options: &Options, devices: &[usize], library: &Library) -> Fallible<Growth> {
    let result = Mutex::new(Growth::default());
    let team = Team {
        model: Model::Threads,
        devices,
        control: Control::new()?,
        wait_limit: Duration::from_secs(30),
        limit: Duration::from_secs(options.seconds + 90),
        in_process: true,
    };
    team.run(|seat| {
        let growth = cycles(options, seat, library)?;
        if seat.worker == 0 {
            *result.lock().map_err(|e| e.to_string())? = growth;
        }
        Ok(())
    })?;
    result.into_inner().map_err(|e| e.to_string())
}

fn cycles(options: &Options, seat: &Seat, library: &Library) -> Fallible<Growth> {
    let gpus = open_gpus(seat)?;
    let memory = DeviceBuffer::new(2 << 20)?;
    let buffers = [Buffers { input: memory.address(), output: memory.address() + (1 << 20) }];
    let parent = if options.via == Via::Split { Some(Communicator::create(seat, library, &gpus)?) } else { None };
    let start = Instant::now();
    let mut growth = Growth::default();
    let mut first = Sample::default();
    let mut measured = start;
    for cycle in 0..options.cycles {
        seat.doing(&format!("cycle {cycle} of {}", library.label()));
        let before = if cycle == WARM_UP { sample(seat, &gpus)? } else { Sample::default() };
        let communicator = match &parent {
            Some(parent) => parent.split(seat, &gpus)?,
            None => Communicator::create(seat, library, &gpus)?,
        };
        for bytes in [1 << 10, 64 << 10, 1 << 20] {
            communicator.all_reduce(&gpus, &buffers, bytes / 4, Dtype::F32, Op::Sum)?;
        }
        wait_all(seat, &gpus)?;
        if cycle == WARM_UP {
            growth.live_device_bytes = sample(seat, &gpus)?.device_bytes - before.device_bytes;
        }
        communicator.destroy(seat, &gpus)?;
        seat.barrier()?;
        if cycle == WARM_UP {
            first = sample(seat, &gpus)?;
            measured = Instant::now();
        }
        growth.cycles = cycle + 1;
        if seat.worker == 0 && start.elapsed() > Duration::from_secs(options.seconds) {
            seat.control.stop_before.store(cycle + 1, Ordering::Release);
        }
        seat.barrier()?;
        if seat.control.stop_before.load(Ordering::Acquire) <= cycle + 1 {
            break;
        }
    }
    let last = sample(seat, &gpus)?;
    growth.seconds = measured.elapsed().as_secs_f64();
    growth.cycles = growth.cycles.saturating_sub(WARM_UP + 1);
    growth.grown = Sample {
        device_bytes: last.device_bytes - first.device_bytes,
        descriptors: last.descriptors - first.descriptors,
        mappings: last.mappings - first.mappings,
    };
    if let Some(parent) = parent {
        parent.destroy(seat, &gpus)?;
    }
    seat.barrier()?;
    if growth.cycles == 0 {
        return Err(format!("only {WARM_UP} cycles fit into {} s; nothing was compared", options.seconds));
    }
    Ok(growth)
}

/// Samples the process while all workers hold still.
fn sample(seat: &Seat, gpus: &[Gpu]) -> Fallible<Sample> {
    let numbers = &seat.control.numbers;
    for gpu in gpus {
        gpu.context.enter()?;
        let (free, total) = gpu.context.memory_bytes()?;
        numbers[gpu.rank][0].store((total - free) as u64, Ordering::Release);
    }
    seat.barrier()?;
    let fullest = (0..seat.total).map(|rank| numbers[rank][0].load(Ordering::Acquire)).max().unwrap_or(0);
    let descriptors = std::fs::read_dir("/proc/self/fd").map_err(|e| e.to_string())?.count();
    let mappings = std::fs::read_to_string("/proc/self/maps").map_err(|e| e.to_string())?.lines().count();
    seat.barrier()?;
    Ok(Sample { device_bytes: fullest as i64, descriptors: descriptors as i64, mappings: mappings as i64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_counts_only_beyond_the_real_library() {
        let sample = |device_bytes, descriptors, mappings| Sample { device_bytes, descriptors, mappings };
        assert!(leaks(&sample(1 << 20, 2, 3), &sample(0, 0, 0)).is_empty());
        assert!(leaks(&sample(64 << 20, 200, 400), &sample(64 << 20, 200, 400)).is_empty());
        assert_eq!(leaks(&sample(0, 200, 0), &sample(0, -5, 0)), ["descriptors"]);
        assert_eq!(leaks(&sample(512 << 20, 0, 400), &sample(0, 0, 0)), ["device memory", "mappings"]);
    }
}

//! `dime-qa fingerprint`: what libdime.so answers, as a text to compare with that of another machine.
//!
//! A line is `N ranks, WHAT: ANSWER`. There are three kinds: an all-reduce with the kernel that did it (or the reason to
//! forward it) and a hash of its result, the route of a size, and a misuse with the error it returns. Data, cases and their
//! order depend on nothing but the number of ranks. So two nodes of the same GPUs, and a simulated one, must give the same
//! lines, bit patterns of NaNs included.

mod cases;
mod compare;
mod errors;

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use dime_harness::Fallible;
use dime_harness::control::{Control, REPORT_BYTES};
use dime_harness::cuda::{DeviceBuffer, PinnedBuffer};
use dime_harness::guard::{GUARD_BYTES, POISON};
use dime_harness::locate::Paths;
use dime_harness::number::{Dtype, Op};
use dime_harness::output::{note, print};
use dime_harness::payload::{self, Kind, Payload};
use dime_harness::rig::{Buffers, Communicator, Gpu, open_gpus, wait_all};
use dime_harness::route::Route;
use dime_harness::team::{Model, Seat, Team, set_variables};

use crate::devices::{choose_devices, choose_rank_counts};
use cases::{Case, Column};

/// Options of `dime-qa fingerprint`.
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
    /// Which threads or processes drive the GPUs; the lines are the same
    #[arg(long, value_enum, default_value = "threads")]
    model: Model,
    /// Only one case in eight
    #[arg(long)]
    quick: bool,
    /// Take all NaNs for the same
    #[arg(long)]
    mask_nan: bool,
    /// Time an operation or a barrier may take before it counts as a hang, in seconds
    #[arg(long, default_value_t = 30, value_parser = dime_harness::args::at_least(1_u64))]
    wait_limit: u64,
    /// Write the lines to a file instead of the standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Compare with the lines of a file, as far as it has the same numbers of ranks; fails when some differ
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
}

/// Seed of the data and of the cases; another one makes all files useless that were written before.
const SEED: u64 = 1;
/// Differing lines that are shown.
const MOST_SHOWN: usize = 20;
const HEADER: &str = "# Written by `dime-qa fingerprint`. `dime-qa fingerprint --compare FILE` says what differs.\n";

/// Writes the lines, compares them if asked to, and returns whether all was as it must be.
pub fn run(options: &Options) -> Fallible<bool> {
    let mut options = options.clone();
    options.paths = options.paths.resolve()?;
    // Read now: a file that cannot be read should not cost a run.
    let expected = options.compare.as_deref().map(read).transpose()?;
    let devices = choose_devices(&options.devices)?;
    let rank_counts = choose_rank_counts(&options.ranks, devices.len())?;
    // Values that are there from the start are later replaced in place, never added while threads run.
    set_variables(&cases::AUTO);
    let mut lines = String::new();
    for &ranks in &rank_counts {
        lines.push_str(&one_rank_count(&options, &devices[..ranks])?);
    }
    let unequal = lines.lines().filter(|line| line.ends_with(DIFFERS) || line.ends_with(OUTSIDE)).count();
    let text = format!("{HEADER}{lines}");
    match &options.out {
        Some(path) => std::fs::write(path, &text).map_err(|e| format!("{}: {e}", path.display()))?,
        None => print(&text)?,
    }
    let differences = match &expected {
        Some(expected) => compare::differences(expected, &lines, options.quick)?,
        None => Vec::new(),
    };
    for difference in differences.iter().take(MOST_SHOWN) {
        note!("{difference}");
    }
    let right = unequal == 0 && differences.is_empty();
    note!(
        "{}: {} lines, {unequal} with ranks that differ or writes outside{}",
        if right { "PASS" } else { "FAIL" },
        lines.lines().count(),
        match &options.compare {
            Some(path) => format!(", {} unlike {}", differences.len(), path.display()),
            None => String::new(),
        }
    );
    Ok(right)
}

fn read(path: &Path) -> Fallible<String> {
    std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

fn one_rank_count(options: &Options, devices: &[usize]) -> Fallible<String> {
    let control = Control::new()?;
    let payloads = payload::make(&Dtype::ALL, &Kind::ALL, &[], devices.len(), SEED);
    let wait_limit = Duration::from_secs(options.wait_limit);
    let team = Team {
        model: options.model,
        devices,
        control,
        wait_limit,
        limit: Duration::from_secs(120) + wait_limit,
        in_process: false,
    };
    team.run(|seat| work(options, seat, &payloads))?;
    Ok(control.report())
}

/// Does one worker's part. The first worker leaves the lines in the shared memory.
fn work(options: &Options, seat: &Seat, payloads: &[Payload]) -> Fallible<()> {
    let library = &options.paths.libraries()?.dime;
    let gpus = open_gpus(seat)?;
    let stations = gpus.iter().map(Station::new).collect::<Fallible<Vec<_>>>()?;
    let mut worker = Worker { seat, payloads, gpus, stations, mask_nan: options.mask_nan, done: 0 };
    let mut lines: Vec<String> = Vec::new();
    for column in cases::columns() {
        seat.set_variables(&column.variables())?;
        let communicator = Communicator::create(seat, library, &worker.gpus)?;
        worker.first_all_reduce(&communicator, column)?;
        let cases = cases::list(column, seat.total, payloads, SEED);
        for case in cases.iter().step_by(if options.quick { 8 } else { 1 }) {
            lines.push(worker.line(&communicator, column, case)?);
        }
        if column == Column::Auto {
            if seat.worker == 0 {
                lines.extend(routes(&communicator)?);
                lines.extend(errors::lines(&communicator, &worker.gpus[0], worker.stations[0].output.address())?);
            }
            // The others went on to this all-reduce and wait in it.
            lines.push(format!("after the misuses, {}", worker.line(&communicator, column, &cases[0])?));
        }
        communicator.check_async_error()?;
        communicator.destroy(seat, &worker.gpus)?;
        seat.barrier()?;
    }
    if seat.worker == 0 {
        let text: String = lines.iter().map(|line| format!("{} ranks, {line}\n", seat.total)).collect();
        if text.len() > REPORT_BYTES {
            return Err(format!("{} bytes of lines; there is room for {REPORT_BYTES}", text.len()));
        }
        seat.control.set_report(&text);
    }
    seat.barrier()
}

/// Which way sizes go, around every power of two.
fn routes(communicator: &Communicator) -> Fallible<Vec<String>> {
    let mut lines = Vec::new();
    for dtype in [Dtype::F32, Dtype::I32] {
        for bytes in (8..=25).map(|log2| 1usize << log2) {
            let line = communicator.library.explain_raw(
                communicator.handles[0],
                bytes / dtype.bytes(),
                dtype,
                Op::Sum.code(),
            )?;
            lines.push(format!("route of {} {bytes} bytes: {}", dtype.name(), line.unwrap_or_default()));
        }
    }
    Ok(lines)
}

/// Memory of one rank: an input and an output, each between guards.
struct Station {
    input: DeviceBuffer,
    output: DeviceBuffer,
    host: PinnedBuffer,
}

impl Station {
    fn new(gpu: &Gpu) -> Fallible<Station> {
        const BYTES: usize = cases::LARGEST_BYTES + 3 * GUARD_BYTES;
        gpu.context.enter()?;
        Ok(Station {
            input: DeviceBuffer::new(BYTES)?,
            output: DeviceBuffer::new(BYTES)?,
            host: PinnedBuffer::new(BYTES)?,
        })
    }
}

struct Worker<'a> {
    seat: &'a Seat,
    payloads: &'a [Payload],
    gpus: Vec<Gpu>,
    stations: Vec<Station>,
    mask_nan: bool,
    /// All-reduces compared so far.
    done: usize,
}

/// How the results of the ranks compare, at the end of a line.
const EQUAL: &str = "equal";
const DIFFERS: &str = "DIFFERS";
const OUTSIDE: &str = "WROTE OUTSIDE";
/// What a rank leaves for the others instead of a hash when the guards of its output were written to.
const NO_HASH: u64 = 0;

impl Worker<'_> {
    /// Takes a communicator through its first all-reduce, which sets up the fast path.
    fn first_all_reduce(&self, communicator: &Communicator, column: Column) -> Fallible<()> {
        self.seat.doing(&format!("the first all-reduce of column {}", column.name()));
        let buffers = self.buffers(|station| (station.input.address(), station.output.address()));
        communicator.all_reduce(&self.gpus, &buffers, 64, Dtype::F32, Op::Sum)?;
        wait_all(self.seat, &self.gpus)
    }

    fn buffers(&self, of: impl Fn(&Station) -> (u64, u64)) -> Vec<Buffers> {
        self.stations.iter().map(of).map(|(input, output)| Buffers { input, output }).collect()
    }

    /// Does one all-reduce and describes it.
    fn line(&mut self, communicator: &Communicator, column: Column, case: &Case) -> Fallible<String> {
        let payload = &self.payloads[case.payload];
        let what = format!("{}, {}", case.describe(payload), column.name());
        self.seat.doing(&what);
        let route = communicator.library.route(communicator.handles[0], case.count, payload.dtype, case.op)?;
        self.all_reduce(communicator, case)?;
        let hashes = self.exchange_hashes(case)?;
        let equality = match &hashes[..] {
            hashes if hashes.contains(&NO_HASH) => OUTSIDE,
            hashes if hashes.iter().all(|hash| *hash == hashes[0]) => EQUAL,
            _ => DIFFERS,
        };
        Ok(match route {
            Route::Fast(kernel) => format!("{what}: {kernel} {:016x} {equality}", hashes[0]),
            Route::Forward(reason) if payload.nccl_agrees(case.op) => {
                format!("{what}: forward, {reason}: {:016x} {equality}", hashes[0])
            }
            // NCCL may add in another order on another machine.
            Route::Forward(reason) => format!("{what}: forward, {reason}"),
        })
    }

    fn all_reduce(&self, communicator: &Communicator, case: &Case) -> Fallible<()> {
        let payload = &self.payloads[case.payload];
        let (input_at, output_at) = case.places(payload.dtype);
        for (gpu, station) in self.gpus.iter().zip(&self.stations) {
            gpu.context.enter()?;
            let image = guarded(&payload.window(gpu.rank, case.phase, case.count), input_at);
            if case.in_place {
                station.output.upload(&image)?;
            } else {
                station.input.upload(&image)?;
                gpu.stream.fill(station.output.address(), POISON, case.room_bytes(payload.dtype))?;
            }
        }
        let buffers = self.buffers(|station| {
            let output = station.output.address() + output_at as u64;
            (if case.in_place { output } else { station.input.address() + input_at as u64 }, output)
        });
        communicator.all_reduce(&self.gpus, &buffers, case.count, payload.dtype, case.op)?;
        for (gpu, station) in self.gpus.iter().zip(&self.stations) {
            gpu.context.enter()?;
            gpu.stream.copy_to_host(&station.host, 0, station.output.address(), case.room_bytes(payload.dtype))?;
        }
        wait_all(self.seat, &self.gpus)
    }

    /// The hash of the last result of every rank.
    fn exchange_hashes(&mut self, case: &Case) -> Fallible<Vec<u64>> {
        let dtype = self.payloads[case.payload].dtype;
        let numbers = &self.seat.control.numbers;
        // Two places in turn: a rank may be one all-reduce ahead of another that still reads.
        let place = self.done % 2;
        self.done += 1;
        for (gpu, station) in self.gpus.iter().zip(&self.stations) {
            let hash = self.hash(case, dtype, &station.host.as_slice()[..case.room_bytes(dtype)]);
            numbers[gpu.rank][place].store(hash, Ordering::Release);
        }
        self.seat.barrier()?;
        Ok((0..self.seat.total).map(|rank| numbers[rank][place].load(Ordering::Acquire)).collect())
    }

    fn hash(&self, case: &Case, dtype: Dtype, image: &[u8]) -> u64 {
        let (_, begin) = case.places(dtype);
        let end = begin + case.count * dtype.bytes();
        if image[..begin].iter().chain(&image[end..]).any(|&byte| byte != POISON) {
            return NO_HASH;
        }
        let mut result = image[begin..end].to_vec();
        if self.mask_nan {
            mask_nans(dtype, &mut result);
        }
        fnv_1a(&result)
    }
}

/// A buffer's bytes, at `begin` of a larger one that is poisoned elsewhere.
fn guarded(bytes: &[u8], begin: usize) -> Vec<u8> {
    let mut image = vec![POISON; begin + bytes.len() + GUARD_BYTES];
    image[begin..begin + bytes.len()].copy_from_slice(bytes);
    image
}

fn mask_nans(dtype: Dtype, bytes: &mut [u8]) {
    for index in 0..bytes.len() / dtype.bytes() {
        if dtype.is_nan(dtype.bits_at(bytes, index)) {
            dtype.put_bits(bytes, index, u64::MAX);
        }
    }
}

fn fnv_1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv_1a() {
        assert_eq!(fnv_1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv_1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv_1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn masked_nans_are_all_the_same() {
        let masked = |value: f32| {
            let mut bytes = value.to_le_bytes().to_vec();
            mask_nans(Dtype::F32, &mut bytes);
            bytes
        };
        assert_eq!(masked(f32::NAN), masked(f32::from_bits(0xffc0_0001)));
        assert_ne!(masked(f32::INFINITY), masked(f32::NAN));
        assert_eq!(masked(1.5), 1.5f32.to_le_bytes());
    }
}

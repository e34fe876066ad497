//! `dime-qa soak`: all-reduces of random sizes, types and operations for a long time, every result checked.
//!
//! Eager calls and replays of a handful of captured graphs are mixed on one communicator and stream. Ranks are held up
//! at random on the host and on the GPU. All ranks draw the same sequence from the seed; only the delays are their own.
//! Steps are queued in rounds; at the end of a round the ranks wait, compare every result, and meet.

mod graphs;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dime_harness::args::parse_bytes;
use dime_harness::control::Control;
use dime_harness::cuda::{DeviceBuffer, PinnedBuffer, Stream};
use dime_harness::guard::{GUARD_BYTES, POISON};
use dime_harness::kernel::KERNELS;
use dime_harness::locate::Paths;
use dime_harness::number::{Dtype, Op};
use dime_harness::output::{note, say};
use dime_harness::payload::{self, Kind, PERIOD, Payload};
use dime_harness::random::Random;
use dime_harness::rig::{Buffers, Communicator, Gpu, open_gpus, wait_all};
use dime_harness::route::Route;
use dime_harness::team::{Model, Seat, Team, set_variables};
use dime_harness::{Fallible, stats};
use serde_json::json;

use crate::devices::choose_devices;
use crate::summary;
use graphs::Graphs;

/// Options of `dime-qa soak`.
#[derive(clap::Args, Clone)]
pub struct Options {
    #[command(flatten)]
    paths: Paths,
    /// Devices to use, one rank each [default: all]
    #[arg(long, value_delimiter = ',')]
    devices: Vec<usize>,
    /// Which threads or processes drive the GPUs
    #[arg(long, value_enum, default_value = "threads")]
    model: Model,
    /// Types [default: all]
    #[arg(long, value_delimiter = ',')]
    types: Vec<Dtype>,
    /// How long, in seconds
    #[arg(long, default_value_t = 600, value_parser = dime_harness::args::at_least(1_u64))]
    seconds: u64,
    /// Seed of the data and of the sequence
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Largest usual message; one in fifty is the largest of all
    #[arg(long, default_value = "4M", value_parser = parse_bytes)]
    usual_bytes: usize,
    /// Largest message of all
    #[arg(long, default_value = "16M", value_parser = parse_bytes)]
    max_bytes: usize,
    /// Streams that calls are spread over at random
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=4))]
    streams: u8,
    /// Captured graphs
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u8).range(0..=32))]
    graphs: u8,
    /// DIME_KERNEL for the run
    #[arg(long, default_value = "auto")]
    kernel: String,
    /// DIME_FIRST_EPOCH for the run, for example 4294967000 to see the epoch wrap
    #[arg(long)]
    first_epoch: Option<u32>,
    /// One call in so many is preceded by a delay on a rank; 0 for none
    #[arg(long, default_value_t = 24)]
    delay_one_in: u64,
    /// Time a round may take before it counts as a hang, in seconds
    #[arg(long, default_value_t = 30, value_parser = dime_harness::args::at_least(1_u64))]
    wait_limit: u64,
    /// Keep threads in this process instead of a forked one; for tools that cannot follow a fork
    #[arg(long)]
    no_fork: bool,
    /// Write the summary to PATH.json and PATH.txt
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
}

/// Room for the results of a round.
const ARENA_BYTES: usize = 96 << 20;
/// Device memory that a delay on the GPU writes over and over.
const DELAY_BYTES: usize = 64 << 20;

/// Runs the soak, prints its summary, and returns whether nothing was wrong.
pub fn run(options: &Options) -> Fallible<bool> {
    let mut options = options.clone();
    options.paths = options.paths.resolve()?;
    if options.max_bytes + (1 << 20) > ARENA_BYTES {
        return Err(format!("--max-bytes must stay below {} MiB", ARENA_BYTES >> 20));
    }
    if options.usual_bytes > options.max_bytes {
        let (usual, max) = (options.usual_bytes, options.max_bytes);
        return Err(format!("--usual-bytes {usual} is above --max-bytes {max}; give a smaller one"));
    }
    let devices = choose_devices(&options.devices)?;
    if !(2..=8).contains(&devices.len()) {
        return Err(format!("{} devices; a soak needs 2 to 8", devices.len()));
    }
    set_variables(&[("DIME_KERNEL", &options.kernel)]);
    if let Some(epoch) = options.first_epoch {
        set_variables(&[("DIME_FIRST_EPOCH", &epoch.to_string())]);
    }
    let control = Control::new()?;
    let types = if options.types.is_empty() { Dtype::ALL.to_vec() } else { options.types.clone() };
    let payloads = payload::make(&types, &[Kind::Exact], &Op::ALL, devices.len(), options.seed);
    let wait_limit = Duration::from_secs(options.wait_limit);
    let team = Team {
        model: options.model,
        devices: &devices,
        control,
        wait_limit,
        limit: Duration::from_secs(options.seconds) + wait_limit * 3,
        in_process: options.no_fork,
    };
    let start = Instant::now();
    let outcome = team.run(|seat| work(&options, seat, &payloads));
    let mut summary: serde_json::Value = serde_json::from_str(&control.report()).unwrap_or_else(|_| json!({}));
    let mismatches: u64 = (0..devices.len()).map(|rank| control.numbers[rank][0].load(Ordering::Acquire)).sum();
    let operations = summary["operations"].as_u64().unwrap_or(0);
    let right = outcome.is_ok() && mismatches == 0 && operations > 0;
    summary["mismatches"] = json!(mismatches);
    summary["error"] = json!(outcome.err());
    summary["ranks"] = json!(devices.len());
    summary["model"] = json!(options.model.name());
    summary["seed"] = json!(options.seed);
    summary["streams"] = json!(options.streams);
    summary["kernel"] = json!(options.kernel);
    summary["first_epoch"] = json!(options.first_epoch);
    summary["date"] = json!(stats::now_utc());
    summary["wall_s"] = json!(start.elapsed().as_secs());
    summary["passed"] = json!(right);
    let text = format!("{}dime-qa soak\n{summary:#}\n{}\n", control.log_text(), if right { "PASS" } else { "FAIL" });
    say!(
        "dime-qa soak, {} ranks, model {}: {operations} operations ({} eager, {} in {} graph replays) in {} s, \
         {mismatches} mismatches, error: {}",
        devices.len(),
        options.model.name(),
        summary["eager"],
        summary["in_graphs"],
        summary["replays"],
        summary["wall_s"],
        summary["error"].as_str().unwrap_or("none"),
    )?;
    say!("routes of the eager calls: {}", summary["routes"])?;
    say!("{}", if right { "PASS" } else { "FAIL" })?;
    if let Some(path) = &options.out {
        summary::save(path, &summary, &text)?;
    }
    Ok(right)
}

/// Memory of one rank.
struct Station {
    pools: Vec<DeviceBuffer>,
    arena: DeviceBuffer,
    host: PinnedBuffer,
    delay: DeviceBuffer,
    /// Streams besides the rank's own.
    more_streams: Vec<Stream>,
}

impl Station {
    fn stream<'s>(&'s self, gpu: &'s Gpu, index: usize) -> &'s Stream {
        if index == 0 { &gpu.stream } else { &self.more_streams[index - 1] }
    }
}

/// An eager call of a round, to be checked at its end.
struct Call {
    payload: usize,
    op: Op,
    count: usize,
    phase: usize,
    in_place: bool,
    start: usize,
    output: usize,
    end: usize,
    checked: bool,
}

#[derive(Default)]
struct Done {
    eager: u64,
    replays: u64,
    in_graphs: u64,
    routes: BTreeMap<String, u64>,
}

fn work(options: &Options, seat: &Seat, payloads: &[Payload]) -> Fallible<()> {
    let libraries = options.paths.libraries()?;
    let gpus = open_gpus(seat)?;
    let stations = gpus.iter().map(|gpu| station(options, gpu, payloads)).collect::<Fallible<Vec<_>>>()?;
    let communicator = Communicator::create(seat, &libraries.dime, &gpus)?;
    seat.doing("the first all-reduce");
    let buffers: Vec<Buffers> = stations
        .iter()
        .map(|station| Buffers { input: station.pools[0].address(), output: station.arena.address() })
        .collect();
    communicator.all_reduce(&gpus, &buffers, 64, Dtype::F32, Op::Sum)?;
    wait_all(seat, &gpus)?;
    seat.barrier()?;
    let mut random = Random::new(&[options.seed, 0x50a4]);
    let (count, max_bytes) = (usize::from(options.graphs), options.max_bytes);
    let graphs = Graphs::capture(seat, &gpus, &communicator, payloads, count, max_bytes, &mut random)?;
    let delays = gpus.iter().map(|gpu| Random::new(&[options.seed, gpu.rank as u64, 0xde1a])).collect();
    let mut soak =
        Soak { options, seat, payloads, gpus, stations, communicator, graphs, delays, done: Done::default() };
    soak.rounds(&mut random)?;
    soak.communicator.check_async_error()?;
    let Soak { communicator, gpus, graphs, .. } = soak;
    drop(graphs);
    communicator.destroy(seat, &gpus)?;
    seat.barrier()
}

fn station(options: &Options, gpu: &Gpu, payloads: &[Payload]) -> Fallible<Station> {
    gpu.context.enter()?;
    let pools = payloads
        .iter()
        .map(|payload| {
            let pattern_bytes = PERIOD * payload.dtype.bytes();
            let pool = DeviceBuffer::new(2 * pattern_bytes + options.max_bytes + 4 * GUARD_BYTES)?;
            pool.upload(&payload.inputs[gpu.rank])?;
            pool.tile(pattern_bytes, &gpu.stream)?;
            Ok(pool)
        })
        .collect::<Fallible<Vec<_>>>()?;
    gpu.stream.wait(Duration::from_secs(options.wait_limit))?;
    Ok(Station {
        pools,
        arena: DeviceBuffer::new(ARENA_BYTES)?,
        host: PinnedBuffer::new(ARENA_BYTES)?,
        delay: DeviceBuffer::new(DELAY_BYTES)?,
        more_streams: (1..options.streams).map(|_| Stream::new()).collect::<Fallible<_>>()?,
    })
}

struct Soak<'a> {
    options: &'a Options,
    seat: &'a Seat,
    payloads: &'a [Payload],
    gpus: Vec<Gpu>,
    stations: Vec<Station>,
    communicator: Communicator<'a>,
    graphs: Graphs,
    /// Each rank's own sequence of delays.
    delays: Vec<Random>,
    done: Done,
}

impl Soak<'_> {
    fn rounds(&mut self, random: &mut Random) -> Fallible<()> {
        let start = Instant::now();
        let control = self.seat.control;
        let mut progress = Instant::now();
        let mut number = 0u64;
        while control.stop_before.load(Ordering::Acquire) > number {
            self.round(number, random)?;
            if self.seat.worker == 0 {
                if start.elapsed() > Duration::from_secs(self.options.seconds) {
                    control.stop_before.store(number + 1, Ordering::Release);
                }
                control.set_report(&self.report().to_string());
                if progress.elapsed() > Duration::from_secs(60) {
                    note!("soak: {} operations", self.done.eager + self.done.in_graphs);
                    progress = Instant::now();
                }
            }
            self.seat.barrier()?;
            number += 1;
        }
        Ok(())
    }

    fn report(&self) -> serde_json::Value {
        json!({
            "operations": self.done.eager + self.done.in_graphs,
            "eager": self.done.eager,
            "replays": self.done.replays,
            "in_graphs": self.done.in_graphs,
            "routes": self.done.routes,
        })
    }

    /// One round: poison, a random run of steps, the results to the host, the comparison.
    fn round(&mut self, number: u64, random: &mut Random) -> Fallible<()> {
        for (gpu, station) in self.gpus.iter().zip(&self.stations) {
            gpu.context.enter()?;
            gpu.stream.fill(station.arena.address(), POISON, ARENA_BYTES)?;
        }
        if self.options.streams > 1 {
            wait_all(self.seat, &self.gpus)?;
        }
        let steps = 8 + random.below(56);
        let mut calls = Vec::new();
        let mut replayed = Vec::new();
        let mut used = 0;
        for step in 0..steps {
            let stream = random.below(u64::from(self.options.streams)) as usize;
            if self.graphs.count() > 0 && random.once_in(5) {
                let graph = random.below(self.graphs.count() as u64) as usize;
                // A graph has one set of buffers, so it runs once a round; the draw above keeps all ranks in step.
                if !replayed.contains(&graph) {
                    self.seat.doing(&format!("round {number}, step {step}: replay of graph {graph}"));
                    self.delay()?;
                    self.replay(graph, stream, random)?;
                    replayed.push(graph);
                }
            } else {
                let Some(call) = self.draw(random, &mut used) else { break };
                self.seat.doing(&format!("round {number}, step {step}: {}", self.describe(&call)));
                self.delay()?;
                calls.push(self.call(call, stream)?);
            }
        }
        self.seat.doing(&format!("round {number}: waiting for {} calls, graphs {replayed:?}", calls.len()));
        self.wait()?;
        for (gpu, station) in self.gpus.iter().zip(&self.stations) {
            gpu.context.enter()?;
            gpu.stream.copy_to_host(&station.host, 0, station.arena.address(), used)?;
        }
        wait_all(self.seat, &self.gpus)?;
        self.verify(number, &calls);
        for graph in replayed {
            let wrong = self.graphs.verify(graph, self.seat, &self.gpus, self.payloads)?;
            for (rank, text) in wrong {
                self.mismatch(number, rank, &text);
            }
        }
        self.communicator.check_async_error()
    }

    /// Draws the next eager call; None when the arena is full. All ranks draw alike.
    fn draw(&self, random: &mut Random, used: &mut usize) -> Option<Call> {
        let payload = random.below(self.payloads.len() as u64) as usize;
        let size = self.payloads[payload].dtype.bytes();
        let op = random.pick(&Op::ALL);
        let most = (self.options.usual_bytes / size) as f64;
        let huge = random.once_in(50);
        let count = if huge { self.options.max_bytes / size } else { most.powf(random.unit()).round() as usize };
        let count = count.max(1);
        let in_place = random.once_in(3);
        let output_offset = random.pick(&[0, 0, 1, 3]) * size;
        let input_offset = random.pick(&[0, 0, 1, 3]);
        let grid = random.below((PERIOD * size / GUARD_BYTES) as u64) as usize + 1;
        let phase = grid * GUARD_BYTES / size + input_offset;
        let start = *used;
        let output = start + GUARD_BYTES + output_offset;
        let end = (output + count * size + GUARD_BYTES).next_multiple_of(GUARD_BYTES);
        if end > ARENA_BYTES {
            return None;
        }
        *used = end;
        Some(Call { payload, op, count, phase, in_place, start, output, end, checked: true })
    }

    fn describe(&self, call: &Call) -> String {
        let dtype = self.payloads[call.payload].dtype;
        format!(
            "{} {}, count {} ({} bytes), {}, phase {}",
            dtype.name(),
            call.op.name(),
            call.count,
            call.count * dtype.bytes(),
            if call.in_place { "in place" } else { "out of place" },
            call.phase
        )
    }

    fn call(&mut self, mut call: Call, stream: usize) -> Fallible<Call> {
        let payload = &self.payloads[call.payload];
        let dtype = payload.dtype;
        let library = self.communicator.library;
        let route = library.route(self.communicator.handles[0], call.count, dtype, call.op)?;
        let name = match &route {
            Route::Fast(kernel) => kernel.clone(),
            Route::Forward(reason) => format!("forward: {reason}"),
        };
        call.checked = KERNELS.contains(&name.as_str()) || payload.nccl_agrees(call.op);
        let mut buffers = Vec::new();
        let mut streams = Vec::new();
        for (gpu, station) in self.gpus.iter().zip(&self.stations) {
            let stream = station.stream(gpu, stream);
            let output = station.arena.address() + call.output as u64;
            let window = station.pools[call.payload].address() + (call.phase * dtype.bytes()) as u64;
            if call.in_place {
                gpu.context.enter()?;
                stream.copy_on_device(output, window, call.count * dtype.bytes())?;
            }
            buffers.push(Buffers { input: if call.in_place { output } else { window }, output });
            streams.push(stream);
        }
        self.communicator.all_reduce_on(&streams, &buffers, call.count, dtype, call.op.code())?;
        self.done.eager += 1;
        *self.done.routes.entry(name).or_insert(0) += 1;
        Ok(call)
    }

    fn replay(&mut self, graph: usize, stream: usize, random: &mut Random) -> Fallible<()> {
        let phases = self.graphs.draw_phases(graph, self.payloads, random);
        for (index, (gpu, station)) in self.gpus.iter().zip(&self.stations).enumerate() {
            gpu.context.enter()?;
            let pools: Vec<u64> = station.pools.iter().map(DeviceBuffer::address).collect();
            self.graphs.replay(graph, index, station.stream(gpu, stream), &pools, self.payloads, &phases)?;
        }
        self.done.replays += 1;
        self.done.in_graphs += self.graphs.set_phases(graph, phases) as u64;
        Ok(())
    }

    /// Holds up some of the ranks here, on the host or on the GPU.
    fn delay(&mut self) -> Fallible<()> {
        if self.options.delay_one_in == 0 {
            return Ok(());
        }
        for ((gpu, station), random) in self.gpus.iter().zip(&self.stations).zip(&mut self.delays) {
            if !random.once_in(self.options.delay_one_in) {
                continue;
            }
            if random.once_in(2) {
                std::thread::sleep(Duration::from_micros(random.below(2000)));
            } else {
                gpu.context.enter()?;
                for _ in 0..=random.below(40) {
                    gpu.stream.fill(station.delay.address(), 0, DELAY_BYTES)?;
                }
            }
        }
        Ok(())
    }

    fn wait(&self) -> Fallible<()> {
        wait_all(self.seat, &self.gpus)?;
        for (gpu, station) in self.gpus.iter().zip(&self.stations) {
            gpu.context.enter()?;
            for stream in &station.more_streams {
                stream.wait(self.seat.wait_limit).map_err(|e| format!("rank {}: {e}", gpu.rank))?;
            }
        }
        Ok(())
    }

    fn verify(&self, number: u64, calls: &[Call]) {
        let mut wrong = Vec::new();
        for (gpu, station) in self.gpus.iter().zip(&self.stations) {
            let arena = station.host.as_slice();
            for call in calls {
                let payload = &self.payloads[call.payload];
                let stop = call.output + call.count * payload.dtype.bytes();
                let guards = arena[call.start..call.output].iter().chain(&arena[stop..call.end]);
                let trouble = if guards.into_iter().any(|&byte| byte != POISON) {
                    Some("wrote outside its output".to_owned())
                } else if call.checked {
                    payload.wrong_element(call.op, call.phase, &arena[call.output..stop])
                } else {
                    None
                };
                if let Some(trouble) = trouble {
                    wrong.push((gpu.rank, format!("{}: {trouble}", self.describe(call))));
                }
            }
        }
        for (rank, text) in wrong {
            self.mismatch(number, rank, &text);
        }
    }

    fn mismatch(&self, round: u64, rank: usize, text: &str) {
        self.seat.control.numbers[rank][0].fetch_add(1, Ordering::AcqRel);
        let line = format!("WRONG: seed {}, round {round}, rank {rank}, {text}", self.options.seed);
        self.seat.control.log_failure(20, &line);
    }
}

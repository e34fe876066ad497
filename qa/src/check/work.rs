//! One worker's part of a sweep: set up, queue batches, verify, and in the first worker add up.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dime_harness::Fallible;
use dime_harness::control::{MAX_RANKS, MAX_RUNS};
use dime_harness::cuda::{DeviceBuffer, PinnedBuffer};
use dime_harness::guard::GUARD_BYTES;
use dime_harness::kernel::KERNELS;
use dime_harness::nccl::Library;
use dime_harness::number::{Dtype, Op};
use dime_harness::payload::{Kind, PERIOD, Payload};
use dime_harness::rig::{Buffers, Communicator, Gpu, open_gpus, wait_all};
use dime_harness::route::Route;
use dime_harness::team::Seat;

use super::Options;
use super::batch::{self, Batch, Room, Run};
use super::cases::{self, Case};
use super::tally::{ColumnTally, Report};

/// Codes of routes in the shared table: our kernels by index, a forward, a kernel this tool does not know.
const FORWARD: u32 = 100;
const UNKNOWN: u32 = 200;
/// Thresholds looked for in each type.
const THRESHOLDS: usize = 8;

/// Memory of one rank.
struct Station {
    pools: Vec<DeviceBuffer>,
    arena: DeviceBuffer,
    arena_host: PinnedBuffer,
    input_host: PinnedBuffer,
}

struct Worker<'a> {
    options: &'a Options,
    seat: &'a Seat,
    payloads: &'a [Payload],
    gpus: Vec<Gpu>,
    stations: Vec<Station>,
    columns: Vec<Communicator<'a>>,
    /// Calls that each kernel of ours took, of one rank.
    fast_calls: [u64; KERNELS.len()],
    /// Reasons of forwards, by column; only the first worker keeps them.
    reasons: Vec<BTreeMap<String, u64>>,
}

/// Does one worker's part. The first worker leaves the report in the shared memory.
pub fn work(options: &Options, seat: &Seat, payloads: &[Payload], time: Duration) -> Fallible<()> {
    let libraries = options.paths.libraries()?;
    let gpus = open_gpus(seat)?;
    let largest = payloads.iter().map(|payload| cases::largest_bytes(payload, options.max_bytes)).max().unwrap_or(1);
    let room = Room::for_largest(usize::from(options.batch), options.kernels.len(), largest);
    let stations =
        gpus.iter().map(|gpu| station(seat, gpu, payloads, options.max_bytes, room)).collect::<Fallible<Vec<_>>>()?;
    let mut worker = Worker {
        options,
        seat,
        payloads,
        gpus,
        stations,
        columns: Vec::new(),
        fast_calls: [0; KERNELS.len()],
        reasons: vec![BTreeMap::new(); options.kernels.len()],
    };
    worker.open_columns(&libraries.dime, &libraries.real)?;
    let thresholds = worker.thresholds()?;
    let counts = |dtype: Dtype| match &options.bytes {
        Some(sizes) => sizes.0.iter().map(|bytes| (bytes / dtype.bytes()).max(1)).collect(),
        None => {
            let mut boundaries = thresholds[&dtype].clone();
            boundaries.extend(options.around.iter().flat_map(|sizes| &sizes.0).map(|bytes| bytes / dtype.bytes()));
            cases::counts(dtype, seat.total, &boundaries, options.max_bytes)
        }
    };
    let list = cases::list(payloads, &options.ops, options.max_bytes, options.seed, counts);
    let counters = counters_of(&libraries.dime);
    // Nobody may go on before every process has taken its first reading.
    seat.barrier()?;
    let mut report = Report { cases_listed: list.len() as u64, ..Report::default() };
    report.columns =
        options.kernels.iter().map(|column| ColumnTally { column: column.clone(), ..ColumnTally::default() }).collect();
    let selected: Vec<Case> = list.into_iter().skip(options.from).take(options.cases).collect();
    worker.run_cases(&selected, room, time, &mut report)?;
    report.counters = worker.compare_counters(&libraries.dime, &counters)?;
    if seat.worker == 0 {
        seat.control.set_report(&report.to_json().to_string());
    }
    let Worker { columns, gpus, .. } = worker;
    for column in columns {
        column.check_async_error()?;
        column.destroy(seat, &gpus)?;
    }
    seat.barrier()
}

fn station(seat: &Seat, gpu: &Gpu, payloads: &[Payload], max_bytes: usize, room: Room) -> Fallible<Station> {
    seat.doing("filling the pools of inputs");
    gpu.context.enter()?;
    let pools = payloads
        .iter()
        .map(|payload| {
            let pattern_bytes = PERIOD * payload.dtype.bytes();
            let bytes = cases::pool_elems(payload, max_bytes) * payload.dtype.bytes();
            let pool = DeviceBuffer::new(bytes)?;
            pool.upload(&payload.inputs[gpu.rank])?;
            pool.tile(pattern_bytes, &gpu.stream)?;
            Ok(pool)
        })
        .collect::<Fallible<Vec<_>>>()?;
    Ok(Station {
        pools,
        arena: DeviceBuffer::new(room.arena_bytes)?,
        arena_host: PinnedBuffer::new(room.arena_bytes)?,
        input_host: PinnedBuffer::new(room.input_bytes)?,
    })
}

/// The counters of our kernels, in the order of KERNELS.
fn counters_of(dime: &Library) -> [u64; KERNELS.len()] {
    let counters = dime.counters();
    KERNELS.map(|kernel| counters.iter().filter(|(name, _)| name.ends_with(kernel)).map(|(_, value)| value).sum())
}

fn show_route(route: u32) -> &'static str {
    match route {
        FORWARD => "forwarded",
        UNKNOWN => "an unknown kernel",
        kernel => KERNELS[kernel as usize],
    }
}

fn hash(bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(0xcbf2_9ce4_8422_2325, |hash, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        let mixed = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x0100_0000_01b3);
        mixed ^ (mixed >> 29)
    })
}

impl<'a> Worker<'a> {
    /// Creates the communicator of each column and takes it through its first all-reduce, which sets up the fast path.
    fn open_columns(&mut self, dime: &'a Library, real: &'a Library) -> Fallible<()> {
        for column in &self.options.kernels {
            if column != "nccl" {
                self.seat.set_variables(&[("DIME_KERNEL", column)])?;
            }
            let library = if column == "nccl" { real } else { dime };
            let communicator = Communicator::create(self.seat, library, &self.gpus)?;
            self.seat.doing(&format!("the first all-reduce of column {column}"));
            let buffers: Vec<Buffers> = self
                .stations
                .iter()
                .map(|station| Buffers { input: station.pools[0].address(), output: station.arena.address() })
                .collect();
            communicator.all_reduce(&self.gpus, &buffers, 64, Dtype::F32, Op::Sum)?;
            wait_all(self.seat, &self.gpus)?;
            self.seat.barrier()?;
            self.columns.push(communicator);
        }
        self.seat.set_variables(&[("DIME_KERNEL", "auto")])
    }

    /// Counts at which the route of a sum changes, found by the first worker and passed to all.
    fn thresholds(&self) -> Fallible<BTreeMap<Dtype, Vec<usize>>> {
        let numbers = &self.seat.control.numbers;
        let slot = |index: usize| &numbers[index / 16][index % 16];
        let auto = self.options.kernels.iter().position(|column| column == "auto");
        if self.seat.worker == 0 {
            for (index, &dtype) in Dtype::ALL.iter().enumerate() {
                let found = auto.map_or(Ok(Vec::new()), |column| self.thresholds_of(column, dtype))?;
                for place in 0..THRESHOLDS {
                    let count = found.get(place).copied().unwrap_or(0);
                    slot(index * THRESHOLDS + place).store(count as u64, Ordering::Release);
                }
            }
        }
        self.seat.barrier()?;
        let of = |index: usize| {
            let places = (0..THRESHOLDS).map(|place| slot(index * THRESHOLDS + place).load(Ordering::Acquire) as usize);
            places.filter(|&count| count > 0).collect::<Vec<_>>()
        };
        let thresholds = Dtype::ALL.iter().enumerate().map(|(index, &dtype)| (dtype, of(index))).collect();
        self.seat.barrier()?;
        Ok(thresholds)
    }

    fn thresholds_of(&self, column: usize, dtype: Dtype) -> Fallible<Vec<usize>> {
        let communicator = &self.columns[column];
        // Only what a route is matters here, not why.
        let kernel = |count: usize| -> Fallible<Option<String>> {
            match communicator.library.route(communicator.handles[0], count, dtype, Op::Sum)? {
                Route::Fast(kernel) => Ok(Some(kernel)),
                Route::Forward(_) => Ok(None),
            }
        };
        let mut found = Vec::new();
        let (mut low, mut bytes) = (1, 16);
        let mut low_kernel = kernel(low)?;
        while bytes <= self.options.max_bytes && found.len() < THRESHOLDS {
            let high = bytes / dtype.bytes();
            let high_kernel = kernel(high)?;
            if high_kernel != low_kernel {
                let (mut same, mut other) = (low, high);
                while other - same > 1 {
                    let middle = same + (other - same) / 2;
                    if kernel(middle)? == low_kernel { same = middle } else { other = middle }
                }
                found.push(other);
            }
            (low, low_kernel, bytes) = (high, high_kernel, bytes * 2);
        }
        Ok(found)
    }

    fn run_cases(&mut self, list: &[Case], room: Room, time: Duration, report: &mut Report) -> Fallible<()> {
        let start = Instant::now();
        let control = self.seat.control;
        let mut rest = list.iter();
        let mut number = 0u64;
        let mut reported = Instant::now();
        while !rest.as_slice().is_empty() && control.stop_before.load(Ordering::Acquire) > number {
            let first = self.options.from + list.len() - rest.as_slice().len();
            let batch = batch::next(first, &mut rest, self.payloads, &self.options.kernels, room);
            self.seat.doing(&format!(
                "batch {number}, cases {first} to {}, the first: {}",
                first + batch.cases.len() - 1,
                batch.cases[0].describe(self.payloads)
            ));
            let poison = if number.is_multiple_of(2) { 0xa5 } else { 0x5a };
            self.queue(&batch, number, poison).and_then(|()| wait_all(self.seat, &self.gpus)).inspect_err(|_| {
                for case in batch.cases.iter().take(8) {
                    control.log(&format!("  in this batch: {}", case.describe(self.payloads)));
                }
            })?;
            self.verify(&batch, number, poison);
            if self.seat.worker == 0 && start.elapsed() > time {
                control.stop_before.store(number + 1, Ordering::Release);
            }
            self.seat.barrier()?;
            if self.seat.worker == 0 {
                self.add_up(&batch, number, report);
                // Now and then, so that a crash later does not lose everything.
                if reported.elapsed() > Duration::from_secs(1) {
                    control.set_report(&report.to_json().to_string());
                    reported = Instant::now();
                }
            }
            number += 1;
        }
        Ok(())
    }

    /// Queues a batch: poison, inputs of the cases in place, all-reduces, copies to the host.
    fn queue(&mut self, batch: &Batch, number: u64, poison: u8) -> Fallible<()> {
        for (gpu, station) in self.gpus.iter().zip(&self.stations) {
            gpu.context.enter()?;
            gpu.stream.fill(station.arena.address(), poison, batch.arena_bytes)?;
            for run in &batch.runs {
                let case = &batch.cases[run.case];
                if case.in_place {
                    let size = self.payloads[case.payload].dtype.bytes();
                    let source = station.pools[case.payload].address() + (case.phase * size) as u64;
                    let target = station.arena.address() + run.output as u64;
                    gpu.stream.copy_on_device(target, source, case.count * size)?;
                }
            }
        }
        for (index, run) in batch.runs.iter().enumerate() {
            let case = &batch.cases[run.case];
            let dtype = self.payloads[case.payload].dtype;
            self.note_route(index, run, case, dtype, number)?;
            let buffers: Vec<Buffers> = self
                .stations
                .iter()
                .map(|station| {
                    let output = station.arena.address() + run.output as u64;
                    let window = station.pools[case.payload].address() + (case.phase * dtype.bytes()) as u64;
                    Buffers { input: if case.in_place { output } else { window }, output }
                })
                .collect();
            self.columns[run.column].all_reduce(&self.gpus, &buffers, case.count, dtype, case.op)?;
        }
        for (gpu, station) in self.gpus.iter().zip(&self.stations) {
            gpu.context.enter()?;
            gpu.stream.copy_to_host(&station.arena_host, 0, station.arena.address(), batch.arena_bytes)?;
            for (case, copy) in batch.cases.iter().zip(&batch.input_copies) {
                let Some(offset) = *copy else { continue };
                let size = self.payloads[case.payload].dtype.bytes();
                let source = station.pools[case.payload].address() + (case.phase * size - GUARD_BYTES) as u64;
                let bytes = case.count * size + 2 * GUARD_BYTES;
                gpu.stream.copy_to_host(&station.input_host, offset, source, bytes)?;
            }
        }
        Ok(())
    }

    /// Asks for the route of a run and notes it for every rank here.
    fn note_route(&mut self, index: usize, run: &Run, case: &Case, dtype: Dtype, number: u64) -> Fallible<()> {
        let table = &self.seat.control.runs[(number % 2) as usize];
        let column = &self.columns[run.column];
        for (gpu, &handle) in self.gpus.iter().zip(&column.handles) {
            let code = match column.library.route(handle, case.count, dtype, case.op)? {
                Route::Fast(kernel) => match KERNELS.iter().position(|name| *name == kernel) {
                    Some(kernel) => {
                        self.fast_calls[kernel] += 1;
                        kernel as u32
                    }
                    None => UNKNOWN,
                },
                Route::Forward(reason) => {
                    if gpu.rank == 0 {
                        *self.reasons[run.column].entry(reason).or_insert(0) += 1;
                    }
                    FORWARD
                }
            };
            table.route[index][gpu.rank].store(code, Ordering::Release);
        }
        Ok(())
    }

    /// Compares what came back with the answers and leaves the verdict of each run in the shared table.
    fn verify(&self, batch: &Batch, number: u64, poison: u8) {
        let table = &self.seat.control.runs[(number % 2) as usize];
        for (gpu, station) in self.gpus.iter().zip(&self.stations) {
            let arena = station.arena_host.as_slice();
            // What is wrong with which case, and the columns on which it is.
            let mut found: Vec<(usize, String, Vec<String>)> = Vec::new();
            for (index, run) in batch.runs.iter().enumerate() {
                let case = &batch.cases[run.case];
                let payload = &self.payloads[case.payload];
                let route = table.route[index][gpu.rank].load(Ordering::Acquire);
                let end = run.output + case.count * payload.dtype.bytes();
                let result = &arena[run.output..end];
                if payload.kind == Kind::Special {
                    table.hash[index][gpu.rank].store(hash(result), Ordering::Release);
                }
                let guards = arena[run.start..run.output].iter().chain(&arena[end..run.end]);
                let trouble = if guards.into_iter().any(|&byte| byte != poison) {
                    Some(self.describe_guard(run, case, arena, poison))
                } else if route == FORWARD && !payload.nccl_agrees(case.op) {
                    None
                } else {
                    payload
                        .first_wrong(case.op, case.phase, result)
                        .map(|first| describe_wrong(payload, case, result, first, poison))
                };
                let Some(trouble) = trouble else { continue };
                table.wrong[index].fetch_or(1 << gpu.rank, Ordering::AcqRel);
                let column = format!("{} ({})", self.options.kernels[run.column], show_route(route));
                match found.iter_mut().find(|(of, text, _)| *of == run.case && *text == trouble) {
                    Some((_, _, columns)) => columns.push(column),
                    None => found.push((run.case, trouble, vec![column])),
                }
            }
            for (case, trouble, columns) in found {
                self.complain(&format!(
                    "WRONG: {} ranks, seed {}, case {}: {}, rank {}, columns {}: {trouble}",
                    self.seat.total,
                    self.options.seed,
                    batch.first + case,
                    batch.cases[case].describe(self.payloads),
                    gpu.rank,
                    columns.join(", ")
                ));
            }
            self.verify_inputs(batch, gpu, station, table);
        }
    }

    fn verify_inputs(&self, batch: &Batch, gpu: &Gpu, station: &Station, table: &dime_harness::control::RunTable) {
        for (index, (case, copy)) in batch.cases.iter().zip(&batch.input_copies).enumerate() {
            let Some(offset) = *copy else { continue };
            let payload = &self.payloads[case.payload];
            let size = payload.dtype.bytes();
            let bytes = case.count * size + 2 * GUARD_BYTES;
            let window = &station.input_host.as_slice()[offset..offset + bytes];
            if let Some(byte) = payload.first_changed(gpu.rank, case.phase * size - GUARD_BYTES, window) {
                // The last slots of the table stand for inputs, which all columns of a case share.
                table.wrong[MAX_RUNS - 1 - index].fetch_or(1 << gpu.rank, Ordering::AcqRel);
                self.complain(&format!(
                    "INPUT CHANGED: {} ranks, rank {}, {}: byte {} relative to the input",
                    self.seat.total,
                    gpu.rank,
                    case.describe(self.payloads),
                    byte as i64 - GUARD_BYTES as i64
                ));
            }
        }
    }

    fn describe_guard(&self, run: &Run, case: &Case, arena: &[u8], poison: u8) -> String {
        let end = run.output + case.count * self.payloads[case.payload].dtype.bytes();
        let outside = (run.start..run.output).chain(end..run.end);
        let touched: Vec<i64> =
            outside.filter(|&byte| arena[byte] != poison).map(|byte| byte as i64 - run.output as i64).collect();
        format!(
            "wrote {} bytes outside the output, from byte {} to {} relative to it",
            touched.len(),
            touched.first().unwrap_or(&0),
            touched.last().unwrap_or(&0)
        )
    }

    /// Adds a batch to the report and clears its table for the batch after the next.
    fn add_up(&self, batch: &Batch, number: u64, report: &mut Report) {
        let total = self.seat.total;
        let table = &self.seat.control.runs[(number % 2) as usize];
        report.cases_run += batch.cases.len() as u64;
        for (index, run) in batch.runs.iter().enumerate() {
            let case = &batch.cases[run.case];
            let payload = &self.payloads[case.payload];
            let column = &mut report.columns[run.column];
            let routes: Vec<u32> = (0..total).map(|rank| table.route[index][rank].load(Ordering::Acquire)).collect();
            let wrong = table.wrong[index].swap(0, Ordering::AcqRel) != 0;
            if routes.iter().any(|route| *route != routes[0]) {
                report.disagreements += 1;
                self.complain(&format!("ROUTES DIFFER between ranks ({routes:?}): {}", case.describe(self.payloads)));
            }
            if routes[0] == FORWARD {
                column.forwarded += 1;
                column.forwarded_wrong += u64::from(wrong);
                continue;
            }
            let forced = &self.options.kernels[run.column];
            if forced != "auto" && KERNELS.get(routes[0] as usize) != Some(&forced.as_str()) {
                column.strayed += 1;
            }
            column.fast += 1;
            column.wrong += u64::from(wrong);
            *report.coverage.entry(format!("{} {}", payload.dtype.name(), case.op.name())).or_insert(0) += 1;
        }
        self.compare_hashes(batch, table, report);
        for index in 0..batch.cases.len() {
            report.inputs_changed += u64::from(table.wrong[MAX_RUNS - 1 - index].swap(0, Ordering::AcqRel) != 0);
        }
        for (column, reasons) in report.columns.iter_mut().zip(&self.reasons) {
            column.reasons.clone_from(reasons);
        }
    }

    /// Where the reference leaves a choice (which NaN, which zero), all ranks and all kernels must still make the same.
    fn compare_hashes(&self, batch: &Batch, table: &dime_harness::control::RunTable, report: &mut Report) {
        for (number, case) in batch.cases.iter().enumerate() {
            if self.payloads[case.payload].kind != Kind::Special {
                continue;
            }
            let mut seen: Vec<(u64, String)> = Vec::new();
            for (index, run) in batch.runs.iter().enumerate().filter(|(_, run)| run.case == number) {
                for rank in 0..self.seat.total.min(MAX_RANKS) {
                    if table.route[index][rank].load(Ordering::Acquire) == FORWARD {
                        continue;
                    }
                    let hash = table.hash[index][rank].load(Ordering::Acquire);
                    if seen.iter().all(|(other, _)| *other != hash) {
                        seen.push((hash, format!("{} at rank {rank}", self.options.kernels[run.column])));
                    }
                }
            }
            if seen.len() > 1 {
                report.disagreements += 1;
                let who: Vec<&str> = seen.iter().map(|(_, who)| who.as_str()).collect();
                self.complain(&format!(
                    "BITS DIFFER, first seen at column {}: {} ranks, seed {}, case {}: {}",
                    who.join(", then at "),
                    self.seat.total,
                    self.options.seed,
                    batch.first + number,
                    case.describe(self.payloads)
                ));
            }
        }
    }

    fn complain(&self, line: &str) {
        self.seat.control.log_failure(self.options.show, line);
    }

    /// Compares the library's own counters with the calls made. Returns the difference in words, empty when equal.
    fn compare_counters(&self, dime: &Library, before: &[u64; KERNELS.len()]) -> Fallible<String> {
        let numbers = &self.seat.control.numbers;
        let first = self.seat.ranks.start;
        for (place, &calls) in self.fast_calls.iter().enumerate() {
            numbers[first][place].store(calls, Ordering::Release);
        }
        self.seat.barrier()?;
        let after = counters_of(dime);
        let workers_here = if self.seat.ranks_in_process() == 1 { first..first + 1 } else { 0..self.seat.workers };
        let mut differences = Vec::new();
        for (place, kernel) in KERNELS.iter().enumerate() {
            let called: u64 = workers_here.clone().map(|worker| numbers[worker][place].load(Ordering::Acquire)).sum();
            let counted = after[place] - before[place];
            if called != counted {
                differences.push(format!("{kernel}: {called} calls, {counted} counted"));
            }
        }
        self.seat.barrier()?;
        Ok(differences.join(", "))
    }
}

fn describe_wrong(payload: &Payload, case: &Case, result: &[u8], first: usize, poison: u8) -> String {
    let dtype = payload.dtype;
    let answer = payload.answer(case.op);
    let place = |index: usize| (case.phase + index) % PERIOD;
    let wrong: Vec<usize> = (first..case.count)
        .filter(|&index| !answer.allows(dtype, place(index), dtype.bits_at(result, index)))
        .collect();
    let size = dtype.bytes();
    let untouched = wrong.iter().filter(|&&i| result[i * size..(i + 1) * size].iter().all(|&b| b == poison)).count();
    let inputs: Vec<String> = payload.contributions(case.phase, first).iter().map(|&bits| dtype.show(bits)).collect();
    format!(
        "element {first} is {}, not {}; {} of {} elements wrong, the last {}, {untouched} never written; inputs {}",
        dtype.show(dtype.bits_at(result, first)),
        dtype.show(dtype.bits_at(&answer.first, place(first))),
        wrong.len(),
        case.count,
        wrong.last().unwrap_or(&first),
        inputs.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_sees_every_byte() {
        let mut bytes: Vec<u8> = (0..100).collect();
        let before = hash(&bytes);
        for index in 0..bytes.len() {
            bytes[index] ^= 1;
            assert_ne!(hash(&bytes), before);
            bytes[index] ^= 1;
        }
    }

    #[test]
    fn a_wrong_result_is_described_with_its_extent_and_inputs() {
        let payload = Payload::new(Dtype::I32, Kind::Exact, &[Op::Sum], 2, 1);
        let case =
            Case { payload: 0, op: Op::Sum, count: 4, input_offset: 0, output_offset: 0, in_place: false, phase: 64 };
        let mut result = payload.answer(Op::Sum).first[64 * 4..68 * 4].to_vec();
        result[4..8].fill(0xa5);
        result[12] ^= 1;
        let text = describe_wrong(&payload, &case, &result, 1, 0xa5);
        assert!(
            text.contains("element 1 is") && text.contains("2 of 4 elements wrong, the last 3, 1 never written"),
            "{text}"
        );
    }
}

//! One column at one size: checked, then timed.

use std::sync::atomic::Ordering;
use std::time::Instant;

use dime_harness::Fallible;
use dime_harness::cuda::{DeviceBuffer, Event, Graph, PinnedBuffer};
use dime_harness::guard::{GUARD_BYTES, POISON};
use dime_harness::number::Op;
use dime_harness::payload::{PERIOD, Payload};
use dime_harness::rig::{Buffers, Communicator, Gpu, wait_all};
use dime_harness::route::{self, Route};
use dime_harness::stats::{median, percentile, smallest};
use dime_harness::team::Seat;

use super::plan::{Method, Mode};
use super::row::{CHECKED, Column, NOT_CHECKED, Row};

/// Buffers of one rank, large enough for every size.
pub struct Place {
    source: DeviceBuffer,
    target: DeviceBuffer,
    host: PinnedBuffer,
    in_place: bool,
}

impl Place {
    /// Allocates and fills the input.
    pub fn new(gpu: &Gpu, payload: &Payload, largest_bytes: usize, in_place: bool) -> Fallible<Place> {
        gpu.context.enter()?;
        let pattern_bytes = PERIOD * payload.dtype.bytes();
        let source = DeviceBuffer::new(largest_bytes.max(pattern_bytes))?;
        source.upload(&payload.inputs[gpu.rank])?;
        source.tile(pattern_bytes, &gpu.stream)?;
        let target = DeviceBuffer::new(largest_bytes.max(4096) + 2 * GUARD_BYTES)?;
        let host = PinnedBuffer::new(largest_bytes.max(4096) + 2 * GUARD_BYTES)?;
        Ok(Place { source, target, host, in_place })
    }

    /// Device address of the data.
    pub fn input(&self) -> u64 {
        self.source.address()
    }

    /// Device address of the result.
    pub fn output(&self) -> u64 {
        self.target.address() + GUARD_BYTES as u64
    }

    fn buffers(&self) -> Buffers {
        Buffers { input: if self.in_place { self.output() } else { self.input() }, output: self.output() }
    }
}

/// What is measured, and with what.
pub struct Measure<'a> {
    pub seat: &'a Seat,
    pub gpus: &'a [Gpu],
    pub communicator: &'a Communicator<'a>,
    pub place: &'a Place,
    pub payload: &'a Payload,
    pub op: Op,
    pub count: usize,
    pub method: &'a Method,
}

/// Times of one operation.
struct Times {
    /// The smallest rank's median.
    us: f64,
    /// Over the samples of all ranks.
    p50_us: f64,
    p99_us: f64,
}

impl Measure<'_> {
    /// Checks and times one column in each mode. Only the first worker gets rows.
    pub fn all(&self, column: &Column, modes: &[Mode]) -> Fallible<Vec<Row>> {
        let dtype = self.payload.dtype;
        let explained =
            self.communicator.library.explain_raw(self.communicator.handles[0], self.count, dtype, self.op.code())?;
        let (kernel, reason) = match explained.as_deref().map(Route::parse).transpose()? {
            Some(Route::Fast(kernel)) => (kernel, None),
            Some(Route::Forward(reason)) => ("nccl".to_owned(), Some(reason)),
            None => ("nccl".to_owned(), None),
        };
        if matches!(column, Column::Kernel(forced) if *forced != kernel) {
            // Nothing to learn from a column that does not run its kernel.
            return Ok(Vec::new());
        }
        self.seat.doing(&format!("{}, {} bytes, kernel {kernel}", column.label(), self.bytes()));
        let exact = kernel != "nccl" || self.payload.nccl_agrees(self.op);
        let mut check = self.checks(exact, || self.call())?;
        let mut rows = Vec::new();
        for &mode in modes {
            let (times, host) = match mode {
                Mode::Graph => {
                    let graph = self.capture(self.method.graph_operations(self.bytes()))?;
                    // In place, a chain feeds on its own results: only a single operation can be checked.
                    let checked = if self.place.in_place { &self.capture(1)? } else { &graph };
                    let from_graph = self.checks(exact, || self.gpus[0].stream.launch(checked))?;
                    if check == CHECKED && from_graph != CHECKED {
                        check = format!("graph: {from_graph}");
                    }
                    (self.time_graph(&graph)?, None)
                }
                Mode::Eager => (self.time_eager()?, Some(self.time_host()?)),
            };
            if self.seat.worker == 0 {
                rows.push(Row {
                    gpus: self.seat.total,
                    bytes: self.bytes(),
                    dtype,
                    op: self.op,
                    column: column.clone(),
                    mode,
                    repeat: 0,
                    us: times.us,
                    p50_us: times.p50_us,
                    p99_us: times.p99_us,
                    host_us: host.map(|(typical, _)| typical),
                    host_min_us: host.map(|(_, least)| least),
                    kernel: kernel.clone(),
                    blocks: explained.as_deref().and_then(route::blocks),
                    reason: reason.clone(),
                    check: check.clone(),
                    method: self.method.words(mode),
                });
            }
        }
        Ok(rows)
    }

    fn bytes(&self) -> usize {
        self.count * self.payload.dtype.bytes()
    }

    fn call(&self) -> Fallible<()> {
        self.communicator.all_reduce(self.gpus, &[self.place.buffers()], self.count, self.payload.dtype, self.op)
    }

    fn capture(&self, operations: usize) -> Fallible<Graph> {
        self.gpus[0].stream.capture(|| (0..operations).try_for_each(|_| self.call()))
    }

    /// Checks as often as asked for; the first trouble counts.
    fn checks(&self, exact: bool, work: impl Fn() -> Fallible<()>) -> Fallible<String> {
        let mut result = NOT_CHECKED.to_owned();
        for _ in 0..self.method.checks {
            result = self.check(exact, &work)?;
            if result != CHECKED {
                break;
            }
        }
        Ok(result)
    }

    /// Runs `work` into a poisoned output and compares the result on every rank. Returns "ok" or the first trouble.
    fn check(&self, exact: bool, work: impl FnOnce() -> Fallible<()>) -> Fallible<String> {
        let (gpu, place, bytes) = (&self.gpus[0], self.place, self.bytes());
        let total = bytes + 2 * GUARD_BYTES;
        gpu.stream.fill(place.target.address(), POISON, total)?;
        if place.in_place {
            gpu.stream.copy_on_device(place.output(), place.input(), bytes)?;
        }
        work()?;
        wait_all(self.seat, self.gpus)?;
        let got = place.read(gpu, total, self.seat)?;
        let trouble = self.trouble(exact, &got);
        if let Some(trouble) = &trouble {
            self.seat.control.log(&format!(
                "WRONG rank {} of {}, {} {}, {} bytes, {}: {trouble}",
                gpu.rank,
                self.seat.total,
                self.payload.dtype.name(),
                self.op.name(),
                bytes,
                self.seat.control.doing(self.seat.worker)
            ));
        }
        self.seat.control.numbers[gpu.rank][15].store(u64::from(trouble.is_some()), Ordering::Release);
        self.seat.barrier()?;
        let wrong: Vec<String> = (0..self.seat.total)
            .filter(|&rank| self.seat.control.numbers[rank][15].load(Ordering::Acquire) != 0)
            .map(|rank| rank.to_string())
            .collect();
        self.seat.barrier()?;
        Ok(if wrong.is_empty() { CHECKED.to_owned() } else { format!("WRONG on ranks {}", wrong.join(",")) })
    }

    fn trouble(&self, exact: bool, got: &[u8]) -> Option<String> {
        let end = GUARD_BYTES + self.bytes();
        if got[..GUARD_BYTES].iter().chain(&got[end..]).any(|&byte| byte != POISON) {
            return Some("wrote outside its output".to_owned());
        }
        if !exact {
            return None;
        }
        self.payload.wrong_element(self.op, 0, &got[GUARD_BYTES..end])
    }

    /// Replays the graph: each replay that counts is a sample.
    fn time_graph(&self, graph: &Graph) -> Fallible<Times> {
        let method = self.method;
        let operations = method.graph_operations(self.bytes());
        self.time(method.warmup_replays, method.replays, operations, || self.gpus[0].stream.launch(graph))
    }

    /// Issues back-to-back calls: each go that counts is a sample.
    fn time_eager(&self) -> Fallible<Times> {
        let method = self.method;
        let calls = method.eager_calls(self.bytes());
        self.time(method.warmup_rounds, method.eager_rounds, calls, || (0..calls).try_for_each(|_| self.call()))
    }

    /// Times `work`, which does so many operations, between two events; all ranks start together each time.
    fn time(&self, dropped: usize, kept: usize, operations: usize, work: impl Fn() -> Fallible<()>) -> Fallible<Times> {
        let (start, end) = (Event::new()?, Event::new()?);
        let stream = &self.gpus[0].stream;
        let mut samples = Vec::with_capacity(kept);
        for round in 0..dropped + kept {
            self.seat.barrier()?;
            start.record(stream)?;
            work()?;
            end.record(stream)?;
            wait_all(self.seat, self.gpus)?;
            if round >= dropped {
                samples.push(start.us_until(&end)? / operations as f64);
            }
        }
        let us = smallest(&self.share(median(&samples))?);
        let mut of_all_ranks = Vec::new();
        for sample in samples {
            of_all_ranks.extend(self.share(sample)?);
        }
        Ok(Times { us, p50_us: median(&of_all_ranks), p99_us: percentile(&of_all_ranks, 99.0) })
    }

    /// The host's time for one call: median over batches and ranks, and the smallest batch.
    fn time_host(&self) -> Fallible<(f64, f64)> {
        let method = self.method;
        let mut samples = Vec::new();
        for _ in 0..method.warmup_host_rounds + method.host_rounds {
            self.seat.barrier()?;
            let start = Instant::now();
            (0..method.host_calls).try_for_each(|_| self.call())?;
            samples.push(start.elapsed().as_secs_f64() * 1e6 / method.host_calls as f64);
            wait_all(self.seat, self.gpus)?;
        }
        let typical = median(&self.share(median(&samples[method.warmup_host_rounds..]))?);
        Ok((typical, smallest(&self.share(smallest(&samples))?)))
    }

    /// Gives this rank's number to all and returns everybody's.
    fn share(&self, value: f64) -> Fallible<Vec<f64>> {
        let numbers = &self.seat.control.numbers;
        numbers[self.gpus[0].rank][0].store(value.to_bits(), Ordering::Release);
        self.seat.barrier()?;
        let all = (0..self.seat.total).map(|rank| f64::from_bits(numbers[rank][0].load(Ordering::Acquire))).collect();
        self.seat.barrier()?;
        Ok(all)
    }
}

impl Place {
    /// Brings the output and its guards to the host.
    fn read(&self, gpu: &Gpu, bytes: usize, seat: &Seat) -> Fallible<Vec<u8>> {
        gpu.stream.copy_to_host(&self.host, 0, self.target.address(), bytes)?;
        wait_all(seat, std::slice::from_ref(gpu))?;
        Ok(self.host.as_slice()[..bytes].to_vec())
    }
}

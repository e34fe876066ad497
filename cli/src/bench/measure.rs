//! One lane at one size: checked, then timed.

use std::sync::atomic::Ordering;
use std::time::Instant;

use dime_harness::Fallible;
use dime_harness::cuda::{DeviceBuffer, Event, Graph, PinnedBuffer};
use dime_harness::guard::{GUARD_BYTES, POISON};
use dime_harness::number::Op;
use dime_harness::payload::{PERIOD, Payload};
use dime_harness::rig::{Buffers, Communicator, Gpu, wait_all};
use dime_harness::route::Route;
use dime_harness::stats::{median, smallest};
use dime_harness::team::Seat;

use super::{Lane, Mode, Row};

/// Replays of a graph, and how many of the first are dropped.
const REPLAYS: usize = 24;
const DROPPED: usize = 4;
/// Eager calls timed in one go, for messages below and from LARGE_BYTES, and how often.
const EAGER_CALLS: usize = 500;
const EAGER_CALLS_LARGE: usize = 100;
const EAGER_ROUNDS: usize = 5;
/// Calls whose host time is taken in one go: few enough that the queue of the stream never fills.
const HOST_CALLS: usize = 100;
const HOST_ROUNDS: usize = 24;
/// From this size on fewer operations are timed in one go.
const LARGE_BYTES: usize = 4 << 20;

/// All-reduces in one graph.
pub fn graph_operations(bytes: usize) -> usize {
    if bytes >= LARGE_BYTES { 16 } else { 50 }
}

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
}

impl Measure<'_> {
    /// Checks and times one lane in each mode. Only the first worker gets rows.
    pub fn all(&self, lane: &Lane, modes: &[Mode]) -> Fallible<Vec<Row>> {
        let route =
            self.communicator.library.route(self.communicator.handles[0], self.count, self.payload.dtype, self.op)?;
        let (kernel, reason) = match route {
            Route::Fast(kernel) => (kernel, None),
            Route::Forward(reason) if self.communicator.library.is_dime() => ("nccl".to_owned(), Some(reason)),
            Route::Forward(_) => ("nccl".to_owned(), None),
        };
        if lane.is_forced() && lane.kernel.as_deref() != Some(&kernel) {
            // Nothing to learn from a lane that does not run its kernel.
            return Ok(Vec::new());
        }
        self.seat.doing(&format!("{}, {} bytes, kernel {kernel}", lane.label(), self.bytes()));
        let exact = kernel != "nccl" || self.payload.nccl_agrees(self.op);
        let mut check = self.check(exact, || self.call())?;
        let mut rows = Vec::new();
        for &mode in modes {
            let (us, host_us, host_min_us) = match mode {
                Mode::Graph => {
                    let graph = self.capture(graph_operations(self.bytes()))?;
                    // In place, a chain feeds on its own results: only a single operation can be checked.
                    let checked = if self.place.in_place { &self.capture(1)? } else { &graph };
                    let from_graph = self.check(exact, || self.gpus[0].stream.launch(checked))?;
                    if check == "ok" && from_graph != "ok" {
                        check = format!("graph: {from_graph}");
                    }
                    (self.time_graph(&graph)?, None, None)
                }
                Mode::Eager => {
                    let us = self.time_eager()?;
                    let (host, host_min) = self.time_host()?;
                    (us, Some(host), Some(host_min))
                }
            };
            if self.seat.worker == 0 {
                rows.push(Row {
                    gpus: self.seat.total,
                    bytes: self.bytes(),
                    lane: lane.clone(),
                    mode,
                    repeat: 0,
                    us,
                    host_us,
                    host_min_us,
                    kernel: kernel.clone(),
                    reason: reason.clone(),
                    check: check.clone(),
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
        Ok(if wrong.is_empty() { "ok".to_owned() } else { format!("WRONG on ranks {}", wrong.join(",")) })
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

    /// Replays the graph and returns the smallest rank's median time of one operation.
    fn time_graph(&self, graph: &Graph) -> Fallible<f64> {
        let (start, end) = (Event::new()?, Event::new()?);
        let stream = &self.gpus[0].stream;
        let mut samples = Vec::with_capacity(REPLAYS);
        for _ in 0..REPLAYS {
            self.seat.barrier()?;
            start.record(stream)?;
            stream.launch(graph)?;
            end.record(stream)?;
            wait_all(self.seat, self.gpus)?;
            samples.push(start.us_until(&end)?);
        }
        let operations = graph_operations(self.bytes()) as f64;
        Ok(smallest(&self.share(median(&samples[DROPPED..]) / operations)?))
    }

    /// Issues back-to-back calls and returns the smallest rank's median time of one.
    fn time_eager(&self) -> Fallible<f64> {
        let calls = if self.bytes() >= LARGE_BYTES { EAGER_CALLS_LARGE } else { EAGER_CALLS };
        let (start, end) = (Event::new()?, Event::new()?);
        let stream = &self.gpus[0].stream;
        let mut samples = Vec::new();
        // One round more than is kept, to warm up.
        for round in 0..=EAGER_ROUNDS {
            self.seat.barrier()?;
            start.record(stream)?;
            (0..calls).try_for_each(|_| self.call())?;
            end.record(stream)?;
            wait_all(self.seat, self.gpus)?;
            if round > 0 {
                samples.push(start.us_until(&end)? / calls as f64);
            }
        }
        Ok(smallest(&self.share(median(&samples))?))
    }

    /// The host's time for one call: median over batches and ranks, and the smallest batch.
    fn time_host(&self) -> Fallible<(f64, f64)> {
        let mut samples = Vec::new();
        for _ in 0..HOST_ROUNDS {
            self.seat.barrier()?;
            let start = Instant::now();
            (0..HOST_CALLS).try_for_each(|_| self.call())?;
            samples.push(start.elapsed().as_secs_f64() * 1e6 / HOST_CALLS as f64);
            wait_all(self.seat, self.gpus)?;
        }
        let typical = median(&self.share(median(&samples[DROPPED..]))?);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_holds_fifty_operations_and_sixteen_from_four_mebibytes() {
        assert_eq!(graph_operations(256), 50);
        assert_eq!(graph_operations((4 << 20) - 2), 50);
        assert_eq!(graph_operations(4 << 20), 16);
    }
}

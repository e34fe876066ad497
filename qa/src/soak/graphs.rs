//! The captured graphs of a soak. Each poisons its outputs, then all-reduces several buffers of its own back to back.

use dime_harness::Fallible;
use dime_harness::cuda::{DeviceBuffer, Graph, PinnedBuffer, Stream};
use dime_harness::guard::{GUARD_BYTES, POISON};
use dime_harness::number::Op;
use dime_harness::payload::{PERIOD, Payload};
use dime_harness::random::Random;
use dime_harness::rig::{Buffers, Communicator, Gpu, wait_all};
use dime_harness::team::Seat;

/// One all-reduce inside a graph. Offsets are bytes into the graph's memory.
struct Node {
    payload: usize,
    op: Op,
    count: usize,
    input: usize,
    output: usize,
}

/// One graph: the same nodes on all ranks, memory and executable for each rank here.
struct Captured {
    nodes: Vec<Node>,
    bytes: usize,
    /// Element of the pattern at which each node's last input window began.
    phases: Vec<usize>,
    graphs: Vec<Graph>,
    memory: Vec<DeviceBuffer>,
}

/// All graphs of one worker.
pub struct Graphs {
    captured: Vec<Captured>,
    host: Vec<PinnedBuffer>,
}

/// Largest all-reduce in a graph.
const MAX_NODE_BYTES: usize = 1 << 20;

impl Graphs {
    /// Captures `count` graphs of all-reduces of at most `max_bytes`. All workers must draw from the same sequence.
    pub fn capture(
        seat: &Seat,
        gpus: &[Gpu],
        communicator: &Communicator,
        payloads: &[Payload],
        count: usize,
        max_bytes: usize,
        random: &mut Random,
    ) -> Fallible<Graphs> {
        let mut captured = Vec::new();
        for index in 0..count {
            seat.doing(&format!("capturing graph {index}"));
            let (nodes, bytes) = draw_nodes(payloads, max_bytes.min(MAX_NODE_BYTES), random);
            captured.push(capture_one(seat, gpus, communicator, payloads, nodes, bytes)?);
        }
        let most = captured.iter().map(|graph| graph.bytes).max().unwrap_or(0);
        let host = gpus
            .iter()
            .map(|gpu| {
                gpu.context.enter()?;
                PinnedBuffer::new(most)
            })
            .collect::<Fallible<_>>()?;
        Ok(Graphs { captured, host })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.captured.len()
    }

    /// Draws where the input windows of the next replay begin.
    pub fn draw_phases(&self, graph: usize, payloads: &[Payload], random: &mut Random) -> Vec<usize> {
        let grid = |payload: &Payload| PERIOD * payload.dtype.bytes() / GUARD_BYTES;
        let nodes = self.captured[graph].nodes.iter();
        nodes.map(|node| random.below(grid(&payloads[node.payload]) as u64) as usize).collect()
    }

    /// Refreshes the inputs of one rank here from its pools and replays the graph.
    pub fn replay(
        &self,
        graph: usize,
        gpu: usize,
        stream: &Stream,
        pools: &[u64],
        payloads: &[Payload],
        phases: &[usize],
    ) -> Fallible<()> {
        let captured = &self.captured[graph];
        let base = captured.memory[gpu].address();
        for (node, phase) in captured.nodes.iter().zip(phases) {
            let size = payloads[node.payload].dtype.bytes();
            let window = pools[node.payload] + (phase * size) as u64;
            stream.copy_on_device(base + node.input as u64, window, node.count * size)?;
        }
        stream.launch(&captured.graphs[gpu])
    }

    /// Remembers the windows of a replay; returns how many all-reduces it holds.
    pub fn set_phases(&mut self, graph: usize, phases: Vec<usize>) -> usize {
        self.captured[graph].phases = phases;
        self.captured[graph].nodes.len()
    }

    /// Compares the outputs of the last replay: rank and description of each wrong one.
    pub fn verify(
        &self,
        graph: usize,
        seat: &Seat,
        gpus: &[Gpu],
        payloads: &[Payload],
    ) -> Fallible<Vec<(usize, String)>> {
        let captured = &self.captured[graph];
        for ((gpu, memory), host) in gpus.iter().zip(&captured.memory).zip(&self.host) {
            gpu.context.enter()?;
            gpu.stream.copy_to_host(host, 0, memory.address(), captured.bytes)?;
        }
        wait_all(seat, gpus)?;
        let mut wrong = Vec::new();
        for (gpu, host) in gpus.iter().zip(&self.host) {
            for (index, (node, &phase)) in captured.nodes.iter().zip(&captured.phases).enumerate() {
                let payload = &payloads[node.payload];
                let bytes = node.count * payload.dtype.bytes();
                let output = &host.as_slice()[node.output..node.output + bytes];
                let guards = [
                    &host.as_slice()[node.output - GUARD_BYTES..node.output],
                    &host.as_slice()[node.output + bytes..node.output + bytes + GUARD_BYTES],
                ];
                let trouble = if guards.iter().any(|guard| guard.iter().any(|&byte| byte != POISON)) {
                    Some("wrote outside its output".to_owned())
                } else {
                    payload.wrong_element(node.op, phase, output)
                };
                if let Some(trouble) = trouble {
                    wrong.push((
                        gpu.rank,
                        format!(
                            "graph {graph}, node {index}, {} {}, count {}: {trouble}",
                            payload.dtype.name(),
                            node.op.name(),
                            node.count
                        ),
                    ));
                }
            }
        }
        Ok(wrong)
    }
}

/// Draws the all-reduces of one graph and lays out its memory: all inputs, then all outputs with guards.
fn draw_nodes(payloads: &[Payload], max_bytes: usize, random: &mut Random) -> (Vec<Node>, usize) {
    let length = 3 + random.below(6);
    let mut nodes = Vec::new();
    let mut bytes = 0;
    while (nodes.len() as u64) < length {
        let payload = random.below(payloads.len() as u64) as usize;
        let op = random.pick(&Op::ALL);
        // Whether a captured call is forwarded is not known here, so both libraries must agree on its bits.
        if !payloads[payload].nccl_agrees(op) {
            continue;
        }
        let size = payloads[payload].dtype.bytes();
        let count = ((max_bytes as f64).powf(random.unit()) as usize / size).max(1);
        let offset = random.pick(&[0, 0, 1, 3]) * size;
        let input = bytes + offset;
        bytes = (input + count * size).next_multiple_of(GUARD_BYTES);
        nodes.push(Node { payload, op, count, input, output: 0 });
    }
    for node in &mut nodes {
        let size = payloads[node.payload].dtype.bytes();
        node.output = bytes + GUARD_BYTES + random.pick(&[0, 0, 1, 3]) * size;
        bytes = (node.output + node.count * size + GUARD_BYTES).next_multiple_of(GUARD_BYTES);
    }
    (nodes, bytes)
}

fn capture_one(
    seat: &Seat,
    gpus: &[Gpu],
    communicator: &Communicator,
    payloads: &[Payload],
    nodes: Vec<Node>,
    bytes: usize,
) -> Fallible<Captured> {
    let memory = gpus
        .iter()
        .map(|gpu| {
            gpu.context.enter()?;
            DeviceBuffer::new(bytes)
        })
        .collect::<Fallible<Vec<_>>>()?;
    let first_output =
        nodes.iter().map(|node| node.output).min().unwrap_or(0) / GUARD_BYTES * GUARD_BYTES - GUARD_BYTES;
    let poison = |index: usize| {
        let gpu: &Gpu = &gpus[index];
        gpu.context.enter()?;
        gpu.stream.fill(memory[index].address() + first_output as u64, POISON, bytes - first_output)
    };
    let reduce = || {
        nodes.iter().try_for_each(|node| {
            let buffers: Vec<Buffers> = memory
                .iter()
                .map(|memory| Buffers {
                    input: memory.address() + node.input as u64,
                    output: memory.address() + node.output as u64,
                })
                .collect();
            communicator.all_reduce(gpus, &buffers, node.count, payloads[node.payload].dtype, node.op)
        })
    };
    let graphs = dime_harness::cuda::capture_all(gpus.iter().map(|gpu| (&gpu.context, &gpu.stream)), poison, reduce)?;
    wait_all(seat, gpus)?;
    seat.barrier()?;
    let phases = vec![0; nodes.len()];
    Ok(Captured { nodes, bytes, phases, graphs, memory })
}

#[cfg(test)]
mod tests {
    use super::*;
    use dime_harness::number::Dtype;
    use dime_harness::payload::{self, Kind};

    #[test]
    fn the_buffers_of_a_graph_do_not_overlap_and_outputs_keep_their_guards() {
        let payloads = payload::make(&Dtype::ALL, &[Kind::Exact], &[], 3, 1);
        let mut random = Random::new(&[4]);
        for _ in 0..50 {
            let (nodes, bytes) = draw_nodes(&payloads, MAX_NODE_BYTES, &mut random);
            let size = |node: &Node| node.count * payloads[node.payload].dtype.bytes();
            let mut spans: Vec<(usize, usize)> = nodes.iter().map(|n| (n.input, n.input + size(n))).collect();
            spans.extend(nodes.iter().map(|n| (n.output - GUARD_BYTES, n.output + size(n) + GUARD_BYTES)));
            spans.sort_unstable();
            assert!(spans.windows(2).all(|pair| pair[0].1 <= pair[1].0));
            assert!(spans.last().unwrap().1 <= bytes);
        }
    }
}

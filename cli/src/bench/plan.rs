//! What the options ask for: sizes, types, operations, GPUs and how often, or the error that says what is wrong with them.

use std::str::FromStr;

use dime_harness::Fallible;
use dime_harness::args::Sizes;
use dime_harness::number::{Dtype, Op};
use dime_harness::stats::show_bytes;
use dime_harness::team::Model;

/// What is timed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Mode {
    /// A CUDA graph of all-reduces
    Graph,
    /// Calls one after the other
    Eager,
}

impl Mode {
    /// The name in options and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Graph => "graph",
            Mode::Eager => "eager",
        }
    }

    /// The mode of a name.
    pub fn from_name(name: &str) -> Option<Mode> {
        [Mode::Graph, Mode::Eager].into_iter().find(|mode| mode.name() == name)
    }
}

/// Who drives the GPUs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Drive {
    /// One process, a thread for each GPU
    Threads,
    /// A process for each GPU
    Processes,
}

impl Drive {
    /// The name in options and JSON.
    pub fn name(self) -> &'static str {
        self.model().name()
    }

    /// The drive of a name.
    pub fn from_name(name: &str) -> Option<Drive> {
        [Drive::Threads, Drive::Processes].into_iter().find(|drive| drive.name() == name)
    }

    /// The workers of the harness.
    pub fn model(self) -> Model {
        match self {
            Drive::Threads => Model::Threads,
            Drive::Processes => Model::Processes,
        }
    }
}

/// Types of the elements: a list, or all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Types(pub Vec<Dtype>);

impl FromStr for Types {
    type Err = String;

    fn from_str(text: &str) -> Result<Types, String> {
        if text == "all" {
            return Ok(Types(Dtype::ALL.to_vec()));
        }
        text.split(',').map(str::parse).collect::<Result<_, _>>().map(Types)
    }
}

/// Operations: a list, or all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ops(pub Vec<Op>);

impl FromStr for Ops {
    type Err = String;

    fn from_str(text: &str) -> Result<Ops, String> {
        if text == "all" {
            return Ok(Ops(Op::ALL.to_vec()));
        }
        let one = |name: &str| match name {
            "mulsum" => Err("mulsum is made with ncclRedOpCreatePreMulSum, which libdime.so passes to NCCL: there is \
                             nothing to compare; use sum"
                .to_owned()),
            _ => name.parse(),
        };
        text.split(',').map(one).collect::<Result<_, _>>().map(Ops)
    }
}

/// The sizes of the options -b, -e, -f and -i, as in nccl-tests.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Range {
    pub least: Option<usize>,
    pub most: Option<usize>,
    pub factor: Option<usize>,
    pub step: Option<usize>,
}

const LEAST_BYTES: usize = 256;
const MOST_BYTES: usize = 16 << 20;
/// On the simulated node, where a large message takes seconds.
const MOST_BYTES_SIMULATED: usize = 16 << 10;
const MOST_SIZES: usize = 4096;

impl Range {
    /// The sizes from the least to the most.
    pub fn sizes(self, is_simulated: bool) -> Fallible<Sizes> {
        let usual_most = if is_simulated { MOST_BYTES_SIMULATED } else { MOST_BYTES };
        let least = self.least.unwrap_or(LEAST_BYTES.min(self.most.unwrap_or(LEAST_BYTES)));
        let most = self.most.unwrap_or(usual_most.max(least));
        if least > most {
            let (least, most) = (show_bytes(least), show_bytes(most));
            return Err(format!("-b {least} -e {most}: the smallest size is above the largest; swap them"));
        }
        let next = |size: &usize| match self.step {
            Some(step) => size.checked_add(step),
            None => size.checked_mul(self.factor.unwrap_or(2)),
        };
        let sizes: Vec<usize> =
            std::iter::successors(Some(least), next).take_while(|&size| size <= most).take(MOST_SIZES + 1).collect();
        if sizes.len() > MOST_SIZES {
            return Err(format!(
                "-i {}: more than {MOST_SIZES} sizes from {} to {}; use a larger step, or -f 2",
                show_bytes(self.step.unwrap_or(0)),
                show_bytes(least),
                show_bytes(most)
            ));
        }
        Ok(Sizes(sizes))
    }
}

/// How often things are done for one number; (below, from) [`LARGE_BYTES`] where sizes differ.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Method {
    graph_operations: (usize, usize),
    /// Replays of a graph that count.
    pub replays: usize,
    /// Replays before those.
    pub warmup_replays: usize,
    eager_calls: (usize, usize),
    /// Batches of eager calls that count.
    pub eager_rounds: usize,
    /// Batches before those.
    pub warmup_rounds: usize,
    /// Calls whose host time is taken in one go: few enough that the queue of the stream never fills.
    pub host_calls: usize,
    /// Batches of these that count.
    pub host_rounds: usize,
    /// Batches before those.
    pub warmup_host_rounds: usize,
    /// How often each result is checked.
    pub checks: usize,
}

/// From this size on fewer operations are timed in one go.
const LARGE_BYTES: usize = 4 << 20;

impl Method {
    /// The usual counts, with those that the options change; far fewer on the simulated node.
    pub fn new(
        operations: Option<usize>,
        replays: Option<usize>,
        warmup: Option<usize>,
        checks: usize,
        is_simulated: bool,
    ) -> Method {
        let both = |usual| operations.map_or(usual, |count| (count, count));
        if is_simulated {
            return Method {
                graph_operations: both((4, 2)),
                replays: replays.unwrap_or(3),
                warmup_replays: warmup.unwrap_or(1),
                eager_calls: both((4, 2)),
                eager_rounds: 2,
                warmup_rounds: warmup.unwrap_or(1),
                host_calls: operations.unwrap_or(4).min(100),
                host_rounds: 2,
                warmup_host_rounds: warmup.unwrap_or(1),
                checks,
            };
        }
        Method {
            graph_operations: both((50, 16)),
            replays: replays.unwrap_or(20),
            warmup_replays: warmup.unwrap_or(4),
            eager_calls: both((500, 100)),
            eager_rounds: 5,
            warmup_rounds: warmup.unwrap_or(1),
            host_calls: operations.unwrap_or(100).min(100),
            host_rounds: 20,
            warmup_host_rounds: warmup.unwrap_or(4),
            checks,
        }
    }

    /// All-reduces in one graph.
    pub fn graph_operations(&self, bytes: usize) -> usize {
        if bytes >= LARGE_BYTES { self.graph_operations.1 } else { self.graph_operations.0 }
    }

    /// Eager calls timed in one go.
    pub fn eager_calls(&self, bytes: usize) -> usize {
        if bytes >= LARGE_BYTES { self.eager_calls.1 } else { self.eager_calls.0 }
    }

    /// The method in words, for JSON and plots.
    pub fn words(&self, mode: Mode) -> String {
        let counts = |(small, large): (usize, usize)| {
            if small == large { small.to_string() } else { format!("{small} ({large} from 4 MiB)") }
        };
        match mode {
            Mode::Graph => format!(
                "graph of {}, {} replays, first {} dropped, smallest rank's median",
                counts(self.graph_operations),
                self.replays + self.warmup_replays,
                self.warmup_replays
            ),
            Mode::Eager => {
                let (small, large) = self.eager_calls;
                let calls = if small == large {
                    format!("{small} calls")
                } else {
                    format!("{small} calls ({large} from 4 MiB)")
                };
                format!("{calls} back to back, {} rounds, smallest rank's median", self.eager_rounds)
            }
        }
    }
}

/// The modes that -G and --mode ask for, and the replays that -G gives.
pub fn modes(asked: &[Mode], cudagraph: Option<usize>) -> Fallible<(Vec<Mode>, Option<usize>)> {
    match cudagraph {
        Some(0) if asked.contains(&Mode::Graph) => {
            Err("-G 0: without a graph there is no mode graph; leave -G out, or use --mode eager".to_owned())
        }
        Some(0) => Ok((vec![Mode::Eager], None)),
        _ if asked.is_empty() => Ok((vec![Mode::Graph], cudagraph)),
        _ => Ok((asked.to_vec(), cudagraph)),
    }
}

/// The numbers of GPUs that -g, -t and --gpus ask for; none: as many as there are.
pub fn gpu_counts(gpus: &[usize], ngpus: Option<usize>, threads: Option<usize>, drive: Drive) -> Fallible<Vec<usize>> {
    match (threads, ngpus) {
        (None | Some(1), None) => Ok(gpus.to_vec()),
        (None | Some(1), Some(count)) => Ok(vec![count]),
        (Some(threads), _) if drive == Drive::Processes => Err(format!(
            "-t {threads}: with --model processes each GPU has a process with one thread; leave -t out, or use --model \
             threads"
        )),
        (Some(threads), None | Some(1)) => Ok(vec![threads]),
        (Some(threads), Some(count)) => Err(format!(
            "-t {threads} -g {count}: here a thread drives one GPU; for {} GPUs write -g {}",
            threads * count,
            threads * count
        )),
    }
}

/// The same numbers, each of which `present` GPUs allow; those of the default when none is asked for.
pub fn present_gpu_counts(asked: &[usize], present: usize) -> Fallible<Vec<usize>> {
    if asked.is_empty() {
        let counts: Vec<usize> = [2, 4, 8].into_iter().filter(|&count| count <= present).collect();
        return if counts.is_empty() { Err(format!("{present} GPU here; a bench needs two")) } else { Ok(counts) };
    }
    match asked.iter().find(|&&count| count > present || !(2..=8).contains(&count)) {
        Some(count) => Err(format!("--gpus {count}: {present} GPUs here, and 2 to 8 can be used")),
        None => Ok(asked.to_vec()),
    }
}

/// Refuses registered buffers.
pub fn check_registration(local_register: usize) -> Fallible<()> {
    let kind = match local_register {
        0 => return Ok(()),
        1 => "registered with ncclCommRegister",
        _ => "in symmetric windows",
    };
    Err(format!(
        "-R {local_register}: buffers {kind} are not timed, for libdime.so is made for ordinary device memory; use -R 0, \
         and --peers for NCCL with registered windows"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_uses_two_four_and_eight_as_far_as_present() {
        assert_eq!(present_gpu_counts(&[], 8), Ok(vec![2, 4, 8]));
        assert_eq!(present_gpu_counts(&[], 5), Ok(vec![2, 4]));
        assert!(present_gpu_counts(&[], 1).is_err());
        assert_eq!(present_gpu_counts(&[3], 4), Ok(vec![3]));
        assert!(present_gpu_counts(&[8], 4).is_err());
        assert!(present_gpu_counts(&[1], 4).is_err());
    }

    #[test]
    fn sizes_go_by_factor_or_by_step() {
        let range = |least, most, factor, step| Range { least, most, factor, step }.sizes(false).map(|sizes| sizes.0);
        assert_eq!(range(Some(8), Some(64), Some(2), None), Ok(vec![8, 16, 32, 64]));
        assert_eq!(range(Some(8), Some(600), Some(8), None), Ok(vec![8, 64, 512]));
        assert_eq!(range(Some(100), Some(400), None, Some(100)), Ok(vec![100, 200, 300, 400]));
        assert_eq!(range(None, Some(64), None, None), Ok(vec![64]));
        assert_eq!(range(Some(64 << 20), None, None, None), Ok(vec![64 << 20]));
        assert_eq!(range(None, None, None, None).unwrap().len(), 17);
        assert!(range(Some(1024), Some(512), None, None).unwrap_err().contains("-b 1K -e 512"));
        assert!(range(None, None, None, Some(1)).unwrap_err().contains("-i 1: more than 4096 sizes"));
        assert_eq!(Range::default().sizes(true).unwrap().0.last(), Some(&(16 << 10)));
    }

    #[test]
    fn a_graph_holds_fifty_operations_and_sixteen_from_four_mebibytes() {
        let method = Method::new(None, None, None, 1, false);
        assert_eq!(method.graph_operations(256), 50);
        assert_eq!(method.graph_operations((4 << 20) - 2), 50);
        assert_eq!(method.graph_operations(4 << 20), 16);
        assert_eq!(
            method.words(Mode::Graph),
            "graph of 50 (16 from 4 MiB), 24 replays, first 4 dropped, smallest rank's median"
        );
        assert_eq!(
            method.words(Mode::Eager),
            "500 calls (100 from 4 MiB) back to back, 5 rounds, smallest rank's median"
        );
        let few = Method::new(Some(7), Some(2), Some(0), 1, false);
        assert_eq!((few.graph_operations(4 << 20), few.eager_calls(1), few.host_calls), (7, 7, 7));
        assert_eq!(few.words(Mode::Graph), "graph of 7, 2 replays, first 0 dropped, smallest rank's median");
    }

    #[test]
    fn no_graph_means_eager() {
        assert_eq!(modes(&[], Some(0)), Ok((vec![Mode::Eager], None)));
        assert_eq!(modes(&[], Some(9)), Ok((vec![Mode::Graph], Some(9))));
        assert_eq!(modes(&[Mode::Eager], None), Ok((vec![Mode::Eager], None)));
        assert!(modes(&[Mode::Graph], Some(0)).is_err());
    }

    #[test]
    fn threads_and_gpus_multiply_as_in_nccl_tests() {
        assert_eq!(gpu_counts(&[2, 4], None, None, Drive::Threads), Ok(vec![2, 4]));
        assert_eq!(gpu_counts(&[], Some(4), Some(1), Drive::Processes), Ok(vec![4]));
        assert_eq!(gpu_counts(&[], Some(1), Some(4), Drive::Threads), Ok(vec![4]));
        assert_eq!(gpu_counts(&[], None, Some(4), Drive::Threads), Ok(vec![4]));
        assert!(gpu_counts(&[], Some(2), Some(2), Drive::Threads).unwrap_err().contains("write -g 4"));
        assert!(gpu_counts(&[], None, Some(4), Drive::Processes).unwrap_err().contains("leave -t out"));
    }

    #[test]
    fn names_of_nccl_tests_are_types_and_operations() {
        let types: Types = "half,float,double,bfloat16,int8,uint64".parse().unwrap();
        assert_eq!(types.0, [Dtype::F16, Dtype::F32, Dtype::F64, Dtype::Bf16, Dtype::I8, Dtype::U64]);
        assert_eq!("all".parse::<Types>().unwrap().0.len(), 12);
        assert_eq!("all".parse::<Ops>().unwrap().0.len(), 5);
        assert!("mulsum".parse::<Ops>().unwrap_err().contains("use sum"));
        assert!("half,quad".parse::<Types>().is_err());
    }
}

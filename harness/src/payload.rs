//! Input data and the answers to it.
//!
//! Each rank's input of a type is a pattern of PERIOD elements, repeated over as much device memory as a case needs. A
//! case reads a window of it that starts at some phase, the same on all ranks, so its result is a window of the
//! reduced pattern: the reference is computed once a type and operation, not once a case. PERIOD is prime, so data
//! that ends up in the wrong chunk or packet does not look right by accident.

use crate::number::{Dtype, Op};
use crate::random::Random;
use crate::reference::{self, Answer};

/// Elements in a pattern; prime.
pub const PERIOD: usize = 65_521;

/// What kind of values a pattern holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Small integers: sums are exact in every type.
    Exact,
    /// Random bits for integers; random signs, exponents near zero and mantissas for floats. No NaN, infinity or zero.
    Random,
    /// NaNs with payloads, infinities, signed zeros, subnormals, largest values, runs of all-ones; extremes for integers.
    Special,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 3] = [Kind::Exact, Kind::Random, Kind::Special];

    /// The name in options and reports.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Exact => "exact",
            Kind::Random => "random",
            Kind::Special => "special",
        }
    }
}

impl std::str::FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Kind, String> {
        Kind::ALL
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| format!("no kind of data {text:?}; there are {}", Kind::ALL.map(Kind::name).join(", ")))
    }
}

/// The patterns of all ranks for one type and kind, and the answer of each operation asked for.
pub struct Payload {
    /// Type of the elements.
    pub dtype: Dtype,
    /// Kind of values.
    pub kind: Kind,
    /// Pattern of each rank, PERIOD elements.
    pub inputs: Vec<Vec<u8>>,
    answers: Vec<(Op, Answer)>,
}

impl Payload {
    /// Makes the patterns of `ranks` ranks and reduces them.
    pub fn new(dtype: Dtype, kind: Kind, ops: &[Op], ranks: usize, seed: u64) -> Payload {
        let inputs: Vec<Vec<u8>> = (0..ranks).map(|rank| pattern(dtype, kind, rank, seed)).collect();
        let slices: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
        let answers = ops.iter().map(|&op| (op, reference::all_reduce(dtype, op, &slices))).collect();
        Payload { dtype, kind, inputs, answers }
    }

    /// The reduced pattern.
    pub fn answer(&self, op: Op) -> &Answer {
        let found = self.answers.iter().find(|(of, _)| *of == op);
        &found.expect("the payload was made for every operation of the run").1
    }

    /// Whether NCCL's own kernels must give the same bits, whatever order and precision they add in.
    pub fn nccl_agrees(&self, op: Op) -> bool {
        let ranks = self.inputs.len();
        let (float, exact) = (self.dtype.is_float(), self.kind == Kind::Exact);
        match op {
            Op::Sum | Op::Min | Op::Max if float => exact && self.dtype.bytes() > 1,
            Op::Avg if float => exact && self.dtype.bytes() > 1 && ranks.is_power_of_two(),
            Op::Prod if float => false,
            Op::Avg => exact,
            _ => true,
        }
    }

    /// The elements of a rank's window.
    pub fn window(&self, rank: usize, phase: usize, count: usize) -> Vec<u8> {
        let size = self.dtype.bytes();
        let period = self.inputs[rank].iter().copied().cycle();
        period.skip(phase % PERIOD * size).take(count * size).collect()
    }

    /// Compares a result window with the answer; None when right, else the index in the window of the first wrong element.
    pub fn first_wrong(&self, op: Op, phase: usize, got: &[u8]) -> Option<usize> {
        let answer = self.answer(op);
        let size = self.dtype.bytes();
        let (mut done, mut position) = (0, phase % PERIOD);
        let elems = got.len() / size;
        while done < elems {
            let piece = (PERIOD - position).min(elems - done);
            let got = &got[done * size..(done + piece) * size];
            if got != &answer.first[position * size..(position + piece) * size] {
                let wrong = (0..piece).find(|&i| !answer.allows(self.dtype, position + i, self.dtype.bits_at(got, i)));
                if let Some(index) = wrong {
                    return Some(done + index);
                }
            }
            done += piece;
            position = 0;
        }
        None
    }

    /// The first wrong element of a result window in words; None when all are right.
    pub fn wrong_element(&self, op: Op, phase: usize, got: &[u8]) -> Option<String> {
        let dtype = self.dtype;
        self.first_wrong(op, phase, got).map(|index| {
            let want = dtype.bits_at(&self.answer(op).first, (phase + index) % PERIOD);
            format!("element {index} is {}, not {}", dtype.show(dtype.bits_at(got, index)), dtype.show(want))
        })
    }

    /// Compares a window of an input with the pattern; None when unchanged, else the first byte of the window that differs.
    pub fn first_changed(&self, rank: usize, first_byte: usize, got: &[u8]) -> Option<usize> {
        let pattern = &self.inputs[rank];
        let (mut done, mut position) = (0, first_byte % pattern.len());
        while done < got.len() {
            let piece = (pattern.len() - position).min(got.len() - done);
            let (got, want) = (&got[done..done + piece], &pattern[position..position + piece]);
            if got != want {
                return got.iter().zip(want).position(|(got, want)| got != want).map(|index| done + index);
            }
            done += piece;
            position = 0;
        }
        None
    }

    /// The bits the contributions of all ranks have at element `index` of a window, for a failure report.
    pub fn contributions(&self, phase: usize, index: usize) -> Vec<u64> {
        self.inputs.iter().map(|input| self.dtype.bits_at(input, (phase + index) % PERIOD)).collect()
    }
}

/// Makes the payloads of a run on all processors.
pub fn make(dtypes: &[Dtype], kinds: &[Kind], ops: &[Op], ranks: usize, seed: u64) -> Vec<Payload> {
    let wanted: Vec<(Dtype, Kind)> =
        dtypes.iter().flat_map(|&dtype| kinds.iter().map(move |&kind| (dtype, kind))).collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(wanted.len().max(1));
    let next = std::sync::atomic::AtomicUsize::new(0);
    let mut made: Vec<(usize, Payload)> = std::thread::scope(|scope| {
        let work = || {
            let mut made = Vec::new();
            loop {
                let index = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let Some(&(dtype, kind)) = wanted.get(index) else { return made };
                made.push((index, Payload::new(dtype, kind, ops, ranks, seed)));
            }
        };
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        handles.into_iter().flat_map(|handle| handle.join().expect("making payloads does not panic")).collect()
    });
    made.sort_by_key(|(index, _)| *index);
    made.into_iter().map(|(_, payload)| payload).collect()
}

fn pattern(dtype: Dtype, kind: Kind, rank: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; PERIOD * dtype.bytes()];
    let mut random = Random::new(&[seed, dtype.code() as u64, kind as u64, rank as u64]);
    match kind {
        Kind::Exact => {
            for index in 0..PERIOD {
                let draw = random.below(7);
                let value =
                    if matches!(dtype, Dtype::U8 | Dtype::U32 | Dtype::U64) { draw as i64 } else { draw as i64 - 3 };
                let bits = match dtype {
                    Dtype::F64 => (value as f64).to_bits(),
                    _ if dtype.is_float() => dtype.bits_from_f32(value as f32),
                    _ => value as u64,
                };
                dtype.put_bits(&mut bytes, index, bits);
            }
        }
        Kind::Random => {
            for index in 0..PERIOD {
                dtype.put_bits(&mut bytes, index, random_bits(dtype, &mut random));
            }
        }
        Kind::Special => special(dtype, rank, seed, &mut random, &mut bytes),
    }
    bytes
}

/// Layout of the exponent and mantissa fields of a float type: mantissa bits, bias.
fn fields(dtype: Dtype) -> (u32, u64) {
    match dtype {
        Dtype::F16 => (10, 15),
        Dtype::Bf16 => (7, 127),
        Dtype::F32 => (23, 127),
        Dtype::F64 => (52, 1023),
        Dtype::F8e4m3 => (3, 7),
        Dtype::F8e5m2 => (2, 15),
        _ => (0, 0),
    }
}

fn sign_bit(dtype: Dtype) -> u64 {
    1 << (8 * dtype.bytes() - 1)
}

fn random_bits(dtype: Dtype, random: &mut Random) -> u64 {
    if !dtype.is_float() {
        return random.draw();
    }
    let (mantissa_bits, bias) = fields(dtype);
    let spread = if dtype.bytes() == 1 { 5 } else { 8 };
    let exponent = bias - spread + random.below(2 * spread);
    let mantissa = random.draw() & ((1 << mantissa_bits) - 1);
    let sign = if random.once_in(2) { sign_bit(dtype) } else { 0 };
    sign | (exponent << mantissa_bits) | mantissa
}

/// Fills a pattern with special values. Which region an element belongs to is the same on all ranks, so that some
/// elements see only zeros, or only subnormals, and a NaN of one rank does not drown everything.
fn special(dtype: Dtype, rank: usize, seed: u64, random: &mut Random, bytes: &mut [u8]) {
    let mut layout = Random::new(&[seed, dtype.code() as u64, Kind::Special as u64]);
    let mut index = 0;
    while index < PERIOD {
        let region = layout.below(6);
        let length = (1 + layout.below(24) as usize).min(PERIOD - index);
        let only_rank = layout.below(8) as usize;
        let run_everywhere = layout.once_in(3);
        for element in index..index + length {
            let bits = match region {
                0 if run_everywhere || rank == only_rank => u64::MAX,
                1 if dtype.is_float() => pick_zero(dtype, random),
                2 if dtype.is_float() => subnormal(dtype, random),
                3 => special_bits(dtype, random),
                4 if rank == only_rank => special_bits(dtype, random),
                _ => random_bits(dtype, random),
            };
            dtype.put_bits(bytes, element, bits);
        }
        index += length;
    }
}

fn pick_zero(dtype: Dtype, random: &mut Random) -> u64 {
    // Negative zeros more often, so that eight of them meet.
    if random.once_in(4) { 0 } else { sign_bit(dtype) }
}

fn subnormal(dtype: Dtype, random: &mut Random) -> u64 {
    let (mantissa_bits, _) = fields(dtype);
    let sign = if random.once_in(2) { sign_bit(dtype) } else { 0 };
    let mantissa = random.draw() & ((1 << mantissa_bits) - 1);
    sign | mantissa.max(1)
}

fn special_bits(dtype: Dtype, random: &mut Random) -> u64 {
    let sign = if random.once_in(2) { sign_bit(dtype) } else { 0 };
    if !dtype.is_float() {
        return random.pick(&[0, 1, u64::MAX, sign_bit(dtype), sign_bit(dtype) - 1, sign]);
    }
    let (mantissa_bits, _) = fields(dtype);
    let infinity = (sign_bit(dtype) - 1) >> mantissa_bits << mantissa_bits;
    let payload = (random.draw() & ((1 << mantissa_bits) - 1)).max(1);
    sign | match random.below(8) {
        // f8e4m3 has one NaN and no infinity; there these patterns are its largest values.
        0 => infinity,
        1 => infinity | payload,
        2 => sign_bit(dtype) - 1,
        3 => infinity - 1,
        4 => 1,
        5 => 1 << mantissa_bits,
        6 => 0,
        _ => random_bits(dtype, random) & !sign_bit(dtype),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_floats_are_finite_and_not_zero() {
        for dtype in Dtype::ALL.into_iter().filter(|d| d.is_float()) {
            let bytes = pattern(dtype, Kind::Random, 3, 1);
            for index in 0..PERIOD {
                let bits = dtype.bits_at(&bytes, index);
                assert!(!dtype.is_nan(bits) && bits & (sign_bit(dtype) - 1) != 0);
                if dtype.bytes() <= 4 {
                    assert!(dtype.to_f32(bits).is_finite());
                }
            }
        }
    }

    #[test]
    fn special_patterns_hold_runs_of_all_ones_on_all_ranks_and_on_one() {
        for dtype in Dtype::ALL {
            let patterns: Vec<_> = (0..8).map(|rank| pattern(dtype, Kind::Special, rank, 1)).collect();
            let word = |rank: usize, i: usize| patterns[rank][8 * i..8 * i + 8].iter().all(|&b| b == 0xff);
            let words = PERIOD * dtype.bytes() / 8;
            assert!((0..words).any(|i| (0..8).all(|rank| word(rank, i))), "{}", dtype.name());
            assert!((0..words).any(|i| (0..8).filter(|&rank| word(rank, i)).count() == 1), "{}", dtype.name());
        }
    }

    #[test]
    fn the_answer_of_a_window_is_a_window_of_the_answer() {
        let payload = Payload::new(Dtype::Bf16, Kind::Random, &[Op::Sum], 3, 5);
        let tiled = |bytes: &[u8]| [bytes, bytes].concat();
        let inputs: Vec<_> = payload.inputs.iter().map(|input| tiled(input)).collect();
        let (phase, count) = (PERIOD - 100, 300);
        let windows: Vec<&[u8]> = inputs.iter().map(|input| &input[phase * 2..(phase + count) * 2]).collect();
        let mut result = reference::all_reduce(Dtype::Bf16, Op::Sum, &windows).first;
        assert_eq!(payload.first_wrong(Op::Sum, phase, &result), None);
        result[2 * 250] ^= 1;
        assert_eq!(payload.first_wrong(Op::Sum, phase, &result), Some(250));
    }

    #[test]
    fn a_changed_input_byte_is_found_across_the_seam() {
        let payload = Payload::new(Dtype::U8, Kind::Random, &[], 2, 5);
        let mut window = payload.inputs[1][PERIOD - 10..].to_vec();
        window.extend_from_slice(&payload.inputs[1][..20]);
        assert_eq!(payload.first_changed(1, PERIOD - 10, &window), None);
        window[15] ^= 4;
        assert_eq!(payload.first_changed(1, PERIOD - 10, &window), Some(15));
    }

    #[test]
    fn payloads_come_in_the_order_asked_for() {
        let made = make(&[Dtype::F32, Dtype::I8], &[Kind::Exact, Kind::Random], &[Op::Max], 2, 9);
        let order: Vec<_> = made.iter().map(|p| (p.dtype, p.kind)).collect();
        assert_eq!(
            order,
            [
                (Dtype::F32, Kind::Exact),
                (Dtype::F32, Kind::Random),
                (Dtype::I8, Kind::Exact),
                (Dtype::I8, Kind::Random)
            ]
        );
    }

    #[test]
    fn exact_sums_need_no_rounding() {
        for dtype in [Dtype::F16, Dtype::Bf16] {
            let payload = Payload::new(dtype, Kind::Exact, &[Op::Sum], 8, 1);
            for index in 0..PERIOD {
                let total: f32 = payload.contributions(0, index).iter().map(|&bits| dtype.to_f32(bits)).sum();
                assert_eq!(dtype.to_f32(dtype.bits_at(&payload.answer(Op::Sum).first, index)), total);
            }
        }
    }

    #[test]
    fn a_wrong_element_is_named_with_both_values() {
        let payload = Payload::new(Dtype::I32, Kind::Exact, &[Op::Sum], 2, 1);
        let mut result = payload.answer(Op::Sum).first[40..80].to_vec();
        assert_eq!(payload.wrong_element(Op::Sum, 10, &result), None);
        result[4] = 77;
        assert!(payload.wrong_element(Op::Sum, 10, &result).unwrap().starts_with("element 1 is"));
    }
}

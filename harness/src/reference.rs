//! What an all-reduce must give, computed on the host: contributions folded in rank order, rounded once.
//!
//! Floats of 16 bits and fewer accumulate in f32, f32 and f64 in their own precision without fused steps. avg multiplies
//! each contribution by 1/n rounded to the type first; integers divide the wrapped sum towards zero. In min and max a NaN
//! loses, and -0 is less than +0. Where the rules leave a choice (an infinity of f8e5m2 that min or max passes through or
//! saturates) the answer has two allowed values.

use crate::number::{Dtype, Op};

/// The allowed results of one reduction, element by element: `first`, or `second` where the rules leave a choice.
pub struct Answer {
    /// An allowed result, as bytes of the type.
    pub first: Vec<u8>,
    /// The other allowed one; equal to `first` where there is no choice.
    pub second: Vec<u8>,
}

impl Answer {
    /// Whether `bits` is an allowed value of element `index`. Any NaN stands for a NaN.
    pub fn allows(&self, dtype: Dtype, index: usize, bits: u64) -> bool {
        let first = dtype.bits_at(&self.first, index);
        bits == first || bits == dtype.bits_at(&self.second, index) || (dtype.is_nan(first) && dtype.is_nan(bits))
    }
}

/// What becomes of an infinity of f8e5m2 that wins in min or max.
#[derive(Clone, Copy, PartialEq)]
enum Infinity {
    Saturates,
    Passes,
}

/// Reduces the inputs of all ranks, given in rank order.
pub fn all_reduce(dtype: Dtype, op: Op, inputs: &[&[u8]]) -> Answer {
    let elems = inputs[0].len() / dtype.bytes();
    let mut first = vec![0; inputs[0].len()];
    for index in 0..elems {
        dtype.put_bits(&mut first, index, element(dtype, op, inputs, index, Infinity::Saturates));
    }
    let mut second = first.clone();
    if dtype.is_float() && matches!(op, Op::Min | Op::Max) {
        for index in 0..elems {
            dtype.put_bits(&mut second, index, element(dtype, op, inputs, index, Infinity::Passes));
        }
    }
    Answer { first, second }
}

fn element(dtype: Dtype, op: Op, inputs: &[&[u8]], index: usize, infinity: Infinity) -> u64 {
    let bits = inputs.iter().map(|input| dtype.bits_at(input, index));
    match dtype {
        Dtype::I8 => integer_i8(op, bits, inputs.len()),
        Dtype::U8 => integer_u8(op, bits, inputs.len()),
        Dtype::I32 => integer_i32(op, bits, inputs.len()),
        Dtype::U32 => integer_u32(op, bits, inputs.len()),
        Dtype::I64 => integer_i64(op, bits, inputs.len()),
        Dtype::U64 => integer_u64(op, bits, inputs.len()),
        Dtype::F64 => {
            let values = bits.map(f64::from_bits);
            float_f64(op, values, 1.0 / inputs.len() as f64).to_bits()
        }
        _ => {
            let inverse = dtype.to_f32(dtype.bits_from_f32(1.0 / inputs.len() as f32));
            let value = float_f32(op, bits.map(|bits| dtype.to_f32(bits)), inverse);
            let passes_infinity = infinity == Infinity::Passes && dtype == Dtype::F8e5m2 && value.is_infinite();
            if passes_infinity { if value > 0.0 { 0x7c } else { 0xfc } } else { dtype.bits_from_f32(value) }
        }
    }
}

macro_rules! integer_fold {
    ($name:ident, $type:ty, $bits:ty) => {
        fn $name(op: Op, bits: impl Iterator<Item = u64>, ranks: usize) -> u64 {
            let fold = |a: $type, b: $type| match op {
                Op::Sum | Op::Avg => a.wrapping_add(b),
                Op::Prod => a.wrapping_mul(b),
                Op::Max => a.max(b),
                Op::Min => a.min(b),
            };
            let total = bits.map(|bits| bits as $type).reduce(fold).unwrap_or(0);
            let value = if op == Op::Avg { total / ranks as $type } else { total };
            u64::from(value as $bits)
        }
    };
}

integer_fold!(integer_i8, i8, u8);
integer_fold!(integer_u8, u8, u8);
integer_fold!(integer_i32, i32, u32);
integer_fold!(integer_u32, u32, u32);
integer_fold!(integer_i64, i64, u64);
integer_fold!(integer_u64, u64, u64);

macro_rules! float_fold {
    ($name:ident, $type:ty) => {
        fn $name(op: Op, values: impl Iterator<Item = $type>, inverse: $type) -> $type {
            let choose = |a: $type, b: $type, a_wins: bool| {
                if a.is_nan() {
                    b
                } else if b.is_nan() {
                    a
                } else if a_wins {
                    a
                } else {
                    b
                }
            };
            let fold = |a: $type, b: $type| match op {
                Op::Sum | Op::Avg => a + b,
                Op::Prod => a * b,
                Op::Max => choose(a, b, a > b || (a == b && b.is_sign_negative())),
                Op::Min => choose(a, b, a < b || (a == b && a.is_sign_negative())),
            };
            values.map(|value| if op == Op::Avg { value * inverse } else { value }).reduce(fold).unwrap_or(0.0)
        }
    };
}

float_fold!(float_f32, f32);
float_fold!(float_f64, f64);

#[cfg(test)]
mod tests {
    use super::*;

    fn reduce_f32(op: Op, values: &[f32]) -> f32 {
        let inputs: Vec<[u8; 4]> = values.iter().map(|v| v.to_le_bytes()).collect();
        let slices: Vec<&[u8]> = inputs.iter().map(|i| &i[..]).collect();
        f32::from_bits(Dtype::F32.bits_at(&all_reduce(Dtype::F32, op, &slices).first, 0) as u32)
    }

    fn reduce_bits(dtype: Dtype, op: Op, values: &[u64]) -> (u64, u64) {
        let inputs: Vec<Vec<u8>> = values.iter().map(|v| v.to_le_bytes()[..dtype.bytes()].to_vec()).collect();
        let slices: Vec<&[u8]> = inputs.iter().map(|i| &i[..]).collect();
        let answer = all_reduce(dtype, op, &slices);
        (dtype.bits_at(&answer.first, 0), dtype.bits_at(&answer.second, 0))
    }

    #[test]
    fn a_sum_is_taken_in_rank_order() {
        assert_eq!(reduce_f32(Op::Sum, &[1e8, 1.0, -1e8]), 0.0);
        assert_eq!(reduce_f32(Op::Sum, &[1e8, -1e8, 1.0]), 1.0);
    }

    #[test]
    fn small_floats_are_rounded_once() {
        // In bf16, 256 + 1 rounds back to 256 at each step; in f32 the three ones survive until the only rounding.
        let bf16 = |v: f32| Dtype::Bf16.bits_from_f32(v);
        let (sum, _) = reduce_bits(Dtype::Bf16, Op::Sum, &[bf16(256.0), bf16(1.0), bf16(1.0), bf16(1.0)]);
        assert_eq!(Dtype::Bf16.to_f32(sum), 260.0);
    }

    #[test]
    fn f16_overflows_to_infinity_and_fp8_saturates() {
        let (sum, _) = reduce_bits(Dtype::F16, Op::Sum, &[0x7bff, 0x7bff]);
        assert_eq!(sum, 0x7c00);
        let (sum, _) = reduce_bits(Dtype::F8e4m3, Op::Sum, &[0x7e, 0x7e]);
        assert_eq!(sum, 0x7e);
        let (sum, _) = reduce_bits(Dtype::F8e5m2, Op::Sum, &[0x7c, 0x3c]);
        assert_eq!(sum, 0x7b);
    }

    #[test]
    fn negative_zeros_add_up_to_negative_zero() {
        assert!(reduce_f32(Op::Sum, &[-0.0, -0.0, -0.0]).is_sign_negative());
        assert!(reduce_f32(Op::Sum, &[-0.0, 0.0]).is_sign_positive());
    }

    #[test]
    fn a_nan_loses_in_min_and_max_and_wins_in_sum() {
        assert_eq!(reduce_f32(Op::Max, &[f32::NAN, 1.0, f32::NAN, 3.0]), 3.0);
        assert_eq!(reduce_f32(Op::Min, &[2.0, f32::NAN]), 2.0);
        assert!(reduce_f32(Op::Min, &[f32::NAN, f32::NAN]).is_nan());
        assert!(reduce_f32(Op::Sum, &[f32::NAN, 1.0]).is_nan());
    }

    #[test]
    fn negative_zero_is_less_than_zero_in_min_and_max() {
        let (zero, negative_zero) = (0, 0x8000_0000);
        for inputs in [[zero, negative_zero, zero], [negative_zero, zero, negative_zero]] {
            assert_eq!(reduce_bits(Dtype::F32, Op::Max, &inputs), (zero, zero));
            assert_eq!(reduce_bits(Dtype::F32, Op::Min, &inputs), (negative_zero, negative_zero));
        }
        assert_eq!(reduce_bits(Dtype::F32, Op::Max, &[negative_zero; 3]).0, negative_zero);
    }

    #[test]
    fn an_infinity_of_f8e5m2_may_pass_through_min_and_max() {
        let (first, second) = reduce_bits(Dtype::F8e5m2, Op::Max, &[0x7c, 0x3c]);
        assert_eq!((first, second), (0x7b, 0x7c));
        let (first, second) = reduce_bits(Dtype::F8e5m2, Op::Min, &[0xfc, 0x3c]);
        assert_eq!((first, second), (0xfb, 0xfc));
    }

    #[test]
    fn integers_wrap_and_divide_towards_zero() {
        assert_eq!(reduce_bits(Dtype::I8, Op::Sum, &[127, 1]).0, 0x80);
        assert_eq!(reduce_bits(Dtype::I8, Op::Avg, &[0xff, 0xfe]).0, 0xff); // (-1 - 2) / 2 = -1
        assert_eq!(reduce_bits(Dtype::U8, Op::Avg, &[0xff, 0xff]).0, 0xfe / 2);
        assert_eq!(reduce_bits(Dtype::I32, Op::Avg, &[u64::from(u32::MAX), 0]).0, 0);
        assert_eq!(reduce_bits(Dtype::U64, Op::Prod, &[u64::MAX, 3]).0, u64::MAX.wrapping_mul(3));
        assert_eq!(reduce_bits(Dtype::I64, Op::Min, &[u64::MAX, 3]).0, u64::MAX);
        assert_eq!(reduce_bits(Dtype::U64, Op::Min, &[u64::MAX, 3]).0, 3);
    }

    #[test]
    fn avg_multiplies_by_the_rounded_inverse_first() {
        let third = 1.0f32 / 3.0;
        assert_eq!(reduce_f32(Op::Avg, &[5.0, 7.0, 11.0]), 5.0 * third + 7.0 * third + 11.0 * third);
        let third = Dtype::Bf16.to_f32(Dtype::Bf16.bits_from_f32(1.0 / 3.0));
        let bf16 = |v: f32| Dtype::Bf16.bits_from_f32(v);
        let (avg, _) = reduce_bits(Dtype::Bf16, Op::Avg, &[bf16(5.0), bf16(7.0), bf16(11.0)]);
        assert_eq!(avg, bf16(5.0 * third + 7.0 * third + 11.0 * third));
    }

    #[test]
    fn any_nan_is_allowed_for_a_nan_and_nothing_else_is() {
        let answer = all_reduce(Dtype::F32, Op::Sum, &[&f32::NAN.to_le_bytes()]);
        assert!(answer.allows(Dtype::F32, 0, 0x7fff_ffff) && answer.allows(Dtype::F32, 0, 0xffc0_0001));
        assert!(!answer.allows(Dtype::F32, 0, 0x7f80_0000));
        let answer = all_reduce(Dtype::F32, Op::Sum, &[&1f32.to_le_bytes()]);
        assert!(!answer.allows(Dtype::F32, 0, 0x3f80_0001));
    }
}

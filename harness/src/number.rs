//! Number types and operations: NCCL's codes, names and sizes, and the exact conversions of the small float types.

use std::sync::OnceLock;

use half::{bf16, f16};

/// A type an all-reduce can have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum Dtype {
    /// Signed integer of 8 bits.
    I8,
    /// Unsigned integer of 8 bits.
    U8,
    /// Signed integer of 32 bits.
    I32,
    /// Unsigned integer of 32 bits.
    U32,
    /// Signed integer of 64 bits.
    I64,
    /// Unsigned integer of 64 bits.
    U64,
    /// IEEE half precision.
    F16,
    /// IEEE single precision.
    F32,
    /// IEEE double precision.
    F64,
    /// bfloat16.
    Bf16,
    /// 8-bit float with 4 bits of exponent; one NaN, no infinity.
    F8e4m3,
    /// 8-bit float with 5 bits of exponent.
    F8e5m2,
}

impl Dtype {
    /// All of them, in the order of NCCL's codes.
    pub const ALL: [Dtype; 12] = [
        Dtype::I8,
        Dtype::U8,
        Dtype::I32,
        Dtype::U32,
        Dtype::I64,
        Dtype::U64,
        Dtype::F16,
        Dtype::F32,
        Dtype::F64,
        Dtype::Bf16,
        Dtype::F8e4m3,
        Dtype::F8e5m2,
    ];

    /// ncclDataType_t.
    pub fn code(self) -> i32 {
        match self {
            Dtype::I8 => 0,
            Dtype::U8 => 1,
            Dtype::I32 => 2,
            Dtype::U32 => 3,
            Dtype::I64 => 4,
            Dtype::U64 => 5,
            Dtype::F16 => 6,
            Dtype::F32 => 7,
            Dtype::F64 => 8,
            Dtype::Bf16 => 9,
            Dtype::F8e4m3 => 10,
            Dtype::F8e5m2 => 11,
        }
    }

    /// The name in options, tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::I8 => "int8",
            Dtype::U8 => "uint8",
            Dtype::I32 => "int32",
            Dtype::U32 => "uint32",
            Dtype::I64 => "int64",
            Dtype::U64 => "uint64",
            Dtype::F16 => "f16",
            Dtype::F32 => "f32",
            Dtype::F64 => "f64",
            Dtype::Bf16 => "bf16",
            Dtype::F8e4m3 => "f8e4m3",
            Dtype::F8e5m2 => "f8e5m2",
        }
    }

    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            Dtype::I8 | Dtype::U8 | Dtype::F8e4m3 | Dtype::F8e5m2 => 1,
            Dtype::F16 | Dtype::Bf16 => 2,
            Dtype::I32 | Dtype::U32 | Dtype::F32 => 4,
            Dtype::I64 | Dtype::U64 | Dtype::F64 => 8,
        }
    }

    /// Whether it has NaNs, and so a spare bit pattern.
    pub fn is_float(self) -> bool {
        matches!(self, Dtype::F16 | Dtype::F32 | Dtype::F64 | Dtype::Bf16 | Dtype::F8e4m3 | Dtype::F8e5m2)
    }

    /// Whether the element with these bits (zero-extended) is a NaN.
    pub fn is_nan(self, bits: u64) -> bool {
        match self {
            Dtype::F16 => bits & 0x7fff > 0x7c00,
            Dtype::Bf16 => bits & 0x7fff > 0x7f80,
            Dtype::F32 => bits & 0x7fff_ffff > 0x7f80_0000,
            Dtype::F64 => bits & 0x7fff_ffff_ffff_ffff > 0x7ff0_0000_0000_0000,
            Dtype::F8e4m3 => bits & 0x7f == 0x7f,
            Dtype::F8e5m2 => bits & 0x7f > 0x7c,
            _ => false,
        }
    }

    /// The bits of element `index` of a byte buffer, zero-extended.
    pub fn bits_at(self, bytes: &[u8], index: usize) -> u64 {
        let size = self.bytes();
        let mut word = [0; 8];
        word[..size].copy_from_slice(&bytes[index * size..(index + 1) * size]);
        u64::from_le_bytes(word)
    }

    /// Stores the low bits of `bits` as element `index`.
    pub fn put_bits(self, bytes: &mut [u8], index: usize, bits: u64) {
        let size = self.bytes();
        bytes[index * size..(index + 1) * size].copy_from_slice(&bits.to_le_bytes()[..size]);
    }

    /// The element's value as text, for a failure report.
    pub fn show(self, bits: u64) -> String {
        let digits = self.bytes() * 2;
        let value = match self {
            Dtype::I8 => (bits as i8).to_string(),
            Dtype::I32 => (bits as i32).to_string(),
            Dtype::I64 => (bits as i64).to_string(),
            Dtype::U8 | Dtype::U32 | Dtype::U64 => bits.to_string(),
            Dtype::F64 => show_float(f64::from_bits(bits)),
            _ => show_float(f64::from(self.to_f32(bits))),
        };
        format!("{value} (0x{bits:0digits$x})")
    }

    /// The exact value of a float of at most 32 bits. Not for f64 and integers.
    pub fn to_f32(self, bits: u64) -> f32 {
        match self {
            Dtype::F16 => f16::from_bits(bits as u16).to_f32(),
            Dtype::Bf16 => bf16::from_bits(bits as u16).to_f32(),
            Dtype::F32 => f32::from_bits(bits as u32),
            Dtype::F8e4m3 => E4M3.decode(bits as u8),
            Dtype::F8e5m2 => E5M2.decode(bits as u8),
            _ => unreachable!("{} is not a float of at most 32 bits", self.name()),
        }
    }

    /// The nearest value of a float type of at most 32 bits, ties to even. The fp8 types saturate at their largest
    /// finite value, infinities included, as CUDA's conversions with satfinite do; the others overflow to infinity.
    pub fn bits_from_f32(self, value: f32) -> u64 {
        match self {
            Dtype::F16 => u64::from(f16::from_f32(value).to_bits()),
            Dtype::Bf16 => u64::from(bf16::from_f32(value).to_bits()),
            Dtype::F32 => u64::from(value.to_bits()),
            Dtype::F8e4m3 => u64::from(E4M3.encode(value)),
            Dtype::F8e5m2 => u64::from(E5M2.encode(value)),
            _ => unreachable!("{} is not a float of at most 32 bits", self.name()),
        }
    }
}

/// Plain digits where they are few, else an exponent.
fn show_float(value: f64) -> String {
    let magnitude = value.abs();
    let plain = magnitude == 0.0 || !value.is_finite() || (1e-3..1e6).contains(&magnitude);
    if plain { value.to_string() } else { format!("{value:e}") }
}

impl std::str::FromStr for Dtype {
    type Err = String;

    fn from_str(text: &str) -> Result<Dtype, String> {
        let alias = match text {
            "float16" | "half" => "f16",
            "float32" | "float" => "f32",
            "float64" | "double" => "f64",
            "bfloat16" => "bf16",
            "fp8e4m3" | "e4m3" => "f8e4m3",
            "fp8e5m2" | "e5m2" => "f8e5m2",
            other => other,
        };
        Dtype::ALL
            .into_iter()
            .find(|dtype| dtype.name() == alias)
            .ok_or_else(|| format!("no type {text:?}; there are {}", Dtype::ALL.map(Dtype::name).join(", ")))
    }
}

/// A built-in reduction.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum Op {
    /// The sum.
    Sum,
    /// The product.
    Prod,
    /// The largest.
    Max,
    /// The smallest.
    Min,
    /// The mean.
    Avg,
}

impl Op {
    /// All of them, in the order of NCCL's codes.
    pub const ALL: [Op; 5] = [Op::Sum, Op::Prod, Op::Max, Op::Min, Op::Avg];

    /// ncclRedOp_t.
    pub fn code(self) -> i32 {
        self as i32
    }

    /// The name in options, tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Op::Sum => "sum",
            Op::Prod => "prod",
            Op::Max => "max",
            Op::Min => "min",
            Op::Avg => "avg",
        }
    }
}

impl std::str::FromStr for Op {
    type Err = String;

    fn from_str(text: &str) -> Result<Op, String> {
        Op::ALL
            .into_iter()
            .find(|op| op.name() == text)
            .ok_or_else(|| format!("no operation {text:?}; there are {}", Op::ALL.map(Op::name).join(", ")))
    }
}

/// An 8-bit float: sign, exponent, `mantissa_bits`; `largest` is the code of the largest finite value.
struct Fp8 {
    mantissa_bits: i32,
    bias: i32,
    largest: u8,
    infinity: Option<u8>,
    /// The values of the codes from 0 to 0x7f, made on first use.
    values: OnceLock<[f64; 128]>,
}

static E4M3: Fp8 = Fp8 { mantissa_bits: 3, bias: 7, largest: 0x7e, infinity: None, values: OnceLock::new() };
static E5M2: Fp8 = Fp8 { mantissa_bits: 2, bias: 15, largest: 0x7b, infinity: Some(0x7c), values: OnceLock::new() };

impl Fp8 {
    fn values(&self) -> &[f64; 128] {
        self.values.get_or_init(|| std::array::from_fn(|code| f64::from(self.magnitude(code as u8))))
    }

    fn decode(&self, code: u8) -> f32 {
        let value = self.values()[usize::from(code & 0x7f)] as f32;
        if code & 0x80 != 0 { -value } else { value }
    }

    fn magnitude(&self, magnitude: u8) -> f32 {
        if Some(magnitude) == self.infinity {
            f32::INFINITY
        } else if magnitude > self.largest {
            f32::NAN
        } else {
            let fraction = f32::from(magnitude & ((1 << self.mantissa_bits) - 1)) / (1 << self.mantissa_bits) as f32;
            let exponent = i32::from(magnitude >> self.mantissa_bits);
            if exponent == 0 {
                fraction * 2f32.powi(1 - self.bias)
            } else {
                (1.0 + fraction) * 2f32.powi(exponent - self.bias)
            }
        }
    }

    fn encode(&self, value: f32) -> u8 {
        let sign = if value.is_sign_negative() { 0x80 } else { 0 };
        if value.is_nan() {
            return sign | 0x7f;
        }
        let magnitude = f64::from(value.abs());
        // Positive codes rise with their value, so the neighbours of a value are neighbours in code.
        let finite = &self.values()[..=usize::from(self.largest)];
        let above = finite.partition_point(|&value| value < magnitude);
        let code = if above == finite.len() {
            above - 1
        } else if above == 0 {
            0
        } else {
            // Both distances are exact in f64, and an even code has an even mantissa.
            let (up, down) = (finite[above] - magnitude, magnitude - finite[above - 1]);
            if up < down || (up == down && above % 2 == 0) { above } else { above - 1 }
        };
        sign | code as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fp8_code_survives_a_round_trip() {
        for dtype in [Dtype::F8e4m3, Dtype::F8e5m2] {
            for code in 0..=255u64 {
                let value = dtype.to_f32(code);
                if dtype.is_nan(code) {
                    assert!(value.is_nan() && dtype.is_nan(dtype.bits_from_f32(value)));
                } else if value.is_finite() {
                    assert_eq!(dtype.bits_from_f32(value), code, "{} {code:#x}", dtype.name());
                }
            }
        }
    }

    #[test]
    fn fp8_landmarks_have_their_published_values() {
        assert_eq!(Dtype::F8e4m3.to_f32(0x7e), 448.0);
        assert_eq!(Dtype::F8e4m3.to_f32(0x01), 2f32.powi(-9));
        assert_eq!(Dtype::F8e4m3.to_f32(0x38), 1.0);
        assert_eq!(Dtype::F8e5m2.to_f32(0x7b), 57344.0);
        assert_eq!(Dtype::F8e5m2.to_f32(0x01), 2f32.powi(-16));
        assert_eq!(Dtype::F8e5m2.to_f32(0x3c), 1.0);
        assert_eq!(Dtype::F8e5m2.to_f32(0x7c), f32::INFINITY);
    }

    #[test]
    fn fp8_rounds_to_nearest_even_and_saturates() {
        let e4m3 = |value| Dtype::F8e4m3.to_f32(Dtype::F8e4m3.bits_from_f32(value));
        assert_eq!(e4m3(17.0), 16.0); // halfway between 16 and 18; 16 has the even mantissa
        assert_eq!(e4m3(19.0), 20.0);
        assert_eq!(e4m3(17.000_001), 18.0);
        assert_eq!(e4m3(1e9), 448.0);
        assert_eq!(e4m3(f32::NEG_INFINITY), -448.0);
        assert_eq!(e4m3(2f32.powi(-10)), 0.0); // halfway between zero and the smallest
        assert_eq!(e4m3(1.5 * 2f32.powi(-10)), 2f32.powi(-9));
        assert!(e4m3(-0.0).is_sign_negative());
        let e5m2 = |value| Dtype::F8e5m2.to_f32(Dtype::F8e5m2.bits_from_f32(value));
        assert_eq!(e5m2(9.0), 8.0);
        assert_eq!(e5m2(11.0), 12.0);
        assert_eq!(e5m2(f32::INFINITY), 57344.0);
    }

    #[test]
    fn all_ones_is_a_nan_in_every_float_type() {
        for dtype in Dtype::ALL {
            assert_eq!(dtype.is_nan(u64::MAX >> (64 - 8 * dtype.bytes())), dtype.is_float(), "{}", dtype.name());
        }
    }

    #[test]
    fn nan_is_told_from_infinity() {
        assert!(!Dtype::F16.is_nan(0x7c00) && Dtype::F16.is_nan(0xfc01));
        assert!(!Dtype::Bf16.is_nan(0xff80) && Dtype::Bf16.is_nan(0x7f81));
        assert!(!Dtype::F32.is_nan(0x7f80_0000) && Dtype::F32.is_nan(0x7f80_0001));
        assert!(!Dtype::F64.is_nan(0xfff0 << 48) && Dtype::F64.is_nan((0xfff0 << 48) | 1));
        assert!(!Dtype::F8e5m2.is_nan(0x7c) && Dtype::F8e5m2.is_nan(0x7d));
    }

    #[test]
    fn names_and_aliases_parse() {
        assert_eq!("bfloat16".parse(), Ok(Dtype::Bf16));
        assert_eq!("f8e5m2".parse(), Ok(Dtype::F8e5m2));
        assert!("complex".parse::<Dtype>().is_err());
        assert_eq!("avg".parse(), Ok(Op::Avg));
        assert_eq!(Op::ALL.map(Op::code), [0, 1, 2, 3, 4]);
        assert_eq!(Dtype::ALL.map(Dtype::code), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    }
}

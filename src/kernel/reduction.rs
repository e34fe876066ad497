//! The types and operations that the kernels are compiled for.

use crate::nccl::{DataType, RedOp};

/// A type and operation that kernels are compiled for, or `Any`: both decided at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reduction {
    /// Sum of f16.
    SumF16,
    /// Sum of bf16.
    SumBf16,
    /// Sum of f32.
    SumF32,
    /// Any type and operation.
    Any,
}

/// All of them, in the order of their numbers.
pub const REDUCTIONS: [Reduction; 4] = [Reduction::SumF16, Reduction::SumBf16, Reduction::SumF32, Reduction::Any];

impl Reduction {
    /// The part of a function's name (kernels/instances.cu).
    pub const fn name(self) -> &'static str {
        match self {
            Self::SumF16 => "sum_f16",
            Self::SumBf16 => "sum_bf16",
            Self::SumF32 => "sum_f32",
            Self::Any => "any",
        }
    }

    /// The reduction that serves a type and operation.
    pub const fn of(datatype: DataType, op: RedOp) -> Self {
        match (datatype, op) {
            (DataType::Float16, RedOp::Sum) => Self::SumF16,
            (DataType::Bfloat16, RedOp::Sum) => Self::SumBf16,
            (DataType::Float32, RedOp::Sum) => Self::SumF32,
            _ => Self::Any,
        }
    }

    /// Whether it is compiled for one type and operation.
    pub const fn is_specialised(self) -> bool {
        !matches!(self, Self::Any)
    }
}

//! The kinds of type that have routing tables of their own.

use crate::kernel::Reduction;
use crate::nccl::DataType;

/// A kind of type: what the rows and thresholds of the routing tables tell apart, beside sizes and ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TypeKind {
    /// Sums of f16, bf16 and f32, for which kernels are compiled.
    FloatSum,
    /// All else of float types.
    OtherFloat,
    /// Integers.
    Integer,
}

/// All of them, in the order of their numbers.
pub const TYPE_KINDS: [TypeKind; 3] = [TypeKind::FloatSum, TypeKind::OtherFloat, TypeKind::Integer];

impl TypeKind {
    /// The kind of a type and the reduction that serves it.
    pub const fn of(datatype: DataType, reduction: Reduction) -> Self {
        match (datatype.is_float(), reduction.is_specialised()) {
            (true, true) => Self::FloatSum,
            (true, false) => Self::OtherFloat,
            (false, _) => Self::Integer,
        }
    }

    /// Whether its types are floats.
    pub const fn is_float(self) -> bool {
        !matches!(self, Self::Integer)
    }

    /// The name in tuning files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FloatSum => "float_sum",
            Self::OtherFloat => "other_float",
            Self::Integer => "integer",
        }
    }

    /// The kind of this name.
    pub fn named(name: &str) -> Option<Self> {
        TYPE_KINDS.into_iter().find(|kind| kind.name() == name)
    }
}

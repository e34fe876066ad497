//! The catalogue of kernels, and what the host and the kernels share byte for byte.

pub mod layout;

use crate::nccl::DataType;

/// The all-reduce kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kernel {
    /// One exchange, {data32, epoch32} words.
    OneShotLl,
    /// One exchange, words that are their own flag.
    OneShotSentinel,
    /// Two exchanges, {data32, epoch32} words.
    TwoShotLl,
    /// Two exchanges, words that are their own flag.
    TwoShotSentinel,
    /// Two exchanges, plain stores and a release flag per block.
    TwoShotBulk,
}

/// All kernels, in the order of their numbers.
pub const KERNELS: [Kernel; 5] =
    [Kernel::OneShotLl, Kernel::OneShotSentinel, Kernel::TwoShotLl, Kernel::TwoShotSentinel, Kernel::TwoShotBulk];

impl Kernel {
    /// The name in logs, counters, settings and results.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OneShotLl => "one_shot_ll",
            Self::OneShotSentinel => "one_shot_sentinel",
            Self::TwoShotLl => "two_shot_ll",
            Self::TwoShotSentinel => "two_shot_sentinel",
            Self::TwoShotBulk => "two_shot_bulk",
        }
    }

    /// The kernel of a name.
    pub fn named(name: &str) -> Option<Self> {
        KERNELS.into_iter().find(|kernel| kernel.name() == name)
    }

    /// Data bytes of one packet.
    pub const fn packet_bytes(self) -> usize {
        match self {
            Self::OneShotLl | Self::TwoShotLl => 8,
            _ => 16,
        }
    }

    /// Whether the message is cut into a chunk per rank.
    pub const fn is_two_shot(self) -> bool {
        !matches!(self, Self::OneShotLl | Self::OneShotSentinel)
    }

    /// Whether two ranks have a form of it for themselves (`kernels/allreduce/one_shot_pair.h`), for every type and operation.
    pub const fn has_pair_form(self, ranks: usize) -> bool {
        ranks == 2 && !self.is_two_shot()
    }

    /// Whether it can carry elements of this type: the sentinel is a NaN, and integers have none.
    pub const fn carries(self, datatype: DataType) -> bool {
        match self {
            Self::OneShotSentinel | Self::TwoShotSentinel => datatype.is_float(),
            _ => true,
        }
    }
}

//! The kernels of libdime.so by name.

use crate::number::Dtype;

/// The names DIME_KERNEL takes besides auto.
pub const KERNELS: [&str; 5] =
    ["one_shot_ll", "one_shot_sentinel", "two_shot_ll", "two_shot_sentinel", "two_shot_bulk"];

/// Whether a kernel takes a type: a sentinel needs a bit pattern to spare.
pub fn takes(kernel: &str, dtype: Dtype) -> bool {
    dtype.is_float() || !kernel.ends_with("sentinel")
}

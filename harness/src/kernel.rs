//! The kernels of libdime.so by name.

use crate::number::Dtype;

#[path = "../../src/kernel/catalogue.rs"]
#[allow(dead_code)] // the tools need the names, and what a kernel carries
mod catalogue;

/// The names DIME_KERNEL takes besides auto.
pub const KERNELS: [&str; catalogue::KERNELS.len()] = catalogue::NAMES;

/// Whether a kernel takes a type: some packets need a bit pattern to spare.
pub fn takes(kernel: &str, dtype: Dtype) -> bool {
    let entry = catalogue::Kernel::named(kernel).map(catalogue::Kernel::entry);
    dtype.is_float() || entry.is_none_or(|entry| entry.packet.carries_integers())
}

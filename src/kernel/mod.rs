//! The all-reduce kernels: the catalogue, the reductions that each is compiled for, and the layout that host and
//! kernels share byte for byte.
//!
//! A kernel is an entry of [`catalogue`]. Routing, loading, DIME_KERNEL, counters and the log read it from there.

pub mod catalogue;
pub mod layout;
mod reduction;

pub use self::catalogue::{Entry, KERNELS, Kernel, Packet, Tile};
pub use self::reduction::{REDUCTIONS, Reduction};

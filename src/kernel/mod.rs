//! The all-reduce kernels: the catalogue, what each is compiled for, and the layout that the host shares with them byte for byte.
//!
//! A kernel is an entry of [`catalogue`]. Routing, loading, DIME_KERNEL, counters and the log take it from there.

pub mod catalogue;
pub mod layout;
mod reduction;

pub use self::catalogue::{Entry, KERNELS, Kernel, Packet, Tile};
pub use self::reduction::{REDUCTIONS, Reduction};

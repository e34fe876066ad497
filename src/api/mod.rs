//! The C edge: the functions of nccl.h and dime.h, and the types they take.
//!
//! Its contract: a function here maps one C call to one call elsewhere in this crate, inside a panic boundary, and does
//! nothing else. It does not look at its arguments, keeps no state and takes no lock.
//!
//! Every function is an item of its own, written out, because cbindgen makes the headers from them. `pncclX` never calls
//! `ncclX`: a profiler may have put its own `ncclX` before ours, which would call `pncclX` again.
//!
//! The functions exist only with the feature `exports`. Test programs and the command-line tool do without it: they must
//! not interpose themselves.

// The safety contract of each function is NCCL's own: pointers are valid for what the call does with them. Repeating it two
// hundred times would say less.
#![allow(clippy::missing_safety_doc)]

#[cfg(feature = "exports")]
mod boundary;
#[cfg(feature = "exports")]
pub mod collectives;
#[cfg(feature = "exports")]
pub mod communicator_queries;
#[cfg(feature = "exports")]
pub mod communicators;
#[cfg(feature = "exports")]
pub mod configured_collectives;
#[cfg(feature = "exports")]
pub mod device_communicators;
#[cfg(feature = "exports")]
pub mod device_pointers;
#[cfg(feature = "exports")]
pub mod dime;
#[cfg(feature = "exports")]
pub mod groups;
#[cfg(feature = "exports")]
pub mod library;
#[cfg(feature = "exports")]
pub mod memory;
#[cfg(feature = "exports")]
pub mod one_sided;
#[cfg(feature = "exports")]
pub mod params;
#[cfg(feature = "exports")]
pub mod point_to_point;
#[cfg(feature = "exports")]
pub mod reduction_ops;
#[cfg(feature = "exports")]
pub mod teams;
#[cfg(feature = "exports")]
pub mod windows;

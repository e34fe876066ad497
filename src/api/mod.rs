//! The C edge: the functions of nccl.h and dime.h.
//!
//! Its contract: an exported function of NCCL's passes its arguments on as they came, to the real NCCL or to its hook,
//! inside the panic boundary, and does nothing else. It looks at no argument, keeps no state and takes no lock. `pncclX`
//! never calls `ncclX`.
//!
//! | module | |
//! | --- | --- |
//! | [`crate::nccl::functions`] | every function of NCCL with its first release, prototype and documentation, and whether it has a hook |
//! | [`exports`] | the table becomes exported functions |
//! | [`crate::comm::hooks`], [`crate::comm::creation`] | what Dime does at a call that has a hook |
//! | [`boundary`] | the panic boundary |
//! | [`dime`] | dime.h, written out |
//!
//! To add a function of a new NCCL:
//!
//! 1. Add its line to [`crate::nccl::functions`], and new types to src/nccl/header.rs. `make headers` writes include/. The
//!    test of the exports compares the line with tests/data/nccl_exports.tsv (first release) and calls the function as
//!    tests/data/nccl_prototypes.tsv says; both come from NVIDIA's own library.
//! 2. If Dime has something to do at the call, write the hook and name it in the line.
//!
//! The functions exist only with the feature `exports`. Test programs and the command-line tool do without it: they must
//! not interpose themselves.

// The safety contract of each function is NCCL's own: pointers are valid for what the call does with them. Repeating it two
// hundred times would say less.
#![allow(clippy::missing_safety_doc)]

#[cfg(feature = "exports")]
mod boundary;
#[cfg(feature = "exports")]
pub mod dime;
#[cfg(feature = "exports")]
pub mod exports;

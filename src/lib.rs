//! Dime takes NCCL's place in a process. It does small all-reduces inside one node with its own kernels, and passes
//! every other call, unchanged, to the real NCCL.
//!
//! ```text
//! application
//!     |  nccl* functions, by LD_PRELOAD or as libnccl.so.2
//!     v
//!   api       the C edge: every exported function, inside a panic boundary
//!   comm      a communicator's life
//!     |         table   state by handle, looked up without a lock
//!     |         setup   beacon, rounds, agreement, probe
//!     |         run     calls, streams, graphs, groups
//!     |         life    watchdog, end, deferred free
//!   launch    a launch plan becomes kernel launches
//!   real      finds, opens and calls the real NCCL          --> libnccl.so.2
//!   gpu       driver, contexts, memory, topology,           --> libcuda.so.1
//!             kernel images, mailbox, graphs
//!   observe   log, counters, statistics file, profiler ranges
//!   route     shape, policy, geometry, tables, tuning files: a launch plan, or the reason to forward; pure
//!   host      the process: configuration, errors, locks, fork, exit, threads, files
//!   kernel    the catalogue of kernels, and the layout shared with kernels/layout.h
//!   nccl      NCCL's types and numbers
//! ```
//!
//! Each name at the left is a floor. A floor uses only floors below it, so it can be read and tested with these alone.
//! docs/ARCHITECTURE.md describes the way of a call, the setup, and who frees what.
//!
//! Invariants of every module:
//! - Loading this library does nothing: no constructor, thread, output or CUDA call. Everything starts with the first
//!   call.
//! - No lock is held while a call is forwarded.
//! - No panic crosses the C boundary, and Dime never ends the process.

// The C API's names do not follow Rust's conventions.
#![allow(non_camel_case_types, non_snake_case, non_upper_case_globals)]

pub mod api;
pub mod comm;
pub mod gpu;
pub mod host;
pub mod kernel;
pub mod launch;
pub mod nccl;
pub mod observe;
pub mod real;
pub mod route;

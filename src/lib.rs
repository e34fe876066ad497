//! Dime takes NCCL's place in a process: it answers small all-reduces inside one node with kernels of its own and hands
//! every other call, untouched, to the real NCCL.
//!
//! The way of one call:
//!
//! ```text
//! application
//!     |  ncclAllReduce(...)              the C symbols of libnccl.so.2
//!     v
//!   api        the C edge: panic boundary, nothing else
//!     |    \
//!     |     comm      ncclAllReduce, groups, destroy and abort: what we know of the communicator
//!     |      |  \
//!     |      |   route    the decision: a kernel, or the reason to forward; pure
//!     |      |   launch   the decision becomes one kernel launch
//!     |      |   gpu      driver, scratch memory, kernels
//!     v      v
//!   real       finds and opens the real NCCL at the first call; one indirect call from then on
//! ```
//!
//! `config` (the environment variables), `log`, `error`, `lock` and `stats` serve all of it; `stats_file` writes the counters at the
//! end of the process.
//!
//! Invariants that every module keeps:
//! - Loading this library does nothing: no constructor, no thread, no output, no CUDA. All begins with the first call.
//! - No lock is held while a call is forwarded.
//! - No panic crosses the C boundary, and nothing ends the process.

// The names of the C API are its own.
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

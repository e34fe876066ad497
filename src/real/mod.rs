//! Finds, opens and calls the real NCCL.
//!
//! The first call searches for it ([`search`]), opens it ([`open`]) and resolves all its functions ([`library`]).
//! After that a call costs one load, one test and one indirect call ([`calls`]).
//!
//! Invariants:
//! - There is no lock. Threads that come first together each search, and the first result wins. So neither a fork nor
//!   a call from inside the real NCCL can find a lock held.
//! - What is opened is never closed.
//! - Dime never takes itself for the real NCCL, whether by path, by link or as a copy.

mod calls;
mod library;
mod library_file;
mod mapped;
mod names;
mod open;
pub mod search;

pub use calls::*;
pub use library::{c_path, path, version_code, version_text};
pub use names::{FUNCTIONS, Function};

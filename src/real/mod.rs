//! Finding, opening and calling the real NCCL.
//!
//! The first call searches for it ([`search`]), opens it ([`open`]) and resolves all its functions ([`library`]); from then
//! on a call is one load, one test and one indirect call ([`calls`]).
//!
//! Invariants:
//! - No lock: threads that come first together each search, and the first result wins. So neither a fork nor a call from
//!   inside the real NCCL can find anything locked.
//! - What is opened is never closed.
//! - Ourselves are never taken for the real NCCL, whether by path, by link or as a copy.

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

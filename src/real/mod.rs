//! Finding, opening and calling the real NCCL.
//!
//! The first call searches for it ([`search`]), opens it ([`open`]) and resolves all its functions ([`library`]); from then
//! on a call is one load, one test and one indirect call ([`functions`]).
//!
//! Invariants:
//! - No lock: threads that come first together each search, and the first result wins. So neither a fork nor a call from
//!   inside the real NCCL can find anything locked.
//! - What is opened is never closed.
//! - Ourselves are never taken for the real NCCL, whether by path, by link or as a copy.

mod functions;
mod library;
mod library_file;
mod mapped;
mod open;
pub mod search;

pub use functions::*;
pub use library::{c_path, path, version_code, version_text};

//! What the command-line tools `dime` and `dime-qa` share.
//!
//! A tool opens libdime.so and the real NCCL side by side ([`locate`], [`nccl`]), and the CUDA driver ([`cuda`]), all with
//! dlopen. A [`team`] of workers drives the ranks; the workers meet in a piece of shared memory ([`control`]), and each opens
//! its GPUs and communicators ([`rig`]). A [`payload`] is what the ranks reduce, and the answer to it ([`reference`]).
//! [`command`] is the frame of `main`.

#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod args;
pub mod command;
pub mod control;
pub mod cuda;
pub mod filesystem;
pub mod guard;
pub mod kernel;
mod loader;
pub mod locate;
pub mod nccl;
pub mod number;
pub mod nvml;
pub mod output;
pub mod payload;
pub mod random;
pub mod reference;
pub mod rig;
pub mod route;
pub mod shared_page;
pub mod stats;
pub mod table;
pub mod team;

/// A result whose error is a sentence for the user.
pub type Fallible<T> = Result<T, String>;

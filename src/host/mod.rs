//! The process that this library is loaded into: its settings, its failures, its threads, forks and end.

pub mod background;
pub mod config;
pub mod error;
pub mod exit;
pub mod file_name;
pub mod fork;
pub mod loader;
pub mod lock;
pub mod thread;

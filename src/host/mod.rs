//! The process that this library is loaded into: settings, failures, threads, forks, and its end.

pub mod background;
pub mod config;
pub mod error;
pub mod exit;
pub mod file_name;
pub mod fork;
pub mod loader;
pub mod lock;
pub mod thread;
pub mod tuning_file;

//! What users and tools can observe: the log, the counters and their file, the warning of a process that does no all-reduce, and a
//! profiler's ranges.

pub mod counters;
pub mod log;
pub mod nvtx;
pub mod stats_file;
pub mod unused_library;

//! What users and tools can observe: the log, the counters and their file, and a profiler's ranges.

pub mod counters;
pub mod log;
pub mod nvtx;
pub mod stats_file;

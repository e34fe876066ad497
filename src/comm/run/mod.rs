//! A running communicator's operations: their order on the device, groups, and what the log says of them.

pub mod graph_order;
pub mod graph_usage;
pub mod group;
pub mod report;
pub mod stream_barrier;
pub mod stream_order;

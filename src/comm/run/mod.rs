//! A running communicator's operations: each call's way, the order across streams and graphs, groups, and log lines.

pub mod all_reduce;
mod capture;
pub mod dispatch;
pub mod explain;
pub(crate) mod graph_order;
pub mod graph_usage;
pub mod group;
pub mod group_end;
mod issue;
pub mod log_lines;
mod stream_barrier;
pub mod stream_order;

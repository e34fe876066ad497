//! A running communicator's operations: each call's way, the order across streams and graphs, groups, and log lines.

pub mod all_reduce;
pub mod call_config;
mod capture;
pub mod declared;
pub mod dispatch;
pub mod explain;
pub(crate) mod graph_order;
pub mod group;
pub mod group_end;
mod issue;
pub mod late_handle;
pub mod log_lines;
mod stream_barrier;
pub mod stream_order;

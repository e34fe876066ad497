//! The life of a communicator in Dime: seen, set up, used, ended.
//!
//! - [`table`]: from NCCL's handle to Dime's state; a lookup without a lock.
//! - [`setup`]: makes a communicator fast or forwarding, at its first all-reduce that could be fast: the beacons, the
//!   four rounds, the agreement, the passing of scratch, the probe.
//! - [`run`]: the operations of a communicator: each call's way, the order across streams and graphs, groups, log
//!   lines.
//! - [`life`]: the watchdog, the end of a communicator, and the deferred free of what it owned.
//!
//! Invariants:
//! - All ranks decide alike. After the setup, decisions use only the call's shape and values on which the ranks have
//!   agreed. Before it, they use the number of ranks, the shape, whether the call is captured, and the beacons; all
//!   of these are alike on all ranks.
//! - A fast call takes no lock and allocates nothing. It asks the driver only which context is current and whether
//!   the stream is captured, and makes one launch, or a few for a message larger than its slots. If the communicator
//!   is used on several streams, the call also waits for an event and records it. The first call of a capture also
//!   registers the graph.
//! - The end of a communicator waits for its own work at most. Memory is freed only when the driver has no other work
//!   to wait for, as far as Dime can know.
//! - An operation that fails after a part of it was enqueued is never forwarded instead: it poisons the communicator.
//!   If nothing was enqueued, the failure is an error of that call alone.

pub mod creation;
pub mod hooks;
pub mod life;
pub mod run;
pub mod setup;
pub mod table;

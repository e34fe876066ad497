//! A communicator's life with us: seen, set up, used, destroyed.
//!
//! The application holds NCCL's own handle; what we know of it lies in a side table ([`table`], [`slot`], [`state`]). The first
//! all-reduce that could be ours makes the ranks agree ([`setup`], [`agreement`], [`exchange`], [`hello`], [`sockets`], [`switches`]). From
//! then on [`crate::route`] decides each call, [`order`] keeps the communicator's operations in order across streams, [`group`]
//! keeps them until the end of a group, and [`crate::launch`] enqueues them. Before all that [`presence`] sees whether every rank could answer;
//! [`watchdog`] looks after what runs, [`ending`] ends it, and [`leftovers`] gives back what it owned ([`idle`] knows when nothing uses
//! that).
//!
//! Invariants:
//! - All ranks decide alike: nothing that can differ between ranks enters a decision once a communicator is seen.
//! - A call that is ours takes no lock and allocates nothing. It asks the driver two things that it cannot know otherwise, which
//!   context is current and whether the stream is captured, and makes one launch (a message larger than its slots: a few). A
//!   communicator that is used from several streams also waits for and records an event; the first call of a capture counts the graph.
//! - The end of a communicator waits for its own work at most, and nothing is freed where the driver may wait for other work.
//! - An operation that was begun and failed is never forwarded instead: it poisons the communicator. One that could not be begun
//!   is an error of that call.

pub mod creation;
pub mod hooks;
pub mod life;
pub mod run;
pub mod setup;
pub mod table;

//! The watch over a running communicator, its end, and when what it owned is freed.

pub mod deferred_free;
pub mod ending;
pub mod idle;
pub mod resources;
pub mod watchdog;

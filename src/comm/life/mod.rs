//! The watchdog of running communicators, their end, and the deferred free of what they owned.

pub mod deferred_free;
pub mod ending;
pub mod idle;
pub mod resources;
pub mod suspension;
pub mod watchdog;

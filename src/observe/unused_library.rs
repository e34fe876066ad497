//! A process that made a communicator which Dime could serve, and ends without any all-reduce through this library.
//!
//! That is seldom meant: the framework has an all-reduce of its own, or calls another libnccl. One line at WARN says so at the end of the
//! process; it calls neither NCCL nor CUDA. A process without such a communicator registers nothing.
//!
//! A child of fork inherits the registration. It says nothing of its parent's communicators, and of its own what any process says.

use std::ops::RangeInclusive;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use crate::host::config::Config;
use crate::host::exit;
use crate::kernel::layout::MAX_RANKS;
use crate::observe::{counters, stats_file};

/// Communicators of so many ranks can be fast.
const RANKS: RangeInclusive<usize> = 2..=MAX_RANKS;

/// The process that made one; 0: none did.
static MADE_BY: AtomicU32 = AtomicU32::new(0);
/// Ranks of the first that it made.
static FIRST_RANKS: AtomicUsize = AtomicUsize::new(0);

/// A communicator of so many ranks was made. The first that Dime could serve registers the end of the process.
pub fn communicator_made(ranks: usize) {
    static IS_REGISTERED: AtomicBool = AtomicBool::new(false);
    if !RANKS.contains(&ranks) || is_made_here() || Config::from_env().0.disable {
        return;
    }
    FIRST_RANKS.store(ranks, Ordering::Relaxed);
    MADE_BY.store(std::process::id(), Ordering::Release);
    stats_file::start();
    if !IS_REGISTERED.swap(true, Ordering::Relaxed) && !exit::at_exit(at_exit) {
        log::warn!("the end of the process cannot be noted, so nothing will be said if it does no all-reduce");
    }
}

/// Whether this process, not its parent, made one.
fn is_made_here() -> bool {
    MADE_BY.load(Ordering::Acquire) == std::process::id()
}

extern "C" fn at_exit() {
    // A panic must not end the process; the hook has logged it.
    let _ = catch_unwind(warn_if_unused);
}

fn warn_if_unused() {
    let is_used = counters::fast() + counters::forwarded() > 0;
    if is_used || !is_made_here() {
        return;
    }
    let ranks = FIRST_RANKS.load(Ordering::Relaxed);
    log::warn!(
        "this process made a communicator of {ranks} ranks and did no all-reduce through libdime.so: its framework uses an \
         all-reduce of its own (dime run --for vllm|sglang|trtllm says what turns that off), or calls another libnccl, or needs none"
    );
}

//! DIME_STATS_FILE: the counters as a text file, written when the process ends.
//!
//! Without the variable nothing is registered. What runs at the end calls neither NCCL nor CUDA. A process that made a communicator which
//! Dime could serve writes a file even if it did no all-reduce, so that a reader can tell it from one that made none.
//!
//! A child of fork inherits the registration, and its parent's file stays the parent's: where the name has `%p` the child writes a
//! file of its own, of what it did itself and only if it did an all-reduce; where the name is the same for both it writes none.

use std::fmt::Write;
use std::panic::catch_unwind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use once_cell::sync::OnceCell;

use crate::host::config::Config;
use crate::host::exit;
use crate::host::file_name::{expanded, host};
use crate::observe::counters;

/// The file that a process asked for.
struct Wish {
    /// As it was given.
    pattern: PathBuf,
    /// The process that registered, and its file.
    process: u32,
    path: PathBuf,
}

static WISH: OnceCell<Wish> = OnceCell::new();

/// Registers the end of the process, when the environment asks for the file. At the first communicator that Dime could serve, else at the
/// first all-reduce; later calls do nothing.
pub fn start() {
    static STARTED: AtomicBool = AtomicBool::new(false);
    if STARTED.swap(true, Ordering::Relaxed) {
        return;
    }
    let (config, _) = Config::from_env();
    let Some(pattern) = config.stats_file else { return };
    let path = expanded(&pattern);
    let is_first = WISH.set(Wish { pattern, process: std::process::id(), path }).is_ok();
    if is_first && !exit::at_exit(at_exit) {
        log::warn!("DIME_STATS_FILE: the end of the process cannot be noted, so no file will be written");
    }
}

extern "C" fn at_exit() {
    // A panic must not end the process; the hook has logged it.
    let _ = catch_unwind(|| WISH.get().into_iter().for_each(Wish::write));
}

impl Wish {
    fn write(&self) {
        let path = expanded(&self.pattern);
        let is_child = self.process != std::process::id();
        if is_child && (path == self.path || counters::fast() + counters::forwarded() == 0) {
            return;
        }
        if let Err(error) = std::fs::write(&path, text()) {
            log::warn!("DIME_STATS_FILE: {} cannot be written ({error})", path.display());
        }
    }
}

/// A head line, the totals, and each counter that is not 0.
fn text() -> String {
    let mut text = format!("# Dime {}, host {}, process {}\n", env!("CARGO_PKG_VERSION"), host(), std::process::id());
    let totals = [("fast", counters::fast()), ("forwarded", counters::forwarded())];
    let totals = totals.map(|(name, value)| (name.into(), value));
    let counters = (0..).map_while(|index| Some((counters::name(index)?.to_string_lossy(), counters::value(index)?)));
    for (name, value) in totals.into_iter().chain(counters.filter(|(_, value)| *value > 0)) {
        // A text takes whatever is written to it.
        let _ = writeln!(text, "{name} {value}");
    }
    text
}

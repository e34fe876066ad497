//! DIME_STATS_FILE: writes the counters as a text file when the process ends.
//!
//! Without the variable nothing is registered. The handler at the end of the process calls neither NCCL nor CUDA.
//! A process that made a communicator which Dime could serve writes a file even if it did no all-reduce, so that a reader
//! can tell it from a process that made none.
//!
//! A child of fork inherits the registration, but must not overwrite its parent's file. If the name contains `%p`,
//! the child writes a file of its own, with its own counts, and only if there are any. Otherwise both would have the
//! same name, and the child writes none.

use std::fmt::Write;
use std::panic::catch_unwind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use once_cell::sync::OnceCell;

use crate::host::config::Config;
use crate::host::exit;
use crate::host::file_name::{expanded, host};
use crate::observe::counters;

/// The file that a process registered.
struct Wish {
    /// The name as it was given.
    pattern: PathBuf,
    /// The process that registered, and its file.
    process: u32,
    path: PathBuf,
}

static WISH: OnceCell<Wish> = OnceCell::new();

/// Registers for the end of the process if the environment names a file. Called at the first communicator that Dime
/// could serve, else at the first all-reduce; later calls do nothing.
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
        log::warn!("DIME_STATS_FILE: cannot register for the end of the process, so no file will be written");
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
        // Writing to a String never fails.
        let _ = writeln!(text, "{name} {value}");
    }
    text
}

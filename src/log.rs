//! The log: `log` macros in front, NCCL's line format.
//!
//! Nothing is opened or printed before the first line that the level lets through. A line is written in one system call, so
//! that lines of several processes do not mix. Without a lock: in a child of fork it could be held for good.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use log::{LevelFilter, Log, Metadata, Record};
use once_cell::race::OnceBox;

use crate::config::{Config, Level};
use crate::file_name::{expanded, host};

/// Target of the line that the level `version` asks for, which has no level of its own.
const VERSION_LINE: &str = "version";

thread_local! {
    static DEVICE: Cell<i32> = const { Cell::new(-1) };
}

/// From now on lines of this thread carry this CUDA device; -1 when none is known.
pub fn set_device(device: i32) {
    DEVICE.set(device);
}

/// Sets the level, and at the first call the place that the log goes to. Neither opens nor prints anything, but for the one
/// line that the level `version` asks for.
///
/// Called again when a communicator is set up: NCCL reads files of its own at its first communicator and may set NCCL_DEBUG
/// from them.
pub fn start(config: &Config) {
    static IS_SET: AtomicBool = AtomicBool::new(false);
    if !IS_SET.load(Ordering::Acquire) {
        let path = config.debug_file.as_deref().map(expanded);
        // Fails when another thread was faster, and in a program that has a logger already, which then gets our lines.
        let _ = log::set_boxed_logger(Box::new(Logger { path, file: OnceBox::new() }));
        if !IS_SET.swap(true, Ordering::AcqRel) {
            #[cfg(feature = "exports")]
            std::panic::set_hook(Box::new(|panic| log::error!("{panic}")));
            if config.level() == Level::Version {
                log::set_max_level(LevelFilter::Error);
                log::error!(target: VERSION_LINE, "{}", env!("CARGO_PKG_VERSION"));
            }
        }
    }
    log::set_max_level(match config.level() {
        Level::None => LevelFilter::Off,
        Level::Version | Level::Error => LevelFilter::Error,
        Level::Warn => LevelFilter::Warn,
        Level::Info => LevelFilter::Info,
        Level::Trace => LevelFilter::Trace,
    });
}

/// Whether each all-reduce is logged. One load, for the path of every call; `log_enabled!` asks the logger too.
#[inline(always)]
pub fn traces() -> bool {
    log::max_level() == LevelFilter::Trace
}

/// `host:pid:tid [device]`, as NCCL begins its lines.
fn prefix() -> String {
    format!("{}:{}:{} [{}]", host(), std::process::id(), thread(), DEVICE.get())
}

/// The kernel's number of this thread; that of the process where /proc is not there.
fn thread() -> String {
    // The link is "PID/task/TID".
    let link = std::fs::read_link("/proc/thread-self").ok();
    let thread = link.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    thread.unwrap_or_else(|| std::process::id().to_string())
}

/// Where lines go: a file, opened at the first line, or standard output.
struct Logger {
    path: Option<PathBuf>,
    file: OnceBox<Option<File>>,
}

impl Log for Logger {
    /// The level is kept in one place only: log's own.
    fn enabled(&self, _: &Metadata) -> bool {
        true
    }

    fn log(&self, record: &Record) {
        let line = match record.target() {
            VERSION_LINE => format!("{} DIME version {}\n", prefix(), record.args()),
            _ => format!("{} DIME {} {}\n", prefix(), record.level(), record.args()),
        };
        let file = self.path.as_deref().and_then(|path| self.file.get_or_init(|| Box::new(open(path))).as_ref());
        // Nobody could be told that a line was lost.
        let _ = match file {
            Some(mut file) => file.write_all(line.as_bytes()),
            None => print(&line),
        };
    }

    fn flush(&self) {}
}

/// A file that cannot be opened must not cost the lines: they go to standard output, behind one that says why.
fn open(path: &Path) -> Option<File> {
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened
        .map_err(|error| {
            let _ = print(&format!(
                "{} DIME WARN DIME_DEBUG_FILE: {} cannot be opened ({error}); the log goes to standard output\n",
                prefix(),
                path.display()
            ));
        })
        .ok()
}

/// To standard output, not through std's handle: its lock could be held for good in a child of fork.
fn print(line: &str) -> io::Result<()> {
    File::from(io::stdout().as_fd().try_clone_to_owned()?).write_all(line.as_bytes())
}

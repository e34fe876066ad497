//! The log: `log` macros in front, env_logger behind, NCCL's line format.
//!
//! Nothing is opened or printed before the first line that the level lets through. A line is written in one system call, so
//! that lines of several processes do not mix. In a child of fork env_logger's own lock could be held for good, so each process of a line
//! of forks has a logger of its own.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use log::{LevelFilter, Log, Metadata, Record};

use crate::config::{Config, Level};
use crate::file_name::{expanded, host};
use crate::lock::Lock;

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
        // Fails when another thread was faster, and in a program that has a logger already, which then gets our lines.
        let _ = log::set_boxed_logger(Box::new(OfEachProcess { path: config.debug_file.as_deref().map(expanded) }));
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

/// Standard output, not through std's handle: its lock could be held for good in a child of fork.
fn standard_output() -> io::Result<File> {
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}

/// A logger in each process of a line of forks, made at its first line. All write to the place that the first process knows.
struct OfEachProcess {
    path: Option<PathBuf>,
}

static LOGGER: Lock<Option<env_logger::Logger>> = Lock::new(None);

impl OfEachProcess {
    fn make(&self) -> env_logger::Logger {
        let sink = Sink { path: self.path.clone(), file: None };
        env_logger::Builder::new()
            // The level is kept in one place only: log's own.
            .filter_level(LevelFilter::Trace)
            .format(|line, record| match record.target() {
                VERSION_LINE => writeln!(line, "{} DIME version {}", prefix(), record.args()),
                _ => writeln!(line, "{} DIME {} {}", prefix(), record.level(), record.args()),
            })
            .target(env_logger::Target::Pipe(Box::new(sink)))
            .build()
    }
}

impl Log for OfEachProcess {
    fn enabled(&self, _: &Metadata) -> bool {
        true
    }

    fn log(&self, record: &Record) {
        LOGGER.hold().get_or_insert_with(|| self.make()).log(record);
    }

    fn flush(&self) {}
}

/// Where lines go: a file, opened at the first line, or standard output.
struct Sink {
    path: Option<PathBuf>,
    file: Option<File>,
}

impl Write for Sink {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.file.is_none()
            && let Some(path) = self.path.take()
        {
            // A file that cannot be opened must not cost the lines: they go to standard output, behind one that says why.
            match OpenOptions::new().create(true).append(true).open(&path) {
                Ok(file) => self.file = Some(file),
                Err(error) => {
                    let why = format!(
                        "{} DIME WARN DIME_DEBUG_FILE: {} cannot be opened ({error}); the log goes to standard output\n",
                        prefix(),
                        path.display()
                    );
                    standard_output()?.write_all(why.as_bytes())?;
                }
            }
        }
        match &mut self.file {
            Some(file) => file.write(line),
            None => standard_output()?.write(line),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

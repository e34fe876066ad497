//! The log: `log` macros in front, env_logger behind, NCCL's line format.
//!
//! Nothing is opened or printed before the first line that the level lets through. A line is written in one system call, so
//! that lines of several processes do not mix.

use std::cell::Cell;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Once;

use log::LevelFilter;

use crate::config::{Config, Level};

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
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let sink = Sink { path: config.debug_file.as_deref().map(expanded), file: None };
        let logger = env_logger::Builder::new()
            // The level is kept in one place only: log's own.
            .filter_level(LevelFilter::Trace)
            .format(|line, record| match record.target() {
                VERSION_LINE => writeln!(line, "{} DIME version {}", prefix(), record.args()),
                _ => writeln!(line, "{} DIME {} {}", prefix(), record.level(), record.args()),
            })
            .target(env_logger::Target::Pipe(Box::new(sink)))
            .build();
        // Fails in a program that has a logger already, which then gets our lines.
        let _ = log::set_boxed_logger(Box::new(logger));
        #[cfg(feature = "exports")]
        std::panic::set_hook(Box::new(|panic| log::error!("{panic}")));
        if config.level() == Level::Version {
            log::set_max_level(LevelFilter::Error);
            log::error!(target: VERSION_LINE, "{}", env!("CARGO_PKG_VERSION"));
        }
    });
    log::set_max_level(match config.level() {
        Level::None => LevelFilter::Off,
        Level::Version | Level::Error => LevelFilter::Error,
        Level::Warn => LevelFilter::Warn,
        Level::Info => LevelFilter::Info,
        Level::Trace => LevelFilter::Trace,
    });
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

/// The name of this host without its domain.
fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim().split('.').next() {
        None | Some("") => "unknown".to_owned(),
        Some(host) => host.to_owned(),
    }
}

/// DIME_DEBUG_FILE with `%h` and `%p` filled in. `%%` is a percent sign, any other pair stays as it is.
#[doc(hidden)] // Public for the fuzz targets.
pub fn expanded(pattern: &Path) -> PathBuf {
    let mut path = Vec::new();
    let mut bytes = pattern.as_os_str().as_bytes().iter().copied();
    while let Some(byte) = bytes.next() {
        match (byte, bytes.clone().next()) {
            (b'%', Some(b'h')) => path.extend(host().bytes()),
            (b'%', Some(b'p')) => path.extend(std::process::id().to_string().bytes()),
            (b'%', Some(b'%')) => path.push(b'%'),
            _ => {
                path.push(byte);
                continue;
            }
        }
        bytes.next();
    }
    OsString::from_vec(path).into()
}

/// Standard output, not through std's handle: its lock could be held for good in a child of fork.
fn standard_output() -> io::Result<File> {
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_process_id_are_filled_into_the_path_and_all_else_stays() {
        let filled = expanded(Path::new("/log/%h.%p.%%.%x.%"));
        assert_eq!(filled, PathBuf::from(format!("/log/{}.{}.%.%x.%", host(), std::process::id())));
    }

    #[test]
    fn the_name_of_the_host_has_no_domain() {
        assert!(!host().is_empty() && !host().contains('.'));
    }
}

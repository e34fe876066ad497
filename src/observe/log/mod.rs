//! The log: `log` macros in front, env_logger behind, NCCL's line format.
//!
//! Nothing is opened or printed before the first line that the level permits. A message is one line, whatever it
//! contains, and is written in one system call, so that lines of several processes do not mix. A child of fork could
//! find env_logger's own lock held for ever, so each process has a logger of its own. [`destination`] says where
//! lines go.

mod destination;
mod nccl_log;

use std::cell::Cell;
use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use log::{LevelFilter, Log, Metadata, Record};

use crate::host::config::{Config, Level};
use crate::host::file_name::host;
use crate::host::lock::Lock;
pub use destination::nccl_may_have_opened_its_log;

/// Target of the line for the level `version`, which is no level of the `log` crate.
const VERSION_LINE: &str = "version";

thread_local! {
    static DEVICE: Cell<i32> = const { Cell::new(-1) };
}

/// Lines of this thread show this CUDA device from now on; -1: unknown.
pub fn set_device(device: i32) {
    DEVICE.set(device);
}

/// Sets the level and the destination of the log. It opens and prints nothing, except the one line of the level
/// `version`.
///
/// Called again when a communicator is set up: at its first communicator NCCL reads its own configuration files, and
/// may set NCCL_DEBUG and NCCL_DEBUG_FILE from them.
pub fn start(config: &Config) {
    static IS_SET: AtomicBool = AtomicBool::new(false);
    destination::set(config);
    if !IS_SET.load(Ordering::Acquire) {
        // Fails if another thread was faster, or if the program has a logger already, which then gets Dime's lines.
        let _ = log::set_boxed_logger(Box::new(OfEachProcess));
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

/// Whether each all-reduce is logged. It costs one load, so it suits the path of every call; `log_enabled!` calls the
/// logger too.
#[inline(always)]
pub fn traces() -> bool {
    log::max_level() == LevelFilter::Trace
}

/// `host:pid:tid [device]`, as NCCL begins its lines.
fn prefix() -> String {
    format!("{}:{}:{} [{}]", host(), std::process::id(), thread(), DEVICE.get())
}

/// The kernel's id of this thread; without /proc, that of the process.
fn thread() -> String {
    // The link is "PID/task/TID".
    let link = std::fs::read_link("/proc/thread-self").ok();
    let thread = link.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    thread.unwrap_or_else(|| std::process::id().to_string())
}

/// As [`OneLine`] formats it, for texts that are joined from several lines.
pub fn one_line(text: fmt::Arguments) -> String {
    OneLine(text).to_string()
}

/// Formats a text as one line of the log: line ends and terminal commands inside it are escaped.
struct OneLine<'a>(fmt::Arguments<'a>);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Escaping<'a, 'b>(&'a mut fmt::Formatter<'b>);
        impl fmt::Write for Escaping<'_, '_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                // Separators of lines and paragraphs are no control characters, but some readers end a line at them.
                let is_escaped = |letter: char| letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}');
                text.split_inclusive(is_escaped).try_for_each(|part| {
                    let last = part.chars().next_back().filter(|letter| is_escaped(*letter));
                    let Some(letter) = last else { return self.0.write_str(part) };
                    self.0.write_str(&part[..part.len() - letter.len_utf8()])?;
                    write!(self.0, "{}", letter.escape_default())
                })
            }
        }
        Escaping(f).write_fmt(self.0)
    }
}

/// A logger that is separate in each process of a chain of forks, made at its first line.
struct OfEachProcess;

static LOGGER: Lock<Option<env_logger::Logger>> = Lock::new(None);

fn make_logger() -> env_logger::Logger {
    env_logger::Builder::new()
        // Only the `log` crate filters by level.
        .filter_level(LevelFilter::Trace)
        .format(|line, record| match record.target() {
            VERSION_LINE => {
                writeln!(line, "{}", OneLine(format_args!("{} DIME version {}", prefix(), record.args())))
            }
            _ => writeln!(line, "{}", OneLine(format_args!("{} DIME {} {}", prefix(), record.level(), record.args()))),
        })
        .target(env_logger::Target::Pipe(Box::new(ToItsPlace)))
        .build()
}

impl Log for OfEachProcess {
    fn enabled(&self, _: &Metadata) -> bool {
        true
    }

    fn log(&self, record: &Record) {
        LOGGER.hold().get_or_insert_with(make_logger).log(record);
    }

    fn flush(&self) {}
}

struct ToItsPlace;

impl io::Write for ToItsPlace {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        destination::write(line)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_one_line_whatever_is_in_it() {
        for (text, line) in [
            ("", ""),
            ("plain \\ text \u{e9}", "plain \\ text \u{e9}"),
            ("a\nb", "a\\nb"),
            ("\r\n", "\\r\\n"),
            ("\u{1b}[2Jx\u{7f}", "\\u{1b}[2Jx\\u{7f}"),
            ("\u{85}\u{2028}\u{2029}end", "\\u{85}\\u{2028}\\u{2029}end"),
        ] {
            assert_eq!(one_line(format_args!("{text}")), line);
        }
    }
}

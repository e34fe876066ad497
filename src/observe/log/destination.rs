//! The destination of the log: DIME_DEBUG_FILE, else NCCL_DEBUG_FILE, else standard output.
//!
//! **NCCL's file.** NCCL opens its file when it first logs, truncates it, and then writes at its own position, not at
//! the end. Earlier contents are lost, and lines that others append while NCCL has it open are overwritten. So once
//! NCCL has it open, Dime writes through NCCL's own descriptor: the position is shared, and each write moves it.
//! Lines from before that are appended to the file at once, and also kept. They are written again when NCCL has
//! truncated the file: at the next line, when a communicator was made, or at the end of the process. A line that is
//! written just while NCCL opens the file is among the kept ones. What NCCL overwrote of it is then overwritten as a
//! whole, since the lines that are written again are longer.
//!
//! If several processes are given the same name, NCCL truncates the file in each: the name should contain `%p`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::mem;
use std::os::fd::{AsFd, RawFd};
use std::panic::catch_unwind;
use std::path::PathBuf;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use once_cell::race::OnceBox;

use crate::host::config::Config;
use crate::host::exit;
use crate::host::file_name::expanded;
use crate::host::lock::Lock;
use crate::observe::log::nccl_log;
use crate::observe::log::{OneLine, prefix};

/// A file that a variable names.
struct Destination {
    /// The variable that names it.
    variable: &'static str,
    /// The name as it was given.
    pattern: PathBuf,
    /// The path as expanded in the first process. Its children of fork write there too, as NCCL does.
    path: PathBuf,
}

const OF_NCCL: &str = "NCCL_DEBUG_FILE";

/// The first destination, and the one after NCCL has read its configuration files. None inside: standard output. (Not
/// a lock, which a child of fork could find held.)
static DESTINATIONS: [OnceBox<Option<Destination>>; 2] = [const { OnceBox::new() }; 2];

fn destination() -> Option<&'static Destination> {
    DESTINATIONS.iter().rev().find_map(OnceBox::get).and_then(Option::as_ref)
}

/// Sets the destination.
pub(super) fn set(config: &Config) {
    let wanted = match (&config.debug_file, &config.nccl_debug_file) {
        (Some(pattern), _) => Some(("DIME_DEBUG_FILE", pattern)),
        (None, Some(pattern)) => Some((OF_NCCL, pattern)),
        (None, None) => None,
    };
    let is_set = DESTINATIONS[0].get().is_some();
    if is_set && destination().map(|destination| (destination.variable, &destination.pattern)) == wanted {
        return;
    }
    let new =
        wanted.map(|(variable, pattern)| Destination { variable, pattern: pattern.clone(), path: expanded(pattern) });
    // Fails if another thread was faster, or if the variables change once more; then the first values stay.
    let _ = DESTINATIONS[usize::from(is_set)].set(Box::new(new));
}

/// Writes a line.
pub(super) fn write(line: &[u8]) -> io::Result<()> {
    SINK.hold().write(line)
}

/// Call when NCCL may have written to its log.
pub fn nccl_may_have_opened_its_log() {
    if KEEPS_LINES.load(Ordering::Relaxed)
        && let Some(destination) = destination()
    {
        // A failure cannot be reported anywhere, as for any line.
        let _ = SINK.hold().write_again(destination);
    }
}

/// Some lines may have to be written again.
static KEEPS_LINES: AtomicBool = AtomicBool::new(false);

/// The most bytes that are kept for that. Before NCCL's first communicator there are only a few lines.
const MOST_KEPT: usize = 256 << 10;

static SINK: Lock<Sink> = Lock::new(Sink { of: None, file: None, is_unusable: false, kept: Vec::new(), theirs: None });

/// The state of the destination in this process.
#[derive(Default)]
struct Sink {
    of: Option<&'static Destination>,
    /// Opened at the first line.
    file: Option<File>,
    is_unusable: bool,
    /// Lines that NCCL may still erase when it truncates the file.
    kept: Vec<u8>,
    /// The number of NCCL's descriptor when it was found last.
    theirs: Option<RawFd>,
}

impl Sink {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let destination = destination();
        if self.of.map(ptr::from_ref) != destination.map(ptr::from_ref) {
            *self = Self { of: destination, ..Self::default() };
        }
        let Some(destination) = destination.filter(|_| !self.is_unusable) else {
            return standard_output()?.write_all(line);
        };
        if destination.variable == OF_NCCL
            && let Some(mut theirs) = nccl_log::opened_log(&destination.path, &mut self.theirs)
        {
            let mut lines = mem::take(&mut self.kept);
            lines.extend_from_slice(line);
            return theirs.write_all(&lines);
        }
        if self.file.is_none() {
            // If the file cannot be opened, the lines go to standard output, after one that says why.
            match OpenOptions::new().create(true).append(true).open(&destination.path) {
                Ok(file) => self.file = Some(file),
                Err(error) => {
                    self.is_unusable = true;
                    let (variable, path) = (destination.variable, destination.path.display());
                    let why = OneLine(format_args!(
                        "{} DIME WARN {variable}: {path} cannot be opened ({error}); the log goes to standard output",
                        prefix()
                    ));
                    standard_output()?.write_all(format!("{why}\n").as_bytes())?;
                    return standard_output()?.write_all(line);
                }
            }
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(line)?;
        if destination.variable == OF_NCCL && self.kept.len() + line.len() <= MOST_KEPT {
            self.kept.extend_from_slice(line);
            if !KEEPS_LINES.swap(true, Ordering::Relaxed) {
                // If this fails, the lines are written again at another time, or stay as they are.
                exit::at_exit(at_exit);
            }
            // NCCL may have opened the file since.
            return self.write_again(destination);
        }
        Ok(())
    }

    /// Writes the kept lines, if NCCL has opened the file.
    fn write_again(&mut self, destination: &Destination) -> io::Result<()> {
        if self.kept.is_empty() {
            return Ok(());
        }
        match nccl_log::opened_log(&destination.path, &mut self.theirs) {
            Some(mut theirs) => theirs.write_all(&mem::take(&mut self.kept)),
            None => Ok(()),
        }
    }
}

extern "C" fn at_exit() {
    // A panic must not end the process; the hook has logged it.
    let _ = catch_unwind(nccl_may_have_opened_its_log);
}

/// Standard output, but not through std's handle: a child of fork could find its lock held for ever.
fn standard_output() -> io::Result<File> {
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}

//! Where lines of the log go: DIME_DEBUG_FILE, else NCCL_DEBUG_FILE, else standard output.
//!
//! **NCCL's file.** NCCL opens it when it has something to say, empties it, and from then on writes at its own position, not at the end. What
//! was in it before is lost, and what is appended while NCCL has it open is overwritten. So from then on lines are written through
//! NCCL's own descriptor, as if they were NCCL's: the position is shared, and each write moves it. The lines before, which are written to
//! the end of the file at once, are kept, and are written again when NCCL has emptied it: at the next line, when a communicator was made,
//! or at the end of the process. A line that is written just while NCCL opens the file is among them, and what NCCL overwrote of it is
//! overwritten as a whole, for what is written again is longer.
//!
//! Of several processes that are told the same name NCCL has each empty the file: `%p` belongs into the name.

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

/// A file that was asked for.
struct Place {
    /// The variable that asks for it.
    variable: &'static str,
    /// As it was given.
    pattern: PathBuf,
    /// In the process that asked first: its children of fork write there too, as those of NCCL do.
    path: PathBuf,
}

const OF_NCCL: &str = "NCCL_DEBUG_FILE";

/// The first place, and the one after NCCL has read its own files. None inside: standard output. (No lock, which a child of fork could
/// find held.)
static PLACES: [OnceBox<Option<Place>>; 2] = [const { OnceBox::new() }; 2];

fn place() -> Option<&'static Place> {
    PLACES.iter().rev().find_map(OnceBox::get).and_then(Option::as_ref)
}

/// Sets the place.
pub(super) fn set(config: &Config) {
    let wanted = match (&config.debug_file, &config.nccl_debug_file) {
        (Some(pattern), _) => Some(("DIME_DEBUG_FILE", pattern)),
        (None, Some(pattern)) => Some((OF_NCCL, pattern)),
        (None, None) => None,
    };
    let is_set = PLACES[0].get().is_some();
    if is_set && place().map(|place| (place.variable, &place.pattern)) == wanted {
        return;
    }
    let new = wanted.map(|(variable, pattern)| Place { variable, pattern: pattern.clone(), path: expanded(pattern) });
    // Fails when another thread was faster, or when the variables change once more; then the first values stay.
    let _ = PLACES[usize::from(is_set)].set(Box::new(new));
}

/// Writes a line.
pub(super) fn write(line: &[u8]) -> io::Result<()> {
    SINK.hold().write(line)
}

/// Call when NCCL has said something in its log, if it says anything.
pub fn nccl_may_have_opened_its_log() {
    if KEEPS_LINES.load(Ordering::Relaxed)
        && let Some(place) = place()
    {
        // As for any line: there is nobody to tell.
        let _ = SINK.hold().write_again(place);
    }
}

/// Some lines may have to be written again.
static KEEPS_LINES: AtomicBool = AtomicBool::new(false);

/// Bytes that are kept for that. Before NCCL's first communicator there are a few lines.
const MOST_KEPT: usize = 256 << 10;

static SINK: Lock<Sink> = Lock::new(Sink { of: None, file: None, is_unusable: false, kept: Vec::new(), theirs: None });

/// What a process knows of the place.
#[derive(Default)]
struct Sink {
    of: Option<&'static Place>,
    /// Opened at the first line.
    file: Option<File>,
    is_unusable: bool,
    /// Lines that NCCL may not have emptied the file of yet.
    kept: Vec<u8>,
    /// Where NCCL's descriptor was found.
    theirs: Option<RawFd>,
}

impl Sink {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let place = place();
        if self.of.map(ptr::from_ref) != place.map(ptr::from_ref) {
            *self = Self { of: place, ..Self::default() };
        }
        let Some(place) = place.filter(|_| !self.is_unusable) else { return standard_output()?.write_all(line) };
        if place.variable == OF_NCCL
            && let Some(mut theirs) = nccl_log::opened_log(&place.path, &mut self.theirs)
        {
            let mut lines = mem::take(&mut self.kept);
            lines.extend_from_slice(line);
            return theirs.write_all(&lines);
        }
        if self.file.is_none() {
            // A file that cannot be opened must not cost the lines: they go to standard output, behind one that says why.
            match OpenOptions::new().create(true).append(true).open(&place.path) {
                Ok(file) => self.file = Some(file),
                Err(error) => {
                    self.is_unusable = true;
                    let (variable, path) = (place.variable, place.path.display());
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
        if place.variable == OF_NCCL && self.kept.len() + line.len() <= MOST_KEPT {
            self.kept.extend_from_slice(line);
            if !KEEPS_LINES.swap(true, Ordering::Relaxed) {
                // Without it the lines are written again at another time, or stay as they are.
                exit::at_exit(at_exit);
            }
            // NCCL may have opened it since.
            return self.write_again(place);
        }
        Ok(())
    }

    /// Writes what was kept, if NCCL has opened the file.
    fn write_again(&mut self, place: &Place) -> io::Result<()> {
        if self.kept.is_empty() {
            return Ok(());
        }
        match nccl_log::opened_log(&place.path, &mut self.theirs) {
            Some(mut theirs) => theirs.write_all(&mem::take(&mut self.kept)),
            None => Ok(()),
        }
    }
}

extern "C" fn at_exit() {
    // A panic must not end the process; the hook has logged it.
    let _ = catch_unwind(nccl_may_have_opened_its_log);
}

/// Standard output, not through std's handle: its lock could be held for good in a child of fork.
fn standard_output() -> io::Result<File> {
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}

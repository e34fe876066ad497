//! The tuning file of this process: read once, when its first communicator is set up. What the ranks have in common of
//! it enters routing.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use once_cell::race::OnceBox;

use crate::comm::setup::hello::Hello;
use crate::host::config::{Config, TuningFile};
use crate::host::lock::Lock;
use crate::host::tuning_file;
use crate::route::tuning::{Tuned, Tuning};

/// What a rank says that has no rows for its GPU.
pub const NO_ROWS: u64 = 0;

/// A tuning file, as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Its path.
    pub path: PathBuf,
    /// When it was last changed.
    pub modified: Option<SystemTime>,
    /// Its rows, or everything that is wrong with it; never nothing.
    pub tuning: Result<Tuning, Vec<String>>,
}

/// Reads the tuning file that a setting means. None: there is none.
pub fn load(setting: &TuningFile) -> Option<Loaded> {
    let path = tuning_file::find(setting)?;
    let (modified, tuning) = match tuning_file::read(&path) {
        Ok(file) => {
            let parsed = Tuning::parse(&file.text);
            let texts = |problems: Vec<_>| problems.iter().map(ToString::to_string).collect();
            (file.modified, parsed.map_err(|problems: Vec<crate::route::tuning::Problem>| texts(problems)))
        }
        Err(error) => (None, Err(vec![format!("{error}; DIME_TUNING_FILE names a file, or none")])),
    };
    Some(Loaded { path, modified, tuning })
}

impl Loaded {
    /// Why the built-in rows decide on GPUs of this architecture, in one line. None: the file's rows do.
    pub fn trouble(&self, arch: u32) -> Option<String> {
        let path = self.path.display();
        match &self.tuning {
            Ok(tuning) if tuning.has_rows_for(arch) => None,
            Ok(_) => Some(format!(
                "{path}: no row is for compute capability {}.{}, which is {arch} in column arch; dime tune makes a file for this machine",
                arch / 10,
                arch % 10
            )),
            Err(problems) => {
                let more = match problems.len() - 1 {
                    0 => String::new(),
                    more => format!(" (and {more} more; dime doctor lists them)"),
                };
                Some(format!("{path}: {}{more}", problems[0]))
            }
        }
    }
}

/// The tuning file of this process. A child of fork has that of its parent.
static LOADED: OnceBox<Option<Loaded>> = OnceBox::new();

/// The same, read at the first call.
fn of_process(config: &Config) -> Option<&'static Loaded> {
    LOADED.get_or_init(|| Box::new(load(&config.tuning_file))).as_ref()
}

/// A hash of this rank's rows, by which the ranks compare them. Warns, once, of a file that is not used.
pub fn digest(config: &Config, arch: u32) -> u64 {
    static SAID: AtomicBool = AtomicBool::new(false);
    let Some(loaded) = of_process(config) else { return NO_ROWS };
    if let Some(trouble) = loaded.trouble(arch) {
        if !SAID.swap(true, Ordering::Relaxed) {
            log::warn!("the tuning file is not used, so the built-in rows decide: {trouble}");
        }
        return NO_ROWS;
    }
    loaded.tuning.as_ref().map_or(NO_ROWS, Tuning::digest)
}

/// The first rank whose rows differ from those of rank 0. None: all are equal.
pub fn first_that_differs(hellos: &[Hello]) -> Option<usize> {
    hellos.iter().position(|hello| hello.tuning != hellos[0].tuning)
}

/// What the file says to a communicator all of whose ranks have the same rows. Kept for good, once for each architecture
/// and number of ranks.
pub fn tuned(config: &Config, arch: u32, ranks: usize) -> Option<&'static Tuned> {
    static KEPT: Lock<Vec<((u32, usize), &'static Tuned)>> = Lock::new(Vec::new());
    let tuning = of_process(config)?.tuning.as_ref().ok()?;
    let mut kept = KEPT.hold();
    if let Some((_, tuned)) = kept.iter().find(|(key, _)| *key == (arch, ranks)) {
        return Some(tuned);
    }
    let tuned: &'static Tuned = Box::leak(Box::new(tuning.tuned(arch, ranks)?));
    kept.push(((arch, ranks), tuned));
    Some(tuned)
}

/// The path of the tuning file that was read, for texts. Empty: none was.
pub fn path() -> String {
    LOADED.get().and_then(Option::as_ref).map_or_else(String::new, |loaded| loaded.path.display().to_string())
}

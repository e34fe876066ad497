//! Every environment variable of this library, in one table: name, type, default, documentation.
//!
//! docs/configuration.md is generated from the table. Parsing is pure: variables come in, a [`Config`] and warnings
//! come out. An unusable value is a warning, and the default stays. A variable that begins with `DIME_` and is not in
//! the table is a warning too.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;

use crate::kernel::catalogue::{Kernel, SETTINGS};

/// A variable, as the documentation shows it.
pub struct Variable {
    /// Its name in the environment.
    pub name: &'static str,
    /// The values that it takes.
    pub values: &'static str,
    /// What applies when it is not set.
    pub default: &'static str,
    /// What it does.
    pub doc: &'static str,
    /// Whether the ranks of a communicator may differ in it.
    pub ranks: Ranks,
}

/// Whether the ranks of a communicator may differ in a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ranks {
    /// All ranks must have the same value, or all forward.
    Agree,
    /// Each rank may have its own.
    MayDiffer,
}

/// A type that a variable can have.
trait Value: Sized {
    const VALUES: &'static str;
    /// None: the text is no such value.
    fn parse(text: &OsStr) -> Option<Self>;
}

/// Makes [`Config`], [`VARIABLES`] and the parser from the same lines.
macro_rules! variables {
    ($(
        #[doc = $doc:literal]
        $name:literal => $field:ident: $type:ty = $initial:expr, $default:literal, $ranks:ident;
    )*) => {
        /// The configuration of this process.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Config {
            $(
                #[doc = $doc]
                pub $field: $type,
            )*
            /// The file of NCCL's log (NCCL_DEBUG_FILE).
            pub nccl_debug_file: Option<PathBuf>,
        }

        impl Default for Config {
            fn default() -> Self {
                Self { $($field: $initial,)* nccl_debug_file: None }
            }
        }

        /// All variables, in the order of the documentation.
        pub const VARIABLES: &[Variable] = &[$(
            Variable {
                name: $name,
                values: <$type as Value>::VALUES,
                default: $default,
                doc: $doc.trim_ascii(),
                ranks: Ranks::$ranks,
            }
        ),*];

        impl Config {
            /// The settings in which the ranks of a communicator must agree, as text to compare.
            pub fn agreed_text(&self) -> String {
                let fields = [$((Ranks::$ranks, format!("{:?} ", self.$field))),*];
                fields.into_iter().filter(|(ranks, _)| *ranks == Ranks::Agree).map(|(_, text)| text).collect()
            }


            /// Sets a variable. None: no variable has this name. Some(false): the text is no value of it.
            fn set(&mut self, name: &str, text: &OsStr) -> Option<bool> {
                match name {
                    $(
                        $name => {
                            let value = <$type as Value>::parse(text);
                            let usable = value.is_some();
                            if let Some(value) = value {
                                self.$field = value;
                            }
                            Some(usable)
                        }
                    )*
                    _ => None,
                }
            }
        }
    };
}

variables! {
    /// The path of the real NCCL. If it is set, nothing is searched.
    "DIME_NCCL_LIB" => nccl_lib: Option<PathBuf> = None, "found by a search", MayDiffer;
    /// How much is logged. `version` logs one line with the version, and errors.
    "DIME_DEBUG" => debug: Option<Level> = None, "the level of NCCL_DEBUG if that is set, else error", MayDiffer;
    /// The file that the log is appended to; `%h` becomes the name of the host, `%p` the process id.
    "DIME_DEBUG_FILE" => debug_file: Option<PathBuf> = None, "NCCL_DEBUG_FILE if that is set, else standard output", MayDiffer;
    /// The file that the counters are written to, as text, when the process ends by `exit` or a return from `main` (not by `_exit` or a signal); `%h` and `%p` as in DIME_DEBUG_FILE.
    "DIME_STATS_FILE" => stats_file: Option<PathBuf> = None, "none is written", MayDiffer;
    /// Forward every call, as if Dime were not there. If only some ranks set it, all ranks of their communicators forward.
    "DIME_DISABLE" => disable: bool = false, "0", MayDiffer;
    /// The kernel for every all-reduce; those with an element type that it cannot carry are forwarded. Unless DIME_THRESHOLD_BYTES is set, the threshold is then 32 MiB. For tests and measurements.
    "DIME_KERNEL" => kernel: KernelChoice = KernelChoice(None), "auto", Agree;
    /// The largest message that is not forwarded, in bytes; 32M at most, and more counts as 32M. 0 forwards all, but communicators are still set up, with their scratch: DIME_DISABLE=1 avoids that.
    "DIME_THRESHOLD_BYTES" => threshold_bytes: Option<Bytes> = None, "from the routing table", Agree;
    /// The tuning file, whose rows go before those of the routing table (docs/tuning.md); `none`, or an empty value: none is read. It is read when the process sets its first communicator up. Ranks with different rows all use the routing table.
    "DIME_TUNING_FILE" => tuning_file: TuningFile = TuningFile::Search, "dime/tuning.csv in XDG_CONFIG_HOME (~/.config), else in /etc, if it is there", MayDiffer;
    /// 1: all-reduces of floats of every size stay with Dime, also where NCCL is faster. So the bits of an element depend on the ranks' contributions to it alone, not on the size of the message, its place in it, or a graph. It is read when a communicator is made. Until a communicator is set up, a captured all-reduce of floats is an error. docs/semantics.md says what is promised. DIME_THRESHOLD_BYTES holds for integers only.
    "DIME_BATCH_INVARIANT" => batch_invariant: bool = false, "0", Agree;
    /// Be fast also on GPUs that are joined by PCIe only, where NCCL is mostly as fast.
    "DIME_ALLOW_PCIE" => allow_pcie: bool = false, "0", Agree;
    /// Be fast also where ranks share a GPU, as NCCL 2.30 and later do with NCCL_MULTI_RANK_GPU_ENABLE=1. For tests with more ranks than GPUs. Each rank uses its share of the SMs only. Processes take turns on a GPU unless MPS runs them together; ranks that are threads need CUDA_DEVICE_MAX_CONNECTIONS=32, which keeps their streams apart.
    "DIME_ALLOW_SHARED_GPU" => allow_shared_gpu: bool = false, "0", Agree;
    /// Share memory between processes by legacy IPC handles, as is done where the driver cannot share it as file descriptors.
    "DIME_LEGACY_IPC" => legacy_ipc: bool = false, "0", MayDiffer;
    /// 1: a small launch (at most half of the blocks that a GPU holds; on 4 H200 all-reduces of up to 2 MiB) lets the next kernel of its stream start before it has ended, if that kernel is launched with cudaLaunchAttributeProgrammaticStreamSerialization (programmatic dependent launch), as Dime's own kernels are. 0: no kernel starts early, so small all-reduces in a row are slower. Set 0 if the application launches a kernel with this attribute that reads an all-reduce's result without calling cudaGridDependencySynchronize first. Ranks may differ.
    "DIME_EARLY_LAUNCH" => early_launch: bool = true, "1", MayDiffer;
    /// The epoch of a communicator's first launch. For tests in which the epoch wraps around.
    "DIME_FIRST_EPOCH" => first_epoch: Positive = Positive(1), "1", Agree;
    /// Most thread blocks of a kernel; 0 leaves it to the routing table. For measurements.
    "DIME_BLOCKS" => blocks: u32 = 0, "0", Agree;
    /// Threads of a block; 0 leaves it to the routing table. At most 512 for sums of f16, bf16 and f32, and for one-shot kernels with 2 ranks; at most 256 for all else. For measurements.
    "DIME_THREADS" => threads: u32 = 0, "0", Agree;
    /// How long a rank waits for its peers' memory descriptors while a communicator is set up, in seconds. After that all ranks forward. A rank that may not look up the other ranks' beacons (a sandbox) also waits up to this long for a verdict message. The setup's messages over NCCL have no timeout.
    "DIME_SETUP_TIMEOUT_S" => setup_timeout_s: Positive = Positive(30), "30", MayDiffer;
    /// How long an all-reduce may wait for other ranks, in seconds; 0: for ever. After that the log names these ranks and the communicator fails.
    "DIME_TIMEOUT_S" => timeout_s: u32 = 0, "0", MayDiffer;
}

/// Variables that begin with `DIME_` but are read by the build and the tests, not by the library. Those of the
/// simulated node begin with [`OF_THE_SIMULATOR`].
const NOT_OURS: &[&str] = &["DIME_CACHE_DIR", "DIME_CUDA_ARCHS"];
const OF_THE_SIMULATOR: &str = "DIME_SIM_";

/// How much is logged. Each level includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing.
    None,
    /// One line with the version, and errors.
    Version,
    /// What makes calls fail.
    Error,
    /// What is probably not intended.
    Warn,
    /// Decisions, and why.
    Info,
    /// Every all-reduce.
    Trace,
}

/// A kernel that is forced; None: the routing table chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelChoice(pub Option<Kernel>);

/// A size in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl Bytes {
    /// Reads a number of bytes, or one with K, M or G of 1024, 1024^2 or 1024^3 bytes.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (digits, unit) = match text.char_indices().last()? {
            (at, 'K' | 'k') => (&text[..at], 1 << 10),
            (at, 'M' | 'm') => (&text[..at], 1 << 20),
            (at, 'G' | 'g') => (&text[..at], 1 << 30),
            _ => (text, 1),
        };
        digits.parse::<u64>().ok()?.checked_mul(unit).map(Self)
    }
}

/// Where the tuning file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TuningFile {
    /// In the user's configuration, else in the system's.
    Search,
    /// None is read.
    None,
    /// Here.
    Path(PathBuf),
}

/// A number that is not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Positive(pub u32);

/// A variable whose value is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    text: String,
    /// It is about the log level, so whether it is logged must not depend on that level.
    pub is_about_the_level: bool,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Config {
    /// The configuration of the environment. Takes time: not for the path of a call.
    pub fn from_env() -> (Self, Vec<Warning>) {
        Self::parse(std::env::vars_os())
    }

    /// The configuration of a set of variables. An empty variable counts as not set, except DIME_TUNING_FILE.
    pub fn parse(variables: impl IntoIterator<Item = (OsString, OsString)>) -> (Self, Vec<Warning>) {
        let mut config = Self::default();
        let mut warnings = Vec::new();
        let mut level_of_nccl = None;
        for (name, text) in variables {
            // A name that is not UTF-8 becomes a name that no variable has.
            let name = &*name.to_string_lossy();
            if text.is_empty() && name != "DIME_TUNING_FILE" {
                continue;
            }
            match name {
                "NCCL_DEBUG" => level_of_nccl = level_by_nccl_name(&text),
                "NCCL_DEBUG_FILE" => config.nccl_debug_file = Some(PathBuf::from(&text)),
                _ => {}
            }
            if !name.starts_with("DIME_") || NOT_OURS.contains(&name) || name.starts_with(OF_THE_SIMULATOR) {
                continue;
            }
            match config.set(name, &text) {
                Some(true) => {}
                Some(false) => warnings.push(unusable(name, &text)),
                None => {
                    let (shown, nearest) = (name.escape_debug(), nearest(name));
                    let text = format!("{shown} is not a variable of Dime; did you mean {nearest}?");
                    warnings.push(Warning { text, is_about_the_level: false });
                }
            }
        }
        config.debug = config.debug.or(level_of_nccl);
        if warnings.iter().any(|warning| warning.is_about_the_level) {
            config.debug = config.debug.max(Some(Level::Error));
        }
        // The order of the environment is arbitrary; that of the warnings is not.
        warnings.sort_by(|a, b| a.text.cmp(&b.text));
        (config, warnings)
    }

    /// How much is logged.
    pub fn level(&self) -> Level {
        self.debug.unwrap_or(Level::Error)
    }
}

fn unusable(name: &str, text: &OsStr) -> Warning {
    let variable =
        VARIABLES.iter().find(|variable| variable.name == name).expect("the parser knows only the table's names");
    let text = format!(
        "{name} cannot be {:?}: it takes {}. The default stays: {}",
        text.to_string_lossy(),
        variable.values,
        variable.default
    );
    Warning { text, is_about_the_level: name == "DIME_DEBUG" }
}

fn level_by_nccl_name(text: &OsStr) -> Option<Level> {
    match text.to_str()?.to_ascii_lowercase().as_str() {
        // A level of NCCL between info and trace, which logs NCCL's own aborts.
        "abort" => Some(Level::Info),
        name => level_by_name(name),
    }
}

fn level_by_name(name: &str) -> Option<Level> {
    Some(match name {
        "none" => Level::None,
        "version" => Level::Version,
        "error" => Level::Error,
        "warn" => Level::Warn,
        "info" => Level::Info,
        "trace" => Level::Trace,
        _ => return None,
    })
}

/// The variable whose name is the fewest edits away.
fn nearest(name: &str) -> &'static str {
    let nearest = VARIABLES.iter().min_by_key(|variable| edits(name, variable.name));
    nearest.expect("the table is not empty").name
}

/// The number of insertions, removals and replacements that turn `a` into `b`.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

impl Value for bool {
    const VALUES: &'static str = "0 or 1";

    fn parse(text: &OsStr) -> Option<Self> {
        match text.to_str()?.to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" | "on" => Some(true),
            "0" | "false" | "no" | "off" => Some(false),
            _ => None,
        }
    }
}

impl Value for u32 {
    const VALUES: &'static str = "a number from 0 to 4294967295";

    fn parse(text: &OsStr) -> Option<Self> {
        let text = text.to_str()?.trim();
        match text.strip_prefix("0x") {
            // from_str_radix alone would take a sign.
            Some(digits) if !digits.starts_with('+') => Self::from_str_radix(digits, 16).ok(),
            Some(_) => None,
            None => text.parse().ok(),
        }
    }
}

impl Value for Positive {
    const VALUES: &'static str = "a number from 1 to 4294967295";

    fn parse(text: &OsStr) -> Option<Self> {
        <u32 as Value>::parse(text).filter(|number| *number != 0).map(Self)
    }
}

impl Value for Option<Bytes> {
    const VALUES: &'static str = "a number of bytes, or with K, M or G of 1024, 1024^2 or 1024^3 bytes";

    fn parse(text: &OsStr) -> Option<Self> {
        Bytes::parse(text.to_str()?).map(Some)
    }
}

impl Value for Option<PathBuf> {
    const VALUES: &'static str = "a path";

    fn parse(text: &OsStr) -> Option<Self> {
        Some(Some(PathBuf::from(text)))
    }
}

impl Value for TuningFile {
    const VALUES: &'static str = "a path, or none";

    fn parse(text: &OsStr) -> Option<Self> {
        Some(if text.is_empty() || text == "none" { Self::None } else { Self::Path(PathBuf::from(text)) })
    }
}

impl Value for Option<Level> {
    const VALUES: &'static str = "none, version, error, warn, info or trace";

    fn parse(text: &OsStr) -> Option<Self> {
        level_by_name(&text.to_str()?.to_ascii_lowercase()).map(Some)
    }
}

impl Value for KernelChoice {
    const VALUES: &'static str = SETTINGS;

    fn parse(text: &OsStr) -> Option<Self> {
        match text.to_str()? {
            "auto" => Some(Self(None)),
            name => Kernel::named(name).map(|kernel| Self(Some(kernel))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(variables: &[(&str, &str)]) -> (Config, Vec<String>) {
        let variables = variables.iter().map(|(name, text)| (OsString::from(name), OsString::from(text)));
        let (config, warnings) = Config::parse(variables);
        (config, warnings.iter().map(Warning::to_string).collect())
    }

    #[test]
    fn nothing_set_is_the_default_without_a_warning() {
        assert_eq!(parse(&[]), (Config::default(), vec![]));
        assert_eq!(Config::default().level(), Level::Error);
    }

    #[test]
    fn each_type_of_value_is_read() {
        let (config, warnings) = parse(&[
            ("DIME_NCCL_LIB", "/a/libnccl.so.2"),
            ("DIME_DEBUG", "Trace"),
            ("DIME_DISABLE", "yes"),
            ("DIME_KERNEL", "two_shot_bulk"),
            ("DIME_THRESHOLD_BYTES", "64K"),
            ("DIME_FIRST_EPOCH", "0xfffffff0"),
            ("DIME_BLOCKS", "24"),
        ]);
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_eq!(config.nccl_lib.as_deref(), Some(std::path::Path::new("/a/libnccl.so.2")));
        assert_eq!(config.level(), Level::Trace);
        assert!(config.disable);
        assert_eq!(config.kernel, KernelChoice(Some(Kernel::TwoShotBulk)));
        assert_eq!(config.threshold_bytes, Some(Bytes(65536)));
        assert_eq!(config.first_epoch, Positive(0xffff_fff0));
        assert_eq!(config.blocks, 24);
    }

    #[test]
    fn ranks_compare_what_they_must_have_alike_and_nothing_else() {
        let text = |variables: &[(&str, &str)]| parse(variables).0.agreed_text();
        for (name, value) in [("DIME_KERNEL", "two_shot_ll"), ("DIME_THRESHOLD_BYTES", "0"), ("DIME_BLOCKS", "7")] {
            assert_ne!(text(&[(name, value)]), text(&[]), "{name}");
        }
        for (name, value) in [("DIME_DEBUG", "info"), ("DIME_TIMEOUT_S", "7"), ("DIME_EARLY_LAUNCH", "0")] {
            assert_eq!(text(&[(name, value)]), text(&[]), "{name}");
        }
    }

    #[test]
    fn an_empty_tuning_file_is_none_and_not_the_default() {
        for (text, file) in
            [("", TuningFile::None), ("none", TuningFile::None), ("/a.csv", TuningFile::Path("/a.csv".into()))]
        {
            assert_eq!(
                parse(&[("DIME_TUNING_FILE", text)]),
                (Config { tuning_file: file, ..Config::default() }, vec![])
            );
        }
    }

    #[test]
    fn a_bad_value_keeps_the_default_and_warns_with_what_would_be_good() {
        for (name, text) in [
            ("DIME_DISABLE", "2"),
            ("DIME_BLOCKS", "0x+8"),
            ("DIME_FIRST_EPOCH", "0"),
            ("DIME_THRESHOLD_BYTES", "K"),
            ("DIME_THRESHOLD_BYTES", "99999999999G"),
            ("DIME_KERNEL", "AUTO"),
        ] {
            let (config, warnings) = parse(&[(name, text)]);
            assert_eq!(config, Config::default(), "{name}={text}");
            assert_eq!(warnings.len(), 1, "{name}={text}");
            let variable = VARIABLES.iter().find(|variable| variable.name == name).expect("in the table");
            assert!(warnings[0].contains(variable.values) && warnings[0].contains(text), "{}", warnings[0]);
        }
    }

    #[test]
    fn a_name_of_any_bytes_is_warned_about_on_one_line() {
        use std::os::unix::ffi::OsStringExt;
        for (name, shown) in [
            (&b"DIME_KERNAL"[..], "DIME_KERNAL is not a variable of Dime; did you mean DIME_KERNEL?"),
            (b"DIME_\xff", "DIME_\u{fffd} is not"),
            (b"DIME_A\nB\x1b[2J", "DIME_A\\nB\\u{1b}[2J is not"),
        ] {
            let (config, warnings) = Config::parse([(OsString::from_vec(name.to_vec()), OsString::from("1"))]);
            assert_eq!((config, warnings.len()), (Config::default(), 1), "{shown}");
            assert!(warnings[0].to_string().starts_with(shown), "{}", warnings[0]);
        }
        assert_eq!(Config::parse([(OsString::from_vec(b"\xffDIME_".to_vec()), OsString::from("1"))]).1, []);
    }

    #[test]
    fn the_level_of_nccl_holds_unless_there_is_one_of_ours_whatever_their_order() {
        assert_eq!(parse(&[("NCCL_DEBUG", "INFO")]).0.level(), Level::Info);
        assert_eq!(parse(&[("NCCL_DEBUG", "nonsense")]), (Config::default(), vec![]));
        let both = [("NCCL_DEBUG", "TRACE"), ("DIME_DEBUG", "none")];
        assert_eq!(parse(&both).0.level(), Level::None);
        assert_eq!(parse(&[both[1], both[0]]).0.level(), Level::None);
    }

    #[test]
    fn a_level_that_cannot_be_is_an_error_that_every_level_but_none_shows() {
        for (variables, level) in [
            (&[("DIME_DEBUG", "debug")][..], Level::Error),
            (&[("DIME_DEBUG", "2")], Level::Error),
            (&[("DIME_DEBUG", "2"), ("NCCL_DEBUG", "INFO")], Level::Info),
            (&[("DIME_DEBUG", "2"), ("NCCL_DEBUG", "NONE")], Level::Error),
        ] {
            let variables = variables.iter().map(|(name, text)| (OsString::from(name), OsString::from(text)));
            let (config, warnings) = Config::parse(variables);
            assert_eq!(config.level(), level, "{warnings:?}");
            assert!(matches!(warnings.as_slice(), [Warning { is_about_the_level: true, .. }]), "{warnings:?}");
        }
        let (_, warnings) = Config::parse([("DIME_BLOCKS".into(), "x".into())]);
        assert!(matches!(warnings.as_slice(), [Warning { is_about_the_level: false, .. }]), "{warnings:?}");
    }

    #[test]
    fn the_distance_of_names_counts_edits() {
        for (a, b, distance) in
            [("", "", 0), ("abc", "abc", 0), ("abc", "", 3), ("kernal", "kernel", 1), ("ab", "ba", 2)]
        {
            assert_eq!(edits(a, b), distance, "{a} {b}");
            assert_eq!(edits(b, a), distance, "{b} {a}");
        }
    }
}

//! Variables and limits that change what Dime or NCCL does.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use dime::comm::setup::nccl_variables::NcclVariables;
use dime::comm::setup::tuning::{self, Loaded};
use dime::host::config::{Config, VARIABLES};
use dime_harness::filesystem;

use crate::doctor::report::{Check, Section};

/// Fewer than these fill up with a few communicators of NCCL and Dime.
const FEW_OPEN_FILES: u64 = 1024;
/// Less than this stops NCCL from registering memory with a network card.
const LITTLE_LOCKED_BYTES: u64 = 64 << 10;
/// What NCCL's documentation asks for in containers, whose default is 64 MiB.
const SHARED_MEMORY_BYTES: u64 = 1 << 30;

/// Variables of NCCL that Dime follows or takes over, and what they do to it.
const OF_NCCL: [(&str, &str); 8] = [
    ("NCCL_P2P_DISABLE", "1 forwards every call"),
    ("NCCL_P2P_LEVEL", "LOC or 0 forwards every call; others limit DIME_ALLOW_PCIE"),
    ("NCCL_CUMEM_ENABLE", "0 shares scratch by legacy IPC handles"),
    ("NCCL_GRAPH_MIXING_SUPPORT", "0 or 1 says whether graphs are ordered among themselves"),
    ("NCCL_MAX_CTAS", "limits the blocks of Dime's kernels too"),
    ("NCCL_CONF_FILE", "its lines count as variables"),
    ("NCCL_DEBUG", "the level of Dime's log too, if DIME_DEBUG is not set"),
    ("NCCL_DEBUG_FILE", "the file of Dime's log too, if DIME_DEBUG_FILE is not set"),
];

/// What was found, and what it means for fast all-reduces.
pub struct Surroundings {
    /// The settings of Dime.
    pub config: Config,
    /// Why every all-reduce is forwarded, whatever its size.
    pub forwards: Option<&'static str>,
    /// Ways over PCIe may be used.
    pub allows_pcie: bool,
    /// The tuning file.
    pub tuning: Option<Loaded>,
}

impl Surroundings {
    /// As this process has them.
    pub fn read() -> Self {
        let (config, _) = Config::from_env();
        let of_nccl = NcclVariables::from_env();
        let forwards = if config.disable {
            Some("DIME_DISABLE is set")
        } else if forwards_by_threshold(&config) {
            Some("DIME_THRESHOLD_BYTES is 0")
        } else if of_nccl.forbids_peer_access() {
            Some("NCCL_P2P_DISABLE or NCCL_P2P_LEVEL forbids access between GPUs")
        } else if is_launch_blocking() {
            Some("CUDA_LAUNCH_BLOCKING is 1")
        } else {
            None
        };
        let allows_pcie = config.allow_pcie && of_nccl.allows_pcie();
        let tuning = tuning::load(&config.tuning_file);
        Self { config, forwards, allows_pcie, tuning }
    }
}

fn forwards_by_threshold(config: &Config) -> bool {
    !config.batch_invariant && config.threshold_bytes.is_some_and(|bytes| bytes.0 == 0)
}

fn is_launch_blocking() -> bool {
    std::env::var_os("CUDA_LAUNCH_BLOCKING").is_some_and(|value| value == "1")
}

fn set(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Variables, limits and shared memory.
pub fn section() -> Section {
    let mut checks = Vec::new();
    checks.extend(cuda_checks());
    checks.extend(dime_checks());
    checks.extend(nccl_checks());
    checks.extend(limit_checks(&std::fs::read_to_string("/proc/self/limits").unwrap_or_default()));
    checks.push(shared_memory_check(filesystem::room(Path::new("/dev/shm")).ok()));
    Section { name: "environment", title: "Variables and limits", checks }
}

fn cuda_checks() -> Vec<Check> {
    let name = "CUDA_VISIBLE_DEVICES";
    let visible = match std::env::var_os(name) {
        None => Check::ok("cuda_visible_devices", "CUDA_VISIBLE_DEVICES is not set: every GPU is seen"),
        Some(value) if value.is_empty() || value.as_encoded_bytes().starts_with(b"-") || value == "NoDevFiles" => {
            Check::warn(
                "cuda_visible_devices",
                format!("CUDA_VISIBLE_DEVICES={} hides all GPUs", value.display()),
                "unset it, or name GPUs: CUDA_VISIBLE_DEVICES=0,1",
            )
        }
        Some(value) => {
            Check::ok("cuda_visible_devices", format!("CUDA_VISIBLE_DEVICES={}: only these are seen", value.display()))
        }
    };
    let blocking = if is_launch_blocking() {
        Check::warn(
            "cuda_launch_blocking",
            "CUDA_LAUNCH_BLOCKING=1: every call is forwarded, since launches that wait for each other would never end",
            "unset it, except to look for errors",
        )
    } else {
        Check::ok("cuda_launch_blocking", "CUDA_LAUNCH_BLOCKING is not 1")
    };
    vec![visible.with("value", set(name).map(|value| value.display().to_string())), blocking]
}

fn dime_checks() -> Vec<Check> {
    let (config, warnings) = Config::from_env();
    let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    let mut checks: Vec<Check> = warnings
        .iter()
        .map(|warning| Check::warn("dime_variable", warning.clone(), "correct it, or unset it (docs/configuration.md)"))
        .collect();
    for variable in VARIABLES {
        let Some(value) = set(variable.name) else { continue };
        if warnings.iter().any(|warning| warning.starts_with(&format!("{} ", variable.name))) {
            continue;
        }
        let text = format!("{}={}", variable.name, value.display());
        let forwards = match variable.name {
            "DIME_DISABLE" => config.disable,
            "DIME_THRESHOLD_BYTES" => forwards_by_threshold(&config),
            _ => false,
        };
        let check = if variable.name == "DIME_THRESHOLD_BYTES" && config.batch_invariant {
            let text = format!("{text}: it holds for integers only, since DIME_BATCH_INVARIANT is 1");
            Check::warn("dime_variable", text, "unset one of the two")
        } else if forwards {
            Check::warn("dime_variable", format!("{text}: every call is forwarded"), format!("unset {}", variable.name))
        } else {
            let sentence = variable.doc.split_once(". ").map_or(variable.doc, |(first, _)| first);
            Check::ok("dime_variable", format!("{text}: {}", sentence.trim_end_matches('.')))
        };
        checks.push(check.with("variable", variable.name).with("value", value.display().to_string()));
    }
    if checks.is_empty() {
        checks.push(Check::ok("dime_variable", "no variable of Dime is set: the defaults hold"));
    }
    checks
}

fn nccl_checks() -> Vec<Check> {
    let of_nccl = NcclVariables::from_env();
    let mut checks = Vec::new();
    for (name, effect) in OF_NCCL {
        let Some(value) = set(name) else { continue };
        let text = format!("{name}={}: {effect}", value.display());
        let is_about_peers = name == "NCCL_P2P_DISABLE" || name == "NCCL_P2P_LEVEL";
        let check = if is_about_peers && of_nccl.forbids_peer_access() {
            Check::warn("nccl_variable", text, format!("unset {name}, if GPUs may access each other's memory"))
        } else {
            Check::ok("nccl_variable", text)
        };
        checks.push(check.with("variable", name).with("value", value.display().to_string()));
    }
    for file in configuration_files().into_iter().filter(|file| file.is_file()) {
        let path = file.display();
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let names = followed_lines(&text);
        let check = if names.is_empty() {
            Check::ok("nccl_conf", format!("{path}: nothing in it concerns Dime"))
        } else {
            let text =
                format!("{path} sets {}, which changes what Dime does once a communicator is made", names.join(", "));
            Check::warn("nccl_conf", text, "see docs/nccl-variables.md, and take out what is not meant for Dime")
        };
        checks.push(check.with("path", path.to_string()));
    }
    if checks.is_empty() {
        checks.push(Check::ok("nccl_variable", "no variable of NCCL is set that changes what Dime does"));
    }
    checks
}

/// Where NCCL reads its configuration.
fn configuration_files() -> Vec<PathBuf> {
    let own = set("NCCL_CONF_FILE")
        .map(PathBuf::from)
        .or_else(|| set("HOME").map(|home| Path::new(&home).join(".nccl.conf")));
    own.into_iter().chain([PathBuf::from("/etc/nccl.conf")]).collect()
}

/// Names that lines of a configuration file set and Dime follows.
fn followed_lines(text: &str) -> Vec<String> {
    let names = text.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name.trim());
    let followed = |name: &&str| {
        OF_NCCL.iter().any(|(known, _)| known == name) || VARIABLES.iter().any(|variable| variable.name == *name)
    };
    names.filter(followed).map(str::to_owned).collect()
}

/// From /proc/self/limits. None: unlimited.
fn soft_limit(limits: &str, name: &str) -> Option<Option<u64>> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    let soft = line.split_whitespace().next()?;
    if soft == "unlimited" { Some(None) } else { soft.parse().ok().map(Some) }
}

fn limit_checks(limits: &str) -> Vec<Check> {
    let shown = |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), |number| number.to_string());
    let check = |name, title: &str, what: &str, least: u64, advice: &str| {
        let limit = soft_limit(limits, title)?;
        let text = format!("{what}: {}", shown(limit));
        let check = match limit {
            Some(number) if number < least => Check::warn(name, format!("{text}, which is little"), advice),
            _ => Check::ok(name, text),
        };
        Some(check.with("limit", limit))
    };
    let files = check(
        "open_files",
        "Max open files",
        "open files",
        FEW_OPEN_FILES,
        "raise it: ulimit -n 65536; a rank that has no descriptors left makes all forward",
    );
    let locked = check(
        "locked_memory",
        "Max locked memory",
        "locked memory in bytes",
        LITTLE_LOCKED_BYTES,
        "raise it: ulimit -l unlimited (docker run --ulimit memlock=-1); NCCL's networks need it",
    );
    files.into_iter().chain(locked).collect()
}

fn shared_memory_check(room: Option<(u64, u64)>) -> Check {
    let name = "shared_memory";
    let advice =
        "make it larger (docker run --shm-size=1g, or --ipc=host); NCCL and data loaders use it, Dime does not";
    let Some((bytes, free)) = room else {
        return Check::warn(name, "/dev/shm is not there", advice);
    };
    let text = format!("/dev/shm: {} MiB, {} MiB free", bytes >> 20, free >> 20);
    let check = if bytes < SHARED_MEMORY_BYTES { Check::warn(name, text, advice) } else { Check::ok(name, text) };
    check.with("bytes", bytes).with("free_bytes", free)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Status;

    const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units     \n\
                          Max locked memory         16384                16384                bytes     \n\
                          Max open files            unlimited            524288               files     \n";

    #[test]
    fn limits_are_the_soft_ones() {
        assert_eq!(soft_limit(LIMITS, "Max locked memory"), Some(Some(16384)));
        assert_eq!(soft_limit(LIMITS, "Max open files"), Some(None));
        assert_eq!(soft_limit(LIMITS, "Max stack size"), None);
        assert_eq!(limit_checks(LIMITS).iter().map(Check::status).collect::<Vec<_>>(), [Status::Ok, Status::Warn]);
        assert!(limit_checks("").is_empty());
    }

    #[test]
    fn little_shared_memory_is_a_warning() {
        assert_eq!(shared_memory_check(Some((64 << 20, 1 << 20))).status(), Status::Warn);
        assert_eq!(shared_memory_check(Some((2 << 30, 1 << 20))).status(), Status::Ok);
        assert_eq!(shared_memory_check(None).status(), Status::Warn);
    }

    #[test]
    fn lines_of_a_configuration_file_that_dime_follows_are_named() {
        assert_eq!(
            followed_lines("# x\nNCCL_ALGO=Ring\n NCCL_P2P_DISABLE = 1\nDIME_DISABLE=1\n"),
            ["NCCL_P2P_DISABLE", "DIME_DISABLE"]
        );
    }
}

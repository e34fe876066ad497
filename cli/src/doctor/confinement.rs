//! What separates this process from others: seccomp, namespaces, containers. Each can be why sharing fails.

use std::fs;
use std::path::Path;

use crate::doctor::report::Check;

/// The map of a user namespace that maps nothing: that of the host.
const WHOLE_MAP: [&str; 3] = ["0", "0", "4294967295"];
/// Words in a control group's path that container engines write.
const ENGINES: [&str; 6] = ["docker", "kubepods", "containerd", "libpod", "lxc", "slurm"];

/// Signs of confinement, each a sentence.
pub fn signs() -> Vec<String> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let mut signs = Vec::new();
    signs.extend(seccomp(&read("/proc/self/status")));
    signs.extend(user_namespace(&read("/proc/self/uid_map")));
    signs.extend(network_namespace());
    let markers = ["/.dockerenv", "/run/.containerenv"];
    signs.extend(
        markers.into_iter().filter(|path| Path::new(path).exists()).map(|path| format!("a container: {path} exists")),
    );
    signs.extend(engine(&read("/proc/1/cgroup")));
    signs
}

fn seccomp(status: &str) -> Option<String> {
    let mode = status.lines().find_map(|line| line.strip_prefix("Seccomp:"))?.trim();
    (mode != "0").then(|| format!("a seccomp filter is in force (Seccomp: {mode} in /proc/self/status)"))
}

fn user_namespace(map: &str) -> Option<String> {
    let words: Vec<&str> = map.split_whitespace().collect();
    (!words.is_empty() && words != WHOLE_MAP)
        .then(|| "this process is in a user namespace of its own (/proc/self/uid_map)".to_owned())
}

fn engine(groups: &str) -> Option<String> {
    let engine = ENGINES.into_iter().find(|engine| groups.contains(engine))?;
    Some(format!("a container: /proc/1/cgroup names {engine}"))
}

/// Abstract sockets belong to a network namespace. Where the first process's cannot be read, one without devices is taken for
/// a namespace of its own.
fn network_namespace() -> Option<String> {
    let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).ok();
    match (of("self")?, of("1")) {
        (own, Some(first)) => (own != first).then(|| "another network namespace than that of process 1".to_owned()),
        (_, None) => {
            let devices = fs::read_to_string("/proc/self/net/dev").ok()?;
            has_loopback_only(&devices).then(|| "a network namespace of its own: there is no device but lo".to_owned())
        }
    }
}

fn has_loopback_only(devices: &str) -> bool {
    let mut names = devices.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim());
    names.all(|name| name == "lo")
}

/// A network namespace of its own does no harm to processes that are all in it, but parts them from the others.
pub fn check() -> Option<Check> {
    let sign = network_namespace()?;
    Some(Check::warn(
        "network_namespace",
        format!("this process is in {sign}; ranks outside of it are not found, and then all use NCCL"),
        "start all ranks of a node in one network namespace (docker run --network host, or one container)",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confinement_shows_in_proc() {
        assert!(
            seccomp("Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t1\n").is_some_and(|sign| sign.contains("Seccomp: 2"))
        );
        assert_eq!(seccomp("Name:\tx\nSeccomp:\t0\n"), None);
        assert_eq!(user_namespace("         0          0 4294967295\n"), None);
        assert!(user_namespace("         0       1000          1\n").is_some());
        assert!(has_loopback_only("Inter-|   Receive\n face |bytes\n    lo:       0 0\n"));
        assert!(!has_loopback_only("    lo: 0\n  eth0: 7\n"));
        assert!(engine("0::/system.slice/docker-1234.scope\n").is_some());
        assert_eq!(engine("0::/init.scope\n"), None);
    }
}

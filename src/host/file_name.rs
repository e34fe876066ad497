//! File names that a user gives with placeholders for host and process.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Replaces `%h` and `%p` by the current host and process id, as NCCL does. `%%` becomes a percent sign; any other
/// pair stays.
pub fn expanded(pattern: &Path) -> PathBuf {
    let mut path = Vec::new();
    let mut bytes = pattern.as_os_str().as_bytes().iter().copied();
    while let Some(byte) = bytes.next() {
        match (byte, bytes.clone().next()) {
            (b'%', Some(b'h')) => {
                path.extend(host().bytes().map(|byte| if matches!(byte, b'/' | b'%') { b'-' } else { byte }))
            }
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

/// The name of this host without its domain.
pub fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim().split('.').next() {
        None | Some("") => "unknown".to_owned(),
        Some(host) => host.to_owned(),
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

//! The files that the processes of a command write their counters to (DIME_STATS_FILE).
//!
//! The user's files stay where they are. Without the user's variable they lie in a private folder, which is removed when this is dropped.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use dime_harness::Fallible;

pub const VARIABLE: &str = "DIME_STATS_FILE";

pub enum Files {
    /// A folder of this process.
    Private(PathBuf),
    /// The user's pattern, and which files there were before.
    Users { pattern: PathBuf, before: BTreeMap<PathBuf, SystemTime> },
}

impl Files {
    /// Those that the user asked for, else private ones.
    pub fn of_environment() -> Fallible<Self> {
        match std::env::var_os(VARIABLE).filter(|pattern| !pattern.is_empty()) {
            Some(pattern) => {
                let pattern = PathBuf::from(pattern);
                let before = matching(&pattern).into_iter().collect();
                Ok(Self::Users { pattern, before })
            }
            // Absolute, since the processes may be in other folders.
            None => {
                let parent = std::env::temp_dir();
                Self::make_private(&std::path::absolute(&parent).unwrap_or(parent))
            }
        }
    }

    fn make_private(parent: &Path) -> Fallible<Self> {
        // Somebody else's folder of that name, or one of a process that was killed, is left alone.
        for attempt in 0.. {
            let folder = parent.join(format!("dime-run-{}-{attempt}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&folder) {
                Ok(()) => return Ok(Self::Private(folder)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < 1000 => {}
                Err(error) => {
                    return Err(format!(
                        "{}: cannot be made for the counters of --stats: {error}; name another folder with TMPDIR, or files with \
                         {VARIABLE}=/FOLDER/%h.%p",
                        folder.display()
                    ));
                }
            }
        }
        unreachable!("the loop ends by a folder or an error")
    }

    /// The value of the variable for the command.
    pub fn pattern(&self) -> PathBuf {
        match self {
            Self::Private(folder) => {
                // A percent sign in the folder's name is none of the pattern's.
                let folder = folder.as_os_str().as_bytes().iter();
                let escaped = folder.flat_map(|&byte| if byte == b'%' { vec![byte; 2] } else { vec![byte] }).collect();
                PathBuf::from(std::ffi::OsString::from_vec(escaped)).join("%h.%p")
            }
            Self::Users { pattern, .. } => pattern.clone(),
        }
    }

    /// The texts of the files that were written since.
    pub fn read(&self) -> Vec<String> {
        let paths: Vec<PathBuf> = match self {
            Self::Private(folder) => {
                fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
            }
            Self::Users { pattern, before } => {
                let now = matching(pattern).into_iter();
                now.filter(|(path, time)| before.get(path) != Some(time)).map(|(path, _)| path).collect()
            }
        };
        paths.iter().filter_map(|path| fs::read_to_string(path).ok()).collect()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        if let Self::Private(folder) = self {
            // What cannot be removed lies in a folder for temporary files.
            let _ = fs::remove_dir_all(folder);
        }
    }
}

/// The files that a pattern can name, whichever host and process it is, with the times of their last change.
fn matching(pattern: &Path) -> Vec<(PathBuf, SystemTime)> {
    let mut found = vec![PathBuf::new()];
    for component in pattern.components() {
        let name = component.as_os_str();
        let is_pattern = name.as_bytes().contains(&b'%');
        found = found
            .into_iter()
            .flat_map(|parent| {
                if !is_pattern {
                    return vec![parent.join(name)];
                }
                let folder = if parent.as_os_str().is_empty() { Path::new(".") } else { parent.as_path() };
                let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
                let names = entries.filter(|entry| names(name.as_bytes(), entry.as_bytes()));
                names.map(|entry| parent.join(entry)).collect()
            })
            .collect();
    }
    let with_time = |path: PathBuf| {
        let file = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
        Some((path, file.modified().ok()?))
    };
    found.into_iter().filter_map(with_time).collect()
}

/// Whether a pattern with `%h` and `%p` can become this name.
fn names(pattern: &[u8], name: &[u8]) -> bool {
    match pattern {
        [] => name.is_empty(),
        [b'%', b'h', rest @ ..] => (1..=name.len()).any(|length| names(rest, &name[length..])),
        [b'%', b'p', rest @ ..] => {
            let digits = name.iter().take_while(|byte| byte.is_ascii_digit()).count();
            (1..=digits).any(|length| names(rest, &name[length..]))
        }
        [b'%', b'%', rest @ ..] => name.first() == Some(&b'%') && names(rest, &name[1..]),
        [byte, rest @ ..] => name.first() == Some(byte) && names(rest, &name[1..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_names_files_of_any_host_and_process() {
        for (pattern, name, is_named) in [
            ("stats.%h.%p.txt", "stats.vm.17.txt", true),
            ("stats.%h.%p.txt", "stats.vm.x.txt", false),
            ("stats.%h.%p.txt", "stats..17.txt", false),
            ("%p", "17", true),
            ("%p", "17a", false),
            ("100%%", "100%", true),
            ("100%", "100%", true),
            ("%x%p", "%x3", true),
            ("a", "ab", false),
        ] {
            assert_eq!(names(pattern.as_bytes(), name.as_bytes()), is_named, "{pattern} {name}");
        }
    }

    #[test]
    fn the_private_folder_is_one_s_own_and_goes_with_its_owner() {
        use std::os::unix::fs::PermissionsExt;
        let parent = std::env::temp_dir();
        let (one, other) =
            (Files::make_private(&parent).expect("a folder"), Files::make_private(&parent).expect("two"));
        let folder = |files: &Files| files.pattern().parent().expect("a folder").to_path_buf();
        let folders = [folder(&one), folder(&other)];
        assert_ne!(folders[0], folders[1]);
        assert_eq!(fs::metadata(&folders[0]).expect("a folder").permissions().mode() & 0o777, 0o700);
        drop((one, other));
        assert!(folders.iter().all(|folder| !folder.exists()));
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named_with_the_ways_out() {
        let error = Files::make_private(Path::new("/nonexistent")).err().expect("no such folder");
        for word in ["/nonexistent/dime-run-", "TMPDIR", VARIABLE] {
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_percent_sign_in_the_folder_stays_one() {
        assert_eq!(Files::Private("/nonexistent/100%p".into()).pattern(), Path::new("/nonexistent/100%%p/%h.%p"));
    }
}

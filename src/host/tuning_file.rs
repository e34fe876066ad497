//! Finding and reading the tuning file. What its text means is for [`crate::route`] to say.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::host::config::TuningFile;

/// Below a folder of configuration.
const NAME: &str = "dime/tuning.csv";
/// No tuning file is larger.
const MOST_BYTES: u64 = 1 << 20;

/// A file that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// Its bytes; what is not UTF-8 is replaced.
    pub text: String,
    /// When it was last changed, if the file system says so.
    pub modified: Option<SystemTime>,
}

/// Where a user's own tuning file is. None: there is neither XDG_CONFIG_HOME nor HOME.
pub fn of_user() -> Option<PathBuf> {
    let folder = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let configuration = folder("XDG_CONFIG_HOME").or_else(|| folder("HOME").map(|home| home.join(".config")));
    configuration.map(|folder| folder.join(NAME))
}

/// The tuning file of this process. None: it has none. One that DIME_TUNING_FILE names need not be there.
pub fn find(setting: &TuningFile) -> Option<PathBuf> {
    match setting {
        TuningFile::None => None,
        TuningFile::Path(path) => Some(path.clone()),
        TuningFile::Search => {
            of_user().into_iter().chain([Path::new("/etc").join(NAME)]).find(|path| fs::symlink_metadata(path).is_ok())
        }
    }
}

/// Reads a file, or says why not.
pub fn read(path: &Path) -> Result<Text, String> {
    let failed = |error: std::io::Error| error.to_string();
    // A pipe would wait for its writer.
    let metadata = fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    fs::File::open(path).and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(format!("it is larger than {} MiB", MOST_BYTES >> 20));
    }
    Ok(Text { text: String::from_utf8_lossy(&bytes).into_owned(), modified: metadata.modified().ok() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_is_not_read() {
        assert_eq!(find(&TuningFile::None), None);
        assert_eq!(find(&TuningFile::Path("/nonexistent/a".into())), Some("/nonexistent/a".into()));
        assert!(read(Path::new("/nonexistent/a")).unwrap_err().contains("No such file"));
        assert_eq!(read(Path::new("/")).unwrap_err(), "it is not a regular file");
        assert_eq!(read(Path::new("/dev/zero")).unwrap_err(), "it is not a regular file");
    }
}

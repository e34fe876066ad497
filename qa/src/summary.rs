//! The summary of a run as files.

use std::path::Path;

use dime_harness::Fallible;
use serde_json::Value;

/// Writes PATH.json and PATH.txt.
pub fn save(path: &Path, value: &Value, text: &str) -> Fallible<()> {
    for (extension, content) in [("json", &*format!("{value:#}\n")), ("txt", text)] {
        let mut file = path.as_os_str().to_owned();
        file.push(format!(".{extension}"));
        std::fs::write(&file, content).map_err(|e| format!("{}: {e}", file.display()))?;
    }
    Ok(())
}

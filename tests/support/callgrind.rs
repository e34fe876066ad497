//! Reads what valgrind's callgrind writes: how many instructions each function executed itself.

use std::collections::BTreeMap;
use std::path::Path;

#[derive(Debug)]
pub struct Function {
    /// The file that holds the function.
    pub object: String,
    pub name: String,
    pub instructions: u64,
}

/// From a profile written with --compress-strings=no --compress-pos=no. Costs of called functions are not included.
pub fn instructions_per_function(profile: &Path) -> Vec<Function> {
    let text = std::fs::read_to_string(profile).expect("callgrind's profile");
    let (mut object, mut name) = (String::new(), String::new());
    let mut counts: BTreeMap<(String, String), u64> = BTreeMap::new();
    let mut after_calls = false;
    for line in text.lines() {
        if let Some(value) = line.strip_prefix("ob=") {
            object = value.to_string();
        } else if let Some(value) = line.strip_prefix("fn=") {
            name = value.to_string();
        } else if line.starts_with("calls=") {
            // The line after it carries the cost of the callee.
            after_calls = true;
        } else if line.starts_with(|c: char| c.is_ascii_digit()) {
            let cost = line.split_whitespace().nth(1).and_then(|cost| cost.parse::<u64>().ok()).unwrap_or(0);
            if !after_calls {
                *counts.entry((object.clone(), name.clone())).or_default() += cost;
            }
            after_calls = false;
        }
    }
    counts.into_iter().map(|((object, name), instructions)| Function { object, name, instructions }).collect()
}

/// From the dumps that `--dump-after=FUNCTION` writes beside `profile`: the instructions collected up to the last
/// return of each function, since the dump before.
pub fn instructions_per_dump(profile: &Path) -> BTreeMap<String, u64> {
    let directory = profile.parent().expect("a profile has a directory");
    let prefix = format!("{}.", profile.file_name().expect("a profile has a name").to_string_lossy());
    let mut dumps: Vec<(u32, String)> = std::fs::read_dir(directory)
        .expect("the directory of the profile")
        .filter_map(|entry| {
            let entry = entry.expect("an entry");
            let number = entry.file_name().to_string_lossy().strip_prefix(&prefix)?.parse().ok()?;
            Some((number, std::fs::read_to_string(entry.path()).expect("a dump")))
        })
        .collect();
    dumps.sort();
    let mut counts = BTreeMap::new();
    for (_, text) in dumps {
        let trigger = text.lines().find_map(|line| line.strip_prefix("desc: Trigger: --dump-after="));
        let total = text
            .lines()
            .find_map(|line| line.strip_prefix("summary:").or_else(|| line.strip_prefix("totals:")))
            .and_then(|total| total.trim().parse().ok());
        if let (Some(function), Some(total)) = (trigger, total) {
            counts.insert(function.trim().to_string(), total);
        }
    }
    counts
}

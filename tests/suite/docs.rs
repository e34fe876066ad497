//! What docs and comments name is there: a file that was moved or renamed is named by its new path everywhere.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use crate::support::manifest_dir;

const FOLDERS: &[&str] = &[
    "cli/",
    "docs/",
    "examples/",
    "fuzz/",
    "harness/",
    "include/",
    "kernels/",
    "packages/",
    "perf/",
    "qa/",
    "sim/",
    "src/",
    "tests/",
    "tools/",
];
/// What a run makes, a part of a longer path, and history, which keeps the names of its day.
const MADE: &[&str] = &["fuzz/artifacts", "fuzz/corpus", "perf/results/", "sim/faults", "sim/lib"];
const HISTORY: &[&str] = &["perf/journal/", "CHANGELOG.md", "fuzz/seeds/"];

/// Paths below one of the folders that a text names.
fn paths_in(text: &str) -> Vec<&str> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || "._-/".contains(letter);
    text.split(|letter| !is_part(letter))
        .map(|word| word.trim_end_matches(['.', '/', '-']))
        .filter(|word| FOLDERS.iter().any(|folder| word.len() > folder.len() && word.starts_with(folder)))
        // Not a placeholder.
        .filter(|word| !word.contains("NAME") && !MADE.iter().any(|made| word.starts_with(made)))
        .collect()
}

#[test]
fn every_path_that_a_text_of_the_repository_names_exists() {
    let listed = Command::new("git").args(["ls-files"]).current_dir(manifest_dir()).output().expect("git lists files");
    let files = String::from_utf8(listed.stdout).expect("names are text");
    let mut missing: BTreeMap<String, String> = BTreeMap::new();
    let mut named = 0;
    for file in files.lines().filter(|file| !HISTORY.iter().any(|history| file.starts_with(history))) {
        // What is no text names nothing; a file may be deleted and not yet committed.
        let Ok(text) = fs::read_to_string(manifest_dir().join(file)) else { continue };
        let folder = manifest_dir().join(file).parent().expect("a folder").to_path_buf();
        for path in paths_in(&text) {
            named += 1;
            if !manifest_dir().join(path).exists() && !folder.join(path).exists() {
                missing.insert(path.to_owned(), file.to_owned());
            }
        }
    }
    assert!(named > 200, "only {named} paths were found");
    assert!(missing.is_empty(), "named, but not there: {missing:#?}");
}

#[test]
fn paths_are_told_from_words() {
    assert_eq!(
        paths_in("see src/lib.rs, `docs/kernels.md`. A src/ or kernels/NAME.h"),
        ["src/lib.rs", "docs/kernels.md"]
    );
}

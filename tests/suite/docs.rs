//! What docs and comments name is there: a file that was moved or renamed is named by its new path everywhere. Commands in docs
//! parse with the tool, and every reason to forward has its line in docs/troubleshooting.md.

#[path = "../../src/route/reason.rs"]
mod reason;

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use crate::support::{Program, dime_lib, manifest_dir, tool_path};
use reason::REASONS;

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

/// The pages whose commands are tried.
fn pages_with_commands() -> Vec<String> {
    let recipes = fs::read_dir(manifest_dir().join("docs/recipes")).expect("docs/recipes");
    let recipes = recipes.map(|entry| format!("docs/recipes/{}", entry.expect("a file").file_name().display()));
    recipes.chain(["docs/troubleshooting.md".to_owned()]).collect()
}

/// The `dime` commands in the code blocks of a text, as the words behind `dime`. A block with a language is no shell.
fn commands_in(text: &str) -> Vec<Vec<String>> {
    let blocks = text.split("```").skip(1).step_by(2).filter(|block| block.starts_with('\n'));
    let joined: Vec<String> = blocks.map(|block| block.replace("\\\n", " ")).collect();
    joined.iter().flat_map(|block| block.lines()).filter_map(command_in).collect()
}

/// The words behind `dime` in a line of shell, up to what ends the command.
fn command_in(line: &str) -> Option<Vec<String>> {
    let line = line.split(" #").next().expect("a first part");
    let mut words = line.split_whitespace().skip_while(|word| *word != "dime");
    words.next()?;
    Some(words.take_while(|word| !["|", ">", "&", "&&", ";"].contains(word)).map(str::to_owned).collect())
}

/// What is wrong with a command. `dime run` gets as far as starting its program, which is not found: there is no PATH.
fn trouble_of(command: &[String]) -> Option<String> {
    let tool = Program::new(tool_path("dime")).env("PATH", "/nonexistent");
    let is_run = command.first().is_some_and(|word| word == "run");
    let outcome = if is_run {
        tool.args(["run", "--dime"]).arg(dime_lib()).args(&command[1..]).run()
    } else {
        // Help comes only when everything before it is right.
        let end = command.iter().position(|word| word == "--").unwrap_or(command.len());
        tool.args(&command[..end]).arg("--help").run()
    };
    let is_complete = !outcome.stderr.contains("dime: add --") && !outcome.stderr.contains("dime: warning: ");
    (outcome.code != if is_run { 127 } else { 0 } || !is_complete).then(|| outcome.to_string())
}

#[test]
fn the_commands_of_recipes_and_troubleshooting_parse_and_leave_no_switch_out() {
    let mut tried = 0;
    for page in pages_with_commands() {
        let text = fs::read_to_string(manifest_dir().join(&page)).expect("a page");
        for command in commands_in(&text) {
            tried += 1;
            if let Some(trouble) = trouble_of(&command) {
                panic!("{page}: dime {}: {trouble}", command.join(" "));
            }
        }
    }
    assert!(tried > 25, "only {tried} commands were found");
}

#[test]
fn a_command_that_does_not_parse_or_leaves_a_switch_out_is_noticed() {
    for (command, is_right) in [
        ("A=1 mpirun -n 4 dime run --stats -- ./x --y & done", true),
        ("dime run --no-such -- ./x", false),
        ("dime run --for vlm -- vllm serve m", false),
        ("dime run --for vllm -- vllm serve m --disable-custom-all-reduce", false),
        ("dime doctor --json -- python train.py | jq .", true),
        ("dime doctor --no-such -- python train.py", false),
        ("dime bench -b 1K -d int32,float  # comment", true),
        ("dime bench -b none", false),
        ("dime no-such", false),
    ] {
        let words = command_in(command).expect("a command");
        assert_eq!(trouble_of(&words).is_none(), is_right, "{command}: {words:?}");
    }
    assert_eq!(command_in("python dime.py"), None);
    assert_eq!(commands_in("dime a\n```\nx=1 dime run \\\n -- y\n```\ndime b"), [["run", "--", "y"]]);
}

#[test]
fn every_reason_to_forward_stands_in_troubleshooting_with_its_counter() {
    let text = fs::read_to_string(manifest_dir().join("docs/troubleshooting.md")).expect("the page");
    for reason in REASONS {
        let row = format!("\n| {} | `{}` | ", reason.text(), reason.name());
        assert!(text.contains(&row), "docs/troubleshooting.md has no row{row}");
    }
}

//! Values of DIME_NCCL_LIB that cannot work. Each is refused with a message of its own, which names the value and the
//! way out, and every call then fails.

use crate::support::places::{build_report, fake_nccl, other_library};
use crate::support::{Cc, NCCL_SYSTEM_ERROR, Program, dime_lib, work_dir, write};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Runs with the value and returns the message, in which the value itself is replaced.
fn refusal(program: &Path, value: &Path) -> String {
    let outcome = Program::new(program).arg(dime_lib()).env("DIME_NCCL_LIB", value).succeeds();
    for call in ["version-result", "unique-id", "group-start", "group-end", "comm-count", "init-all"] {
        assert_eq!(outcome.value(call), NCCL_SYSTEM_ERROR.to_string(), "{call} of {outcome}");
    }
    assert_eq!(outcome.value("real"), "(null)", "{outcome}");
    let value = value.display().to_string();
    // Said at the default level of logging, once.
    let lines: Vec<String> = outcome
        .all()
        .lines()
        .filter(|line| line.contains("DIME ") && line.contains(&value))
        .map(str::to_string)
        .collect();
    assert_eq!(lines.len(), 1, "one line should name {value}: {outcome}");
    assert!(lines[0].contains("DIME_NCCL_LIB"), "the message should say which variable to change: {outcome}");
    assert!(says_the_way_out(&outcome.all()), "the log should say what to do: {outcome}");
    let last_error = outcome.value("last-error");
    assert!(last_error.contains(&value), "the last error should name {value}: {outcome}");
    let message = lines[0].split_once("DIME ").expect("checked above").1;
    message.replace(&value, "VALUE")
}

/// To name an NCCL, or to let it be looked for.
fn says_the_way_out(text: &str) -> bool {
    ["set DIME_NCCL_LIB", "Set DIME_NCCL_LIB", "unset"].iter().any(|words| text.contains(words))
}

/// A copy of a library that claims another processor.
fn foreign_library(library: &Path, path: PathBuf) -> PathBuf {
    const E_MACHINE_OFFSET: usize = 18;
    const EM_X86_64: u16 = 62;
    const EM_AARCH64: u16 = 183;
    let mut bytes = std::fs::read(library).expect("a library");
    let ours = u16::from_le_bytes([bytes[E_MACHINE_OFFSET], bytes[E_MACHINE_OFFSET + 1]]);
    let other = if ours == EM_X86_64 { EM_AARCH64 } else { EM_X86_64 };
    bytes[E_MACHINE_OFFSET..E_MACHINE_OFFSET + 2].copy_from_slice(&other.to_le_bytes());
    write(path, bytes)
}

#[test]
fn each_bad_value_has_a_message_of_its_own() {
    let dir = work_dir("refusals/each");
    let program = build_report(&dir);
    let fake = fake_nccl(dir.join("fake"), "2.27.7");
    // Names that do not hint at what is wrong: the message must come from looking.
    let cases = [
        ("missing", dir.join("a"), "no such file"),
        ("directory", dir.join("b"), "directory"),
        ("text", write(dir.join("c"), "this is not a library\n"), "not"),
        ("other library", other_library(dir.join("d.so")), "ncclGetVersion"),
        ("other processor", foreign_library(&fake, dir.join("e")), ""),
        ("device", PathBuf::from("/dev/null"), "not a"),
    ];
    std::fs::create_dir_all(dir.join("b")).expect("a directory");
    let mut messages = BTreeSet::new();
    for (what, value, word) in &cases {
        let message = refusal(&program, value);
        println!("{what}: {message}");
        assert!(message.to_lowercase().contains(&word.to_lowercase()), "{what}: {message:?} does not say {word:?}");
        messages.insert(message);
    }
    assert_eq!(messages.len(), cases.len(), "{messages:#?}");
}

#[test]
fn ourselves_are_refused_by_path_as_a_symlink_and_as_a_copy() {
    let dir = work_dir("refusals/ourselves");
    let program = build_report(&dir);
    let link = dir.join("f");
    std::os::unix::fs::symlink(dime_lib(), &link).expect("a symlink");
    let copy = dir.join("g");
    std::fs::copy(dime_lib(), &copy).expect("a copy of libdime.so");
    let elsewhere = dir.join("h");
    std::fs::hard_link(&copy, &elsewhere).expect("a hard link");
    for value in [dime_lib(), link, copy, elsewhere] {
        let message = refusal(&program, &value);
        println!("{}: {message}", value.display());
        assert!(message.contains("Dime") || message.contains("libdime"), "{message:?} should say that it is us");
    }
}

#[test]
fn a_library_that_lacks_what_every_nccl_has_is_refused_by_the_name_of_the_function() {
    const FUNCTIONS: [&str; 5] =
        ["ncclGetVersion", "ncclGetUniqueId", "ncclCommInitRank", "ncclCommDestroy", "ncclAllReduce"];
    let dir = work_dir("refusals/lacking");
    let program = build_report(&dir);
    for lacking in FUNCTIONS {
        let functions = FUNCTIONS.iter().filter(|name| **name != lacking);
        let text: String =
            functions.map(|name| format!("int {name}(void);\nint {name}(void) {{ return 0; }}\n")).collect();
        let source = write(dir.join(format!("{lacking}.c")), text);
        let library = Cc::c().shared("libnccl.so.2").arg(source).build(dir.join(format!("without-{lacking}.so")));
        let message = refusal(&program, &library);
        assert!(message.ends_with(&format!("it has no {lacking}")), "{message:?}");
    }
}

#[test]
fn the_message_about_another_processor_names_it() {
    let dir = work_dir("refusals/processor");
    let program = build_report(&dir);
    let fake = fake_nccl(dir.join("fake"), "2.27.7");
    let message = refusal(&program, &foreign_library(&fake, dir.join("e"))).to_lowercase();
    let names = if cfg!(target_arch = "x86_64") { ["aarch64", "arm"] } else { ["x86_64", "x86-64"] };
    assert!(
        names.iter().any(|name| message.contains(name)) || message.contains("architecture"),
        "{message:?} should name the processor"
    );
}

#[test]
fn a_truncated_library_is_refused() {
    let dir = work_dir("refusals/truncated");
    let program = build_report(&dir);
    let fake = fake_nccl(dir.join("fake"), "2.27.7");
    let bytes = std::fs::read(fake).expect("the fake");
    for length in [0, 3, 40, 512] {
        let value = write(dir.join(format!("t{length}")), &bytes[..length]);
        refusal(&program, &value);
    }
}

#[test]
fn a_bad_value_is_never_replaced_by_another_library_in_silence() {
    let dir = work_dir("refusals/fallback");
    let program = build_report(&dir);
    let fake = fake_nccl(dir.join("fake"), "2.27.7");
    let outcome = Program::new(&program)
        .arg(dime_lib())
        .env("DIME_NCCL_LIB", dir.join("missing"))
        .env("LD_LIBRARY_PATH", fake.parent().expect("a directory"))
        .succeeds();
    assert!(
        outcome.all().contains(&format!("{}", dir.join("missing").display())),
        "nothing says that DIME_NCCL_LIB is wrong: {outcome}"
    );
}

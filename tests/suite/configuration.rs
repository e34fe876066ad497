//! Environment variables, seen from outside: what is said about one that is wrong, and that the documented ones are not.

use crate::catalogue::NAMES as KERNELS;
use crate::support::log_line::LogLine;
use crate::support::places::{build_report, fake_nccl};
use crate::support::{Outcome, Program, dime_lib, manifest_dir, work_dir};
use std::path::{Path, PathBuf};

/// Variables and a value that each must take.
const GOOD: &[(&str, &str)] = &[
    ("DIME_DISABLE", "1"),
    ("DIME_DISABLE", "0"),
    ("DIME_KERNEL", "auto"),
    ("DIME_THRESHOLD_BYTES", "262144"),
    ("DIME_ALLOW_PCIE", "1"),
    ("DIME_ALLOW_SHARED_GPU", "1"),
    ("DIME_EARLY_LAUNCH", "0"),
    ("DIME_FIRST_EPOCH", "4294967295"),
    ("DIME_BLOCKS", "8"),
    ("DIME_THREADS", "512"),
    ("DIME_SETUP_TIMEOUT_S", "5"),
    ("DIME_DEBUG_FILE", ""),
    ("DIME_STATS_FILE", "/nonexistent/%h.%p"),
];

/// Variables, a value that each must refuse, and its default.
const BAD: &[(&str, &str, &str)] = &[
    ("DIME_DISABLE", "maybe", "0"),
    ("DIME_KERNEL", "three_shot", "auto"),
    ("DIME_THRESHOLD_BYTES", "-1", ""),
    ("DIME_ALLOW_PCIE", "2", "0"),
    ("DIME_ALLOW_SHARED_GPU", "2", "0"),
    ("DIME_EARLY_LAUNCH", "never", "1"),
    ("DIME_FIRST_EPOCH", "banana", "1"),
    ("DIME_FIRST_EPOCH", "4294967296", "1"),
    ("DIME_BLOCKS", "8x", "0"),
    ("DIME_THREADS", "1.5", "0"),
    ("DIME_SETUP_TIMEOUT_S", "soon", "30"),
];

struct Setting {
    program: PathBuf,
    fake: PathBuf,
}

impl Setting {
    fn build(dir: &Path) -> Setting {
        Setting { program: build_report(dir), fake: fake_nccl(dir.join("real"), "2.27.7") }
    }

    fn run(&self, settings: &[(&str, &str)]) -> Outcome {
        let program = Program::new(&self.program).arg(dime_lib()).env("DIME_NCCL_LIB", &self.fake);
        settings.iter().fold(program, |program, (name, value)| program.env(name, value)).succeeds()
    }

    fn warnings(&self, settings: &[(&str, &str)]) -> Vec<String> {
        let settings: Vec<(&str, &str)> =
            [("DIME_DEBUG", "warn")].into_iter().chain(settings.iter().copied()).collect();
        let outcome = self.run(&settings);
        assert_eq!(outcome.value("version"), "22707", "{outcome}");
        LogLine::all(&outcome.all()).into_iter().filter(|line| line.level == "WARN").map(|line| line.text).collect()
    }
}

#[test]
fn good_values_are_taken_without_a_word() {
    let setting = Setting::build(&work_dir("configuration/good"));
    let kernels = KERNELS.map(|kernel| ("DIME_KERNEL", kernel));
    for (name, value) in GOOD.iter().chain(&kernels) {
        assert!(setting.warnings(&[(name, value)]).is_empty(), "{name}={value}");
    }
    for level in ["none", "version", "error", "warn", "info", "trace"] {
        let outcome = setting.run(&[("DIME_DEBUG", level)]);
        assert!(!outcome.all().contains("DIME_DEBUG cannot"), "{outcome}");
    }
}

#[test]
fn a_bad_value_is_one_warning_that_names_variable_value_and_default() {
    let setting = Setting::build(&work_dir("configuration/bad"));
    for (name, value, default) in BAD {
        let warnings = setting.warnings(&[(name, value)]);
        assert_eq!(warnings.len(), 1, "{name}={value}: {warnings:?}");
        for part in [name, value, default] {
            assert!(warnings[0].contains(part), "{:?} should name {part:?}", warnings[0]);
        }
    }
}

#[test]
fn a_bad_level_keeps_the_default_level() {
    let setting = Setting::build(&work_dir("configuration/level"));
    let outcome = setting.run(&[("DIME_DEBUG", "loud")]);
    assert!(!outcome.all().contains("DIME WARN") && !outcome.all().contains("DIME INFO"), "{outcome}");
    let outcome = setting.run(&[("DIME_DEBUG", "loud"), ("NCCL_DEBUG", "WARN")]);
    let lines = LogLine::all(&outcome.all());
    assert!(lines.iter().any(|line| line.text.contains("DIME_DEBUG") && line.text.contains("loud")), "{outcome}");
}

#[test]
fn an_unknown_variable_is_one_warning_with_the_nearest_name() {
    let setting = Setting::build(&work_dir("configuration/unknown"));
    for (name, nearest) in [
        ("DIME_KERNAL", "DIME_KERNEL"),
        ("DIME_DISABLED", "DIME_DISABLE"),
        ("DIME_FRIST_EPOCH", "DIME_FIRST_EPOCH"),
        ("DIME_THRESHOLD_BITES", "DIME_THRESHOLD_BYTES"),
        ("DIME_NCCL_LIBRARY", "DIME_NCCL_LIB"),
    ] {
        let warnings = setting.warnings(&[(name, "1")]);
        assert_eq!(warnings.len(), 1, "{name}: {warnings:?}");
        assert!(warnings[0].contains(name), "{warnings:?}");
        let words: Vec<&str> =
            warnings[0].split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| *word != name).collect();
        assert!(words.contains(&nearest), "{:?} should name {nearest}", warnings[0]);
    }
}

#[test]
fn variables_of_others_are_nobodys_business() {
    let setting = Setting::build(&work_dir("configuration/others"));
    let others = [("DIMENSION", "3"), ("XDIME_KERNEL", "x"), ("dime_kernel", "x"), ("NCCL_ALGO", "no such thing")];
    assert!(setting.warnings(&others).is_empty());
}

#[test]
fn an_empty_value_counts_as_not_set() {
    let setting = Setting::build(&work_dir("configuration/empty"));
    for (name, _) in GOOD {
        assert!(setting.warnings(&[(name, "")]).is_empty(), "{name}");
    }
    // Also where it would choose a library.
    let outcome = Program::new(&setting.program)
        .arg(dime_lib())
        .env("DIME_NCCL_LIB", "")
        .env("LD_LIBRARY_PATH", setting.fake.parent().expect("a directory"))
        .succeeds();
    assert_eq!(outcome.value("version"), "22707", "{outcome}");
}

#[test]
fn a_warning_is_said_once_however_many_calls_are_made() {
    let setting = Setting::build(&work_dir("configuration/once"));
    let outcome = Program::new(&setting.program)
        .args(["--threads", "16"])
        .arg(dime_lib())
        .env("DIME_NCCL_LIB", &setting.fake)
        .env("DIME_DEBUG", "warn")
        .env("DIME_KERNAL", "auto")
        .succeeds();
    let count = outcome.all().lines().filter(|line| line.contains("DIME_KERNAL")).count();
    assert_eq!(count, 1, "{outcome}");
}

#[test]
fn the_documentation_names_every_variable_and_the_library_knows_each_that_it_names() {
    let path = manifest_dir().join("docs/configuration.md");
    let text = std::fs::read_to_string(&path).expect("docs/configuration.md");
    let mut documented: Vec<&str> = text
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("DIME_") && word.len() > 5)
        .collect();
    documented.sort_unstable();
    documented.dedup();
    for (name, _) in GOOD {
        assert!(documented.contains(name), "docs/configuration.md does not name {name}");
    }
    for name in ["DIME_NCCL_LIB", "DIME_DEBUG", "DIME_DEBUG_FILE"] {
        assert!(documented.contains(&name), "docs/configuration.md does not name {name}");
    }
    let setting = Setting::build(&work_dir("configuration/documented"));
    for name in documented.into_iter().filter(|name| !["DIME_NCCL_LIB", "DIME_DEBUG", "DIME_DEBUG_FILE"].contains(name))
    {
        let warnings = setting.warnings(&[(name, "no such value")]);
        assert!(!warnings.iter().any(|warning| warning.contains("not a variable")), "{name}: {warnings:?}");
    }
}

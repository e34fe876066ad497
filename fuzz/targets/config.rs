//! The environment: any variables with any values. Each that is refused is one warning that names it, and changes nothing.

#![no_main]

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;

use dime::host::config::{Config, Level, VARIABLES};
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;

/// Values that some variable takes, and some that look like it.
const VALUES: &[&str] = &[
    "0",
    "1",
    "yes",
    "OFF",
    "version",
    "Info",
    "trace",
    "abort",
    "auto",
    "two_shot_bulk",
    "64K",
    "16777216G",
    "1g",
    "0x10",
    "0x+1",
    "+7",
    "-1",
    " 5 ",
    "4294967295",
    "4294967296",
    "18446744073709551615",
    "/lib/libnccl.so.2",
];
/// Names that mean something to others.
const OTHER_NAMES: &[&str] = &[
    "NCCL_DEBUG",
    "NCCL_DEBUG_FILE",
    "DIME_CACHE_DIR",
    "DIME_CUDA_ARCHS",
    "DIME_SIM_DEVICES",
    "DIME_SIM",
    "DIME_",
    "DIME_KERNAL",
    "dime_debug",
];

fuzz_target!(|bytes: &[u8]| {
    let mut input = Unstructured::new(bytes);
    let mut variables = Vec::new();
    while !input.is_empty() && variables.len() < 12 {
        let Ok(variable) = variable(&mut input) else { break };
        variables.push(variable);
    }
    check(&variables);
});

fn variable(input: &mut Unstructured) -> Result<(OsString, OsString)> {
    let name = match input.int_in_range(0..=9)? {
        0 => text(input, b"")?,
        1 => text(input, b"DIME_")?,
        2 => OsString::from(*input.choose(OTHER_NAMES)?),
        _ => OsString::from(input.choose(VARIABLES)?.name),
    };
    let value = match input.int_in_range(0..=3)? {
        0 => OsString::from(*input.choose(VALUES)?),
        1 => {
            let begin = *input.choose(VALUES)?;
            text(input, begin.as_bytes())?
        }
        _ => text(input, b"")?,
    };
    Ok((name, value))
}

/// Some bytes behind a beginning; no variable holds a zero.
fn text(input: &mut Unstructured, begin: &[u8]) -> Result<OsString> {
    let length = input.int_in_range(0..=40)?.min(input.len());
    let bytes = begin.iter().chain(input.bytes(length)?).copied().filter(|byte| *byte != 0);
    Ok(OsString::from_vec(bytes.collect()))
}

fn check(variables: &[(OsString, OsString)]) {
    let (together, warnings) = Config::parse(variables.iter().cloned());
    let mut expected_warnings = Vec::new();
    let mut expected_fields = fields(&Config::default());
    let (mut is_level_refused, mut file_of_nccl) = (false, None);
    for (name, value) in variables {
        let (alone, warnings) = Config::parse([(name.clone(), value.clone())]);
        let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        let changed = fields(&alone);
        let is_ours = VARIABLES.iter().position(|variable| OsStr::new(variable.name) == name);
        match warnings.as_slice() {
            [] => assert!(alone != Config::default() || !is_refused(name, value), "{name:?}={value:?} has no effect"),
            [warning] => {
                // Of a level that is refused one hears whatever the level.
                let is_level = name == "DIME_DEBUG";
                is_level_refused |= is_level;
                let debug = if is_level { Some(Level::Error) } else { None };
                assert_eq!(alone, Config { debug, ..Config::default() }, "{warning}");
                assert!(warning.starts_with(&name.to_string_lossy().escape_debug().to_string()), "{warning}");
                assert!(!warning.chars().any(char::is_control), "{warning:?}");
            }
            several => panic!("{several:?}"),
        }
        // Only the tuning file's variable has an empty value.
        let counts = !value.is_empty() || name == "DIME_TUNING_FILE";
        if let (Some(index), true) = (is_ours, warnings.is_empty() && counts) {
            expected_fields[index].clone_from(&changed[index]);
        }
        for (index, (field, default)) in changed.iter().zip(fields(&Config::default())).enumerate() {
            // NCCL's variable is that of our level too.
            let may_change = is_ours == Some(index) || name == "NCCL_DEBUG" && VARIABLES[index].name == "DIME_DEBUG";
            assert!(may_change || *field == default, "{name:?} changed {}", VARIABLES[index].name);
        }
        if name == "NCCL_DEBUG_FILE" && !value.is_empty() {
            file_of_nccl = Some(value.into());
        }
        expected_warnings.extend(warnings);
    }
    expected_warnings.sort();
    assert_eq!(warnings.iter().map(ToString::to_string).collect::<Vec<_>>(), expected_warnings);
    for (index, (field, expected)) in fields(&together).iter().zip(&expected_fields).enumerate() {
        let has_level_of_nccl = variables.iter().any(|(name, _)| name == "NCCL_DEBUG");
        let may_differ = VARIABLES[index].name == "DIME_DEBUG" && (has_level_of_nccl || is_level_refused);
        assert!(field == expected || may_differ, "{}: {field}, not {expected}", VARIABLES[index].name);
    }
    assert!(!is_level_refused || together.level() >= Level::Error, "{:?}", together.debug);
    assert_eq!(together.nccl_debug_file, file_of_nccl);
}

/// Whether a variable that changed nothing must be warned about.
fn is_refused(name: &OsStr, value: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    if VARIABLES.iter().any(|variable| variable.name.as_bytes() == name) {
        return !value.is_empty() && !may_mean_the_default(value);
    }
    let is_of_others = name.starts_with(b"DIME_SIM_") || matches!(name, b"DIME_CACHE_DIR" | b"DIME_CUDA_ARCHS");
    !value.is_empty() && name.starts_with(b"DIME_") && !is_of_others
}

fn may_mean_the_default(value: &OsStr) -> bool {
    let text = value.to_string_lossy().trim().to_ascii_lowercase();
    let hex = text.strip_prefix("0x").map(|digits| u32::from_str_radix(digits, 16));
    let number = hex.unwrap_or_else(|| text.parse());
    matches!(text.as_str(), "false" | "no" | "off" | "true" | "yes" | "on" | "auto") || matches!(number, Ok(0 | 1 | 30))
}

/// The value of each variable, in the order of the table.
fn fields(config: &Config) -> Vec<String> {
    let Config {
        nccl_lib,
        debug,
        debug_file,
        stats_file,
        disable,
        kernel,
        threshold_bytes,
        tuning_file,
        batch_invariant,
        allow_pcie,
        allow_shared_gpu,
        legacy_ipc,
        early_launch,
        first_epoch,
        blocks,
        threads,
        setup_timeout_s,
        timeout_s,
        nccl_debug_file: _,
    } = config;
    let fields: [&dyn std::fmt::Debug; VARIABLES.len()] = [
        nccl_lib,
        debug,
        debug_file,
        stats_file,
        disable,
        kernel,
        threshold_bytes,
        tuning_file,
        batch_invariant,
        allow_pcie,
        allow_shared_gpu,
        legacy_ipc,
        early_launch,
        first_epoch,
        blocks,
        threads,
        setup_timeout_s,
        timeout_s,
    ];
    fields.iter().map(|field| format!("{field:?}")).collect()
}

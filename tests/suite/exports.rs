//! What libdime.so shows to the dynamic linker: exactly NCCL's names and our own, NCCL's SONAME, and no need of anything
//! that an application might not have.

use crate::support;
use crate::support::{Release, defined_symbols, dime_lib, exported_names, exports, tool};
use std::collections::{BTreeMap, BTreeSet};

/// glibc 2.34 is the oldest that a library built on Debian 12 runs on: what `pthread` was became part of libc there.
const NEWEST_GLIBC_ALLOWED: (u32, u32) = (2, 34);

fn readelf(option: &str) -> String {
    tool("readelf", ["-W".as_ref(), option.as_ref(), dime_lib().as_os_str()])
}

/// The values of the dynamic section's entries of one kind, without brackets.
fn dynamic_entries(kind: &str) -> Vec<String> {
    readelf("-d")
        .lines()
        .filter(|line| line.contains(&format!("({kind})")))
        .map(|line| {
            let value = line.rsplit_once(')').expect("an entry").1.trim();
            match (value.find('['), value.rfind(']')) {
                (Some(open), Some(close)) => value[open + 1..close].to_string(),
                _ => value.to_string(),
            }
        })
        .collect()
}

#[test]
fn nccl_symbols_are_exactly_those_of_the_table() {
    let expected: BTreeSet<String> = exported_names().into_iter().collect();
    assert_eq!(expected.len(), 193);
    let symbols = defined_symbols(&dime_lib());
    let found: BTreeSet<String> =
        symbols.iter().map(|(name, _)| name.clone()).filter(|name| !name.starts_with("dime")).collect();
    let lacking: Vec<_> = expected.difference(&found).collect();
    let extra: Vec<_> = found.difference(&expected).collect();
    assert!(lacking.is_empty(), "libdime.so does not export {lacking:?}");
    assert!(extra.is_empty(), "libdime.so exports {extra:?} too");
    for (name, kind) in &symbols {
        assert!("TW".contains(*kind), "{name} is exported as {kind}, not as a function");
    }
}

#[test]
fn the_source_gives_each_function_the_first_release_that_has_it() {
    let in_source: BTreeMap<String, Release> = dime::real::FUNCTIONS
        .iter()
        .map(|(name, since)| (name.to_string_lossy().into_owned(), Release::parse(since)))
        .collect();
    assert_eq!(in_source.len(), dime::real::FUNCTIONS.len(), "src/nccl/functions.rs has a function twice");
    let seen: BTreeMap<String, Release> = exports().into_iter().map(|export| (export.name, export.since)).collect();
    for (name, since) in &in_source {
        assert_eq!(
            Some(since),
            seen.get(name),
            "{name} in src/nccl/functions.rs (left) and in NVIDIA's releases (right)"
        );
    }
    assert_eq!(
        in_source.len(),
        seen.len(),
        "functions in src/nccl/functions.rs (left) and in NVIDIA's releases (right)"
    );
}

#[test]
fn symbols_of_our_own_are_those_of_dime_h() {
    let header = std::fs::read_to_string(support::include_dir().join("dime.h")).expect("include/dime.h");
    let declared: BTreeSet<String> = header
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| word.starts_with("dime") && word[4..].starts_with(char::is_uppercase))
        .filter(|word| header.contains(&format!("{word}(")))
        .map(str::to_string)
        .collect();
    let exported: BTreeSet<String> = defined_symbols(&dime_lib())
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| name.starts_with("dime"))
        .collect();
    assert!(exported.contains("dimeVersion"), "the symbol by which we know ourselves");
    assert_eq!(exported, declared, "exported (left) and declared in dime.h (right)");
}

#[test]
fn the_soname_is_nccls() {
    assert_eq!(dynamic_entries("SONAME"), ["libnccl.so.2"]);
}

#[test]
fn the_library_is_never_unloaded() {
    assert!(readelf("-d").lines().any(|line| line.contains("FLAGS_1") && line.contains("NODELETE")));
}

#[test]
fn nothing_but_the_c_library_is_needed() {
    let needed = dynamic_entries("NEEDED");
    assert!(!needed.is_empty());
    for library in &needed {
        let allowed = ["libc.so.", "libgcc_s.so.", "libm.so.", "libdl.so.", "libpthread.so.", "ld-linux"];
        assert!(allowed.iter().any(|allowed| library.starts_with(allowed)), "libdime.so needs {library}");
    }
    assert_eq!(dynamic_entries("RPATH").len() + dynamic_entries("RUNPATH").len(), 0, "it brings a search path");
}

#[test]
fn no_glibc_newer_than_2_34_is_needed() {
    let newest = readelf("-V")
        .split(|c: char| c.is_whitespace())
        .filter_map(|word| word.strip_prefix("GLIBC_"))
        .filter_map(|version| {
            let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
            Some((parts.next()??, parts.next()??))
        })
        .max()
        .expect("libdime.so needs some glibc");
    println!("libdime.so needs GLIBC_{}.{}", newest.0, newest.1);
    assert!(newest <= NEWEST_GLIBC_ALLOWED, "libdime.so needs GLIBC_{}.{}", newest.0, newest.1);
}

#[test]
fn the_stack_is_not_executable_and_no_code_is_relocated() {
    let headers = readelf("-l");
    let stack = headers.lines().find(|line| line.contains("GNU_STACK")).expect("a GNU_STACK header");
    assert!(!stack.contains("RWE"), "{stack}");
    assert!(!readelf("-d").contains("TEXTREL"));
}

/// The static initialisers that may run when libdime.so is loaded. Each only stores what the C library hands it:
/// `frame_dummy` belongs to the compiler's start files, `ARGV_INIT_ARRAY` to Rust's standard library (it keeps argc and
/// argv). tests/suite/loader.rs counts the instructions that run, which also sees what has no name here.
const HARMLESS_INITIALISERS: &[&str] = &["frame_dummy", "ARGV_INIT_ARRAY"];

#[test]
fn no_constructor_of_ours_exists() {
    let symbols = readelf("-s");
    let word = |line: &str, index: usize| line.split_whitespace().nth(index).map(str::to_string);
    let size_of = |section: &str| {
        readelf("-S").lines().find(|line| line.contains(&format!(" {section} "))).map(|line| {
            let after = line.split(']').nth(1).expect("a section header").split_whitespace().collect::<Vec<_>>();
            (u64::from_str_radix(after[2], 16).expect("an address"), u64::from_str_radix(after[4], 16).expect("a size"))
        })
    };
    assert!(size_of(".ctors").is_none() && size_of(".preinit_array").is_none());
    let (start, bytes) = size_of(".init_array").expect("the start files put something into .init_array");
    // Where each slot points is in the relocations.
    let relocations = readelf("-r");
    for slot in (start..start + bytes).step_by(8) {
        let line = relocations
            .lines()
            .find(|line| word(line, 0).is_some_and(|at| u64::from_str_radix(&at, 16) == Ok(slot)))
            .unwrap_or_else(|| panic!("no relocation of .init_array slot {slot:#x}"));
        let target = line.split_whitespace().last().expect("a relocation's addend");
        let address = u64::from_str_radix(target.trim_start_matches("0x"), 16).expect("an addend");
        let name = symbols
            .lines()
            .filter(|line| line.contains(" FUNC "))
            .find(|line| word(line, 1).is_some_and(|value| u64::from_str_radix(&value, 16) == Ok(address)))
            .and_then(|line| word(line, 7))
            .unwrap_or_else(|| panic!("the initialiser at {address:#x} has no name"));
        assert!(
            HARMLESS_INITIALISERS.iter().any(|harmless| name.contains(harmless)),
            "{name} runs when libdime.so is loaded"
        );
    }
}

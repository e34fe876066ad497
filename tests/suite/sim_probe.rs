//! A link that damages what crosses it: the probe of the setup finds it and says which one, and all ranks forward.

use crate::support::sim::{build_with_dime, simulated};
use crate::support::{Outcome, work_dir};
use std::path::PathBuf;
use std::sync::OnceLock;

fn program() -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| build_with_dime(&work_dir("sim_probe"), "c/probe.c")).clone()
}

/// Runs ranks with bad links.
fn run(ranks: &str, links: &str, variables: &[(&str, &str)]) -> Outcome {
    let program = simulated(program())
        .arg(ranks)
        .env("DIME_SIM_DEVICES", "4")
        .env("DIME_SIM_SMS", "16")
        .env("DIME_SIM_BAD_LINK", links)
        .env("DIME_DEBUG", "info")
        .limit_s(120);
    let outcome = variables.iter().fold(program, |program, (name, value)| program.env(name, value)).succeeds();
    assert_eq!(outcome.value("right"), "1");
    outcome
}

/// The lines that name a bad link.
fn complaints(outcome: &Outcome) -> Vec<&str> {
    outcome.stdout.lines().filter(|line| line.contains("arrived damaged")).collect()
}

/// Asserts that this line is of rank `to` and blames the link from rank `from`, with so many differing words.
fn assert_blames(line: &str, ranks: usize, from: usize, to: usize, differing: usize) {
    for part in [
        &" DIME WARN communicator ".to_owned(),
        &format!(" rank {to} of {ranks} on GPU {to}: all-reduces are forwarded: the test pattern"),
        &format!("what rank {from} on GPU {from} (GPU-"),
        &format!(") wrote into the memory of rank {to} on GPU {to} (GPU-"),
        &format!(") arrived damaged: {differing} words differ, the first that was found at byte 0x"),
        &"; driver ".to_owned(),
        &"CUDA 1".to_owned(),
    ] {
        assert!(line.contains(part.as_str()), "{part:?} is not in {line:?}");
    }
    // A flipped bit: what is expected and what is found differ in the lowest bit.
    let words: Vec<u64> = line
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| word.len() == 18)
        .filter_map(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok())
        .collect();
    assert!(matches!(words[..], [found, expected] if found == expected ^ 1), "{line}");
}

/// Words of one sender: one in each of 16384 strides, and 224 packets of 16 bytes of each of three kinds.
const ALL: usize = 16384 + 3 * 2 * 224;
const PACKETS: usize = 2 * 2 * 224;

#[test]
fn a_bad_link_is_named_in_one_line_of_the_rank_that_received() {
    for (model, ranks, from, to) in [
        ("processes", 2, 0, 1),
        ("processes", 2, 1, 0),
        ("processes", 3, 2, 0),
        ("processes", 4, 1, 3),
        ("threads", 2, 1, 0),
        ("threads", 3, 0, 1),
        ("threads", 4, 3, 2),
    ] {
        let outcome = run(&format!("{model}-{ranks}"), &format!("{from}:{to}"), &[]);
        let lines = complaints(&outcome);
        assert_eq!(lines.len(), 1, "{outcome}");
        assert_blames(lines[0], ranks, from, to, ALL);
        // The others say whose fault it is.
        let others = format!("did not arrive in scratch memory (rank {to})");
        assert_eq!(outcome.stdout.lines().filter(|line| line.contains(&others)).count(), ranks - 1, "{outcome}");
    }
}

#[test]
fn a_link_that_damages_packets_alone_is_found() {
    for model in ["processes-2", "threads-2"] {
        let outcome = run(model, "0:1:packets", &[]);
        let lines = complaints(&outcome);
        assert_eq!(lines.len(), 1, "{outcome}");
        assert_blames(lines[0], 2, 0, 1, PACKETS);
    }
}

#[test]
fn several_bad_links_give_each_receiving_rank_one_line() {
    let outcome = run("processes-4", "0:1,2:1,3:1,1:2", &[]);
    let lines = complaints(&outcome);
    assert_eq!(lines.len(), 2, "{outcome}");
    let of_rank = |to: usize| *lines.iter().find(|line| line.contains(&format!(" rank {to} of 4 "))).expect("a line");
    assert_blames(of_rank(1), 4, 0, 1, ALL);
    assert!(of_rank(1).contains("; words from rank 2 and rank 3 differ too;"), "{outcome}");
    assert_blames(of_rank(2), 4, 1, 2, ALL);
}

#[test]
fn a_bad_link_is_found_by_legacy_ipc_and_with_weak_memory_too() {
    for variable in [("DIME_LEGACY_IPC", "1"), ("DIME_SIM_WEAK", "7")] {
        for model in ["processes-2", "threads-2"] {
            let outcome = run(model, "1:0", &[variable]);
            assert_eq!(complaints(&outcome).len(), 1, "{variable:?} {outcome}");
        }
    }
}

#[test]
fn the_line_is_logged_at_the_level_of_warnings() {
    let outcome = run("processes-2", "0:1", &[("DIME_DEBUG", "warn")]);
    assert_eq!(complaints(&outcome).len(), 1, "{outcome}");
}

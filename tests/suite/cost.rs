//! What a forwarded call costs over the direct one: instructions counted by callgrind, no allocation, no system call.
//!
//! Counts of instructions are the same on every machine and in every run; times would not be.

use crate::support::callgrind::instructions_per_dump;
use crate::support::fake::Fake;
use crate::support::{Cc, Program, Release, dime_lib, test_file, work_dir};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The most that a forwarded call may cost over the direct one, in instructions.
const LIMIT_INSTRUCTIONS: f64 = 60.0;

/// Enough that what happens once in a loop does not show.
const TIMES: u32 = 1000;

/// The signal that ends a process at a forbidden system call.
const SIGSYS: i32 = 31;

/// The calls in tests/c/forwarded_calls.h.
const CALLS: &[&str] = &[
    "ncclCommCount",
    "ncclCommGetAsyncError",
    "ncclBroadcast",
    "ncclAllReduce",
    "ncclAllReduceConfig",
    "ncclSend",
    "ncclGroupStart",
    "ncclTeamRankToWorld",
];

fn quick_fake(dir: &Path) -> PathBuf {
    Fake { quick: true, ..Fake::complete(Release(2, 32, 3)) }.build(dir.join("libnccl.so.2"))
}

/// Instructions of each loop of tests/c/cost.c, and how many calls one turn of it makes.
fn count(dir: &Path, label: &str, program: &Path, library: &Path, fake: &Path) -> BTreeMap<String, (u64, u64)> {
    let profile = dir.join(format!("{label}.callgrind"));
    let outcome = Program::new("valgrind")
        .args(["--tool=callgrind", "--quiet", "--toggle-collect=loop_*"])
        .args(CALLS.iter().map(|call| format!("--dump-after=loop_{call}")))
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(program)
        .arg(library)
        .arg(TIMES.to_string())
        .env("DIME_NCCL_LIB", fake)
        .limit_s(120)
        .succeeds();
    let counted = instructions_per_dump(&profile);
    outcome
        .stdout
        .lines()
        .map(|line| {
            let (name, calls) = line.split_once('=').expect("name=calls");
            // The loop runs twice: once to warm up, then in earnest. The last dump counts.
            let instructions = counted.get(&format!("loop_{name}")).unwrap_or_else(|| panic!("no count of {name}"));
            (name.to_string(), (*instructions, calls.parse().expect("a number of calls")))
        })
        .collect()
}

#[test]
fn a_forwarded_call_costs_at_most_60_instructions_more_than_the_direct_one() {
    let dir = work_dir("cost/instructions");
    let fake = quick_fake(&dir);
    let program = Cc::c().arg(test_file("c/cost.c")).arg("-ldl").build(dir.join("cost"));
    let direct = count(&dir, "direct", &program, &fake, &fake);
    let dime = count(&dir, "dime", &program, &dime_lib(), &fake);
    assert_eq!((direct.len(), dime.len()), (CALLS.len(), CALLS.len()));
    let mut too_much = Vec::new();
    for (name, (instructions, calls)) in &direct {
        let turns = f64::from(TIMES) * *calls as f64;
        let alone = *instructions as f64 / turns;
        let forwarded = dime[name].0 as f64 / turns;
        println!("{name}: {alone:.1} instructions direct, {forwarded:.1} forwarded: {:.1} more", forwarded - alone);
        // A loop with a call in it takes some instructions; less means that nothing was counted.
        assert!(alone >= 4.0, "{name} was not counted");
        assert!(forwarded > alone, "{name} cannot cost nothing to forward");
        if forwarded - alone > LIMIT_INSTRUCTIONS {
            too_much.push(name);
        }
    }
    assert!(too_much.is_empty(), "forwarding costs more than {LIMIT_INSTRUCTIONS} instructions for {too_much:?}");
}

#[test]
fn a_forwarded_call_makes_no_system_call_and_allocates_nothing() {
    let dir = work_dir("cost/side-effects");
    let fake = quick_fake(&dir);
    let program = Cc::c().arg(test_file("c/side_effects.c")).arg("-ldl").build(dir.join("side_effects"));
    let run = |library: &Path| Program::new(&program).arg(library).arg(TIMES.to_string()).env("DIME_NCCL_LIB", &fake);
    for library in [&fake, &dime_lib()] {
        let outcome = run(library).succeeds();
        assert_eq!(outcome.value("allocations"), "0", "{outcome}");
    }
    // The check notices what it is for.
    let killed = run(&dime_lib()).arg("syscall").run();
    assert_eq!(killed.code, -SIGSYS, "{killed}");
    assert_ne!(run(&dime_lib()).arg("malloc").succeeds().value("allocations"), "0");
}

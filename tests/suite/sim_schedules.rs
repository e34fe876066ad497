//! Random schedules of the kernels with weak memory: the real kernels pass them all, kernels that are broken on purpose do not.
//!
//! A schedule is decided by its seed alone: `target/sim/schedules SEED 1` repeats it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use crate::support::{manifest_dir, sim};

/// Schedules of the real kernels, in all.
const SCHEDULES: u64 = 100_000;
/// Seeds in which a broken variant must be caught.
const SEEDS_FOR_BROKEN: u64 = 20_000;

/// DIME_SIM_SEED moves the seeds, to see others than CI sees.
fn first_seed() -> u64 {
    std::env::var("DIME_SIM_SEED").map_or(1, |text| text.parse().expect("DIME_SIM_SEED is a number"))
}

fn run(program: &Path, arguments: &[String]) -> (bool, String) {
    let output = Command::new(program).args(arguments).output().expect("running schedules");
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn the_kernels_pass_every_random_schedule() {
    let program = sim::sim_file("schedules");
    let parts = thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let share = SCHEDULES.div_ceil(parts);
    thread::scope(|scope| {
        let running: Vec<_> = (0..parts)
            .map(|part| {
                let (program, first) = (&program, first_seed() + part * share);
                scope.spawn(move || run(program, &[first.to_string(), share.to_string()]))
            })
            .collect();
        for part in running {
            let (passed, text) = part.join().expect("a thread of schedules");
            print!("{text}");
            assert!(passed, "a kernel failed; the seed repeats it:\n{text}");
            assert!(text.contains(&format!("schedules {share}, ")), "not all schedules ran:\n{text}");
        }
    });
}

#[test]
fn each_broken_variant_is_caught() {
    let folder = manifest_dir().join("sim/schedules/broken");
    let mut names: Vec<String> = fs::read_dir(&folder)
        .expect("the patches of the broken variants")
        .map(|entry| entry.expect("a patch").path().file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert!(names.len() >= 8, "only {} broken variants", names.len());
    let mut missed = Vec::new();
    println!("| variant | caught by | after seeds |");
    for name in names {
        let program = sim::sim_file(&format!("broken/{name}"));
        let mut arguments = vec![first_seed().to_string(), SEEDS_FOR_BROKEN.to_string(), "--until-failure".to_owned()];
        // What they break matters only when a rank is aborted.
        if name.starts_with("stop-") {
            arguments.push("--aborts".to_owned());
        }
        let (passed, text) = run(&program, &arguments);
        // seed N: CHECK: details
        let found = text.lines().find_map(|line| line.strip_prefix("seed ")?.split_once(": "));
        match found.filter(|_| !passed) {
            Some((seed, rest)) => {
                let check = rest.split(':').next().unwrap_or_default();
                let seeds = seed.parse::<u64>().expect("a seed") - first_seed() + 1;
                println!("| {name} | {check} | {seeds} |");
            }
            None => missed.push(name),
        }
    }
    assert!(missed.is_empty(), "not caught within {SEEDS_FOR_BROKEN} seeds: {missed:?}");
}

//! Tuning files on the simulated node: rows that decide, files that are not used, ranks with different ones, `dime tune`,
//! and what `dime doctor` says.

use crate::support::sim::{build_with_dime, simulated};
use crate::support::{Outcome, Program, tool_path, work_dir, write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Rows that no built-in table has: blocks of 64 threads for sums of floats, another kernel for large ones.
const GOOD: &str = "dime-tuning 1\n\
                    allreduce,0,1K,*,*,2,1,*,*,float_sum,*,*,64,16,*,*\n\
                    allreduce,1025,*,two_shot,bulk,3,1,*,*,*,*,*,128,*,2,*\n\
                    allreduce,*,*,*,*,*,1,*,*,float_sum,*,*,*,*,*,256K\n";

/// Two ranks in a process each: sums of f32 of 64, 4000 and 100000 elements, which are checked, and explained by rank 0.
fn ranks() -> Program {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    simulated(PROGRAM.get_or_init(|| build_with_dime(&work_dir("sim_tuning/rank"), "c/rank.c")))
        .args(["--ranks", "2", "--rounds", "2", "--counts", "64,4000,100000", "--report"])
        .env("DIME_SIM_DEVICES", "2")
        .env("DIME_DEBUG", "trace")
        .limit_s(120)
}

fn lines(outcome: &Outcome, parts: &[&str]) -> Vec<String> {
    let all = outcome.all();
    let has = |line: &&str| parts.iter().all(|part| line.contains(part));
    all.lines().filter(has).map(str::to_owned).collect()
}

/// Both ranks were right, and small sums were launched so.
fn assert_launched(outcome: &Outcome, how: &str) {
    assert_eq!((outcome.value("rank-0"), outcome.value("rank-1")), ("right", "right"), "{outcome}");
    assert_eq!(lines(outcome, &[" 256 bytes", how]).len(), 4, "{how}, twice on each rank: {outcome}");
}

/// What the built-in row does with 256 bytes.
const BUILT_IN: &str = "with up to 1 blocks of 128 threads";
const TUNED: &str = "fast: one_shot_ll with up to 1 blocks of 64 threads";

#[test]
fn rows_choose_kernel_grid_and_threshold_and_log_and_explanation_name_the_file() {
    let dir = work_dir("sim_tuning/good");
    let file = write(dir.join("good.csv"), GOOD);
    let outcome = ranks().env("DIME_TUNING_FILE", &file).succeeds();
    assert_launched(&outcome, TUNED);
    assert_eq!(lines(&outcome, &[" 16000 bytes", "fast: two_shot_bulk with up to 3 blocks of 128 threads"]).len(), 4);
    assert_eq!(lines(&outcome, &[" 400000 bytes", "forwarded: the message is larger than the threshold"]).len(), 4);
    let named = format!("5 rows and thresholds of the tuning file {}", file.display());
    assert_eq!(lines(&outcome, &["up to 262144 bytes", &named]).len(), 2, "each rank: {outcome}");
    assert!(lines(&outcome, &["other operations and types of floats up to 16777216"]).len() == 2, "{outcome}");
    assert!(lines(&outcome, &["DIME WARN"]).is_empty(), "{outcome}");
    // dimeExplain, by rank 0.
    for (count, line) in [("count=64 ", 2), ("count=4000 ", 3)] {
        let from = format!(", by line {line} of the tuning file {}", file.display());
        assert_eq!(lines(&outcome, &[count, " fast: ", &from]).len(), 1, "{outcome}");
    }
}

#[test]
fn a_file_is_found_where_the_users_configuration_is_unless_none_is_wanted() {
    let dir = work_dir("sim_tuning/found");
    write(dir.join("dime/tuning.csv"), GOOD);
    write(dir.join("home/.config/dime/tuning.csv"), GOOD);
    let home = dir.join("home");
    assert_launched(&ranks().env("XDG_CONFIG_HOME", &dir).succeeds(), TUNED);
    assert_launched(&ranks().env("HOME", &home).succeeds(), TUNED);
    for none in ["none", ""] {
        assert_launched(&ranks().env("XDG_CONFIG_HOME", &dir).env("DIME_TUNING_FILE", none).succeeds(), BUILT_IN);
    }
    // A relative path does not count, by the rules for this variable.
    assert_launched(&ranks().env("XDG_CONFIG_HOME", ".").current_dir(&dir).succeeds(), BUILT_IN);
}

#[test]
fn a_file_that_cannot_be_used_is_one_warning_and_the_built_in_rows_decide() {
    let dir = work_dir("sim_tuning/bad");
    let good = |from: &str, to: &str| GOOD.replacen(from, to, 1);
    for (name, text, expected) in [
        ("empty", String::new(), "line 1: \"\" is not \"dime-tuning 1\""),
        ("older", good("tuning 1", "tuning 0"), "line 1: \"dime-tuning 0\" is not a version that this Dime reads"),
        ("newer", good("tuning 1", "tuning 2"), "line 1: \"dime-tuning 2\" is not a version that this Dime reads"),
        (
            "short",
            good(",64,16,*,*", ""),
            "line 2: \"allreduce,0,1K,*,*,2,1,*,*,float_sum,*,*\" is not a row of 16 values",
        ),
        (
            "value",
            good("64,16", "63,16"),
            "line 2, threads: \"63\" is not a number from 32 to 512 that 32 divides, or *",
        ),
        ("kernel", good("two_shot", "ring"), "line 3, algorithm: \"ring\" is not one of one_shot, two_shot, or *"),
        ("several", good("64,16", "63,16").replace("256K", "x"), "(and 1 more; dime doctor lists them)"),
        ("binary", "\0\u{1}\u{fffd}\n".repeat(5), "line 1: \"\\0\\u{1}\u{fffd}\" is not \"dime-tuning 1\""),
        (
            "machine",
            GOOD.replace("*,*,float_sum", "*,80,float_sum").replace("*,*,*,*,*,128", "*,80,*,*,*,128"),
            "no row is for compute capability",
        ),
    ] {
        let file = write(dir.join(name), text);
        let outcome = ranks().env("DIME_TUNING_FILE", &file).succeeds();
        assert_launched(&outcome, BUILT_IN);
        let shown = file.display().to_string();
        let warnings = lines(&outcome, &["DIME WARN", "the built-in rows decide: ", &shown, expected]);
        assert_eq!(warnings.len(), 2, "{name}: once in each process: {outcome}");
        assert_eq!(lines(&outcome, &["DIME WARN"]).len(), 2, "{name}: {outcome}");
    }
    for (path, expected) in [("missing", "No such file or directory"), (".", "it is not a regular file")] {
        let outcome = ranks().env("DIME_TUNING_FILE", dir.join(path)).succeeds();
        assert_launched(&outcome, BUILT_IN);
        let way_out = "DIME_TUNING_FILE names a file, or none";
        assert_eq!(lines(&outcome, &["DIME WARN", expected, way_out]).len(), 2, "{outcome}");
    }
}

#[test]
fn ranks_with_different_rows_use_the_built_in_ones_and_say_so() {
    let dir = work_dir("sim_tuning/different");
    let one = write(dir.join("one.csv"), GOOD);
    let same = write(dir.join("same.csv"), GOOD.replace("1\n", "1\n# a comment\n").replace("1K", " 1024 "));
    let other = write(dir.join("other.csv"), GOOD.replace(",64,16,", ",96,16,"));
    let of_rank_1 = |file: &Path| {
        let assignment = format!("DIME_TUNING_FILE={}", file.display());
        ranks().args(["--env", "1", &assignment]).env("DIME_TUNING_FILE", &one).succeeds()
    };
    let outcome = of_rank_1(&same);
    assert_launched(&outcome, TUNED);
    assert!(lines(&outcome, &["DIME WARN"]).is_empty(), "{outcome}");
    for file in [&other, Path::new("none")] {
        let outcome = of_rank_1(file);
        assert_launched(&outcome, BUILT_IN);
        let text = "the built-in rows decide, since the ranks have different tuning files (rank 0 and rank 1)";
        assert_eq!(lines(&outcome, &["DIME WARN", text]).len(), 2, "each rank: {outcome}");
        assert_eq!(lines(&outcome, &["DIME WARN"]).len(), 2, "{outcome}");
    }
}

fn tune(devices: usize) -> Program {
    simulated(tool_path("dime")).arg("tune").env("DIME_SIM_DEVICES", devices.to_string()).limit_s(600)
}

#[test]
fn dime_tune_writes_a_file_that_is_read_back() {
    let dir = work_dir("sim_tuning/tune");
    let file = dir.join("new/tuning.csv");
    let outcome = tune(2).args(["--bytes", "512,4K", "--minutes", "3", "--out"]).arg(&file).succeeds();
    assert!(outcome.stderr.contains("times mean nothing"), "{outcome}");
    assert!(outcome.stdout.contains("\n2 x ") && outcome.stdout.contains("built-in us"), "{outcome}");
    for size in ["512", "4K"] {
        for dtype in ["bf16", "int32"] {
            let is_line = |line: &&str| line.split_whitespace().take(2).eq([size, dtype]);
            assert_eq!(outcome.stdout.lines().filter(is_line).count(), 1, "{size} {dtype}: {outcome}");
        }
    }
    assert!(outcome.stdout.contains("threshold of float_sum: 16M, "), "{outcome}");
    // Times decide whether there is a row; where there is none, that is said.
    if outcome.stdout.contains("no file is written") {
        assert!(!file.exists());
        return;
    }
    let text = std::fs::read_to_string(&file).expect("a file");
    assert!(text.starts_with("dime-tuning 1\n# dime tune ") && text.contains("(simulated: the rows mean nothing)"));
    let way = format!("libdime.so reads it with DIME_TUNING_FILE={}", file.display());
    assert!(outcome.stdout.contains(&way), "{outcome}");
    let outcome = ranks().env("DIME_TUNING_FILE", &file).succeeds();
    assert!(lines(&outcome, &["DIME WARN"]).is_empty(), "{outcome}");
    assert_eq!(lines(&outcome, &["rows and thresholds of the tuning file"]).len(), 2, "{outcome}");
    // What is there is not replaced, and that is found before anything is measured.
    let outcome = tune(2).arg("--out").arg(&file).run();
    let expected = format!("{} is there; replace it with --force, or name another file with --out", file.display());
    assert!(outcome.code == 2 && outcome.stderr.contains(&expected), "{outcome}");
    assert_eq!(std::fs::read_to_string(&file).expect("a file"), text);
}

#[test]
fn without_time_dime_tune_says_which_sizes_keep_their_rows_and_without_out_writes_nothing() {
    let dir = work_dir("sim_tuning/no-time");
    let outcome =
        tune(3).args(["--ranks", "3", "--bytes", "1K", "--minutes", "0.0001"]).env("XDG_CONFIG_HOME", &dir).succeeds();
    let expected = "the time was over before 2 of 2 sizes of 3 ranks were done: the built-in rows stay for them";
    assert!(outcome.stderr.contains(expected), "{outcome}");
    assert!(outcome.stderr.contains("on the simulated node a file is written with --out only"), "{outcome}");
    assert_eq!(std::fs::read_dir(&dir).expect("a folder").count(), 0);
}

#[test]
fn options_that_dime_tune_cannot_follow_are_refused_with_the_way_out() {
    for (options, expected) in [
        (&["--ranks", "9"][..], "--ranks 9: all-reduces of more than 8 ranks go to NCCL"),
        (&["--ranks", "4"], "--ranks 4: 2 GPUs are visible"),
        (&["--ranks", "1"], "must be at least 2"),
        (&["--bytes", "64M"], "--bytes 64M: name sizes from 256 to 32M that 16 divides"),
        (&["--bytes", "1000,1016"], "--bytes 1000: name sizes from 256 to 32M that 16 divides"),
        (&["--bytes", "1K,1040"], "sizes must be 256 bytes apart"),
        (&["--minutes", "0"], "write a number of minutes above 0, at most 1440"),
        (&["--dry-run", "--out", "x"], "cannot be used with"),
        (&["--dry-run", "--force"], "cannot be used with"),
    ] {
        let outcome = tune(2).args(options).run();
        assert!(outcome.code == 2 && outcome.stderr.contains(expected), "{options:?}: {outcome}");
    }
    let outcome = tune(1).run();
    assert!(outcome.code == 2 && outcome.stderr.contains("an all-reduce needs 2"), "{outcome}");
}

#[test]
fn the_doctor_names_the_file_its_rows_and_everything_that_is_wrong() {
    let dir = work_dir("sim_tuning/doctor");
    let doctor = |file: &Path| {
        let doctor = simulated(tool_path("dime")).arg("doctor").env("DIME_SIM_DEVICES", "4").limit_s(120);
        doctor.env("DIME_TUNING_FILE", file).run()
    };
    let good = write(dir.join("good.csv"), GOOD);
    let outcome = doctor(&good);
    let line = format!("[OK] {}, changed less than a day ago: its rows go before the built-in ones", good.display());
    assert!(outcome.stdout.contains(&line) && outcome.stdout.contains("4 ranks: 5 rows and thresholds"), "{outcome}");
    assert!(outcome.stdout.contains("4 ranks: bf16 2 B to 256 KiB"), "{outcome}");
    let bad = write(dir.join("bad.csv"), GOOD.replace("64,16", "63,16").replace("256K", "x"));
    let outcome = doctor(&bad);
    assert!(outcome.stdout.contains("2 problems: the file is not used"), "{outcome}");
    for problem in ["line 2, threads: \"63\" is not", "line 4, threshold: \"x\" is not a number of bytes"] {
        assert!(outcome.stdout.contains(problem), "{outcome}");
    }
    assert!(doctor(Path::new("none")).stdout.contains("[OK] there is none, so the built-in rows decide"));
    let other = write(dir.join("other.csv"), "dime-tuning 1\nallreduce,*,*,*,*,2,1,*,80,*,*,*,*,*,*,*\n");
    assert!(doctor(&other).stdout.contains("no row is for compute capability"));
}

//! `dime plot`: draws measurements from files.

use crate::support::{Outcome, Program, manifest_dir, tool_path, work_dir, write};
use std::fs;

const FILES: [&str; 2] = ["perf/results/h200-x2.jsonl", "perf/results/h200-x4.jsonl"];

fn plot(arguments: &[&str]) -> Outcome {
    Program::new(tool_path("dime")).arg("plot").args(arguments).current_dir(manifest_dir()).run()
}

#[test]
fn the_plot_of_the_readme_shows_the_measurements_that_are_kept() {
    let committed = fs::read_to_string(manifest_dir().join("docs/latency-h200.svg")).expect("the plot");
    let out = work_dir("plot").join("latency-h200.svg");
    let out = out.to_str().expect("a path of ASCII");
    let outcome = plot(&[FILES[0], FILES[1], "--mode", "graph", "--out", out]);
    assert_eq!(outcome.code, 0, "{outcome}");
    assert!(outcome.stderr.contains("136 measurements"), "{outcome}");
    // The caption has the command.
    let drawn = fs::read_to_string(out).expect("the plot").replace(out, "docs/latency-h200.svg");
    assert!(drawn == committed, "`make plot` would change docs/latency-h200.svg");
}

#[test]
fn what_cannot_be_drawn_is_named() {
    let dir = work_dir("plot/refused");
    let out = dir.join("plot.svg");
    let out = out.to_str().expect("a path of ASCII");
    let broken = write(dir.join("broken.jsonl"), "\n{\"lib\":\"dime\"}\n");
    let broken = broken.to_str().expect("a path of ASCII");
    for (arguments, words) in [
        (&[broken, "--out", out][..], &["broken.jsonl, line 2", "no measurement of `dime bench --json`"][..]),
        (&["/nonexistent.jsonl", "--out", out], &["/nonexistent.jsonl: ", "No such file"]),
        (
            &[FILES[0], "--gpus", "8", "--out", out],
            &["none of the 156 measurements", "--gpus 2 --dtype bf16 --op sum --mode graph"],
        ),
        (&[FILES[0], "--out", "plot.pdf"], &["plot.pdf", "a plot is a .svg or a .png file"]),
        (&[FILES[0], "--out", "/nonexistent/plot.svg"], &["/nonexistent/plot.svg: "]),
        (&[FILES[0], "--out", out, "--dtype", "f12"], &["--dtype", "f12"]),
        (&["--out", out], &["<FILES>..."]),
    ] {
        let outcome = plot(arguments);
        assert_eq!(outcome.code, 2, "{arguments:?}: {outcome}");
        for word in words {
            assert!(outcome.stderr.contains(word), "{arguments:?}: no {word:?} in {outcome}");
        }
    }
}

//! `dime bench` on the simulated node: nccl-tests' flags, values that are refused, tables, JSON, plots and peers.

use crate::support::sim::{sim_dir, simulated};
use crate::support::{Outcome, Program, dime_lib, tool, tool_path, work_dir, write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// So few operations that a test takes seconds.
const FEW: [&str; 6] = ["-n", "2", "-G", "2", "-w", "0"];

fn bench(devices: usize) -> Program {
    let devices = devices.to_string();
    simulated(tool_path("dime")).arg("bench").args(FEW).env("DIME_SIM_DEVICES", devices).limit_s(300)
}

/// The words of each line of the tables: the first of a table is its header.
fn tables(outcome: &Outcome) -> Vec<Vec<Vec<&str>>> {
    outcome
        .stdout
        .split("\n\n")
        .map(|table| {
            table
                .trim()
                .lines()
                .skip(1)
                .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
                .collect()
        })
        .collect()
}

/// Every measurement of a JSON file: the values of these fields, as Python shows them; None for a field that is not there.
fn fields(path: &Path, names: &[&str]) -> Vec<Vec<String>> {
    const PROGRAM: &str = "import json, sys\n\
        for line in open(sys.argv[1]):\n    print('\\t'.join(str(json.loads(line).get(name)) for name in sys.argv[2:]))";
    let path = path.display().to_string();
    let text = tool("python3", [&["-c", PROGRAM, &path], names].concat());
    text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

/// The texts of an SVG, which is parsed as XML.
fn texts_of_svg(path: &Path) -> String {
    const PROGRAM: &str = "import sys, xml.etree.ElementTree as tree\n\
        root = tree.parse(sys.argv[1]).getroot()\nassert root.tag == '{http://www.w3.org/2000/svg}svg', root.tag\n\
        print('\\n'.join(text.strip() for text in root.itertext()))";
    tool("python3", ["-c", PROGRAM, &path.display().to_string()])
}

/// Width and height of a PNG.
fn size_of_png(path: &Path) -> (u32, u32) {
    let bytes = std::fs::read(path).expect("a file");
    assert_eq!(&bytes[..8], b"\x89PNG\r\n\x1a\n", "the signature of {}", path.display());
    assert_eq!(&bytes[12..16], b"IHDR");
    assert_eq!(&bytes[bytes.len() - 8..bytes.len() - 4], b"IEND");
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    (number(16), number(20))
}

#[test]
fn the_flags_of_nccl_tests_choose_sizes_counts_and_gpus() {
    let dir = work_dir("bench/flags");
    let json = dir.join("two.jsonl");
    let outcome = bench(2)
        .args([
            "-b", "8", "-e", "2K", "-f", "16", "-g", "2", "-t", "1", "-c", "2", "-R", "0", "-z", "0", "-m", "1", "-d",
            "float", "-o", "max",
        ])
        .arg("--json")
        .arg(&json)
        .succeeds();
    let tables = tables(&outcome);
    assert_eq!(tables.len(), 1, "{outcome}");
    let header = ["size", "type", "dime us", "NCCL us", "speed-up", "kernel", "SMs", "p50", "p99", "check"];
    assert_eq!(tables[0][0], header, "{outcome}");
    let sizes: Vec<&str> = tables[0][1..].iter().map(|line| line[0]).collect();
    assert_eq!(sizes, ["8", "128", "2K"], "{outcome}");
    for line in &tables[0][1..] {
        assert_eq!((line[1], line[5], line[9]), ("f32", "one_shot_ll", "ok"), "{outcome}");
        assert!(line[6].parse::<u32>().is_ok_and(|blocks| blocks > 0) && line[4].ends_with('x'), "{outcome}");
    }
    let names = ["lib", "gpus", "bytes", "dtype", "op", "mode", "kernel", "check", "model", "simulated"];
    let rows = fields(&json, &names);
    assert_eq!(rows.len(), 6);
    assert_eq!(rows[0].join(" "), "dime 2 8 f32 max graph one_shot_ll ok threads True");
    assert_eq!(rows[5].join(" "), "nccl 2 2048 f32 max graph nccl ok threads True");
    let method = "graph of 2, 2 replays, first 0 dropped, smallest rank's median";
    for row in fields(&json, &["method", "us", "p50_us", "p99_us", "blocks", "date"]) {
        assert_eq!(row[0], method);
        let numbers: Vec<f64> = row[1..4].iter().map(|number| number.parse().expect("a number")).collect();
        assert!(numbers[0] > 0.0 && numbers[0] <= numbers[2] && numbers[1] <= numbers[2], "{numbers:?}");
        assert!(row[5].starts_with("20") && row[5].ends_with('Z'), "{row:?}");
    }
}

#[test]
fn four_gpus_are_driven_by_processes_or_by_threads_eagerly_and_in_graphs() {
    let dir = work_dir("bench/four");
    for (flags, model) in [(["-g", "4", "--model", "processes"], "processes"), (["-t", "4", "-g", "1"], "threads")] {
        let json = dir.join(model);
        let outcome = bench(4)
            .args(flags)
            .args(["-b", "256", "-e", "512", "-i", "256", "--mode", "graph,eager", "--json"])
            .arg(&json)
            .succeeds();
        let tables = tables(&outcome);
        assert_eq!(tables.len(), 2, "{outcome}");
        assert_eq!(tables[1][0][9..], ["host dime", "host nccl", "check"], "{outcome}");
        assert!(tables.iter().all(|table| table[1..].iter().all(|line| line.last() == Some(&"ok"))), "{outcome}");
        assert!(outcome.stdout.starts_with("\n4 x ") && outcome.stdout.contains(model), "{outcome}");
        let rows = fields(&json, &["gpus", "model", "mode", "host_us"]);
        assert_eq!(rows.len(), 8);
        assert!(
            rows.iter().all(|row| row[..2] == ["4", model] && (row[2] == "eager") == (row[3] != "None")),
            "{rows:?}"
        );
    }
}

#[test]
fn no_graph_replays_mean_eager_calls_and_no_checks_are_said() {
    let outcome = simulated(tool_path("dime")).env("DIME_SIM_DEVICES", "2").limit_s(300);
    let outcome = outcome.args(["bench", "-G", "0", "-c", "0", "-n", "2", "-b", "256", "-e", "256"]).succeeds();
    assert!(outcome.stdout.contains(", eager, ") && !outcome.stdout.contains(", graph, "), "{outcome}");
    assert_eq!(tables(&outcome)[0][1].last(), Some(&"off"), "{outcome}");
    assert!(outcome.stderr.contains("dime: -c 0: results are not checked\n"), "{outcome}");
}

#[test]
fn every_type_has_its_rows_and_operations_have_a_column() {
    let sizes = ["-g", "2", "-b", "64", "-e", "64"];
    let outcome = bench(2).args(sizes).args(["-d", "all"]).succeeds();
    let tables_of_types = tables(&outcome);
    let types: Vec<&str> = tables_of_types[0][1..].iter().map(|line| line[1]).collect();
    let all = ["int8", "uint8", "int32", "uint32", "int64", "uint64", "f16", "f32", "f64", "bf16", "f8e4m3", "f8e5m2"];
    assert_eq!(types, all, "{outcome}");
    let outcome = bench(2).args(sizes).args(["-d", "half,int8", "-o", "all"]).succeeds();
    let tables_of_ops = tables(&outcome);
    assert_eq!(tables_of_ops[0][0][..3], ["size", "type", "op"], "{outcome}");
    let pairs: Vec<String> = tables_of_ops[0][1..].iter().map(|line| line[1..3].join(" ")).collect();
    assert_eq!(pairs.len(), 10, "{outcome}");
    assert_eq!((pairs[0].as_str(), pairs[9].as_str()), ("f16 sum", "int8 avg"), "{outcome}");
}

#[test]
fn every_kernel_is_a_column_and_a_line_of_the_plot() {
    let dir = work_dir("bench/kernels");
    let svg = dir.join("kernels.svg");
    let kernels = ["one_shot_ll", "one_shot_sentinel", "two_shot_ll", "two_shot_sentinel", "two_shot_bulk"];
    let sizes = ["-g", "4", "-b", "256", "-e", "4K", "-f", "4", "--plot"];
    let outcome = bench(4).args(sizes).arg(&svg).args(["--kernels", "all"]).succeeds();
    let tables_of_kernels = tables(&outcome);
    assert_eq!(tables_of_kernels[0][0][9..14], kernels, "{outcome}");
    assert!(tables_of_kernels[0][1..].iter().all(|line| line.len() == 15 && !line.contains(&"-")), "{outcome}");
    let texts = texts_of_svg(&svg);
    let command = format!("dime bench {} {} {} --kernels all", FEW.join(" "), sizes.join(" "), svg.display());
    for text in
        [&kernels[..], &["Dime", "NCCL", "256", "4K", "us per all-reduce", "times mean nothing", &command]].concat()
    {
        assert!(texts.replace('\n', " ").contains(text), "no {text} in {texts}");
    }
    assert!(texts.contains("driver unknown") && texts.contains("graph of 2, 2 replays"), "{texts}");
    // Integers have no sentinel kernels.
    let outcome = bench(2).args(["-b", "256", "-e", "256", "-d", "int32", "--kernels"]).succeeds();
    assert_eq!(tables(&outcome)[0][0][9..12], ["one_shot_ll", "two_shot_ll", "two_shot_bulk"], "{outcome}");
}

#[test]
fn a_png_has_a_panel_for_each_number_of_gpus() {
    let dir = work_dir("bench/png");
    for (gpus, panels) in [("2", 1), ("2,4", 2)] {
        let png = dir.join("plot.png");
        bench(4).args(["--gpus", gpus, "-b", "256", "-e", "1K", "--plot"]).arg(&png).succeeds();
        assert_eq!(size_of_png(&png), (1200, 720 * panels));
    }
}

/// Fails unless the tool refuses these options, before it looks for a GPU, with a text that has all the words.
fn assert_refused(options: &[&str], words: &[&str]) {
    let outcome = Program::new(tool_path("dime")).arg("bench").args(options).run();
    assert_eq!((outcome.code, outcome.stdout.as_str()), (2, ""), "{options:?}: {outcome}");
    for word in words {
        assert!(outcome.stderr.contains(word), "{options:?}: no {word:?} in {outcome}");
    }
}

#[test]
fn values_without_a_meaning_here_are_refused_with_the_way_out() {
    assert_refused(&["-R", "1"], &["-R 1", "ncclCommRegister", "use -R 0", "--peers"]);
    assert_refused(&["--local_register", "2"], &["-R 2", "symmetric windows", "use -R 0"]);
    assert_refused(&["-t", "4", "--model", "processes"], &["-t 4", "one thread", "--model threads"]);
    assert_refused(&["-t", "2", "-g", "2"], &["-t 2 -g 2", "write -g 4"]);
    assert_refused(&["-G", "0", "--mode", "graph"], &["-G 0", "--mode eager"]);
    assert_refused(&["-b", "1M", "-e", "1K"], &["-b 1M -e 1K", "swap them"]);
    assert_refused(&["-i", "1"], &["-i 1", "more than 4096 sizes", "-f 2"]);
    assert_refused(&["-o", "mulsum"], &["mulsum", "passes to NCCL", "use sum"]);
    assert_refused(&["-o", "xor"], &["no operation \"xor\"", "sum, prod, max, min, avg"]);
    assert_refused(&["-m", "4"], &["-m 4", "in one group", "leave it out"]);
    assert_refused(&["--run_cycles", "3"], &["-N 3", "--repeat"]);
    assert_refused(&["-C", "1"], &["-C 1", "--mode eager"]);
    assert_refused(&["-d", "complex"], &["no type \"complex\"", "bf16"]);
    assert_refused(&["--kernels", "three_shot"], &["no kernel \"three_shot\"", "two_shot_bulk"]);
    assert_refused(&["--plot", "plot.pdf"], &["'plot.pdf'", "--plot", ".svg or a .png"]);
    for (option, value) in [("-b", "0"), ("-e", "4T"), ("-f", "1"), ("-i", "x"), ("-n", "0"), ("-g", "0"), ("-t", "0")]
    {
        assert_refused(&[option, value], &[&format!("invalid value '{value}' for '--")]);
    }
    for pair in [["--bytes", "-b"], ["--gpus", "-g"], ["--gpus", "-t"], ["-f", "-i"]] {
        assert_refused(&[pair[0], "2", pair[1], "2"], &["cannot be used with"]);
    }
    let outcome = bench(2).args(["-g", "3"]).run();
    assert_eq!(outcome.code, 2, "{outcome}");
    assert!(outcome.stderr.contains("3: 2 GPUs here"), "{outcome}");
}

/// A folder in which the driver's library cannot be opened, whatever this machine has.
fn without_driver(dir: &Path) -> PathBuf {
    write(dir.join("no-driver/libcuda.so.1"), "no library");
    dir.join("no-driver")
}

#[test]
fn without_a_gpu_the_simulated_node_is_used_and_said_in_a_line() {
    let dir = work_dir("bench/fallback");
    let few = ["-n", "1", "-G", "1", "-w", "0", "-b", "256", "-e", "256"];
    let outcome = Program::new(tool_path("dime"))
        .arg("bench")
        .args(few)
        .env("LD_LIBRARY_PATH", without_driver(&dir))
        .env("DIME_SIM_DIR", sim_dir())
        .env("DIME_SIM_DEVICES", "2")
        .limit_s(300)
        .succeeds();
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome}");
    assert!(outcome.stderr.starts_with("dime: no CUDA driver here: "), "{outcome}");
    assert!(outcome.stderr.contains("simulated node: times mean nothing"), "{outcome}");
    assert_eq!(tables(&outcome)[0].len(), 2, "{outcome}");
    // Without any device the node is of no use either.
    let outcome = Program::new(tool_path("dime"))
        .arg("bench")
        .env("LD_LIBRARY_PATH", sim_dir())
        .env("DIME_SIM_DIR", sim_dir())
        .env("DIME_SIM_DEVICES", "0")
        .run();
    assert_eq!((outcome.code, outcome.stderr.lines().count()), (2, 1), "{outcome}");
}

#[test]
fn without_a_gpu_and_a_simulated_node_the_way_out_is_named() {
    let dir = work_dir("bench/nothing");
    for file in [dime_lib(), tool_path("dime")] {
        std::fs::create_dir_all(dir.join("bin")).expect("a directory");
        std::fs::copy(&file, dir.join("bin").join(file.file_name().expect("a name"))).expect("a copy");
    }
    let run = || Program::new(dir.join("bin/dime")).arg("bench").env("LD_LIBRARY_PATH", without_driver(&dir));
    for program in [run(), run().env("DIME_SIM_DIR", &dir)] {
        let outcome = program.run();
        assert_eq!((outcome.code, outcome.stdout.as_str()), (2, ""), "{outcome}");
        assert!(outcome.stderr.starts_with("dime: no CUDA driver here: "), "{outcome}");
        assert!(outcome.stderr.contains("`make sim`") && outcome.stderr.contains("DIME_SIM_DIR"), "{outcome}");
    }
    // The node beside the folder of the program.
    std::os::unix::fs::symlink(sim_dir(), dir.join("sim")).expect("a symlink");
    let few = ["-n", "1", "-G", "1", "-w", "0", "-b", "256", "-e", "256", "-g", "2"];
    let outcome = run().args(few).limit_s(300).succeeds();
    assert!(outcome.stderr.contains("times mean nothing"), "{outcome}");
}

#[test]
fn a_terminal_has_a_bar_and_a_file_has_none() {
    let options = format!("bench {} -g 2 -b 256 -e 512", FEW.join(" "));
    let command = format!("{} {options}", tool_path("dime").display());
    let program = simulated("script").args(["-qec", &command, "/dev/null"]).env("DIME_SIM_DEVICES", "2");
    let outcome = program.env("TERM", "xterm").limit_s(300).succeeds();
    for text in ["[........................] 0/4  2 GPUs, bf16 sum 256 bytes, dime", "[##################......] 3/4"] {
        assert!(outcome.stdout.contains(text), "no {text:?} in {outcome}");
    }
    let outcome = bench(2).args(["-g", "2", "-b", "256", "-e", "512"]).succeeds();
    assert!(!outcome.all().contains('\r'), "{outcome}");
}

#[test]
fn peers_that_are_not_installed_are_named() {
    let sizes = ["-g", "2", "-b", "256", "-e", "256", "--peers"];
    let outcome = bench(2).args(sizes).args(["--python", "/nonexistent/python3"]).succeeds();
    for peer in ["torch one_shot", "torch two_shot", "NCCL windows", "FlashInfer", "MSCCL++"] {
        let line = format!("dime: {peer} is not timed: /nonexistent/python3: ");
        assert_eq!(outcome.stderr.matches(&line).count(), 1, "{outcome}");
    }
    let outcome = bench(2).args(sizes).args(["-o", "max"]).succeeds();
    assert!(outcome.stderr.contains("dime: peers are not timed: they are timed for sums"), "{outcome}");
}

#[test]
fn peers_have_columns_lines_and_json() {
    // It stands in for Python: it has every module but flashinfer, and MSCCL++ fails.
    let dir = work_dir("bench/peers");
    let python = write(
        dir.join("python"),
        "#!/bin/sh\n\
         [ \"$1\" = -c ] && { [ \"$3\" != flashinfer ]; exit $?; }\n\
         case \"$2\" in *'\"peer\":\"mscclpp\"'*) echo 'Traceback' >&2; echo 'OSError: no such library' >&2; exit 1;; esac\n\
         case \"$2\" in *'\"gpus\":2,\"dtype\":\"bf16\",\"sizes\":[[256,2],[512,2]],\"replays\":2,\"warmup\":0'*) ;; *) exit 3;; esac\n\
         grep -q 'def nccl_windows' \"$1\" || exit 4\n\
         echo '{\"bytes\": 256, \"us\": 4.5, \"check\": \"ok\"}'\n\
         echo '{\"bytes\": 512, \"us\": 5.5, \"check\": \"ok\"}'\n",
    );
    std::fs::set_permissions(&python, std::fs::Permissions::from_mode(0o755)).expect("an executable script");
    let (svg, json) = (dir.join("plot.svg"), dir.join("rows.jsonl"));
    let outcome = bench(2)
        .args(["-g", "2", "-b", "256", "-e", "512", "--peers", "--python"])
        .arg(&python)
        .arg("--plot")
        .arg(&svg)
        .arg("--json")
        .arg(&json)
        .succeeds();
    let tables = tables(&outcome);
    assert_eq!(tables[0][0][9..], ["torch one_shot", "torch two_shot", "NCCL windows", "check"], "{outcome}");
    assert_eq!(tables[0][2][9..], ["5.50", "5.50", "5.50", "ok"], "{outcome}");
    assert!(outcome.stderr.contains("dime: FlashInfer is not timed: "), "{outcome}");
    assert!(outcome.stderr.contains("dime: MSCCL++ is not timed: OSError: no such library\n"), "{outcome}");
    let texts = texts_of_svg(&svg);
    assert!(texts.contains("NCCL windows") && !texts.contains("FlashInfer"), "{texts}");
    let rows = fields(&json, &["lib", "peer", "us"]);
    assert!(rows.contains(&vec!["torch two_shot".into(), "True".into(), "4.5".into()]), "{rows:?}");
    // The real script is Python.
    let script = crate::support::manifest_dir().join("cli/src/bench/peers.py");
    tool("python3", ["-c", "import ast, sys; ast.parse(open(sys.argv[1]).read())", &script.display().to_string()]);
}

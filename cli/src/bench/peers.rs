//! Other libraries, each measured by a Python script: torch symmetric memory, NCCL with registered windows, FlashInfer
//! and MSCCL++. What is not installed, and what fails, is said in a line; it never ends the run.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use dime_harness::Fallible;
use dime_harness::number::{Dtype, Op};
use dime_harness::output::note;
use serde_json::{Value, json};

use super::Plan;
use super::plan::Mode;
use super::row::{Column, Row};

const SCRIPT: &str = include_str!("peers.py");

/// A library of others.
struct Peer {
    /// The argument of the script.
    name: &'static str,
    title: &'static str,
    /// The Python modules that it needs.
    modules: &'static [&'static str],
}

const PEERS: [Peer; 5] = [
    Peer { name: "symm_one_shot", title: "torch one_shot", modules: &["torch"] },
    Peer { name: "symm_two_shot", title: "torch two_shot", modules: &["torch"] },
    Peer { name: "nccl_windows", title: "NCCL windows", modules: &["torch"] },
    Peer { name: "flashinfer", title: "FlashInfer", modules: &["torch", "flashinfer"] },
    Peer { name: "mscclpp", title: "MSCCL++", modules: &["torch", "mscclpp"] },
];

/// Measures every peer that is installed on so many GPUs. They have graphs, sums of f16, bf16 and f32.
pub fn measure(python: &Path, plan: &Plan, gpus: usize) -> Fallible<Vec<Row>> {
    let mut rows = Vec::new();
    if !plan.modes.contains(&Mode::Graph) {
        note!("dime: peers are not timed: they are timed in graphs only");
        return Ok(rows);
    }
    let pairs: Vec<(Dtype, Op)> = plan.pairs().filter(|&pair| is_served(pair)).collect();
    if pairs.is_empty() {
        note!("dime: peers are not timed: they are timed for sums of f16, bf16 and f32 only");
    }
    for peer in PEERS.iter().filter(|_| !pairs.is_empty()) {
        if let Some(missing) = missing(python, peer.modules) {
            note!("dime: {} is not timed: {missing}", peer.title);
            continue;
        }
        for &(dtype, op) in &pairs {
            match ask(python, plan, gpus, peer, dtype) {
                Ok(answers) => {
                    rows.extend(answers.iter().filter_map(|answer| row(plan, gpus, peer, dtype, op, answer)))
                }
                Err(reason) => note!("dime: {} is not timed: {reason}", peer.title),
            }
        }
    }
    Ok(rows)
}

fn is_served((dtype, op): (Dtype, Op)) -> bool {
    op == Op::Sum && matches!(dtype, Dtype::F16 | Dtype::Bf16 | Dtype::F32)
}

/// Why one of the modules cannot be imported; None when all can be found.
fn missing(python: &Path, modules: &[&str]) -> Option<String> {
    let find = "import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)";
    for module in modules {
        let status =
            Command::new(python).args(["-c", find, module]).stdin(Stdio::null()).stderr(Stdio::null()).status();
        match status {
            Ok(status) if status.success() => {}
            Ok(_) => return Some(format!("{} has no module {module}", python.display())),
            Err(error) => return Some(format!("{}: {error}; name a Python with --python", python.display())),
        }
    }
    None
}

/// Runs the script for one peer and type; it prints a JSON object for each size.
fn ask(python: &Path, plan: &Plan, gpus: usize, peer: &Peer, dtype: Dtype) -> Result<Vec<Value>, String> {
    let sizes: Vec<Value> =
        plan.sizes.iter().map(|&bytes| json!([bytes, plan.method.graph_operations(bytes)])).collect();
    let task = json!({
        "peer": peer.name,
        "gpus": gpus,
        "dtype": dtype.name(),
        "sizes": sizes,
        "replays": plan.method.replays,
        "warmup": plan.method.warmup_replays,
    });
    // From a file, since its worker processes import it again.
    let file = std::env::temp_dir().join(format!("dime-bench-peers-{}.py", std::process::id()));
    let written = std::fs::File::options().write(true).create_new(true).open(&file);
    written
        .and_then(|mut opened| opened.write_all(SCRIPT.as_bytes()))
        .map_err(|error| format!("{}: {error}", file.display()))?;
    let output = Command::new(python).arg(&file).arg(task.to_string()).stdin(Stdio::null()).output();
    // It is one file in a folder for such files: that it stays is no reason to stop.
    let _ = std::fs::remove_file(&file);
    let output = output.map_err(|error| format!("{}: {error}", python.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let last = said.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or("no reason given");
        return Err(last.to_owned());
    }
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

fn row(plan: &Plan, gpus: usize, peer: &Peer, dtype: Dtype, op: Op, answer: &Value) -> Option<Row> {
    Some(Row {
        gpus,
        bytes: usize::try_from(answer.get("bytes")?.as_u64()?).ok()?,
        dtype,
        op,
        column: Column::Peer(peer.title.to_owned()),
        mode: Mode::Graph,
        repeat: 0,
        us: answer.get("us")?.as_f64()?,
        p50_us: f64::NAN,
        p99_us: f64::NAN,
        host_us: None,
        host_min_us: None,
        kernel: peer.name.to_owned(),
        blocks: None,
        reason: None,
        check: answer.get("check")?.as_str()?.to_owned(),
        method: format!("{}, a process a GPU, by PyTorch", plan.method.words(Mode::Graph)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_common_floats_are_served() {
        assert!(is_served((Dtype::Bf16, Op::Sum)));
        assert!(!is_served((Dtype::Bf16, Op::Max)) && !is_served((Dtype::I32, Op::Sum)));
    }

    #[test]
    fn a_python_that_is_not_there_is_named() {
        let reason = missing(Path::new("/nonexistent/python3"), &["torch"]).unwrap();
        assert!(reason.contains("/nonexistent/python3") && reason.contains("--python"), "{reason}");
    }
}

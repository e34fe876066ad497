//! Measurements as JSON lines and as tables.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use dime_harness::number::{Dtype, Op};
use dime_harness::{Fallible, stats, table};
use serde_json::{Value, json};

use super::{Lane, Mode, Row, typical};

/// What all measurements of a run have in common.
pub struct Facts {
    pub gpu: String,
    pub driver: String,
    pub nccl_version: String,
    pub dime_version: String,
    pub dtype: Dtype,
    pub op: Op,
    pub in_place: bool,
}

/// The file that measurements are appended to as they come, so that a run that ends early leaves them.
pub struct JsonFile(Option<File>);

impl JsonFile {
    /// Opens the file for appending; without a path nothing is written.
    pub fn open(path: Option<&Path>) -> Fallible<JsonFile> {
        let Some(path) = path else { return Ok(JsonFile(None)) };
        let file = File::options().create(true).append(true).open(path);
        Ok(JsonFile(Some(file.map_err(|e| format!("{}: {e}", path.display()))?)))
    }

    /// Appends one measurement.
    pub fn write(&mut self, facts: &Facts, row: &Row) -> Fallible<()> {
        let Some(file) = &mut self.0 else { return Ok(()) };
        writeln!(file, "{}", to_json(facts, row)).map_err(|e| format!("writing JSON: {e}"))
    }
}

fn rounded(us: f64) -> f64 {
    (us * 1000.0).round() / 1000.0
}

fn to_json(facts: &Facts, row: &Row) -> Value {
    let mut object = json!({
        "lib": if row.lane.kernel.is_some() { "dime" } else { "nccl" },
        "gpus": row.gpus,
        "bytes": row.bytes,
        "dtype": facts.dtype.name(),
        "op": facts.op.name(),
        "mode": row.mode.name(),
        "us": rounded(row.us),
        "kernel": row.kernel,
        "check": row.check,
    });
    if row.lane.is_forced() {
        object["forced"] = json!(row.lane.kernel);
    }
    if let Some(reason) = &row.reason {
        object["reason"] = json!(reason);
    }
    if let (Some(host), Some(least)) = (row.host_us, row.host_min_us) {
        object["host_us"] = json!(rounded(host));
        object["host_min_us"] = json!(rounded(least));
    }
    if facts.in_place {
        object["in_place"] = json!(true);
    }
    if row.repeat > 0 {
        object["repeat"] = json!(row.repeat);
    }
    object["date"] = json!(stats::now_utc());
    object["gpu"] = json!(facts.gpu);
    object["driver"] = json!(facts.driver);
    object["nccl_version"] = json!(facts.nccl_version);
    object["dime_version"] = json!(facts.dime_version);
    object["method"] = json!(match row.mode {
        Mode::Graph => "graph of 50 (16 from 4 MiB), 24 replays, first 4 dropped, smallest rank's median",
        Mode::Eager => "500 calls (100 from 4 MiB) back to back, 5 rounds, smallest rank's median",
    });
    object
}

/// The tables of one number of GPUs, one for each mode.
pub fn tables(facts: &Facts, gpus: usize, lanes: &[Lane], modes: &[Mode], rows: &[Row]) -> String {
    let mut text = String::new();
    for &mode in modes {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.mode == mode).collect();
        text.push_str(&format!(
            "\n{gpus} x {}, {} {}, {}, {}; NCCL {}; us per all-reduce\n",
            facts.gpu,
            facts.dtype.name(),
            facts.op.name(),
            if facts.in_place { "in place" } else { "out of place" },
            mode.name(),
            facts.nccl_version,
        ));
        text.push_str(&one_table(lanes, mode, &rows));
    }
    text
}

/// Lanes whose host time is shown: a forced kernel costs the host what an unforced one does.
fn timed_on_host(lanes: &[Lane]) -> impl Iterator<Item = &Lane> {
    lanes.iter().filter(|lane| !lane.is_forced())
}

fn one_table(lanes: &[Lane], mode: Mode, rows: &[&Row]) -> String {
    let mut header: Vec<String> = vec!["bytes".into(), "kernel".into()];
    header.extend(lanes.iter().map(|lane| lane.label().to_owned()));
    header.push("ratio".into());
    if mode == Mode::Eager {
        header.extend(timed_on_host(lanes).map(|lane| format!("host {}", lane.label())));
    }
    header.push("check".into());
    let mut sizes: Vec<usize> = rows.iter().map(|row| row.bytes).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let body: Vec<Vec<String>> = sizes
        .iter()
        .map(|&bytes| {
            let of = |lane: &Lane| -> Vec<&&Row> {
                rows.iter().filter(|row| row.bytes == bytes && row.lane == *lane).collect()
            };
            let us = |lane: &Lane| typical(of(lane).iter().map(|row| row.us));
            let ours = lanes.iter().find(|lane| lane.label() == "dime");
            let theirs = lanes.iter().find(|lane| lane.label() == "nccl");
            let mut line = vec![stats::show_bytes(bytes)];
            let kernel = ours.and_then(|lane| of(lane).first().map(|row| row.kernel.clone()));
            line.push(kernel.unwrap_or_else(|| "-".to_owned()));
            line.extend(lanes.iter().map(|lane| stats::three_digits(us(lane))));
            let ratio = match (ours, theirs) {
                (Some(ours), Some(theirs)) => us(theirs) / us(ours),
                _ => f64::NAN,
            };
            line.push(if ratio.is_finite() { format!("{ratio:.2}x") } else { "-".to_owned() });
            if mode == Mode::Eager {
                line.extend(
                    lanes
                        .iter()
                        .map(|lane| stats::three_digits(typical(of(lane).iter().filter_map(|row| row.host_us)))),
                );
            }
            let bad: Vec<String> = rows
                .iter()
                .filter(|row| row.bytes == bytes && row.check != "ok")
                .map(|row| format!("{}: {}", row.lane.label(), row.check))
                .collect();
            line.push(if bad.is_empty() { "ok".to_owned() } else { bad.join("; ") });
            line
        })
        .collect();
    table::render(&header, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            gpu: "NVIDIA H200".into(),
            driver: "580.159".into(),
            nccl_version: "2.28.9".into(),
            dime_version: "0.1.0".into(),
            dtype: Dtype::Bf16,
            op: Op::Sum,
            in_place: false,
        }
    }

    fn row(kernel: Option<&str>, bytes: usize, us: f64) -> Row {
        Row {
            gpus: 8,
            bytes,
            lane: Lane { kernel: kernel.map(str::to_owned) },
            mode: Mode::Graph,
            repeat: 0,
            us,
            host_us: None,
            host_min_us: None,
            kernel: if kernel.is_some() { "one_shot_ll".into() } else { "nccl".into() },
            reason: None,
            check: "ok".into(),
        }
    }

    #[test]
    fn a_json_line_begins_with_the_agreed_fields() {
        let line = to_json(&facts(), &row(Some("auto"), 1024, 3.10049)).to_string();
        let start = r#"{"lib":"dime","gpus":8,"bytes":1024,"dtype":"bf16","op":"sum","mode":"graph","us":3.1,"kernel":"one_shot_ll","check":"ok","date":""#;
        assert!(line.starts_with(start), "{line}");
        assert!(!line.contains("forced") && !line.contains("host_us"));
        let forced = to_json(&facts(), &row(Some("two_shot_ll"), 1024, 3.0)).to_string();
        assert!(forced.contains(r#""forced":"two_shot_ll""#));
    }

    #[test]
    fn the_table_shows_the_ratio_of_the_medians() {
        let lanes = [Lane { kernel: Some("auto".into()) }, Lane { kernel: None }];
        let rows = [row(Some("auto"), 256, 2.0), row(Some("auto"), 256, 3.0), row(None, 256, 10.0)];
        let text = tables(&facts(), 8, &lanes, &[Mode::Graph], &rows);
        assert!(text.contains("one_shot_ll  2.50  10.0  4.00x     ok"), "{text}");
    }
}

//! One measurement, and its JSON object.

use dime_harness::number::{Dtype, Op};
use serde_json::{Map, Value, json};

use super::plan::{Drive, Mode};

/// What is timed at every size: one column of the table, one line of the plot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Column {
    /// libdime.so as it routes by itself.
    Dime,
    /// libdime.so with this kernel forced by DIME_KERNEL.
    Kernel(String),
    /// The real NCCL alone.
    Nccl,
    /// Another library, by name.
    Peer(String),
}

impl Column {
    /// The name in tables, plots and messages.
    pub fn label(&self) -> &str {
        match self {
            Column::Dime => "dime",
            Column::Nccl => "nccl",
            Column::Kernel(name) | Column::Peer(name) => name,
        }
    }

    /// DIME_KERNEL while the communicator is set up; None where libdime.so is not timed.
    pub fn forced(&self) -> Option<&str> {
        match self {
            Column::Dime => Some("auto"),
            Column::Kernel(name) => Some(name),
            Column::Nccl | Column::Peer(_) => None,
        }
    }
}

/// What all measurements of a run have in common.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facts {
    pub gpu: String,
    pub driver: String,
    pub nccl_version: String,
    pub dime_version: String,
    pub in_place: bool,
    pub drive: Drive,
    pub is_simulated: bool,
    /// When the run began, as 2025-06-30T12:34:56Z.
    pub date: String,
}

/// One measurement.
#[derive(Clone, PartialEq, Debug)]
pub struct Row {
    pub gpus: usize,
    pub bytes: usize,
    pub dtype: Dtype,
    pub op: Op,
    pub column: Column,
    pub mode: Mode,
    pub repeat: usize,
    /// The smallest rank's median.
    pub us: f64,
    /// Over the samples of all ranks; NaN for peers.
    pub p50_us: f64,
    pub p99_us: f64,
    pub host_us: Option<f64>,
    pub host_min_us: Option<f64>,
    /// The kernel that ran, or "nccl"; the name of a peer.
    pub kernel: String,
    /// The most thread blocks of a launch, where a kernel of ours ran.
    pub blocks: Option<usize>,
    /// Why libdime.so forwarded, where it did.
    pub reason: Option<String>,
    /// [`CHECKED`], [`NOT_CHECKED`], or what is wrong.
    pub check: String,
    /// How it was timed, in words.
    pub method: String,
}

/// The check of a right result.
pub const CHECKED: &str = "ok";
/// The check under `-c 0`.
pub const NOT_CHECKED: &str = "off";

impl Row {
    /// Whether no check has failed.
    pub fn is_right(&self) -> bool {
        self.check == CHECKED || self.check == NOT_CHECKED
    }

    /// The object that `--json` writes.
    pub fn to_json(&self, facts: &Facts) -> Value {
        let lib = match &self.column {
            Column::Dime | Column::Kernel(_) => "dime",
            Column::Nccl => "nccl",
            Column::Peer(name) => name,
        };
        let mut object = json!({
            "lib": lib,
            "gpus": self.gpus,
            "bytes": self.bytes,
            "dtype": self.dtype.name(),
            "op": self.op.name(),
            "mode": self.mode.name(),
            "us": rounded(self.us),
            "kernel": self.kernel,
            "check": self.check,
        });
        if let Column::Kernel(name) = &self.column {
            object["forced"] = json!(name);
        }
        if matches!(self.column, Column::Peer(_)) {
            object["peer"] = json!(true);
        }
        if self.p50_us.is_finite() && self.p99_us.is_finite() {
            object["p50_us"] = json!(rounded(self.p50_us));
            object["p99_us"] = json!(rounded(self.p99_us));
        }
        if let Some(blocks) = self.blocks {
            object["blocks"] = json!(blocks);
        }
        if let Some(reason) = &self.reason {
            object["reason"] = json!(reason);
        }
        if let (Some(host), Some(least)) = (self.host_us, self.host_min_us) {
            object["host_us"] = json!(rounded(host));
            object["host_min_us"] = json!(rounded(least));
        }
        if facts.in_place {
            object["in_place"] = json!(true);
        }
        if self.repeat > 0 {
            object["repeat"] = json!(self.repeat);
        }
        object["date"] = json!(facts.date);
        object["gpu"] = json!(facts.gpu);
        object["driver"] = json!(facts.driver);
        object["nccl_version"] = json!(facts.nccl_version);
        object["dime_version"] = json!(facts.dime_version);
        object["model"] = json!(facts.drive.name());
        if facts.is_simulated {
            object["simulated"] = json!(true);
        }
        object["method"] = json!(self.method);
        object
    }

    /// Reads what [`Row::to_json`] wrote.
    pub fn from_json(object: &Value) -> Option<(Row, Facts)> {
        let object = object.as_object()?;
        let row = Row {
            gpus: number(object, "gpus")?,
            bytes: number(object, "bytes")?,
            dtype: text(object, "dtype")?.parse().ok()?,
            op: text(object, "op")?.parse().ok()?,
            column: match (text(object, "lib")?.as_str(), text(object, "forced")) {
                ("dime", Some(kernel)) => Column::Kernel(kernel),
                ("dime", None) => Column::Dime,
                ("nccl", _) => Column::Nccl,
                (name, _) => Column::Peer(name.to_owned()),
            },
            mode: Mode::from_name(&text(object, "mode")?)?,
            repeat: number(object, "repeat").unwrap_or(0),
            us: float(object, "us")?,
            p50_us: float(object, "p50_us").unwrap_or(f64::NAN),
            p99_us: float(object, "p99_us").unwrap_or(f64::NAN),
            host_us: float(object, "host_us"),
            host_min_us: float(object, "host_min_us"),
            kernel: text(object, "kernel")?,
            blocks: number(object, "blocks"),
            reason: text(object, "reason"),
            check: text(object, "check")?,
            method: text(object, "method")?,
        };
        let facts = Facts {
            gpu: text(object, "gpu")?,
            driver: text(object, "driver")?,
            nccl_version: text(object, "nccl_version")?,
            dime_version: text(object, "dime_version")?,
            in_place: object.contains_key("in_place"),
            // A file without the field was written when there were only threads.
            drive: text(object, "model").map_or(Some(Drive::Threads), |name| Drive::from_name(&name))?,
            is_simulated: object.contains_key("simulated"),
            date: text(object, "date")?,
        };
        Some((row, facts))
    }
}

fn rounded(us: f64) -> f64 {
    (us * 1000.0).round() / 1000.0
}

fn text(object: &Map<String, Value>, key: &str) -> Option<String> {
    object.get(key)?.as_str().map(str::to_owned)
}

fn number(object: &Map<String, Value>, key: &str) -> Option<usize> {
    usize::try_from(object.get(key)?.as_u64()?).ok()
}

fn float(object: &Map<String, Value>, key: &str) -> Option<f64> {
    object.get(key)?.as_f64()
}

#[cfg(test)]
pub mod samples {
    use super::*;

    /// Facts of a run on H200s.
    pub fn facts() -> Facts {
        Facts {
            gpu: "NVIDIA H200".into(),
            driver: "580.159".into(),
            nccl_version: "2.28.9".into(),
            dime_version: "0.1.0".into(),
            in_place: false,
            drive: Drive::Threads,
            is_simulated: false,
            date: "2025-06-30T12:34:56Z".into(),
        }
    }

    /// A measurement in a graph.
    pub fn row(column: Column, bytes: usize, us: f64) -> Row {
        let is_dime = column.forced().is_some();
        Row {
            gpus: 8,
            bytes,
            dtype: Dtype::Bf16,
            op: Op::Sum,
            kernel: if is_dime { "one_shot_ll".into() } else { column.label().to_owned() },
            blocks: is_dime.then_some(8),
            column,
            mode: Mode::Graph,
            repeat: 0,
            us,
            p50_us: us + 0.125,
            p99_us: us + 0.25,
            host_us: None,
            host_min_us: None,
            reason: None,
            check: CHECKED.into(),
            method: "a method".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::samples::{facts, row};
    use super::*;

    #[test]
    fn a_json_line_begins_with_the_agreed_fields() {
        let line = row(Column::Dime, 1024, 3.10049).to_json(&facts()).to_string();
        let start = r#"{"lib":"dime","gpus":8,"bytes":1024,"dtype":"bf16","op":"sum","mode":"graph","us":3.1,"kernel":"one_shot_ll","check":"ok","p50_us":"#;
        assert!(line.starts_with(start), "{line}");
        assert!(!line.contains("forced") && !line.contains("host_us"));
        let forced = row(Column::Kernel("two_shot_ll".into()), 1024, 3.0).to_json(&facts()).to_string();
        assert!(forced.contains(r#""forced":"two_shot_ll""#));
    }

    #[test]
    fn what_was_written_as_json_is_read_back() {
        for column in
            [Column::Dime, Column::Kernel("two_shot_ll".into()), Column::Nccl, Column::Peer("torch one_shot".into())]
        {
            let written = Row { repeat: 2, host_us: Some(2.5), host_min_us: Some(2.0), ..row(column, 4096, 3.0) };
            let facts = Facts { in_place: true, is_simulated: true, ..facts() };
            assert_eq!(Row::from_json(&written.to_json(&facts)), Some((written, facts)));
        }
        assert_eq!(Row::from_json(&json!({"lib": "dime"})), None);
    }
}

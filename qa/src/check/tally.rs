//! What a sweep found, for one number of ranks and in all.

use std::collections::BTreeMap;
use std::path::Path;

use dime_harness::{Fallible, stats, table};
use serde_json::{Value, json};

use super::Options;
use crate::summary;

/// Counts of one column.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ColumnTally {
    pub column: String,
    /// Runs that one of our kernels took.
    pub fast: u64,
    /// Of these, wrong ones.
    pub wrong: u64,
    /// Runs handed to the real NCCL.
    pub forwarded: u64,
    pub forwarded_wrong: u64,
    /// Runs that another kernel took than the one forced.
    pub strayed: u64,
    /// Reasons of the forwards.
    pub reasons: BTreeMap<String, u64>,
}

/// Everything about one number of ranks.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub ranks: usize,
    pub cases_listed: u64,
    pub cases_run: u64,
    /// Runs whose results differ between ranks or kernels although each is allowed.
    pub disagreements: u64,
    /// Inputs that were changed.
    pub inputs_changed: u64,
    /// What the counters of libdime.so say against what was called: empty when equal.
    pub counters: String,
    pub columns: Vec<ColumnTally>,
    /// Runs of our kernels by "type operation".
    pub coverage: BTreeMap<String, u64>,
    pub wall_s: f64,
    pub log: String,
    pub error: Option<String>,
}

impl Report {
    /// The report as text that crosses from a worker to the parent.
    pub fn to_json(&self) -> Value {
        let columns: Vec<Value> = self
            .columns
            .iter()
            .map(|column| {
                json!({
                    "lane": column.column,
                    "fast": column.fast,
                    "wrong": column.wrong,
                    "forwarded": column.forwarded,
                    "forwarded_wrong": column.forwarded_wrong,
                    "strayed": column.strayed,
                    "reasons": column.reasons,
                })
            })
            .collect();
        json!({
            "ranks": self.ranks,
            "cases_listed": self.cases_listed,
            "cases_run": self.cases_run,
            "disagreements": self.disagreements,
            "inputs_changed": self.inputs_changed,
            "counters": self.counters,
            "lanes": columns,
            "coverage": self.coverage,
            "wall_s": (self.wall_s * 10.0).round() / 10.0,
            "log": self.log,
            "error": self.error,
        })
    }

    /// Reads what `to_json` wrote; anything missing counts as nothing run.
    pub fn parse(text: &str) -> Report {
        let value: Value = serde_json::from_str(text).unwrap_or(Value::Null);
        let number = |value: &Value, name: &str| value[name].as_u64().unwrap_or(0);
        let map = |value: &Value| -> BTreeMap<String, u64> {
            let entries = value.as_object().into_iter().flatten();
            entries.map(|(name, count)| (name.clone(), count.as_u64().unwrap_or(0))).collect()
        };
        let columns = value["lanes"].as_array().into_iter().flatten();
        Report {
            cases_listed: number(&value, "cases_listed"),
            cases_run: number(&value, "cases_run"),
            disagreements: number(&value, "disagreements"),
            inputs_changed: number(&value, "inputs_changed"),
            counters: value["counters"].as_str().unwrap_or("").to_owned(),
            columns: columns
                .map(|column| ColumnTally {
                    column: column["lane"].as_str().unwrap_or("").to_owned(),
                    fast: number(column, "fast"),
                    wrong: number(column, "wrong"),
                    forwarded: number(column, "forwarded"),
                    forwarded_wrong: number(column, "forwarded_wrong"),
                    strayed: number(column, "strayed"),
                    reasons: map(&column["reasons"]),
                })
                .collect(),
            coverage: map(&value["coverage"]),
            ..Report::default()
        }
    }

    /// Runs with a wrong result, or that took another kernel than the one forced.
    pub fn failures(&self) -> u64 {
        let columns: u64 =
            self.columns.iter().map(|column| column.wrong + column.forwarded_wrong + column.strayed).sum();
        columns + self.disagreements + self.inputs_changed
    }

    /// Whether cases ran, every column with kernels of ours was taken by them, and nothing was wrong.
    pub fn all_right(&self) -> bool {
        self.trouble().is_empty()
    }

    /// What is not right, in words.
    pub fn trouble(&self) -> Vec<String> {
        let mut trouble = Vec::new();
        trouble.extend(self.error.clone());
        if self.cases_run == 0 {
            trouble.push("no case ran".to_owned());
        }
        if self.failures() > 0 {
            trouble.push(format!("{} failures", self.failures()));
        }
        for column in
            self.columns.iter().filter(|column| column.column != "nccl" && column.fast == 0 && self.cases_run > 0)
        {
            let reason = column.reasons.keys().next().map_or("no run", String::as_str);
            trouble.push(format!("column {} never ran a kernel of ours ({reason})", column.column));
        }
        if !self.counters.is_empty() {
            trouble.push(format!("the counters disagree: {}", self.counters));
        }
        trouble
    }

    /// One line when a number of ranks is done.
    pub fn progress(&self) -> String {
        let fast: u64 = self.columns.iter().map(|column| column.fast).sum();
        let state = if self.all_right() { "ok".to_owned() } else { self.trouble().join("; ") };
        format!(
            "{} ranks: {} of {} cases, {fast} runs in {:.0} s: {state}",
            self.ranks, self.cases_run, self.cases_listed, self.wall_s
        )
    }
}

/// The text printed at the end.
pub fn summary(options: &Options, reports: &[Report]) -> String {
    let header =
        ["ranks", "column", "runs", "failed", "forwarded", "forward failed", "other kernel"].map(str::to_owned);
    let mut rows = Vec::new();
    for report in reports {
        for column in &report.columns {
            rows.push(vec![
                report.ranks.to_string(),
                column.column.clone(),
                column.fast.to_string(),
                column.wrong.to_string(),
                column.forwarded.to_string(),
                column.forwarded_wrong.to_string(),
                column.strayed.to_string(),
            ]);
        }
    }
    let mut text =
        format!("\ndime-qa check, model {}, seed {}, {}\n", options.model.name(), options.seed, stats::now_utc());
    text.push_str(&table::render(&header, &rows));
    for report in reports {
        text.push_str(&report.progress());
        text.push('\n');
        let mut reasons = BTreeMap::new();
        for (reason, count) in report.columns.iter().flat_map(|column| &column.reasons) {
            *reasons.entry(reason).or_insert(0) += count;
        }
        for (reason, count) in reasons {
            text.push_str(&format!("  forwarded {count}: {reason}\n"));
        }
    }
    let covered: std::collections::BTreeSet<&String> =
        reports.iter().flat_map(|report| report.coverage.keys()).collect();
    let runs: u64 = reports.iter().flat_map(|report| &report.columns).map(|column| column.fast).sum();
    let failures: u64 = reports.iter().map(Report::failures).sum();
    let right = reports.iter().all(Report::all_right);
    text.push_str(&format!(
        "{}: {runs} runs of our kernels over {} pairs of type and operation, {failures} failures\n",
        if right { "PASS" } else { "FAIL" },
        covered.len()
    ));
    text
}

/// Writes PATH.json and PATH.txt.
pub fn save(path: &Path, text: &str, options: &Options, reports: &[Report]) -> Fallible<()> {
    let value = json!({
        "date": stats::now_utc(),
        "model": options.model.name(),
        "seed": options.seed,
        "passed": reports.iter().all(Report::all_right),
        "reports": reports.iter().map(Report::to_json).collect::<Vec<_>>(),
    });
    let logs: String = reports.iter().map(|report| report.log.as_str()).collect();
    summary::save(path, &value, &format!("{logs}{text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let column = |name: &str, fast| ColumnTally { column: name.to_owned(), fast, ..ColumnTally::default() };
        Report {
            ranks: 4,
            cases_listed: 10,
            cases_run: 5,
            columns: vec![column("auto", 5), column("two_shot_ll", 4)],
            coverage: BTreeMap::from([("bf16 sum".to_owned(), 9)]),
            ..Report::default()
        }
    }

    #[test]
    fn a_report_survives_the_way_to_the_parent() {
        let mut before = report();
        before.columns[0].reasons.insert("too large".to_owned(), 7);
        let after = Report::parse(&before.to_json().to_string());
        assert_eq!(after.columns, before.columns);
        assert_eq!((after.cases_listed, after.cases_run), (10, 5));
        assert_eq!(after.coverage, before.coverage);
    }

    #[test]
    fn a_report_that_never_came_is_a_failure() {
        assert!(report().all_right());
        assert!(!Report::parse("").all_right());
    }

    #[test]
    fn every_kind_of_trouble_fails_the_report() {
        let broken: [fn(&mut Report); 8] = [
            |r| r.columns[0].wrong = 1,
            |r| r.columns[0].forwarded_wrong = 1,
            |r| r.columns[1].strayed = 1,
            |r| r.columns[1].fast = 0,
            |r| r.disagreements = 1,
            |r| r.inputs_changed = 1,
            |r| r.counters = "off".to_owned(),
            |r| r.error = Some("hang".to_owned()),
        ];
        for (index, breakage) in broken.iter().enumerate() {
            let mut report = report();
            breakage(&mut report);
            assert!(!report.all_right(), "{index}");
        }
    }
}

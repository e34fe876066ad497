//! `dime plot`: draws measurements that `dime bench --json` wrote.

use std::path::{Path, PathBuf};

use dime_harness::Fallible;
use dime_harness::args::at_least;
use dime_harness::number::{Dtype, Op};
use dime_harness::output::note;

use crate::bench::plan::Mode;
use crate::bench::plot;
use crate::bench::row::{Facts, Row};

/// Options of `dime plot`.
#[derive(clap::Args)]
pub struct Options {
    /// Files that `dime bench --json` wrote
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The plot, by its name's end an SVG or a PNG
    #[arg(long, value_name = "FILE", value_parser = plot::parse_file)]
    out: PathBuf,
    /// Only measurements on these numbers of GPUs
    #[arg(long, value_delimiter = ',', value_parser = at_least(2_usize))]
    gpus: Vec<usize>,
    /// Only measurements in this mode
    #[arg(long)]
    mode: Option<Mode>,
    /// Only measurements of this type
    #[arg(long, value_name = "TYPE")]
    dtype: Option<Dtype>,
    /// Only measurements of this operation
    #[arg(long)]
    op: Option<Op>,
}

/// Draws the plot: a panel for each number of GPUs, type, operation and mode.
pub fn run(options: &Options) -> Fallible<bool> {
    let mut all = Vec::new();
    for file in &options.files {
        all.extend(read(file)?);
    }
    let rows: Vec<(Row, Facts)> = all.iter().filter(|(row, _)| options.wants(row)).cloned().collect();
    if rows.is_empty() && !all.is_empty() {
        return Err(format!("none of the {} measurements is asked for; there are {}", all.len(), kinds(&all)));
    }
    plot::draw(&options.out, &rows)?;
    note!("{}: {} measurements", options.out.display(), rows.len());
    Ok(true)
}

impl Options {
    fn wants(&self, row: &Row) -> bool {
        (self.gpus.is_empty() || self.gpus.contains(&row.gpus))
            && self.mode.is_none_or(|mode| mode == row.mode)
            && self.dtype.is_none_or(|dtype| dtype == row.dtype)
            && self.op.is_none_or(|op| op == row.op)
    }
}

/// What there is of measurements, in words.
fn kinds(rows: &[(Row, Facts)]) -> String {
    let mut kinds: Vec<String> = Vec::new();
    for (Row { gpus, dtype, op, mode, .. }, _) in rows {
        let kind = format!("--gpus {gpus} --dtype {} --op {} --mode {}", dtype.name(), op.name(), mode.name());
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    kinds.join(", ")
}

/// The measurements of a file, in which every line is one.
fn read(file: &Path) -> Fallible<Vec<(Row, Facts)>> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| {
            serde_json::from_str(line).ok().and_then(|object| Row::from_json(&object)).ok_or_else(|| {
                format!("{}, line {}: this is no measurement of `dime bench --json`", file.display(), index + 1)
            })
        })
        .collect()
}

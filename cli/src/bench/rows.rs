//! The file in which a worker leaves its measurements for the process that started it, and the one that `--json` names.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, Write};
use std::path::Path;

use dime_harness::Fallible;
use serde_json::Value;

use super::row::{Facts, Row};

/// Both files. Measurements are appended as they come, so that a run that ends early leaves them.
pub struct RowFile {
    /// Without a name, shared with the workers.
    own: File,
    json: Option<File>,
}

impl RowFile {
    /// Opens both; without a path only the nameless one.
    pub fn create(json: Option<&Path>) -> Fallible<RowFile> {
        let path = std::env::temp_dir().join(format!("dime-bench-{}.jsonl", std::process::id()));
        let named = |error: std::io::Error| format!("{}: {error}; name a folder in TMPDIR", path.display());
        let own = File::options().read(true).append(true).create_new(true).open(&path).map_err(named)?;
        std::fs::remove_file(&path).map_err(named)?;
        let open = |path: &Path| {
            let file = File::options().create(true).append(true).open(path);
            file.map_err(|error| format!("--json {}: {error}", path.display()))
        };
        Ok(RowFile { own, json: json.map(open).transpose()? })
    }

    /// Appends one measurement.
    pub fn write(&self, row: &Row, facts: &Facts) -> Fallible<()> {
        let line = format!("{}\n", row.to_json(facts));
        let both = [Some(&self.own), self.json.as_ref()];
        // One write each: a line of several processes stays whole.
        both.into_iter()
            .flatten()
            .try_for_each(|mut file| file.write_all(line.as_bytes()))
            .map_err(|error| format!("writing JSON: {error}"))
    }

    /// All measurements so far, and what they have in common.
    pub fn read(&self) -> Fallible<(Vec<Row>, Option<Facts>)> {
        let mut own = &self.own;
        own.rewind().map_err(|error| format!("reading measurements: {error}"))?;
        let (mut rows, mut common) = (Vec::new(), None);
        for line in BufReader::new(own).lines() {
            let line = line.map_err(|error| format!("reading measurements: {error}"))?;
            let object: Value = serde_json::from_str(&line).map_err(|error| format!("a measurement: {error}"))?;
            let (row, facts) = Row::from_json(&object).ok_or_else(|| format!("no measurement: {line}"))?;
            rows.push(row);
            common = Some(facts);
        }
        Ok((rows, common))
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::samples::{facts, row};
    use super::super::row::{Column, Row};
    use super::*;

    #[test]
    fn rows_are_read_as_they_were_written_and_the_file_has_no_name() {
        let file = RowFile::create(None).unwrap();
        let rows = [row(Column::Dime, 256, 2.5), Row { repeat: 1, ..row(Column::Nccl, 256, 9.0) }];
        rows.iter().for_each(|row| file.write(row, &facts()).unwrap());
        assert_eq!(file.read().unwrap(), (rows.to_vec(), Some(facts())));
        // The name is free again.
        RowFile::create(None).unwrap();
    }
}

//! Measurements as tables.

use dime_harness::number::{Dtype, Op};
use dime_harness::{stats, table};

use super::plan::Mode;
use super::row::{Column, Facts, NOT_CHECKED, Row};

/// The tables of one number of GPUs, one for each mode, each with the reasons to forward below it.
pub fn tables(facts: &Facts, gpus: usize, columns: &[Column], modes: &[Mode], rows: &[Row]) -> String {
    let mut text = String::new();
    for &mode in modes {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.mode == mode).collect();
        if rows.is_empty() {
            continue;
        }
        text.push_str(&format!(
            "\n{gpus} x {}, {}, {}, {}; Dime {}, NCCL {}; us per all-reduce{}\n",
            facts.gpu,
            if facts.in_place { "in place" } else { "out of place" },
            mode.name(),
            facts.drive.name(),
            facts.dime_version,
            facts.nccl_version,
            if facts.is_simulated { " (simulated: times mean nothing)" } else { "" },
        ));
        text.push_str(&one_table(columns, mode, &rows));
        text.push_str(&reasons(&rows));
    }
    text
}

/// What one line of the table is about, in the sequence of the measurements.
fn keys(rows: &[&Row]) -> Vec<(Dtype, Op, usize)> {
    let mut keys = Vec::new();
    for row in rows {
        let key = (row.dtype, row.op, row.bytes);
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

fn one_table(columns: &[Column], mode: Mode, rows: &[&Row]) -> String {
    let keys = keys(rows);
    let has_ops = keys.iter().any(|key| key.1 != keys[0].1);
    let has = |column: &Column| columns.contains(column);
    let ratio = has(&Column::Dime) && has(&Column::Nccl);
    let mut others: Vec<&Column> = columns.iter().filter(|column| matches!(column, Column::Kernel(_))).collect();
    for row in rows {
        if matches!(row.column, Column::Peer(_)) && !others.contains(&&row.column) {
            others.push(&row.column);
        }
    }
    // A forced kernel costs the host what an unforced one does.
    let on_host: Vec<&Column> = if mode == Mode::Eager {
        [&Column::Dime, &Column::Nccl].into_iter().filter(|column| has(column)).collect()
    } else {
        vec![]
    };

    let mut header: Vec<String> = vec!["size".into(), "type".into()];
    let named =
        |yes: bool, names: &[&str]| if yes { names.iter().map(|&name| name.to_owned()).collect() } else { vec![] };
    header.extend(named(has_ops, &["op"]));
    header.extend(named(has(&Column::Dime), &["dime us"]));
    header.extend(named(has(&Column::Nccl), &["NCCL us"]));
    header.extend(named(ratio, &["speed-up"]));
    header.extend(named(has(&Column::Dime), &["kernel", "SMs", "p50", "p99"]));
    header.extend(others.iter().map(|column| column.label().to_owned()));
    header.extend(on_host.iter().map(|column| format!("host {}", column.label())));
    header.push("check".into());

    let line = |&(dtype, op, bytes): &(Dtype, Op, usize)| -> Vec<String> {
        let here: Vec<&&Row> = rows.iter().filter(|row| (row.dtype, row.op, row.bytes) == (dtype, op, bytes)).collect();
        // The median of what several repeats gave.
        let typical = |column: &Column, number: fn(&Row) -> f64| {
            let numbers: Vec<f64> = here.iter().filter(|row| row.column == *column).map(|row| number(row)).collect();
            stats::median(&numbers)
        };
        let us = |column: &Column| typical(column, |row| row.us);
        let mut cells = vec![stats::show_bytes(bytes), dtype.name().to_owned()];
        if has_ops {
            cells.push(op.name().to_owned());
        }
        cells.extend(
            [Column::Dime, Column::Nccl]
                .iter()
                .filter(|column| has(column))
                .map(|column| stats::three_digits(us(column))),
        );
        if ratio {
            let ratio = us(&Column::Nccl) / us(&Column::Dime);
            cells.push(if ratio.is_finite() { format!("{ratio:.2}x") } else { "-".to_owned() });
        }
        if has(&Column::Dime) {
            let ours = here.iter().find(|row| row.column == Column::Dime);
            cells.push(ours.map_or_else(|| "-".to_owned(), |row| row.kernel.clone()));
            cells.push(ours.and_then(|row| row.blocks).map_or_else(|| "-".to_owned(), |blocks| blocks.to_string()));
            cells.push(stats::three_digits(typical(&Column::Dime, |row| row.p50_us)));
            cells.push(stats::three_digits(typical(&Column::Dime, |row| row.p99_us)));
        }
        cells.extend(others.iter().map(|column| stats::three_digits(us(column))));
        cells.extend(
            on_host.iter().map(|column| stats::three_digits(typical(column, |row| row.host_us.unwrap_or(f64::NAN)))),
        );
        cells.push(check(&here));
        cells
    };
    table::render(&header, &keys.iter().map(line).collect::<Vec<_>>())
}

/// "ok" when every check was right, "off" when there was none, else what is wrong with which column.
fn check(rows: &[&&Row]) -> String {
    let wrong: Vec<String> =
        rows.iter().filter(|row| !row.is_right()).map(|row| format!("{}: {}", row.column.label(), row.check)).collect();
    match (wrong.is_empty(), rows.iter().all(|row| row.check == NOT_CHECKED)) {
        (false, _) => wrong.join("; "),
        (true, true) => NOT_CHECKED.to_owned(),
        (true, false) => "ok".to_owned(),
    }
}

/// Why libdime.so passed all-reduces to NCCL: one line for each reason, with the sizes.
fn reasons(rows: &[&Row]) -> String {
    let mut sizes_by_reason: Vec<(&str, Vec<String>)> = Vec::new();
    for row in rows.iter().filter(|row| row.column == Column::Dime) {
        let Some(reason) = row.reason.as_deref() else { continue };
        let size = stats::show_bytes(row.bytes);
        match sizes_by_reason.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, sizes)) if sizes.contains(&size) => {}
            Some((_, sizes)) => sizes.push(size),
            None => sizes_by_reason.push((reason, vec![size])),
        }
    }
    let line = |(reason, sizes): &(&str, Vec<String>)| format!("{} passed to NCCL: {reason}\n", sizes.join(", "));
    sizes_by_reason.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::super::row::samples::{facts, row};
    use super::*;

    #[test]
    fn the_table_shows_the_ratio_of_the_medians() {
        let rows = [row(Column::Dime, 256, 2.0), row(Column::Dime, 256, 3.0), row(Column::Nccl, 256, 10.0)];
        let text = tables(&facts(), 8, &[Column::Dime, Column::Nccl], &[Mode::Graph], &rows);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[1],
            "8 x NVIDIA H200, out of place, graph, threads; Dime 0.1.0, NCCL 2.28.9; us per all-reduce"
        );
        assert_eq!(lines[2], "size  type  dime us  NCCL us  speed-up       kernel  SMs   p50   p99  check");
        assert_eq!(lines[3], "256   bf16     2.50     10.0     4.00x  one_shot_ll    8  2.62  2.75     ok");
    }

    #[test]
    fn kernels_peers_and_operations_have_columns_where_there_are_some() {
        let columns = [Column::Dime, Column::Kernel("two_shot_ll".into()), Column::Nccl];
        let mut rows: Vec<Row> = columns.iter().map(|column| row(column.clone(), 256, 2.0)).collect();
        rows.push(row(Column::Peer("vendor".into()), 256, 7.0));
        rows.push(Row { op: Op::Max, check: "WRONG on ranks 1".into(), ..row(Column::Dime, 256, 2.0) });
        let text = tables(&facts(), 8, &columns, &[Mode::Graph], &rows);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[2].contains("  op  ") && lines[2].contains("two_shot_ll  vendor  "), "{text}");
        assert!(lines[3].contains("  7.00  ") && lines[3].ends_with("  ok"), "{text}");
        assert!(lines[4].contains("  max  ") && lines[4].ends_with("  dime: WRONG on ranks 1"), "{text}");
    }

    #[test]
    fn sizes_that_are_forwarded_have_their_reason_below_the_table() {
        let forwarded = |bytes| Row { reason: Some("too large".into()), ..row(Column::Dime, bytes, 2.0) };
        let rows = [row(Column::Dime, 256, 2.0), forwarded(1 << 20), forwarded(2 << 20), forwarded(2 << 20)];
        let text = tables(&facts(), 8, &[Column::Dime], &[Mode::Graph], &rows);
        assert!(text.ends_with("\n1M, 2M passed to NCCL: too large\n"), "{text}");
    }
}

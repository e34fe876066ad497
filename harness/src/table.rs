//! Text tables for the terminal: the first column to the left, the others to the right.

/// Lays out rows under a header.
pub fn render(header: &[String], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in std::iter::once(header).chain(rows.iter().map(Vec::as_slice)) {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let header = ["size", "us"].map(str::to_owned);
        let rows = vec![vec!["256".to_owned(), "2.41".to_owned()], vec!["16M".to_owned(), "115".to_owned()]];
        assert_eq!(render(&header, &rows), "size    us\n256   2.41\n16M    115\n");
    }
}

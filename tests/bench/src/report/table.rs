//! Tables in Markdown, and how numbers are told.

use std::fmt;

use crate::stats::Spread;

/// Rows under a head.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
    columns: usize,
}

impl Table {
    pub(super) fn new(head: &[&str]) -> Self {
        let head: Vec<String> = head.iter().map(ToString::to_string).collect();
        Self { columns: head.len(), rows: vec![head] }
    }

    /// A row; cells that are missing at its end stay empty.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let mut row: Vec<String> = cells.into_iter().collect();
        row.resize(self.columns, String::new());
        self.rows.push(row);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, row) in self.rows.iter().enumerate() {
            let cells: Vec<String> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
            writeln!(f, "| {} |", cells.join(" | "))?;
            if number == 0 {
                writeln!(f, "|{}", "---|".repeat(self.columns))?;
            }
        }
        Ok(())
    }
}

/// Three digits that count, at least; thousands are set apart.
pub(super) fn number(value: f64) -> String {
    let digits = match value.abs() {
        v if v == 0.0 || v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        _ => 2,
    };
    let sign = if value < 0.0 { "-" } else { "" };
    let text = format!("{:.digits$}", value.abs());
    let text = if digits > 0 { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut apart = sign.to_owned();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place) % 3 == 0 {
            apart.push(',');
        }
        apart.push(digit);
    }
    if fraction.is_empty() { apart } else { format!("{apart}.{fraction}") }
}

/// The median with both ends.
pub(super) fn spread(spread: Option<Spread>) -> String {
    spread.map_or_else(String::new, |s| {
        format!("{} ({}–{})", number(s.median), number(s.min), number(s.max))
    })
}

/// A relation, and both ends of it.
pub(super) fn relation(spread: Option<Spread>) -> String {
    spread.map_or_else(String::new, |s| format!("{:.2} ({:.2}–{:.2})", s.median, s.min, s.max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_what_counts() {
        let told = [0.0, 0.034, 1.5, 27.36, 812.4, 1234.0, 1_234_567.8, -325.0].map(number);
        assert_eq!(told, ["0", "0.03", "1.5", "27.4", "812", "1,234", "1,234,568", "-325"]);
    }

    #[test]
    fn a_table_has_a_head_and_full_rows() {
        let mut table = Table::new(&["a", "b"]);
        table.row(["1".to_owned()]);
        table.row(["x|y".to_owned(), "2".to_owned()]);
        assert_eq!(table.to_string(), "| a | b |\n|---|---|\n| 1 |  |\n| x\\|y | 2 |\n");
    }

    #[test]
    fn what_is_missing_is_empty() {
        let three = Spread { median: 2.0, min: 1.0, max: 4.5 };
        assert_eq!([spread(None), spread(Some(three))], ["", "2 (1–4.5)"]);
        assert_eq!([relation(None), relation(Some(three))], ["", "2.00 (1.00–4.50)"]);
    }
}

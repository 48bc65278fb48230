//! Columns of text for people.

use std::fmt;

/// Rows under a heading, each column as wide as its widest cell.
pub(crate) struct Table {
    heading: Vec<&'static str>,
    /// Which columns are numbers, and stand to the right.
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns; a name that begins with `>` stands to the right.
    pub(crate) fn new(columns: &[&'static str]) -> Self {
        Self {
            heading: columns.iter().map(|name| name.trim_start_matches('>')).collect(),
            right: columns.iter().map(|name| name.starts_with('>')).collect(),
            rows: Vec::new(),
        }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize, name: &str| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(name.len())
        };
        let widths: Vec<usize> =
            self.heading.iter().enumerate().map(|(column, name)| width(column, name)).collect();
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let mut line = String::new();
            for ((cell, width), right) in cells.zip(&widths).zip(&self.right) {
                let pad = " ".repeat(width.saturating_sub(cell.chars().count()));
                line.push_str(if line.is_empty() { "" } else { "  " });
                line.push_str(&if *right { format!("{pad}{cell}") } else { format!("{cell}{pad}") });
            }
            line.trim_end().to_owned()
        };
        f.write_str(&line(&mut self.heading.iter().copied()))?;
        for row in &self.rows {
            write!(f, "\n{}", line(&mut row.iter().map(String::as_str)))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&["app", ">requests"]);
        table.row(["acme/shop".to_owned(), "7".to_owned()]);
        table.row(["a/b".to_owned(), "1234567890".to_owned()]);
        assert_eq!(table.to_string(), "app          requests\nacme/shop           7\na/b        1234567890");
    }
}

//! What a command answers: a table for people, or JSON for programs. Never colours.

use std::io::Write;

/// How to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Output {
    /// For people
    #[default]
    Table,
    /// For programs
    Json,
}

impl Output {
    /// One sentence, or the object behind it.
    pub fn done(self, text: &str, value: serde_json::Value) -> anyhow::Result<()> {
        match self {
            Self::Table => line(text),
            Self::Json => json(&value),
        }
    }

    /// Many rows, or the object behind them.
    pub fn list(self, table: Table, value: serde_json::Value) -> anyhow::Result<()> {
        match self {
            Self::Table => line(table.render().trim_end_matches('\n')),
            Self::Json => json(&value),
        }
    }
}

/// A line to standard output. A reader that went away (`| head`) ends the command without a complaint.
pub fn line(text: &str) -> anyhow::Result<()> {
    bytes(format!("{text}\n").as_bytes())
}

/// Bytes as they are to standard output.
pub fn bytes(content: &[u8]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(content).and_then(|()| out.flush()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => Ok(result?),
    }
}

fn json(value: &serde_json::Value) -> anyhow::Result<()> {
    line(&serde_json::to_string_pretty(value)?)
}

/// Columns as wide as their widest cell, two spaces between them.
#[derive(Debug)]
pub struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(head: &[&str]) -> Self {
        Self { head: head.iter().map(|h| (*h).to_owned()).collect(), rows: Vec::new() }
    }

    /// A row with one cell for each column.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.head.len());
        self.rows.push(cells.into_iter().map(|c| plain(&c)).collect());
    }

    pub fn render(&self) -> String {
        if self.rows.is_empty() {
            return "(none)\n".into();
        }
        let lines = || std::iter::once(&self.head).chain(&self.rows);
        let width = |column: usize| lines().map(|l| l[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let mut text = String::new();
        for cells in lines() {
            let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            text.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
            text.push('\n');
        }
        text
    }
}

/// Descriptions come from users: no cell may break the table or steer the terminal.
pub fn plain(cell: &str) -> String {
    let cell: String = cell.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if cell.is_empty() { "-".into() } else { cell }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// People read columns, and a name from a user must not be able to move the cursor.
    #[test]
    fn columns_line_up_and_cells_are_plain() {
        let mut table = Table::new(&["NAME", "WHAT"]);
        table.row(["a".into(), "\x1b[2Jred\nline".into()]);
        table.row(["longer".into(), String::new()]);
        assert_eq!(table.render(), "NAME    WHAT\na        [2Jred line\nlonger  -\n");
        assert_eq!(Table::new(&["NAME"]).render(), "(none)\n");
    }
}

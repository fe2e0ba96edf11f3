//! Tables for people: columns as wide as what stands in them.

/// Lays out `rows` below `head`; numbers stand to the right.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([head[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..head.len()).map(width).collect();
    let head = head.iter().map(|cell| (*cell).to_owned()).collect();
    let mut text = String::new();
    for row in std::iter::once(&head).chain(rows) {
        let line: Vec<_> = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(
                |(column, (cell, width))| {
                    if is_numeric(rows, column) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
                },
            )
            .collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn is_numeric(rows: &[Vec<String>], column: usize) -> bool {
    let mut cells = rows.iter().filter_map(|row| row.get(column)).filter(|cell| *cell != "-").peekable();
    cells.peek().is_some()
        && cells.all(|cell| cell.starts_with(|first: char| first.is_ascii_digit()) && !cell.contains(':'))
}

/// A duration in seconds as people say it: `4s`, `12m`, `3h05m`, `2d07h`.
pub(crate) fn age(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if days > 0 => format!("{days}d{:02}h", hours % 24),
        () if hours > 0 => format!("{hours}h{:02}m", minutes % 60),
        () if minutes > 0 => format!("{minutes}m{:02}s", seconds % 60),
        () => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_numbers_stand_to_the_right() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = [row(["node-1", "ready", "7"]), row(["n", "draining", "1024"]), row(["gone", "down", "-"])];
        let expected = "NODE    STATE     PEERS\n\
                        node-1  ready         7\n\
                        n       draining   1024\n\
                        gone    down          -\n";
        assert_eq!(table(&["NODE", "STATE", "PEERS"], &rows), expected);
    }

    #[test]
    fn ages_are_short() {
        let ages = [4, 61, 11_100, 200_000].map(age);
        assert_eq!(ages, ["4s", "1m01s", "3h05m", "2d07h"]);
    }
}

//! Tables for people, with the columns of runc's: at least 12 wide, 3 spaces apart, the last one as it comes.

const WIDTH: usize = 12;
const GAP: usize = 3;

/// Lines up `rows`, the header first; each row ends with a newline.
pub fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let widths: [usize; N] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count() + GAP);
        cells.max().unwrap_or_default().max(WIDTH)
    });
    let mut out = String::new();
    for row in rows {
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            let width = if column + 1 == N { 0 } else { width };
            out.push_str(&format!("{cell:<width$}"));
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_longest_cell_but_not_narrow() {
        let rows = [["ID", "PID", "OWNER"], ["0123456789", "1", "root"], ["grün", "12", "#7"]];
        let expect = concat!(
            "ID           PID         OWNER\n",
            "0123456789   1           root\n",
            "grün         12          #7\n",
        );
        assert_eq!(columns(&rows.map(|row| row.map(str::to_owned))), expect);
    }
}

//! Small pieces of text that several reports share.

use crate::model::show_duration;
use std::time::Duration;

/// `text` cut to `columns` of a terminal, with `…` where something is missing.
#[must_use]
pub(crate) fn cut(text: &str, columns: usize) -> String {
    if self::columns(text) <= columns {
        return text.to_owned();
    }
    let mut left = columns.saturating_sub(1);
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let w = width(c);
        if w > left {
            break;
        }
        left -= w;
        out.push(c);
    }
    if columns > 0 {
        out.push('…');
    }
    out
}

/// Columns of a terminal that `text` takes.
#[must_use]
pub(crate) fn columns(text: &str) -> usize {
    text.chars().map(width).sum()
}

/// Columns that a character takes: a rough table (combining marks, East Asian wide, emoji), on the safe side.
fn width(c: char) -> usize {
    match u32::from(c) {
        0x0300..=0x036f | 0x20d0..=0x20ff | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// Entries a second for people: `812/s`, `1.5/s`, `7.2/min`, `40/hour`.
#[must_use]
pub(crate) fn show_rate(per_second: f64) -> String {
    match per_second {
        r if !r.is_finite() || r <= 0.0 => "0/s".to_owned(),
        r if r >= 9.95 => format!("{r:.0}/s"),
        r if r >= 0.995 => format!("{r:.1}/s"),
        r if r * 60.0 >= 0.995 => format!("{:.1}/min", r * 60.0),
        r => format!("{:.1}/hour", r * 3600.0),
    }
}

/// `1.5 KiB`, `12 MiB`.
#[must_use]
pub(crate) fn show_bytes(bytes: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "for people, two digits count")]
    let mut n = bytes as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if n < 1000.0 {
            break;
        }
        n /= 1024.0;
        unit = next;
    }
    if unit == "B" || n >= 9.95 { format!("{n:.0} {unit}") } else { format!("{n:.1} {unit}") }
}

/// Seconds that came as a fraction, for people.
#[must_use]
pub(crate) fn show_seconds(seconds: f64) -> String {
    show_duration(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

/// Milliseconds, for people.
#[must_use]
pub(crate) fn show_ms(ms: u64) -> String {
    show_duration(Duration::from_millis(ms))
}

/// `1 row`, `2 rows`, `1,234 rows`.
#[must_use]
pub(crate) fn count(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", crate::events::thousands(n), if n == 1 { one } else { many })
}

/// Rows as aligned columns, two blanks apart, the last one ragged.
#[must_use]
pub fn table(rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        for (i, cell) in row.iter().enumerate() {
            let w = columns(cell);
            match widths.get_mut(i) {
                Some(have) => *have = (*have).max(w),
                None => widths.push(w),
            }
        }
    }
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (i, cell) in row.iter().enumerate() {
            line.push_str(cell);
            if i + 1 < row.len() {
                line.extend(std::iter::repeat_n(' ', widths[i].saturating_sub(columns(cell)) + 2));
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// An argument as it can be pasted into a shell.
#[must_use]
pub fn quoted_for_shell(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_to_the_columns_it_takes() {
        assert_eq!(cut("short", 5), "short");
        assert_eq!(cut("longer", 5), "long…");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!(cut("abc", 1), "…");
        assert_eq!(cut("abc", 0), "");
    }

    #[test]
    fn rates_and_sizes_read_like_speech() {
        let rates = [(812.4, "812/s"), (1.5, "1.5/s"), (0.12, "7.2/min"), (0.001, "3.6/hour"), (0.0, "0/s"), (f64::NAN, "0/s")];
        for (rate, text) in rates {
            assert_eq!(show_rate(rate), text);
        }
        for (bytes, text) in [(0, "0 B"), (999, "999 B"), (1536, "1.5 KiB"), (12 << 20, "12 MiB"), (5 << 40, "5.0 TiB")] {
            assert_eq!(show_bytes(bytes), text);
        }
    }

    #[test]
    fn a_table_is_aligned_and_leaves_no_blanks_behind() {
        let rows = vec![vec!["a".into(), "bbb".into()], vec!["cccc".into(), String::new()]];
        assert_eq!(table(&rows), "a     bbb\ncccc\n");
    }

    #[test]
    fn arguments_can_be_pasted() {
        assert_eq!(quoted_for_shell("a/b.toml"), "a/b.toml");
        assert_eq!(quoted_for_shell("it's"), "'it'\\''s'");
        assert_eq!(quoted_for_shell(""), "''");
    }
}

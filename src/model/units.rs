//! Durations, sizes, rates and shares as the job file writes them.

use std::time::Duration;

/// `count` requests in any window of `per`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    /// How many.
    pub count: u32,
    /// In which window.
    pub per: Duration,
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let unit = match self.per.as_secs() {
            1 if self.per.subsec_nanos() == 0 => "second".to_owned(),
            60 => "minute".to_owned(),
            3600 => "hour".to_owned(),
            86_400 => "day".to_owned(),
            _ => show_duration(self.per),
        };
        let digits = self.count.to_string();
        for (i, c) in digits.chars().enumerate() {
            if i > 0 && (digits.len() - i).is_multiple_of(3) {
                f.write_str(",")?;
            }
            write!(f, "{c}")?;
        }
        write!(f, "/{unit}")
    }
}

const DURATION_HELP: &str = "write a number and a unit, like \"250ms\", \"10s\", \"15m\", \"8h\" or \"2d\"";

/// Reads `250ms`, `10s`, `15m`, `8h`, `2d`, `1.5s`, `1h30m`.
///
/// # Errors
/// What is wrong and how to write it, lowercase.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is no duration: {DURATION_HELP}");
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(bad());
    }
    let mut total = 0f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).ok_or_else(bad)?;
        let number: f64 = rest[..digits].parse().map_err(|_| bad())?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        total += number
            * match rest[..unit].trim() {
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "s" | "sec" | "second" | "seconds" => 1.0,
                "m" | "min" | "minute" | "minutes" => 60.0,
                "h" | "hour" | "hours" => 3600.0,
                "d" | "day" | "days" => 86_400.0,
                _ => return Err(bad()),
            };
        rest = &rest[unit..];
    }
    Duration::try_from_secs_f64(total).map_err(|_| bad())
}

/// Reads `32MiB`, `1GiB`, `500kB`, `1024`.
///
/// # Errors
/// What is wrong and how to write it, lowercase.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let bad = || format!("{text:?} is no size: write a number and a unit, like \"500kB\", \"32MiB\" or \"1GiB\"");
    let t = text.trim();
    let digits = t.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(t.len());
    let number: f64 = t[..digits].parse().map_err(|_| bad())?;
    let unit: f64 = match t[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "t" | "tb" => 1e12,
        "kib" => 1024.0,
        "mib" => 1024.0 * 1024.0,
        "gib" => 1024.0 * 1024.0 * 1024.0,
        "tib" => 1024.0f64.powi(4),
        _ => return Err(bad()),
    };
    let bytes = number * unit;
    if !(0.0..=9e18).contains(&bytes) {
        return Err(bad());
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked just above")]
    Ok(bytes as u64)
}

/// Reads `5000/hour`, `10/second`, `100/15m`, `1/2s`.
///
/// # Errors
/// What is wrong and how to write it, lowercase.
pub fn parse_rate(text: &str) -> Result<Rate, String> {
    let bad = || format!("{text:?} is no rate: write a number and a window, like \"5000/hour\", \"10/second\", \"100/15m\" or \"1/2s\"");
    let (n, per) = text.split_once('/').ok_or_else(bad)?;
    let n: String = n.trim().chars().filter(|c| *c != ',' && *c != '_').collect();
    let count: u32 = n.parse().map_err(|_| bad())?;
    let per = per.trim();
    let per = if per.starts_with(|c: char| c.is_ascii_digit()) { parse_duration(per) } else { parse_duration(&format!("1{per}")) };
    let per = per.map_err(|_| bad())?;
    if count == 0 || per.is_zero() {
        return Err(format!("{text:?} lets nothing through: count and window must be above zero"));
    }
    Ok(Rate { count, per })
}

/// Reads `20%` as `0.2`.
///
/// # Errors
/// What is wrong and how to write it, lowercase.
pub fn parse_percent(text: &str) -> Result<f64, String> {
    let bad = || format!("{text:?} is no share: write it like \"20%\"");
    let n: f64 = text.trim().strip_suffix('%').ok_or_else(bad)?.trim().parse().map_err(|_| bad())?;
    if (0.0..=100.0).contains(&n) { Ok(n / 100.0) } else { Err(format!("{text:?} is not between 0% and 100%")) }
}

/// A duration for people: `250ms`, `1.5s`, `45s`, `12m 30s`, `2h 5m`, `3d 4h`.
#[must_use]
pub fn show_duration(d: Duration) -> String {
    let s = d.as_secs();
    match s {
        0 if d.subsec_millis() > 0 => format!("{}ms", d.subsec_millis()),
        0..10 if d.subsec_millis() >= 50 => format!("{:.1}s", d.as_secs_f64()),
        0..60 => format!("{s}s"),
        60..3600 if s.is_multiple_of(60) => format!("{}m", s / 60),
        60..3600 => format!("{}m {}s", s / 60, s % 60),
        3600..86_400 if s % 3600 < 60 => format!("{}h", s / 3600),
        3600..86_400 => format!("{}h {}m", s / 3600, s % 3600 / 60),
        _ if s % 86_400 < 3600 => format!("{}d", s / 86_400),
        _ => format!("{}d {}h", s / 86_400, s % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_written() {
        for (text, ms) in
            [("250ms", 250), ("10s", 10_000), ("1.5s", 1500), ("15m", 900_000), ("8h", 28_800_000), ("1h30m", 5_400_000), ("0s", 0)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "10", "s", "10x", "-1s", "1e9s", "99999999999999999999d"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates_read_as_written_and_show_as_people_say_them() {
        for (text, count, secs, shown) in [
            ("5000/hour", 5000, 3600, "5,000/hour"),
            ("10/second", 10, 1, "10/second"),
            ("100/15m", 100, 900, "100/15m"),
            ("1/2s", 1, 2, "1/2s"),
            ("1,000/day", 1000, 86_400, "1,000/day"),
        ] {
            let r = parse_rate(text).unwrap();
            assert_eq!((r.count, r.per.as_secs(), r.to_string().as_str()), (count, secs, shown));
        }
        for text in ["5000", "0/s", "10/0s", "x/s", "10/fortnight"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_and_shares_read_as_written() {
        assert_eq!(parse_size("32MiB"), Ok(32 << 20));
        assert_eq!(parse_size("1.5 kB"), Ok(1500));
        assert_eq!(parse_size("7"), Ok(7));
        assert!(parse_size("7 apples").is_err());
        assert_eq!(parse_percent("20%"), Ok(0.2));
        assert!(parse_percent("120%").is_err());
        assert!(parse_percent("0.2").is_err());
    }
}

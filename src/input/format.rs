//! The name tells the format.

use super::InputError;
use crate::model::plan::Codec;

/// How records are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One address a line.
    Text,
    /// RFC 4180, header first.
    Csv,
    /// Cells between tabs, header first.
    Tsv,
    /// One JSON object a line.
    Jsonl,
}

const KNOWN: &str = ".txt, .csv, .tsv, .jsonl, .ndjson, each also with .gz or .zst, and - for stdin";

/// The format and compression that a file's name tells, letter case aside.
///
/// # Errors
/// [`InputError::Wrong`] that lists what there is.
pub fn format_of(name: &str) -> Result<(Format, Codec), InputError> {
    let lower = name.to_ascii_lowercase();
    let (stem, codec) = match lower.rsplit_once('.') {
        Some((stem, "gz")) => (stem, Codec::Gzip),
        Some((stem, "zst")) => (stem, Codec::Zstd),
        _ => (lower.as_str(), Codec::Plain),
    };
    let stem = stem.rsplit(['/', '\\']).next().unwrap_or(stem);
    let format = match stem.rsplit_once('.').map(|(_, ext)| ext) {
        Some("txt") => Format::Text,
        Some("csv") => Format::Csv,
        Some("tsv") => Format::Tsv,
        Some("jsonl" | "ndjson") => Format::Jsonl,
        Some("xml") => {
            return Err(InputError::hinted(
                name,
                "sitemap files (.xml) are not yet read",
                format!("inputs are told by their name: {KNOWN}"),
            ));
        }
        _ => {
            return Err(InputError::hinted(
                name,
                format!("the name tells no format of an input: there are {KNOWN}"),
                "rename the file, or feed it to stdin with -",
            ));
        }
    };
    Ok((format, codec))
}

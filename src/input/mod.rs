//! Input readers: a list, CSV, TSV or JSON lines, plain or compressed, to a stream of records with row and line.
//!
//! A reader never holds more than a window of its input: 64 KiB are read at a time and only when they are needed, a
//! record is 1 MiB at most and a longer line is passed over without being held. [`Reader::position`] is small and cheap,
//! and [`open`] goes on exactly after it: a plain file of the same size, time, inode and blocks at head and mark at once,
//! any other once its consumed prefix has proved the same. Lines that were appended are read; a changed prefix or a
//! shorter file is [`InputError::Changed`].

mod address;
mod delimited;
mod error;
mod format;
mod json;
mod lines;
mod listed;
mod position;
mod prefix;
mod reader;
mod source;
mod split;
mod text;

pub use error::InputError;
pub use format::{Format, format_of};
pub use position::Position;
pub use reader::{InputRecord, Reader, open};

#[cfg(test)]
mod tests;

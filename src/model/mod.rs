//! The words of the field as types: what every other module speaks.

mod glob;
mod key;
mod outcome;
pub mod plan;
mod reason;
mod record;
mod secret;
mod special;
mod template;
mod units;

pub use glob::{HostGlob, path_glob};
pub use key::{FetchKey, HostKey, LinkUrl, canonical, normalise};
pub use outcome::{Answer, Failure, Outcome, Sent};
pub use reason::{Class, REASONS, Reason, ReasonDoc};
pub use record::{AttemptRecord, Columns, EntryId, LISTED, META_COLUMNS, ResultRow, SkippedRecord};
pub use secret::{Secret, mask_url, printable};
pub use special::{Special, Specials};
pub use template::{Template, TemplateError, trim_address, value_text};
pub use units::{Rate, parse_duration, parse_percent, parse_rate, parse_size, show_duration};

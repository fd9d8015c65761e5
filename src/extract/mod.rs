//! Bytes in; records, links to follow and the next page out.
//!
//! A decider: no I/O, no clock. It is told whether the page's time is up, and everything that a hostile page can make long
//! or deep is capped. Parse, select and drop happen on the calling thread, in one call of [`Extractor::run`].
//!
//! ```text
//! bytes -> media (kind) -> charset (text) -> html | json -> rows -> fields -> types -> records
//!                                              \-> links (base, follow, nofollow)   \-> pages (next, stop)
//! ```

mod charset;
mod css;
mod error;
mod extractor;
mod field;
mod filter;
mod html;
mod json;
mod link_header;
mod links;
mod media;
mod natives;
mod pages;
mod percent;
mod responses;
mod scope;
mod sink;
mod typed;

pub use error::{CompileError, ExtractFailure};
pub use extractor::{Extracted, Extractor, Page};
pub use pages::{PageRequest, PageState, PageStep, Pager, RESTARTS};
pub use responses::{ByHead, Late, Responses, check_responses};
pub use scope::CrawlScope;

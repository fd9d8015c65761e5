//! What an answer's headers say about rate: when to come back after a refusal, and how much of a quota is left before one.
//!
//! [`asked()`], [`scope`] and [`resource`] read a refusal: how long, whom it holds, what it is about. [`quotas`] reads any answer, so
//! that the next refusal does not happen. Nothing here knows a clock: the time of the answer's arrival is told, and dates and epochs
//! are read against the answer's own `Date`. A value that cannot be what it claims is no header; none makes this module panic.
//!
//! Sources: RFC 9110 10.2.3 (`Retry-After`), RFC 9111 5.1 (`Age`), RFC 9651 (structured fields); the IETF drafts
//! `draft-ietf-httpapi-ratelimit-headers` 03 to 10; the documentation of GitHub, X, Reddit, Shopify, Stripe, GitLab, Discord, OpenAI,
//! Azure, Docker Hub and Kong, named beside each test.

mod asked;
mod quota;
mod structured;
mod values;

pub use asked::{Asked, SECONDARY, Scope, WaitFrom, asked, asked_in_body, exhausted, reset, resource, retry_after, scope, should_retry};
pub use quota::{LONGEST_WINDOW, MOST_QUOTAS, Quota, QuotaUnit, quotas};
pub use values::LONGEST;

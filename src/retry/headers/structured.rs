//! `RateLimit` and `RateLimit-Policy` as structured fields (RFC 9651), read by the `sfv` crate.
//!
//! A field that does not parse is ignored whole, as the draft demands (*Client Behavior*), and so is an item whose parameters have
//! types that they must not have. Two things are read although the newest draft does not have them, because servers send them: names
//! that are tokens (draft 08 allowed both) and decimals where integers stand.

use super::quota::MOST_QUOTAS;
use super::values::{name, texts};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use sfv::visitor::{DictionaryVisitor, EntryVisitor, Ignored, InnerListVisitor, ItemVisitor, ListVisitor, Never, ParameterVisitor};
use sfv::{BareItemFromInput, KeyRef, Parser};
use std::convert::Infallible;

/// An item of a list: `"burst";q=100;w=60`, `"burst";r=50;t=30`, or the drafts' old `100;w=60`.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Item {
    /// The policy's name.
    pub(super) policy: Option<String>,
    /// The policy's name; with the partition key where it has one: `peruser;pk=:cHsdsRa894==:`. Quotas are allocated per partition.
    pub(super) name: Option<String>,
    /// The bare number of the old drafts.
    pub(super) bare: Option<f64>,
    /// `q`: the quota.
    pub(super) quota: Option<f64>,
    /// `qu`: its unit.
    pub(super) unit: Option<String>,
    /// `w` in seconds (`window` in some old servers).
    pub(super) window: Option<f64>,
    /// `r`: what is left.
    pub(super) remaining: Option<f64>,
    /// `t` in seconds.
    pub(super) reset: Option<f64>,
    key: Option<String>,
    wrong: bool,
}

/// `limit=100, remaining=50, reset=5` (drafts 07 and before).
#[derive(Debug, Default, PartialEq)]
pub(super) struct Triple {
    pub(super) limit: Option<f64>,
    pub(super) remaining: Option<f64>,
    /// In seconds.
    pub(super) reset: Option<f64>,
}

/// The items of a list over all lines of the field, combined before parsing (RFC 9651 4.2), [`MOST_QUOTAS`] at most. Malformed: none.
pub(super) fn items(headers: &HeaderMap, field: &str) -> Vec<Item> {
    let lines: Vec<&str> = texts(headers, field).filter(|t| !t.trim().is_empty()).collect();
    let mut all = Parser::new(&lines.join(", ")).parse_list_with_visitor(Items::default()).unwrap_or_default();
    all.truncate(MOST_QUOTAS);
    all
}

/// The lines of the field that are dictionaries with one of the three keys. Draft 07 and its servers repeat the field, one quota a
/// line, so that lines are not combined.
pub(super) fn triples(headers: &HeaderMap, field: &str) -> Vec<Triple> {
    texts(headers, field)
        .filter_map(|line| Parser::new(line).parse_dictionary_with_visitor(Triple::default()).ok())
        .filter(|t| *t != Triple::default())
        .take(MOST_QUOTAS)
        .collect()
}

/// Integers and decimals that are not negative.
fn amount(value: &BareItemFromInput<'_>) -> Option<f64> {
    let n = match value {
        #[allow(clippy::cast_precision_loss, reason = "structured integers have 15 digits, below 2^53")]
        BareItemFromInput::Integer(n) => i64::from(*n) as f64,
        BareItemFromInput::Decimal(n) => f64::from(*n),
        _ => return None,
    };
    (n >= 0.0).then_some(n)
}

/// Lists of the draft hold items only.
#[derive(Debug, thiserror::Error)]
#[error("an inner list where an item belongs")]
struct NotAnItem;

#[derive(Default)]
struct Items(Vec<Item>);

impl<'de> ListVisitor<'de> for Items {
    type Out = Vec<Item>;
    type Error = Infallible;

    fn entry(&mut self) -> Result<impl EntryVisitor<'de>, Self::Error> {
        Ok(Entry(&mut self.0))
    }

    fn finish(self) -> Result<Self::Out, Self::Error> {
        Ok(self.0)
    }
}

struct Entry<'a>(&'a mut Vec<Item>);

impl<'de> EntryVisitor<'de> for Entry<'_> {
    type Error = NotAnItem;

    fn item(self) -> Result<impl ItemVisitor<'de>, Self::Error> {
        Ok(self)
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'de>, Self::Error> {
        Err::<Never, _>(NotAnItem)
    }
}

impl<'de> ItemVisitor<'de> for Entry<'_> {
    type Out = ();
    type Error = Infallible;

    fn bare_item(self, bare: BareItemFromInput<'de>) -> Result<impl ParameterVisitor<'de, Out = Self::Out>, Self::Error> {
        let mut item = Item::default();
        match &bare {
            BareItemFromInput::String(s) => item.policy = name(s.as_str()),
            BareItemFromInput::Token(t) => item.policy = name(t.as_str()),
            other => {
                item.bare = amount(other);
                item.wrong = item.bare.is_none();
            }
        }
        Ok(Parameters { out: self.0, item })
    }
}

struct Parameters<'a> {
    out: &'a mut Vec<Item>,
    item: Item,
}

impl<'de> ParameterVisitor<'de> for Parameters<'_> {
    type Out = ();
    type Error = Infallible;

    fn parameter(&mut self, key: &'de KeyRef, value: BareItemFromInput<'de>) -> Result<(), Self::Error> {
        let item = &mut self.item;
        let slot = match key.as_str() {
            "q" => &mut item.quota,
            "w" | "window" => &mut item.window,
            "r" => &mut item.remaining,
            "t" => &mut item.reset,
            "qu" => {
                match value {
                    BareItemFromInput::String(s) => item.unit = Some(s.as_str().to_owned()),
                    BareItemFromInput::Token(t) => item.unit = Some(t.as_str().to_owned()),
                    _ => item.wrong = true,
                }
                return Ok(());
            }
            "pk" => {
                match value {
                    BareItemFromInput::ByteSequence(bytes) => item.key = Some(STANDARD.encode(bytes)),
                    _ => item.wrong = true,
                }
                return Ok(());
            }
            _ => return Ok(()),
        };
        *slot = amount(&value);
        item.wrong |= slot.is_none();
        Ok(())
    }

    fn finish(self) -> Result<Self::Out, Self::Error> {
        let Self { out, mut item } = self;
        item.name = match (&item.policy, &item.key) {
            (Some(policy), Some(key)) => name(&format!("{policy};pk=:{key}:")),
            (policy, _) => policy.clone(),
        };
        if !item.wrong {
            out.push(item);
        }
        Ok(())
    }
}

impl<'de> DictionaryVisitor<'de> for Triple {
    type Out = Self;
    type Error = Infallible;

    fn entry(&mut self, key: &'de KeyRef) -> Result<impl EntryVisitor<'de>, Self::Error> {
        Ok(match key.as_str() {
            "limit" => Some(Slot(&mut self.limit)),
            "remaining" => Some(Slot(&mut self.remaining)),
            "reset" => Some(Slot(&mut self.reset)),
            _ => None,
        })
    }

    fn finish(self) -> Result<Self::Out, Self::Error> {
        Ok(self)
    }
}

struct Slot<'a>(&'a mut Option<f64>);

impl<'de> EntryVisitor<'de> for Slot<'_> {
    type Error = NotAnItem;

    fn item(self) -> Result<impl ItemVisitor<'de>, Self::Error> {
        Ok(move |bare: BareItemFromInput<'de>| -> Result<Ignored, Infallible> {
            *self.0 = amount(&bare);
            Ok(Ignored)
        })
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'de>, Self::Error> {
        Err::<Never, _>(NotAnItem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Vec<Item> {
        let mut h = HeaderMap::new();
        for line in lines {
            h.append("ratelimit-policy", line.parse().unwrap());
        }
        items(&h, "ratelimit-policy")
    }

    #[test]
    fn items_are_read_over_all_lines_with_their_partition() {
        let got = read(&["\"permin\";q=50;w=60,\"perhr\";q=1000;w=3600", "default; q=10;comment=\"a, b\""]);
        let flat: Vec<_> = got.iter().map(|i| (i.name.as_deref(), i.quota, i.window)).collect();
        assert_eq!(
            flat,
            [(Some("permin"), Some(50.0), Some(60.0)), (Some("perhr"), Some(1000.0), Some(3600.0)), (Some("default"), Some(10.0), None)]
        );
        // Draft 10, *RateLimit Policy Field Examples*: the example's base64 has bits after its end, which RFC 9651 4.2.7 lets pass.
        let got = read(&["\"peruser\";q=65535;qu=\"content-bytes\";w=10;pk=:sdfjLJUOUH==:"]);
        assert_eq!(got[0].unit.as_deref(), Some("content-bytes"));
        assert_eq!(got[0].name.as_deref(), Some("peruser;pk=:sdfjLJUOUA==:"));
    }

    #[test]
    fn malformed_fields_are_ignored_whole_and_ill_typed_items_alone() {
        for bad in ["\"a\";q=1,", "\"a;q=1", "\"a\";q", "\"a\" q=1", "limit=1, reset=2", "(\"a\");q=1", ";", ",", "\u{e9}", "\"a\";q=-1"] {
            assert_eq!(read(&[bad]), [], "{bad}");
        }
        assert_eq!(read(&["\"a\";q=\"1\", \"b\";q=2", "\"c\";pk=\"x\";q=3, ?1;q=4"]).len(), 1);
        assert_eq!(read(&["\"a\";q=1", "\"b\";;q=2"]), []);
        assert_eq!(read(&[]), []);
    }

    #[test]
    fn dictionaries_are_read_a_line_each() {
        let mut h = HeaderMap::new();
        for line in ["limit=100, remaining=50, reset=5", "limit=10000, remaining=90, reset=200", "\"x\";r=1", "reset=x", "a=1"] {
            h.append("ratelimit", line.parse().unwrap());
        }
        let got = triples(&h, "ratelimit");
        assert_eq!(got.len(), 2);
        assert_eq!(got[1], Triple { limit: Some(10_000.0), remaining: Some(90.0), reset: Some(200.0) });
    }
}

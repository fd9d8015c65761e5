//! `[limits] hours`: a time of day and a time zone.

use super::leaf::{Leaf, nearest};
use crate::model::plan::Hours;
use jiff::tz::{self, TimeZone};
use schemars::{Schema, json_schema};
use serde_json::Value as Json;

const HELP: &str = "write two times of day and, where they are not this machine's, a time zone, like \"22:00-06:00 Europe/Berlin\"";

impl Leaf for Hours {
    fn read(value: &Json) -> Result<Self, String> {
        let text = String::read(value)?;
        let bad = || format!("{text:?} are no hours: {HELP}");
        let (span, name) = text.trim().split_once(char::is_whitespace).map_or((text.trim(), ""), |(span, zone)| (span, zone.trim()));
        let (from, until) = span.split_once('-').ok_or_else(bad)?;
        let (from, until) = (minutes(from).ok_or_else(bad)?, minutes(until).ok_or_else(bad)?);
        if from == MIDNIGHT {
            return Err(bad());
        }
        let zone = if name.is_empty() { None } else { Some(zone(name)?) };
        Ok(Self { from, until: until % MIDNIGHT, zone })
    }
    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": "^ *[0-9]{1,2}:[0-9]{2}-[0-9]{1,2}:[0-9]{2}( +[A-Za-z0-9_+/-]+)? *$" })
    }
}

/// `24:00`.
const MIDNIGHT: u16 = 24 * 60;

fn minutes(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    if !digits(hours) || !digits(minutes) || minutes.len() != 2 || hours.len() > 2 {
        return None;
    }
    let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
    Some(hours * 60 + minutes).filter(|all| minutes < 60 && *all <= MIDNIGHT)
}

/// The name as the IANA database writes it.
fn zone(name: &str) -> Result<String, String> {
    if let Some(known) = TimeZone::get(name).ok().and_then(|zone| zone.iana_name().map(str::to_owned)) {
        return Ok(known);
    }
    let all: Vec<String> = tz::db().available().map(|zone| zone.as_str().to_owned()).collect();
    // Names are compared in lower case; the nearest is told as it is written.
    let lower: Vec<String> = all.iter().map(|zone| zone.to_lowercase()).collect();
    let near = nearest(name, lower.iter().map(String::as_str)).and_then(|near| all.get(lower.iter().position(|zone| zone == near)?));
    let cure =
        near.map_or_else(|| "write a name of the IANA database, like \"Europe/Berlin\"".into(), |near| format!("did you mean {near:?}?"));
    Err(format!("{name:?} is no time zone: {cure}"))
}

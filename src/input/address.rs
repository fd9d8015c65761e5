//! Which column has the address, and which columns are gleaner's own.

use super::error::InputError;
use super::reader::Asides;
use crate::model::plan::InputPlan;
use crate::model::{Columns, LISTED, META_COLUMNS, Template};

/// How a record with columns gives its address.
pub(super) enum Address {
    /// This column, as it is.
    Column(String),
    /// Several columns and text.
    Template(Template),
}

/// Whether a column is one that gleaner writes.
pub(super) fn is_own(name: &str) -> bool {
    META_COLUMNS.contains(&name)
}

/// The template of an input without columns, `None` where it is `{{url}}` alone.
///
/// # Errors
/// It names another column.
pub(super) fn only_url(file: &str, plan: &InputPlan) -> Result<Option<Template>, InputError> {
    if let Some(name) = plan.url.names().iter().find(|n| **n != "url") {
        return Err(InputError::Template {
            file: file.to_owned(),
            message: format!("the template of the address names the column {name:?}, and a list of addresses has {{{{url}}}} alone"),
            hint: Some("write {{url}}, or give the list a header and the ending .csv".into()),
        });
    }
    Ok((plan.url.whole() != Some("url")).then(|| plan.url.clone()))
}

/// The columns of a record that has none: where the request wants it, the address as listed.
pub(super) fn listed_alone(plan_keeps: bool, listed: &str) -> Columns {
    let mut columns = Columns::new();
    if plan_keeps {
        columns.insert(LISTED.to_owned(), listed.into());
    }
    columns
}

/// Finds the address among these columns.
///
/// # Errors
/// No column, or several, could be the one.
pub(super) fn find_address(file: &str, columns: &[&str], plan: &InputPlan, asides: &mut Asides) -> Result<Address, InputError> {
    if plan.url_set {
        return Ok(Address::Template(plan.url.clone()));
    }
    let like: Vec<&str> = columns.iter().copied().filter(|c| c.trim().eq_ignore_ascii_case("url")).collect();
    match like.as_slice() {
        [one] => {
            if *one != "url" {
                asides.notices.push(format!("{file}: the addresses are read from the column {one:?}"));
            }
            Ok(Address::Column((*one).to_owned()))
        }
        [] if columns.contains(&"_url") => {
            asides.notices.push(format!("{file}: the addresses are read from the column \"_url\""));
            Ok(Address::Column("_url".to_owned()))
        }
        [] => {
            let headless = columns.iter().any(|c| c.trim().get(..4).is_some_and(|s| s.eq_ignore_ascii_case("http")));
            let hint = if headless {
                "the first line has to name the columns: add one, or rename a file with one address a line to .txt".to_owned()
            } else {
                let name = columns.first().copied().unwrap_or("name");
                format!("name the column with the addresses in the job: [input] url = \"{{{{{}}}}}\"", name.trim())
            };
            Err(InputError::hinted(file, format!("there is no column \"url\": {}", list(columns)), hint))
        }
        _ => Err(InputError::hinted(
            file,
            format!("several columns could be \"url\": {}", list(columns)),
            format!("name one in the job: [input] url = \"{{{{{}}}}}\"", like[0].trim()),
        )),
    }
}

/// The columns found, for a message.
pub(super) fn list(columns: &[&str]) -> String {
    if columns.is_empty() {
        return "no columns were found".to_owned();
    }
    let mut text = "the columns are ".to_owned();
    for (i, name) in columns.iter().take(50).enumerate() {
        let name: String = crate::model::printable(name).chars().take(60).collect();
        text.push_str(if i > 0 { ", \"" } else { "\"" });
        text.push_str(&name);
        text.push('"');
    }
    if columns.len() > 50 {
        text.push_str(" and more");
    }
    text
}

/// The notice on gleaner's own columns, which are not carried.
pub(super) fn own_notice(file: &str, own: &[&str]) -> String {
    let names: Vec<String> = own.iter().map(|n| format!("{n:?}")).collect();
    if own.len() == 1 {
        format!("{file}: the column {} is gleaner's own and is not carried", names[0])
    } else {
        format!("{file}: the columns {} are gleaner's own and are not carried", names.join(", "))
    }
}

/// The one of `columns` that a template's name means: the same, or the same but for blanks around it.
pub(super) fn resolve<'c>(name: &str, columns: impl Iterator<Item = &'c str> + Clone) -> Option<usize> {
    columns.clone().position(|c| c == name).or_else(|| {
        let mut like = columns.enumerate().filter(|(_, c)| c.trim() == name);
        match (like.next(), like.next()) {
            (Some((i, _)), None) => Some(i),
            _ => None,
        }
    })
}

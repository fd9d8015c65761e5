//! `[input]`: where the records come from.

use super::{Builder, take};
use crate::config::errors::Origin;
use crate::config::leaf::Duplicates;
use crate::config::raw;
use crate::model::plan::{InputPlan, InputSource, OnBad};
use crate::model::{Template, mask_url, normalise};

pub(super) fn input(b: &mut Builder<'_>, raw: raw::Input) -> Option<InputPlan> {
    let file = take!(b, "input", raw.file);
    let urls = take!(b, "input", raw.urls);
    let url = take!(b, "input", raw.url);
    let _ = take!(b, "input", raw.on_change);
    let request_url = b.context.tree.is_set("request.url");
    if url.is_some() && request_url {
        b.error("input.url", "set with [request] url: [input] url is the template over an input's columns, [request] url the one address of a job without input");
    } else if request_url && (file.is_some() || urls.is_some()) {
        b.error("request.url", "is the one address of a job without input: with an input, write the template as [input] url");
    } else if url.is_some() && file.is_none() && urls.is_none() {
        b.error("input.url", "is a template over the columns of an input: set [input] file or urls, or write one address as [request] url");
    }
    let asked = b.context.tree.get("request.url").and_then(crate::config::tree::Node::as_text);
    let template = match &url {
        None => Template::parse(asked.unwrap_or("{{url}}")).ok(),
        Some(text) => {
            no_scheme(b, text);
            b.template("input.url", text)
        }
    };
    let urls = urls.map(|t| t.0);
    if url.is_none() {
        addresses(b, urls.as_deref().unwrap_or_default());
    }
    let source = source(b, file, urls);
    let on_bad = take!(b, "input", raw.on_bad).unwrap_or(OnBad::Skip);
    let fetch_duplicates = take!(b, "input", raw.duplicates) == Some(Duplicates::Fetch);
    Some(InputPlan { source, url: template?, url_set: url.is_some(), on_bad, fetch_duplicates, keeps_listed: false })
}

fn source(b: &mut Builder<'_>, file: Option<String>, urls: Option<Vec<String>>) -> InputSource {
    match (file, urls) {
        (Some(_), Some(_)) => {
            b.error("input.urls", "set with [input] file: an input has exactly one source");
            InputSource::Request
        }
        (Some(file), None) if file == "-" => InputSource::Stdin,
        (Some(file), None) => {
            let name = file.to_ascii_lowercase();
            let name = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(&name);
            if file.is_empty() {
                b.error("input.file", "is empty");
            } else if [".xml", ".rss", ".atom"].iter().any(|end| name.ends_with(end)) {
                b.error("input.file", "sitemaps and feeds are not yet read: give a .txt, .csv, .tsv or .jsonl list");
            }
            InputSource::File(b.path("input.file", &file))
        }
        (None, Some(urls)) => {
            if urls.is_empty() {
                b.error("input.urls", "is an empty list");
            }
            InputSource::Urls(urls)
        }
        (None, None) => {
            if !b.context.tree.is_set("request.url") {
                b.lacks("input", "there is no input: set [input] file or urls, or [request] url for a single address");
            }
            InputSource::Request
        }
    }
}

/// Addresses in the job: each is whole. Those of the command line are records like a list's.
fn addresses(b: &mut Builder<'_>, urls: &[String]) {
    if matches!(b.context.tree.get("input.urls").map(|n| &n.at), Some(Origin::Flag(_))) {
        return;
    }
    for (i, text) in urls.iter().enumerate() {
        if let Err(message) = normalise(text) {
            let shown: String = mask_url(text).chars().take(200).collect();
            b.error_in("input.urls", Some(i), format!("{shown:?}: {}", written_whole(&message)));
        }
    }
}

/// The cure of a list does not fit an address in the job.
fn written_whole(message: &str) -> String {
    match message.split_once(": where the list") {
        Some((what, _)) => format!("{what}: write it whole, like \"https://example.com/\""),
        None => message.to_owned(),
    }
}

/// `[request] url` is one http or https address.
pub(super) fn request_url(b: &mut Builder<'_>, text: &str) {
    b.template("request.url", text);
    if let Err(message) = normalise(text)
        && !text.contains("{{")
    {
        let what = message.split(": where the list").next().unwrap_or_default();
        b.error("request.url", format!("{what}: write it whole, like \"https://example.com/\""));
    }
}

/// A template with a literal beginning has to begin like an address.
fn no_scheme(b: &mut Builder<'_>, text: &str) {
    let head = text.split("{{").next().unwrap_or_default().trim_start().to_ascii_lowercase();
    if !head.is_empty() && !["http://", "https://"].iter().any(|scheme| head.starts_with(scheme) || scheme.starts_with(&head)) {
        b.error("input.url", "begins with neither http:// nor https://");
    }
}

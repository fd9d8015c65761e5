//! `--save`: the job file that flags amount to.

use crate::cli::exit::{Exit, Failure};
use crate::cli::settings::{Setting, Settings, Value, absolute};
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;

/// Headers whose literal value does not belong into a file.
const SECRET_HEADERS: &[&str] = &["authorization", "proxy-authorization", "cookie", "x-api-key", "api-key", "x-auth-token"];

/// Whether a header holds credentials.
pub(crate) fn is_secret_header(name: &str) -> bool {
    SECRET_HEADERS.contains(&name.trim().to_ascii_lowercase().as_str())
}

/// A job file as text, and the names of environment variables that stand for what must not be in it.
pub(crate) struct Saved {
    pub(crate) text: String,
    pub(crate) variables: Vec<String>,
}

/// Writes the job file; one that exists is left alone.
pub(crate) fn save(settings: &Settings, job: &Path) -> Result<Saved, Failure> {
    let saved = job_text(settings, job)?;
    let made = OpenOptions::new().write(true).create_new(true).open(job).and_then(|mut f| f.write_all(saved.text.as_bytes()));
    match made {
        Ok(()) => Ok(saved),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            Err(Failure::new(Exit::Usage, format!("{} exists and is left as it is", job.display())).hint("name another file"))
        }
        Err(e) => Err(Failure::io(job.display(), &e)),
    }
}

fn job_text(settings: &Settings, job: &Path) -> Result<Saved, Failure> {
    let beside = job.parent().is_none_or(|p| p.as_os_str().is_empty() || p == Path::new("."));
    // What belongs to no section stands above them all.
    let mut sections: Vec<(&str, Vec<String>)> = vec![("", Vec::new())];
    let mut variables = Vec::new();
    for setting in effective(&settings.list) {
        let (section, key) = setting.key.split_once('.').unwrap_or(("", &setting.key));
        // Where a call keeps its state is the call's affair; a job has its own place beside its file.
        if matches!(setting.key.as_str(), "job.state" | "job.name") {
            continue;
        }
        let value = match &setting.value {
            Value::Text(path) if is_path_key(&setting.key) && path != "-" && !beside => text(&absolute(Path::new(path))?),
            Value::Text(t) => text(t),
            Value::Typed(t) => typed(t),
            Value::List(list) => format!("[{}]", list.iter().map(|t| text(t)).collect::<Vec<_>>().join(", ")),
            Value::Pairs(pairs) => table(pairs, setting.key == "request.headers", &mut variables),
        };
        let line = format!("{key} = {value}");
        match sections.iter_mut().find(|(name, _)| *name == section) {
            Some((_, lines)) => lines.push(line),
            None => sections.push((section, vec![line])),
        }
    }
    let mut out = String::from("# Written by `gleaner --save`. Run it with `gleaner run`, read it with `gleaner check --explain`.\n");
    for (section, lines) in sections.iter().filter(|(_, lines)| !lines.is_empty()) {
        let header = if section.is_empty() { String::new() } else { format!("[{section}]\n") };
        let _ = write!(out, "\n{header}{}\n", lines.join("\n"));
    }
    Ok(Saved { text: out, variables })
}

/// The last setting of each key, in the order of their first.
fn effective(list: &[Setting]) -> Vec<&Setting> {
    let mut kept: Vec<&Setting> = Vec::new();
    for setting in list {
        match kept.iter_mut().find(|s| s.key == setting.key) {
            Some(earlier) => *earlier = setting,
            None => kept.push(setting),
        }
    }
    kept
}

fn is_path_key(key: &str) -> bool {
    matches!(key, "input.file" | "output.results" | "output.skipped" | "request.tls.ca_file")
}

fn table(pairs: &[(String, String)], headers: bool, variables: &mut Vec<String>) -> String {
    let pair = |(name, value): &(String, String)| {
        let secret = headers && is_secret_header(name) && !value.contains("${env:");
        let value = if secret {
            let variable = name.to_ascii_uppercase().replace('-', "_");
            let place = format!("${{env:{variable}}}");
            variables.push(variable);
            place
        } else {
            value.clone()
        };
        format!("{} = {}", key(name), text(&value))
    };
    let pairs: Vec<_> = pairs.iter().map(pair).collect();
    format!("{{ {} }}", pairs.join(", "))
}

fn key(name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if bare { name.to_owned() } else { text(name) }
}

fn typed(value: &str) -> String {
    let whole = toml_span::parse(&format!("v = {value}")).is_ok_and(|v| v.as_table().is_some_and(|t| t.len() == 1));
    if whole && !value.contains('\n') { value.to_owned() } else { text(value) }
}

/// A basic string of TOML.
fn text(value: &str) -> String {
    let mut out = String::from("\"");
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        let mut s = Settings::default();
        s.put("limits.workers", Value::Typed("8".into()), "--workers");
        s.put("limits.max_wait", Value::Typed("1h".into()), "--set");
        s.text("input.file", "lists/a.csv", "FILE");
        s.text("job.state", "x.gleaner", "--output");
        s.put("extract.fields", Value::Pairs(vec![("a b".into(), "re:\\d\"".into()), ("t".into(), "css:h1".into())]), "--field");
        let headers = vec![("Authorization".into(), "Bearer canary".into()), ("Accept".into(), "a".into())];
        s.put("request.headers", Value::Pairs(headers), "--header");
        s.put("limits.rate", Value::List(vec!["1/2s".into(), "5/hour".into()]), "--rate");
        s.put("limits.workers", Value::Typed("9".into()), "--workers");
        s.put("limit", Value::Typed("[{ name = \"a\", rate = \"1/s\" }]".into()), "--set");
        s.put("pages", Value::Typed("off".into()), "--set");
        s
    }

    #[test]
    fn the_job_file_says_what_the_flags_said_and_no_secret() {
        let saved = job_text(&settings(), Path::new("job.toml")).unwrap();
        assert_eq!(
            saved.text.split_once("\n\n").unwrap().1,
            r#"limit = [{ name = "a", rate = "1/s" }]
pages = "off"

[limits]
workers = 9
max_wait = "1h"
rate = ["1/2s", "5/hour"]

[input]
file = "lists/a.csv"

[extract]
fields = { "a b" = "re:\\d\"", t = "css:h1" }

[request]
headers = { Authorization = "${env:AUTHORIZATION}", Accept = "a" }
"#
        );
        assert_eq!(saved.variables, ["AUTHORIZATION"]);
        assert!(toml_span::parse(&saved.text).is_ok());
    }

    #[test]
    fn a_job_elsewhere_names_its_list_whole_and_an_existing_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let job = folder.path().join("job.toml");
        save(&settings(), &job).unwrap();
        let text = std::fs::read_to_string(&job).unwrap();
        assert!(text.contains("/lists/a.csv\""), "{text}");
        assert_eq!(save(&settings(), &job).err().unwrap().exit, Exit::Usage);
        assert_eq!(std::fs::read_to_string(&job).unwrap(), text);
    }
}

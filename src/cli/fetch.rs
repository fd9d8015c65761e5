//! `fetch` and `crawl`: what their arguments are, and where their files go.

use crate::cli::exit::{Exit, Failure};
use crate::cli::settings::{Settings, utf8};
use std::fs;
use std::path::{Path, PathBuf};

/// What is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Addresses, each with a scheme.
    Urls(Vec<String>),
    /// A list.
    File(String),
    /// One address a line.
    Stdin,
}

/// One argument of `fetch` or `crawl`.
enum Argument {
    Url(String),
    File(String),
    Stdin,
}

/// What the arguments of `fetch` or `crawl` are; a notice for each address that was completed.
pub(crate) fn source(arguments: &[String], notice: &mut dyn FnMut(String)) -> Result<Source, Failure> {
    let mut urls = Vec::new();
    for argument in arguments {
        let list = match one(argument, notice)? {
            Argument::Url(url) => {
                urls.push(url);
                continue;
            }
            Argument::File(file) => Source::File(file),
            Argument::Stdin => Source::Stdin,
        };
        if arguments.len() == 1 {
            return Ok(list);
        }
        let message = format!("{argument} is a list, and a list stands alone");
        return Err(Failure::new(Exit::Usage, message)
            .hint("join the lists into one and read it from standard input: cat a.txt b.txt | gleaner … -"));
    }
    Ok(Source::Urls(urls))
}

/// An existing file wins, a name with an input's extension and no such file is an error, all else is an address.
fn one(argument: &str, notice: &mut dyn FnMut(String)) -> Result<Argument, Failure> {
    if argument == "-" {
        return Ok(Argument::Stdin);
    }
    if argument.trim().is_empty() {
        let failure = Failure::new(Exit::Usage, "an argument is empty: it is no address and no list");
        return Err(failure.hint("a variable of the shell may be unset"));
    }
    let path = Path::new(argument);
    match fs::metadata(path) {
        Ok(found) if !found.is_dir() => return Ok(Argument::File(argument.to_owned())),
        // A folder that is called like a site (wget makes them) does not hide the site.
        Ok(_) if is_path(argument) || !argument.contains('.') => {
            let failure = Failure::new(Exit::Data, format!("{argument} is a folder, not a list"));
            return Err(failure.hint("name one list in it, or join several: cat lists/*.txt | gleaner … -"));
        }
        _ => {}
    }
    if has_scheme(argument) {
        return Ok(Argument::Url(argument.to_owned()));
    }
    if is_path(argument) || has_input_extension(argument) {
        let failure = Failure::new(Exit::Data, format!("{argument}: no such file"));
        let hint = format!("if it is an address, write it whole: https://{argument}");
        return Err(if is_path(argument) { failure.hint("check the name of the list") } else { failure.hint(hint) });
    }
    Ok(Argument::Url(with_scheme(argument, notice)))
}

fn is_path(argument: &str) -> bool {
    matches!(argument, "." | "..") || argument.starts_with(['/', '~']) || argument.starts_with("./") || argument.starts_with("../")
}

pub(crate) fn has_input_extension(argument: &str) -> bool {
    let lower = argument.to_ascii_lowercase();
    let name = lower.strip_suffix(".gz").or_else(|| lower.strip_suffix(".zst")).unwrap_or(&lower);
    [".txt", ".csv", ".tsv", ".jsonl"].iter().any(|e| name.ends_with(e))
}

/// `https://h`, `mailto:x`; not `h:8080/x` and not `localhost:80`.
fn has_scheme(argument: &str) -> bool {
    let Some((scheme, rest)) = argument.split_once(':') else { return false };
    let word = scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-".contains(&b));
    !scheme.is_empty() && word && !rest.starts_with(|c: char| c.is_ascii_digit())
}

fn with_scheme(argument: &str, notice: &mut dyn FnMut(String)) -> String {
    let argument = argument.trim();
    if has_scheme(argument) {
        return argument.to_owned();
    }
    let whole = format!("https://{}", argument.trim_start_matches('/'));
    notice(format!("{argument} has no scheme, so {whole} is asked for"));
    whole
}

/// Where the files of a call with `-o` go: state in `<results>.gleaner/`, skipped records in `<stem>.skipped.jsonl`.
pub(crate) fn keep_beside(settings: &mut Settings, results: &Path, skipped: Option<&Path>) -> Result<(), Failure> {
    let results = utf8(results)?;
    let path = Path::new(results);
    if path.file_name().is_none() || path.is_dir() {
        return Err(Failure::new(Exit::Usage, format!("--output {results} is a folder: name a file in it, like rows.csv")));
    }
    settings.text("job.name", stem(path), "--output");
    settings.text("job.state", format!("{results}.gleaner"), "--output");
    settings.text("output.results", results, "--output");
    let skipped = match skipped {
        Some(skipped) => skipped.to_owned(),
        None => path.with_file_name(format!("{}.skipped.jsonl", stem(path))),
    };
    settings.text("output.skipped", utf8(&skipped)?, "--skipped");
    Ok(())
}

/// Whether a file is called like results, and not like a job file.
pub(crate) fn is_results(path: &Path) -> bool {
    let name = path.to_string_lossy().to_ascii_lowercase();
    let name = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(&name);
    [".csv", ".jsonl"].iter().any(|e| name.ends_with(e))
}

/// `out/rows.csv.gz` is `rows`; a name that begins with its only dot is kept.
pub(crate) fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(&name);
    PathBuf::from(name).file_stem().map_or_else(|| name.to_owned(), |s| s.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::settings::Value;

    fn read(arguments: &[&str]) -> (Result<Source, Failure>, Vec<String>) {
        let mut notices = Vec::new();
        let arguments: Vec<String> = arguments.iter().map(|s| (*s).to_owned()).collect();
        let source = source(&arguments, &mut |n| notices.push(n));
        (source, notices)
    }

    #[test]
    fn an_existing_file_wins_and_a_missing_list_is_no_address() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("example.com");
        fs::write(&file, "x").unwrap();
        let name = file.to_str().unwrap();
        assert_eq!(read(&[name]).0.unwrap(), Source::File(name.into()));
        for folder in [".", "..", "./", "../", "./."] {
            let failure = read(&[folder]).0.unwrap_err();
            assert!(failure.exit == Exit::Data && failure.message.contains("is a folder"), "{folder}: {}", failure.message);
        }
        for missing in ["urls.csv", "urls.TXT.GZ", "./urls", "/no/such/list"] {
            assert_eq!(read(&[missing]).0.unwrap_err().exit, Exit::Data, "{missing}");
        }
        assert_eq!(read(&[folder.path().to_str().unwrap()]).0.unwrap_err().exit, Exit::Data);
        assert_eq!(read(&[" "]).0.unwrap_err().exit, Exit::Usage);
        assert_eq!(read(&["-"]).0.unwrap(), Source::Stdin);
        assert_eq!(read(&["https://h/", "-"]).0.unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn an_address_without_a_scheme_gets_one_and_the_person_is_told() {
        let (source, notices) = read(&["example.com/a.csv?x", "localhost:8080", "http://h/list.csv", "mailto:a@b"]);
        let urls = ["https://example.com/a.csv?x", "https://localhost:8080", "http://h/list.csv", "mailto:a@b"];
        assert_eq!(source.unwrap(), Source::Urls(urls.map(str::to_owned).to_vec()));
        assert_eq!(notices.len(), 2, "{notices:?}");
    }

    #[test]
    fn files_of_a_call_stand_beside_its_results() {
        let mut s = Settings::default();
        keep_beside(&mut s, Path::new("out/rows.csv.gz"), None).unwrap();
        let text = |key: &str| s.list.iter().find(|s| s.key == key).map(|s| s.value.clone());
        assert_eq!(text("job.state"), Some(Value::Text("out/rows.csv.gz.gleaner".into())));
        assert_eq!(text("output.skipped"), Some(Value::Text("out/rows.skipped.jsonl".into())));
        assert_eq!(text("job.name"), Some(Value::Text("rows".into())));
        assert!(keep_beside(&mut s, Path::new("/"), None).is_err());
    }
}

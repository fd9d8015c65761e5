//! `docs/job-file.md` tells the keys of `config/default.toml`, all of them and no other, with the same defaults.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Section and key to the default as written; empty where the line is commented out.
type Keys = BTreeMap<(String, String), String>;

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

fn is_word(s: &str) -> bool {
    !s.is_empty() && s.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}

fn defaults() -> Keys {
    let mut keys = Keys::new();
    let mut section = String::new();
    for line in read("config/default.toml").lines() {
        let (on, text) = line.strip_prefix('#').map_or((true, line), |t| (false, t));
        if let Some(name) = text.strip_prefix('[').and_then(|t| t.trim_start_matches('[').split(']').next()).filter(|n| is_word(n)) {
            name.clone_into(&mut section);
        } else if let Some((key, value)) = text.split_once(" = ").filter(|(k, _)| is_word(k)) {
            let value = value.split("  #").next().unwrap_or_default().split(" # ").next().unwrap_or_default().trim();
            keys.insert((section.clone(), key.to_owned()), if on { value.to_owned() } else { String::new() });
        }
    }
    keys
}

fn documented() -> Keys {
    let mut keys = Keys::new();
    let mut section = String::new();
    for line in read("docs/job-file.md").lines() {
        if let Some(title) = line.strip_prefix("## ") {
            let name = title.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or_default();
            name.trim_matches(['[', ']']).clone_into(&mut section);
        } else if let Some(row) = line.strip_prefix("| `") {
            let Some((key, rest)) = row.split_once("` | ") else { continue };
            if is_word(key) {
                keys.insert((section.clone(), key.to_owned()), rest.split(" | ").next().unwrap_or_default().trim().to_owned());
            }
        }
    }
    keys
}

#[test]
fn every_key_is_documented_and_no_other() {
    let (defaults, documented) = (defaults(), documented());
    assert!(defaults.len() > 50, "{defaults:?}");
    let names = |keys: &Keys| keys.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&defaults), names(&documented));
}

#[test]
fn defaults_are_documented_as_they_are() {
    let documented = documented();
    for (key, value) in defaults().into_iter().filter(|(_, v)| !v.is_empty()) {
        assert_eq!(documented.get(&key), Some(&format!("`{value}`")), "{key:?}");
    }
}

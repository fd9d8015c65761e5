//! The architecture as a test: the layer table of `style.md`, and no file too long to read.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::similar_names, reason = "tests: they may fail loudly")]

use std::path::{Path, PathBuf};

/// Each module and its layer; a module uses only lower layers. Layer-1 modules never use each other; in the upper layers
/// these uses of a sibling are allowed: user, used.
const LAYERS: &[(&str, u8)] = &[
    ("model", 0),
    ("clock", 0),
    ("events", 0),
    ("schedule", 1),
    ("limit", 1),
    ("retry", 1),
    ("robots", 1),
    ("extract", 1),
    ("input", 1),
    ("store", 1),
    ("budget", 1),
    ("fetch", 1),
    ("config", 2),
    ("engine", 2),
    ("cli", 3),
    ("report", 3),
    ("demo", 3),
];
const SIBLINGS: &[(&str, &str)] =
    &[("model", "clock"), ("events", "clock"), ("events", "model"), ("engine", "config"), ("cli", "report"), ("cli", "demo")];

fn layer(module: &str) -> Option<u8> {
    LAYERS.iter().find(|(name, _)| *name == module).map(|(_, l)| *l)
}

fn allowed(user: &str, used: &str) -> bool {
    if user == used || SIBLINGS.contains(&(user, used)) {
        return true;
    }
    matches!((layer(user), layer(used)), (Some(a), Some(b)) if b < a)
}

fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The modules named after `crate::` in code, `crate::{a::…, b}` included; comments and docs are left out.
fn used_modules(text: &str) -> Vec<(usize, String)> {
    let code: Vec<&str> = text.lines().map(|l| if l.trim_start().starts_with("//") { "" } else { l }).collect();
    let mut found = Vec::new();
    for (i, line) in code.iter().enumerate() {
        for (at, _) in line.match_indices("crate::") {
            if line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
                continue;
            }
            let rest = &line[at + 7..];
            if let Some(group) = rest.strip_prefix('{') {
                let whole = format!("{group}\n{}", code[i + 1..].join("\n"));
                found.extend(top_names(&whole).into_iter().map(|n| (i + 1, n)));
            } else {
                found.push((i + 1, rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()));
            }
        }
    }
    found
}

/// First path segments at the top of a `use` group, up to its closing brace.
fn top_names(group: &str) -> Vec<String> {
    let (mut depth, mut name, mut names) = (0usize, String::new(), Vec::new());
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(std::mem::take(&mut name)),
            c if depth == 0 => name.push(c),
            _ => {}
        }
    }
    names.push(name);
    names.iter().map(|n| n.trim().split("::").next().unwrap_or("").trim().to_owned()).filter(|n| !n.is_empty()).collect()
}

#[test]
fn a_module_uses_only_lower_layers() {
    let src = root().join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut wrong = Vec::new();
    let mut uses = 0;
    for file in &files {
        let below = file.strip_prefix(&src).unwrap();
        let user = below.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        if matches!(user, "main" | "lib") {
            continue;
        }
        assert!(layer(user).is_some(), "src/{user} is in no layer: put it into the table");
        for (line, used) in used_modules(&std::fs::read_to_string(file).unwrap()) {
            uses += 1;
            let known = layer(&used).is_some();
            if known && !allowed(user, &used) {
                wrong.push(format!("src/{}:{line}: {user} uses {used}", below.display()));
            }
        }
    }
    assert!(uses > 50, "only {uses} uses found: the reader is broken");
    assert!(wrong.is_empty(), "forbidden by the layer table:\n{}", wrong.join("\n"));
}

#[test]
fn the_table_itself_forbids_up_and_sideways() {
    assert!(allowed("engine", "store") && allowed("store", "model") && allowed("cli", "engine") && allowed("engine", "config"));
    assert!(!allowed("store", "limit") && !allowed("limit", "engine") && !allowed("model", "store") && !allowed("config", "engine"));
    let text =
        "use crate::{a::{x, y}, b, c::d};\n// crate::no\nfn f() { crate::e::g(); my_crate::h(); }\nuse crate::{\n  i,\n  j::k,\n};\n";
    let names: Vec<String> = used_modules(text).into_iter().map(|(_, n)| n).collect();
    assert_eq!(names, ["a", "b", "c", "e", "i", "j"]);
}

#[test]
fn no_file_is_past_800_lines() {
    let mut files = Vec::new();
    for dir in ["src", "tests", "benches"] {
        let dir = root().join(dir);
        if dir.is_dir() {
            sources(&dir, &mut files);
        }
    }
    let long: Vec<String> = files
        .iter()
        .map(|f| (f, std::fs::read_to_string(f).unwrap().lines().count()))
        .filter(|(_, n)| *n > 800)
        .map(|(f, n)| format!("{}: {n}", f.display()))
        .collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}

//! From a job file, flags and the environment to a [`Plan`].

use super::build::{self, Shape};
use super::errors::{ConfigError, ConfigErrors, Origin};
use super::explain::{Setting, complete, settings};
use super::flags::{self, Overrides, environment};
use super::raw;
use super::tree::{self, Node, Value};
use super::walk;
use crate::model::plan::{Plan, StatePlace};
use std::collections::BTreeMap;
use std::path::Path;

/// The commented reference: every key with its default.
pub const DEFAULTS: &str = include_str!("../../config/default.toml");

/// A job that may run.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What to do.
    pub plan: Plan,
    /// Every setting, who set it, secrets masked; in the schema's order.
    pub explain: Vec<Setting>,
    /// What is odd and harms nothing, as lowercase sentences.
    pub warnings: Vec<String>,
}

/// Loads a job file, with the settings of flags and environment (`GLEANER_LIMITS__WORKERS=8`) laid over it.
///
/// Relative paths of the file and of the environment are relative to the file's folder, those of flags to the working
/// folder. `${env:NAME}` is resolved from `env`. Nothing is written; of the file system only the job file is read.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn load(job_file: &Path, overrides: &Overrides, env: impl IntoIterator<Item = (String, String)>) -> Result<Loaded, ConfigErrors> {
    merge(Some((job_file, read(job_file)?)), overrides, env)
}

/// Where a job file's state is. Only `job.name` and `job.state` count: the rest may be wrong, and no `${env:…}` is resolved.
///
/// # Errors
/// Where the file cannot be read, is no TOML, or these two are wrong.
pub fn state_place(
    job_file: &Path,
    overrides: &Overrides,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<StatePlace, ConfigErrors> {
    let env: BTreeMap<String, String> = env.into_iter().collect();
    let fail = |errors| ConfigErrors::new(Some(job_file.to_owned()), errors);
    let mut errors = Vec::new();
    let mut tree = layered(Some(read(job_file)?), overrides, &env, &raw::schema_value(), &mut errors).map_err(|e| fail(vec![e]))?;
    errors.retain(|e| e.key == "job" || e.key.starts_with("job."));
    let shape = Shape::of(&tree);
    build::defaults(&mut tree, shape, Some(job_file));
    let section = tree.get("job").map(Node::json).unwrap_or_default();
    let section = serde_json::from_value(section).map_err(|e| fail(vec![whole(&e)]))?;
    let context = build::Context { tree: &tree, env: &env, job_file: Some(job_file), network: &overrides.network };
    let state = build::state_place(context, section, &mut errors);
    if errors.is_empty() { Ok(state) } else { Err(fail(errors)) }
}

/// The job that flags and environment alone amount to (`fetch`, `crawl`).
///
/// Results go to stdout unless `output.results` is set; with a results file, skipped records and state stand beside it.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn assemble(overrides: &Overrides, env: impl IntoIterator<Item = (String, String)>) -> Result<Loaded, ConfigErrors> {
    merge(None, overrides, env)
}

fn read(job_file: &Path) -> Result<Node, ConfigErrors> {
    let fail = |message: String| ConfigErrors::of_file(job_file.to_owned(), message);
    let bytes = std::fs::read(job_file).map_err(|e| {
        fail(match e.kind() {
            std::io::ErrorKind::NotFound => "there is no such job file".into(),
            std::io::ErrorKind::IsADirectory => "is a folder: name the job file in it".into(),
            _ => format!("the job file cannot be read: {e}"),
        })
    })?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let line = e.as_bytes()[..e.utf8_error().valid_up_to()].split(|b| *b == b'\n').count();
        fail(format!("line {line} is not UTF-8: save the job file as UTF-8"))
    })?;
    tree::parse(&text).map_err(|e| ConfigErrors::new(Some(job_file.to_owned()), vec![e]))
}

/// Every layer laid over the one below; what is wrong with their keys is told.
fn layered(
    file: Option<Node>,
    overrides: &Overrides,
    env: &BTreeMap<String, String>,
    schema: &serde_json::Value,
    errors: &mut Vec<ConfigError>,
) -> Result<Node, ConfigError> {
    let mut tree = defaults()?;
    let layers = file.into_iter().chain(environment(env, |name| is_section(name, schema))).chain(overrides.layers().iter().cloned());
    for mut layer in layers {
        walk::check(&mut layer, schema, errors);
        tree.lay(layer, errors);
    }
    Ok(tree)
}

/// Something that no leaf's own message tells.
fn whole(e: &serde_json::Error) -> ConfigError {
    ConfigError { origin: Origin::Job, key: String::new(), message: e.to_string() }
}

fn merge(
    file: Option<(&Path, Node)>,
    overrides: &Overrides,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded, ConfigErrors> {
    let env: BTreeMap<String, String> = env.into_iter().collect();
    let schema = raw::schema_value();
    let job_file = file.as_ref().map(|(path, _)| path.to_path_buf());
    let fail = |errors: Vec<ConfigError>| ConfigErrors::new(job_file.clone(), errors);
    let mut errors = Vec::new();

    let mut tree = layered(file.map(|(_, node)| node), overrides, &env, &schema, &mut errors).map_err(|e| fail(vec![e]))?;

    let warnings = strange_variables(&tree, &env, &schema);
    let shape = Shape::of(&tree);
    build::defaults(&mut tree, shape, job_file.as_deref());
    let mut explain = settings(&tree, &schema);
    for off in raw::SWITCHABLE {
        if tree.get(off).is_some_and(|node| node.as_text() == Some("off")) {
            tree.remove(off);
        }
    }
    let job: raw::Job = match serde_json::from_value(tree.json()) {
        Ok(job) => job,
        Err(e) => {
            errors.push(whole(&e));
            return Err(fail(errors));
        }
    };
    let plan = build::plan(
        build::Context { tree: &tree, env: &env, job_file: job_file.as_deref(), network: &overrides.network },
        job,
        &mut errors,
    );
    match plan {
        Some(plan) if errors.is_empty() => {
            complete(&mut explain, &plan);
            Ok(Loaded { plan, explain, warnings })
        }
        _ => Err(fail(errors)),
    }
}

fn strange_variables(tree: &Node, env: &BTreeMap<String, String>, schema: &serde_json::Value) -> Vec<String> {
    let mut texts = Vec::new();
    tree.each_text("", &mut |_, _, text| texts.push(text.to_owned()));
    let used = |name: &str| texts.iter().any(|text| text.contains(&format!("${{env:{name}}}")));
    let known: Vec<String> = walk::keys(schema).iter().map(|key| key.replace('.', "__")).collect();
    flags::strangers(env.keys(), |name| is_section(name, schema), &known, used)
}

fn is_section(name: &str, schema: &serde_json::Value) -> bool {
    walk::is_not_yet(name) || walk::properties(schema).is_some_and(|known| known.contains_key(name))
}

/// The lowest layer.
fn defaults() -> Result<Node, ConfigError> {
    let mut tree = tree::parse(DEFAULTS)?;
    by_default(&mut tree);
    Ok(tree)
}

fn by_default(node: &mut Node) {
    node.at = Origin::Default;
    node.key_at = Origin::Default;
    match &mut node.value {
        Value::Table(table) => table.iter_mut().for_each(|(_, node)| by_default(node)),
        Value::List(items) => items.iter_mut().for_each(by_default),
        _ => {}
    }
}

//! jq filters: compiled once, run on strangers' values with a cap on their outputs.

use super::natives::{self, Data};
use jaq_core::compile::Undefined;
use jaq_core::load::{self, Arena, File, Loader};
use jaq_core::{Compiler, Ctx, Vars, unwrap_valr};
use jaq_json::Val;

/// Outputs that one run of a filter may give.
pub(super) const MAX_OUTPUTS: usize = 100_000;

/// One filter of the job.
pub(super) struct Filter {
    text: String,
    kind: Kind,
}

enum Kind {
    /// `.a.b`, or `.a.b[]` where `each`: by far the most used, and run here without the interpreter.
    Path {
        keys: Vec<String>,
        each: bool,
    },
    Program(Box<jaq_core::Filter<Data>>),
}

/// Why a filter gave no answer, or stopped in the midst of one.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Its own error, or that of a function on a value of another type.
    Error(String),
    /// More than [`MAX_OUTPUTS`].
    TooMany,
    /// The page's time is up.
    Late,
    /// Values of nested elements that repeat each other without end.
    TooBig,
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Error(e) => f.write_str(&super::error::shown(e)),
            Self::TooMany => write!(f, "more than {MAX_OUTPUTS} outputs"),
            Self::Late => f.write_str("it takes too long"),
            Self::TooBig => f.write_str("its values are too big"),
        }
    }
}

impl Filter {
    /// # Errors
    /// A lowercase sentence that names what cannot be read.
    pub(super) fn compile(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() {
            return Err("the filter is empty: `.` is the whole value".into());
        }
        let kind = match simple_path(text) {
            Some((keys, each)) => Kind::Path { keys, each },
            None => Kind::Program(Box::new(program(text)?)),
        };
        Ok(Self { text: text.to_owned(), kind })
    }

    /// Whether the filter gives its items one by one (`.items[]`, `..`, `.a, .b`), rather than one array of them.
    pub(super) fn gives_many(&self) -> bool {
        let text = self.text.as_bytes();
        let iterates =
            |i: usize| text[i..].starts_with(b"[]") && i > 0 && (text[i - 1].is_ascii_alphanumeric() || b"._])}\"?".contains(&text[i - 1]));
        (0..text.len()).any(iterates) || ["..", "recurse", "range(", "split", "scan(", ","].iter().any(|w| self.text.contains(w))
    }

    /// Whether the whole filter ends by iterating, so that an array it gives is an item and not the list of them.
    pub(super) fn ends_iterating(&self) -> bool {
        let text = self.text.trim_end_matches('?');
        text.strip_suffix("[]").is_some_and(|before| before.ends_with(|c: char| c.is_alphanumeric() || "._])}\"?".contains(c)))
    }

    /// All outputs, and what stopped them.
    pub(super) fn all(&self, input: &Val, late: &dyn Fn() -> bool) -> (Vec<Val>, Option<Trouble>) {
        match &self.kind {
            Kind::Path { keys, each } => match (walk(keys, input), each) {
                (Err(e), _) => (Vec::new(), Some(e)),
                (Ok(v), false) => (vec![v.cloned().unwrap_or_default()], None),
                (Ok(Some(Val::Arr(items))), true) => (items.to_vec(), None),
                (Ok(Some(Val::Obj(map))), true) => (map.values().cloned().collect(), None),
                (Ok(v), true) => (Vec::new(), Some(Trouble::Error(format!("cannot iterate over {}", v.unwrap_or(&Val::Null))))),
            },
            Kind::Program(filter) => {
                let mut out = Vec::new();
                let ctx = Ctx::<Data>::new(&filter.lut, Vars::new([]));
                for value in filter.id.run((ctx, input.clone())).map(unwrap_valr) {
                    match value {
                        Err(e) => return (out, Some(Trouble::Error(e.to_string()))),
                        Ok(_) if out.len() >= MAX_OUTPUTS => return (out, Some(Trouble::TooMany)),
                        Ok(v) => out.push(v),
                    }
                    if out.len() % 64 == 0 && late() {
                        return (out, Some(Trouble::Late));
                    }
                }
                (out, None)
            }
        }
    }

    /// The first output, null where there is none.
    ///
    /// # Errors
    /// The filter's own, where it comes before any output.
    pub(super) fn first(&self, input: &Val) -> Result<Val, Trouble> {
        match &self.kind {
            Kind::Path { keys, each: false } => Ok(walk(keys, input)?.cloned().unwrap_or_default()),
            Kind::Path { .. } => {
                let (mut values, trouble) = self.all(input, &|| false);
                match trouble {
                    Some(t) => Err(t),
                    None if values.is_empty() => Ok(Val::Null),
                    None => Ok(values.swap_remove(0)),
                }
            }
            Kind::Program(filter) => {
                let ctx = Ctx::<Data>::new(&filter.lut, Vars::new([]));
                let first = filter.id.run((ctx, input.clone())).map(unwrap_valr).next();
                first.unwrap_or(Ok(Val::Null)).map_err(|e| Trouble::Error(e.to_string()))
            }
        }
    }
}

fn walk<'v>(keys: &[String], input: &'v Val) -> Result<Option<&'v Val>, Trouble> {
    let mut at = input;
    for key in keys {
        match at {
            Val::Obj(map) => match map.get(&Val::utf8_str(key.clone())) {
                Some(v) => at = v,
                None => return Ok(None),
            },
            Val::Null => return Ok(None),
            other => return Err(Trouble::Error(format!("cannot index {other} with {key:?}"))),
        }
    }
    Ok(Some(at))
}

/// `.`, `.a`, `.a.b_c` and the same with `[]` at the end.
fn simple_path(text: &str) -> Option<(Vec<String>, bool)> {
    let (path, each) = text.strip_suffix("[]").map_or((text, false), |p| (p, true));
    let rest = path.strip_prefix('.')?;
    if rest.is_empty() {
        return Some((Vec::new(), each));
    }
    let name =
        |n: &str| n.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && n.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    rest.split('.').map(|n| name(n).then(|| n.to_owned())).collect::<Option<_>>().map(|keys| (keys, each))
}

fn program(text: &str) -> Result<jaq_core::Filter<Data>, String> {
    let arena = Arena::default();
    let modules = Loader::new(natives::defs()).load(&arena, File { code: text, path: () }).map_err(|errors| load_error(text, errors))?;
    Compiler::default().with_funs(natives::funs()).compile(modules).map_err(|errors| {
        let first = errors.into_iter().flat_map(|(_, e)| e).next();
        first.map_or_else(|| "the filter cannot be read".into(), |(name, kind)| undefined(name, &kind))
    })
}

fn undefined(name: &str, kind: &Undefined) -> String {
    let also = match name {
        "env" | "$ENV" | "now" | "input" | "inputs" | "debug" | "halt" => ": filters see the answer alone",
        _ => "",
    };
    match kind {
        Undefined::Filter(0) => format!("the function `{name}` is not known{also}"),
        Undefined::Filter(n) => format!("the function `{name}` with {n} arguments is not known{also}"),
        kind => format!("the {} `{name}` is not known{also}", kind.as_str()),
    }
}

fn load_error(text: &str, errors: load::Errors<&str, ()>) -> String {
    let near = |found: &str| {
        let at = load::span(text, found).start;
        let rest: String = text[at..].chars().take(20).collect();
        if rest.is_empty() { "at the end".to_owned() } else { format!("at `{rest}`") }
    };
    match errors.into_iter().next().map(|(_, e)| e) {
        Some(load::Error::Lex(errors)) => {
            errors.first().map_or_else(String::new, |(expected, found)| format!("the filter wants a {} {}", expected.as_str(), near(found)))
        }
        Some(load::Error::Parse(errors)) => {
            errors.first().map_or_else(String::new, |(expected, found)| format!("the filter wants a {} {}", expected.as_str(), near(found)))
        }
        Some(load::Error::Io(_)) => "a filter cannot load modules".into(),
        None => "the filter cannot be read".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::json;

    fn run(filter: &str, input: &str) -> String {
        let (values, trouble) = Filter::compile(filter).unwrap().all(&json::read(input).unwrap().value, &|| false);
        let mut out: Vec<String> = values.iter().map(|v| json::to_value(v).to_string()).collect();
        out.extend(trouble.map(|t| format!("! {t}")));
        out.join(" ")
    }

    #[test]
    fn filters_are_shared_between_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<Filter>();
    }

    #[test]
    fn paths_answer_as_the_interpreter_does() {
        for (path, input) in [
            (".", "[1]"),
            (".a", "{\"a\":{\"b\":1}}"),
            (".a.b", "{\"a\":{\"b\":1}}"),
            (".x.y", "{}"),
            (".a", "null"),
            (".a[]", "{\"a\":[1,2]}"),
            (".[]", "{\"a\":3}"),
        ] {
            assert_eq!(run(path, input), run(&format!("{path} | ."), input), "{path}");
        }
        assert!(run(".a.b", "{\"a\":1}").starts_with("! cannot index"));
        assert!(run(".a[]", "{}").starts_with("! cannot iterate over null"));
    }

    #[test]
    fn big_numbers_pass_through_untouched() {
        assert_eq!(run(".a[] | {id}", "{\"a\":[{\"id\":123456789012345678901234567890}]}"), "{\"id\":123456789012345678901234567890}");
        assert_eq!(run(".x | tostring", "{\"x\":1.10}"), "\"1.10\"");
    }

    #[test]
    fn the_functions_of_filters_are_there() {
        for (filter, input, want) in [
            (".[] | select(test(\"^a\"; \"i\"))", "[\"Ab\",\"b\"]", "\"Ab\""),
            ("sub(\"(?<x>b)\"; \"<\\(.x)>\")", "\"abb\"", "\"a<b>b\""),
            ("gsub(\"\\\\s+\"; \" \")", "\"a \\n b\"", "\"a b\""),
            ("[scan(\"[0-9]+\")]", "\"1 ä 22\"", "[\"1\",\"22\"]"),
            ("capture(\"(?<y>[0-9]{4})\")", "\"in 2024\"", "{\"y\":\"2024\"}"),
            ("[match(\"ä|b\"; \"g\").offset]", "\"xäxb\"", "[1,3]"),
            ("split(\", *\"; null)", "\"a,  b\"", "[\"a\",\"b\"]"),
            ("split(\",\")", "\"a,b\"", "[\"a\",\"b\"]"),
            ("@base64", "\"hié?\"", "\"aGnDqT8=\""),
            ("@base64d", "\"aGnDqT8=\\n\"", "\"hié?\""),
            ("@uri \"/\\(.)\"", "\"a b/ä\"", "\"/a%20b%2F%C3%A4\""),
            ("@html", "\"<a&b>\"", "\"&lt;a&amp;b&gt;\""),
            ("fromjson.a", "\"{\\\"a\\\":[1.0]}\"", "[1.0]"),
            (".a | tonumber", "{\"a\":\"12\"}", "12"),
            ("to_entries | map(.key) | join(\"-\")", "{\"a\":1,\"b\":2}", "\"a-b\""),
            ("[.[] | floor, (. * 2 | round)]", "[1.4]", "[1,3]"),
            ("map(.a) | add, length, (unique | sort | reverse)", "[{\"a\":1},{\"a\":2}]", "3 2 [2,1]"),
            ("(.b? // \"none\"), (.a | ascii_downcase | ltrimstr(\"x\"))", "{\"a\":\"XA\"}", "\"none\" \"a\""),
        ] {
            assert_eq!(run(filter, input), want, "{filter}");
        }
    }

    #[test]
    fn what_reads_the_machine_is_not_known() {
        for filter in ["env", "now", "$ENV", "input", "debug", "halt", "nosuch(1)", ".a | $x"] {
            let e = Filter::compile(filter).err().unwrap();
            assert!(e.contains("not known"), "{filter}: {e}");
        }
    }

    #[test]
    fn wrong_filters_say_where() {
        for (filter, want) in [
            ("", "empty"),
            (".a[", "closing bracket"),
            (".a |", "at the end"),
            (".a ]", "at `]`"),
            ("'x'", "token"),
            ("import \"a\" as b; b", "modules"),
        ] {
            let e = Filter::compile(filter).err().unwrap();
            assert!(e.contains(want), "{filter}: {e}");
        }
    }

    #[test]
    fn outputs_and_time_are_capped() {
        let endless = Filter::compile("repeat(1)").unwrap();
        let (values, trouble) = endless.all(&Val::Null, &|| false);
        assert_eq!((values.len(), trouble), (MAX_OUTPUTS, Some(Trouble::TooMany)));
        assert_eq!(endless.all(&Val::Null, &|| true).1, Some(Trouble::Late));
        assert_eq!(endless.first(&Val::Null).map(|v| v.to_string()), Ok("1".into()));
    }

    #[test]
    fn deep_values_and_deep_text_overflow_no_stack() {
        let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
        for filter in [
            "[..] | length",
            "tojson | length",
            "tostring | length",
            ". == . | not",
            "flatten | length",
            "[paths] | length",
            "sort | length",
            "[.[] | fromjson?] | length",
        ] {
            let _ = run(filter, &deep);
        }
        let text = Val::utf8_str("[".repeat(1_000_000));
        assert!(Filter::compile("fromjson").unwrap().first(&text).is_err());
        assert!(Filter::compile("tonumber").unwrap().first(&Val::utf8_str("9".repeat(1_000_000))).is_ok());
    }

    #[test]
    fn iterating_filters_are_told_from_arrays() {
        let f = |t| Filter::compile(t).unwrap();
        assert!(f(".items[]").gives_many() && f(".items[]").ends_iterating());
        assert!(f(".a[] | select(.b)").gives_many() && !f(".a[] | select(.b)").ends_iterating());
        assert!(!f(".items").gives_many() && !f(".items // []").gives_many() && !f(".items // []").ends_iterating());
        assert!(f(".[]?").ends_iterating() && f(".\"a b\"[]").ends_iterating());
    }
}

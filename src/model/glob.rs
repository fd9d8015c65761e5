//! Globs over host names and paths, as `[[host]]` and `[[limit]]` have them: compiled here for whoever checks a job and for
//! whoever matches.

use globset::{GlobBuilder, GlobMatcher};

/// A host name, or a glob like `*.example.org`: `*` stands for any characters, dots too. An IPv6 address in brackets is
/// itself.
#[derive(Clone, Debug)]
pub struct HostGlob {
    matcher: GlobMatcher,
    specificity: (bool, usize),
}

impl HostGlob {
    /// Compiles a pattern, in any case.
    ///
    /// # Errors
    /// Why it is no glob, lowercase.
    pub fn parse(pattern: &str) -> Result<Self, String> {
        let pattern = pattern.to_ascii_lowercase();
        let address = pattern.strip_prefix('[').and_then(|p| p.strip_suffix(']'));
        if address.is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok()) {
            let matcher = compiled(&pattern, &GlobBuilder::new(&globset::escape(&pattern)))?;
            return Ok(Self { matcher, specificity: (true, pattern.len()) });
        }
        let matcher = compiled(&pattern, &GlobBuilder::new(&pattern))?;
        let exact = !pattern.contains(['*', '?', '[', '{']);
        let literal = pattern.chars().filter(|c| !"*?[]{}".contains(*c)).count();
        Ok(Self { matcher, specificity: (exact, literal) })
    }

    /// [`HostGlob::parse`]; `None` where it is no glob.
    #[must_use]
    pub fn new(pattern: &str) -> Option<Self> {
        Self::parse(pattern).ok()
    }

    /// Whether the host (lower case, without port) is meant.
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        self.matcher.is_match(host)
    }

    /// The greater, the more specific: exact names first, then by the length of what is literal.
    #[must_use]
    pub fn specificity(&self) -> (bool, usize) {
        self.specificity
    }
}

/// A glob over the path of an address: `*` within a segment, `**` across: `/repos/*/issues/**`.
///
/// # Errors
/// Why it is no glob, lowercase.
pub fn path_glob(text: &str) -> Result<GlobMatcher, String> {
    compiled(text, GlobBuilder::new(text).literal_separator(true))
}

fn compiled(text: &str, builder: &GlobBuilder<'_>) -> Result<GlobMatcher, String> {
    builder.build().map(|glob| glob.compile_matcher()).map_err(|e| format!("{text:?} is no glob: {}", e.kind()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_labels_and_parts_of_them() {
        let glob = |p: &str| HostGlob::new(p).unwrap();
        assert!(glob("*.Example.org").matches("a.b.example.org"));
        assert!(!glob("*.example.org").matches("example.org"));
        assert!(glob("api-*.x.io").matches("api-7.x.io"));
        assert!(glob("h.org").matches("h.org") && !glob("h.org").matches("xh.org"));
        assert!(glob("a.example.org").specificity() > glob("*.sub.example.org").specificity());
        assert!(glob("*.sub.example.org").specificity() > glob("*.example.org").specificity());
        assert!(HostGlob::new("[").is_none());
    }

    #[test]
    fn an_address_in_brackets_is_itself() {
        let glob = HostGlob::new("[::1]").unwrap();
        assert!(glob.matches("[::1]") && !glob.matches(":") && !glob.matches("1"));
        assert!(glob.specificity() > HostGlob::new("*.example.org").unwrap().specificity());
        assert!(HostGlob::new("127.0.0.*").unwrap().matches("127.0.0.1"));
    }

    #[test]
    fn a_path_glob_stays_within_a_segment_but_for_two_stars() {
        let matches = |glob: &str, path: &str| path_glob(glob).unwrap().is_match(path);
        assert!(matches("/search/**", "/search/code") && matches("/search/**", "/search/a/b"));
        assert!(!matches("/search/**", "/searching") && !matches("/search/**", "/a/search/b"));
        assert!(matches("/repos/*/issues", "/repos/a/issues") && !matches("/repos/*/issues", "/repos/a/b/issues"));
        assert!(matches("/**", "/") && matches("/**", "/a/b.c") && matches("/**/raw", "/a/b/raw") && !matches("/A", "/a"));
    }

    #[test]
    fn what_is_no_glob_says_why() {
        assert_eq!(HostGlob::parse("a[").unwrap_err(), "\"a[\" is no glob: unclosed character class; missing ']'");
        assert!(path_glob("/{a,b").unwrap_err().starts_with("\"/{a,b\" is no glob: unclosed alternate group"));
    }
}

//! A glob over host names, as `[[host]] match` and `[[limit]] match.host` have it.

use globset::{GlobBuilder, GlobMatcher};

/// A host name, or a glob like `*.example.org`: `*` stands for any characters, dots too.
#[derive(Clone, Debug)]
pub struct HostGlob {
    matcher: GlobMatcher,
    specificity: (bool, usize),
}

impl HostGlob {
    /// Compiles a pattern, in any case; `None` where it is no glob.
    #[must_use]
    pub fn new(pattern: &str) -> Option<Self> {
        let pattern = pattern.to_ascii_lowercase();
        let matcher = GlobBuilder::new(&pattern).build().ok()?.compile_matcher();
        let exact = !pattern.contains(['*', '?', '[', '{']);
        let literal = pattern.chars().filter(|c| !"*?[]{}".contains(*c)).count();
        Some(Self { matcher, specificity: (exact, literal) })
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
}

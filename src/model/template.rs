//! `{{name}}` templates over an input row's columns.

use crate::model::Columns;

/// A parsed template: literal text and `{{column}}` places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    source: String,
}

/// Why a row gives no text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The template itself is wrong (`{{` without `}}`, an empty name).
    #[error("{0}")]
    Syntax(String),
    /// No such column.
    #[error("there is no column {0:?}")]
    Unknown(String),
    /// A value that would leave a hole or climb in a path.
    #[error("{0}")]
    Value(String),
}

impl Template {
    /// Parses.
    ///
    /// # Errors
    /// [`TemplateError::Syntax`].
    pub fn parse(source: &str) -> Result<Self, TemplateError> {
        Ok(Self { source: source.to_owned() })
    }

    /// The text it was parsed from.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The column names it uses, in order, each once.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        Vec::new()
    }

    /// Fills in an address: each value is percent-encoded by where it stands (path segment, query, fragment); a value at
    /// the very start or where the authority begins goes in as it is.
    ///
    /// # Errors
    /// Unknown column; an empty value, `.` or `..` in a path.
    pub fn render_url(&self, _row: &Columns) -> Result<String, TemplateError> {
        Err(TemplateError::Syntax("not built".into()))
    }

    /// Fills in plain text (headers, form values before their own encoding).
    ///
    /// # Errors
    /// Unknown column.
    pub fn render_text(&self, _row: &Columns) -> Result<String, TemplateError> {
        Err(TemplateError::Syntax("not built".into()))
    }

    /// Fills in a JSON body: values are JSON-escaped inside string quotes.
    ///
    /// # Errors
    /// Unknown column.
    pub fn render_json(&self, _row: &Columns) -> Result<String, TemplateError> {
        Err(TemplateError::Syntax("not built".into()))
    }
}

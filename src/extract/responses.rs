//! `[[response]]`: what its rules look for, read by the compilers that fields are read by.

use super::css::Css;
use super::error::CompileError;
use super::field;
use super::filter::Filter;
use crate::model::plan::ResponsePlan;

/// Every pattern, selector and filter of `rules` that cannot be read, as `response[0].when.json`.
pub fn check_responses(rules: &[ResponsePlan]) -> Vec<CompileError> {
    let mut errors = Vec::new();
    for (i, rule) in rules.iter().enumerate() {
        let mut tell = |key: &str, told: Option<String>| {
            errors.extend(told.map(|message| CompileError::new(format!("response[{i}].when.{key}"), message)));
        };
        let pattern = rule.header.as_ref().and_then(|(_, pattern)| pattern.as_deref());
        tell("header.match", pattern.and_then(|text| field::regex(text).err()));
        tell("body", rule.body.as_deref().and_then(|text| field::regex(text).err()));
        tell("selector", rule.selector.as_deref().and_then(|text| Css::parse(text).err()));
        tell("json", rule.json.as_deref().and_then(|text| Filter::compile(text).err()));
    }
    errors
}

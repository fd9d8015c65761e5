//! Addresses in the job or on the command line, and the job without an input.

use super::address::{listed_alone, only_url};
use super::error::InputError;
use super::position::Position;
use super::reader::InputRecord;
use crate::model::plan::InputPlan;
use crate::model::{Template, printable, trim_address};
use std::borrow::Cow;

/// A list in memory.
pub(super) struct Listed {
    urls: Vec<String>,
    template: Option<Template>,
    keeps: bool,
    next: usize,
}

impl Listed {
    pub(super) fn new(urls: Vec<String>, plan: &InputPlan, resume: Option<&Position>) -> Result<Self, InputError> {
        Ok(Self { urls, template: only_url("the list of addresses", plan)?, keeps: plan.keeps_listed, next: index(resume) })
    }

    /// The one record of a job whose request has the whole address.
    pub(super) fn request(plan: &InputPlan, resume: Option<&Position>) -> Result<Self, InputError> {
        if let Some(name) = plan.url.names().first() {
            return Err(InputError::hinted(
                "[request] url",
                format!("names the column {name:?}, and there is no input that could have it"),
                "give the job an [input]",
            ));
        }
        Ok(Self { urls: vec![plan.url.source().to_owned()], template: None, keeps: false, next: index(resume) })
    }

    pub(super) fn row(&self) -> u64 {
        self.next as u64
    }

    pub(super) fn next(&mut self) -> Option<InputRecord> {
        let listed = trim_address(self.urls.get(self.next)?);
        self.next += 1;
        let (row, columns) = (self.next as u64, listed_alone(self.keeps, listed));
        let made = match &self.template {
            None => Ok(listed.to_owned()),
            Some(t) => t.render_url_with(|_| Some(Cow::Borrowed(listed))),
        };
        Some(match made {
            Ok(url) => InputRecord { row, line: row, columns, body: Ok(url), shown: String::new() },
            Err(e) => {
                let shown: String = printable(listed).chars().take(200).collect();
                InputRecord { row, line: row, columns, body: Err(format!("address {row} of the list: {e}: \"{shown}\"")), shown }
            }
        })
    }
}

fn index(resume: Option<&Position>) -> usize {
    resume.map_or(0, |p| usize::try_from(p.row).unwrap_or(usize::MAX))
}

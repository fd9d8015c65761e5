//! The built-in site of `gleaner demo`: a shop with links, faults and a robots.txt, and a paged API, on this machine.
//!
//! The site is spoken to as an HTTP proxy (`request.proxy`), so that its jobs name `http://shop.demo.test/` and
//! `http://api.demo.test/` whatever its port is: a demo that was killed goes on although the port is another one.

mod pages;
mod site;

pub use site::Site;

/// A job of the demo.
#[derive(Debug)]
pub struct Job {
    /// Folder within `gleaner-demo`.
    pub folder: &'static str,
    /// What it does, for people.
    pub what: &'static str,
    /// The job file.
    pub text: &'static str,
}

/// The jobs, in their order.
pub const JOBS: &[Job] = &[
    Job { folder: "crawl", what: "crawling the shop", text: include_str!("crawl.toml") },
    Job { folder: "api", what: "harvesting its API", text: include_str!("api.toml") },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn job_files_are_toml_and_name_the_site() {
        for job in JOBS {
            assert!(toml_span::parse(job.text).is_ok(), "{}", job.folder);
            assert!(job.text.contains(".demo.test/"), "{}", job.folder);
        }
    }
}

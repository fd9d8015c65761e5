//! The flags and arguments, as `--help` shows them.

use crate::cli::{values, wire};
use crate::model::parse_duration;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  gleaner demo                                         a first run that needs no network
  gleaner fetch https://example.com --field title=css:title
  gleaner fetch urls.txt -o rows.csv --field title=css:title --rate 10/second
  cat urls.txt | gleaner fetch - > rows.jsonl
  gleaner crawl https://example.com/docs/ --scope prefix -o pages.csv --field title=css:h1
  gleaner run job.toml                                 starts, or goes on where it stopped
  gleaner plan job.toml                                how many requests that is, and when it is done

Exit codes:
  0  all done            1  done, some records skipped     2  wrong flags or arguments
  65 wrong job file, input, state or output                73 the job is in use
  74 cannot read or write                                  75 only long waits are left
  130/143 stopped by Ctrl-C or SIGTERM, SIGHUP; the same command goes on";

const ABOUT: &str = "\
Turns lists of URLs, sites and APIs into clean rows, and accounts for every input: a result, or one skipped record with \
its reason. Retries, rate limits and robots.txt are looked after. A run that was stopped or killed goes on with the same \
command.";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "gleaner", version, about = ABOUT, after_help = EXAMPLES, max_term_width = 110, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What a person wants.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a job file, or go on where it stopped
    Run(Run),
    /// Fetch addresses, or a list of them, without a job file
    Fetch(Fetch),
    /// Crawl a site, without a job file
    Crawl(Crawl),
    /// Run two real jobs against a built-in site on this machine
    Demo(Demo),
    /// Read a job file and tell every error at once
    Check(Check),
    /// Tell what a run would do and how long it takes, without sending anything
    Plan(PlanArgs),
    /// Tell where a job stands, also while it runs
    Status(Status),
    /// Show or clear the limits that jobs of this user share
    Budget(Budget),
    /// Print the JSON Schema of job files, for editors
    Schema,
}

/// Flags of every command.
#[derive(Debug, Default, Args)]
pub(crate) struct Global {
    /// Print errors only
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "What is told")]
    pub(crate) quiet: bool,
    /// Print each connection, attempt, retry and wait
    #[arg(short, long, global = true, help_heading = "What is told")]
    pub(crate) verbose: bool,
    /// Append one JSON line for each event to FILE, or to standard output: -
    #[arg(long, global = true, value_name = "FILE", help_heading = "What is told")]
    pub(crate) events: Option<PathBuf>,
    /// Write the figures of the run as one JSON object to FILE, or to standard output: -
    #[arg(long, global = true, value_name = "FILE", help_heading = "What is told")]
    pub(crate) stats: Option<PathBuf>,
    /// Set any key of the job file, like limits.workers=8 (repeatable)
    #[arg(long, global = true, value_name = "KEY=VALUE", value_parser = values::set)]
    pub(crate) set: Vec<(String, String)>,
    #[command(flatten)]
    pub(crate) network: Network,
}

/// Flags for tests and odd networks.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "For tests and odd networks")]
pub(crate) struct Network {
    /// Repeat the random waits of a run
    #[arg(long, global = true, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Use IP for HOST at PORT; `*` is every host (repeatable)
    #[arg(long, global = true, value_name = "HOST:PORT:IP", value_parser = wire::parse_resolve)]
    pub(crate) resolve: Vec<(String, u16, IpAddr)>,
    /// Ask this name server instead of the system's (repeatable)
    #[arg(long, global = true, value_name = "IP:PORT", value_parser = wire::parse_dns_server)]
    pub(crate) dns_server: Vec<SocketAddr>,
    /// Allow addresses of this network, private ones too (repeatable)
    #[arg(long, global = true, value_name = "CIDR", value_parser = wire::parse_allow_net)]
    pub(crate) allow_net: Vec<(IpAddr, u8)>,
    /// Trust the authorities in this PEM file too
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
}

/// `run`.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The job file
    pub(crate) job: PathBuf,
    /// Start over; what was gathered is renamed, not deleted
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Do not ask whether to start over
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// `demo`.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Start both jobs over, also where they were not done; what was gathered is renamed
    #[arg(long)]
    pub(crate) fresh: bool,
}

/// `check`.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The job file
    pub(crate) job: PathBuf,
    /// Print each setting, its value and who set it
    #[arg(long)]
    pub(crate) explain: bool,
}

/// `plan`.
#[derive(Debug, Args)]
#[command(after_help = "\
Reads the list to its end and, where the job has begun, its state, also while it runs; sends nothing and writes nothing. Each \
answer is taken to come after the same time and nothing to fail: retries are not counted.

Examples:
  gleaner plan job.toml
  gleaner plan job.toml --answer 1.5s --set limits.workers=16
  gleaner plan job.toml --json | jq .time.finish")]
pub(crate) struct PlanArgs {
    /// The job file
    pub(crate) job: PathBuf,
    /// How long a server is taken to need for an answer
    #[arg(long, value_name = "TIME", default_value = "200ms", value_parser = parse_duration)]
    pub(crate) answer: Duration,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// `status`.
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// The job file, or the results file of `fetch` and `crawl`
    pub(crate) job: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// `budget`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
A budget is one limit for every gleaner of this user on this machine: jobs name it with [limits] budget = \"NAME\". Without a \
command all budgets are listed, each with what its fullest key has used.

Examples:
  gleaner budget                                       one line for each budget
  gleaner budget show github                           its windows, processes and keys
  gleaner budget --json | jq '.[] | {name, windows}'
  gleaner budget clear github                          forget what was spent

Exit codes: 0 done, 65 there is no such budget, 73 it is in use, 74 cannot read or write"
)]
pub(crate) struct Budget {
    #[command(subcommand)]
    pub(crate) what: Option<BudgetCommand>,
    /// Print a JSON list
    #[arg(long)]
    pub(crate) json: bool,
}

/// What to do with one budget.
#[derive(Debug, Subcommand)]
pub(crate) enum BudgetCommand {
    /// Show one budget: windows, processes, each key
    #[command(after_help = "Examples:\n  gleaner budget show github\n  gleaner budget show github --json | jq '.keys[0]'")]
    Show {
        /// The budget, as jobs name it
        name: String,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Forget what a budget has spent and what is held; refused while a process uses it
    #[command(after_help = "\
The server does not forget: until the longest window has passed, jobs may send more than it allows.

Example:
  gleaner budget clear github")]
    Clear {
        /// The budget, as jobs name it
        name: String,
    },
}

/// `fetch`.
#[derive(Debug, Args)]
#[command(after_help = "\
An argument that names a file is a list (.txt .csv .tsv .jsonl, also .gz and .zst), `-` is standard input with one address a line, \
all else is an address. Rows go to standard output as JSON lines; with -o they go to a file and the same command goes on where it \
stopped.

Examples:
  gleaner fetch https://example.com --field title=css:title
  gleaner fetch urls.csv -o rows.csv --field price='css:.price @data-value' --per-host 2
  gleaner fetch repos.csv --url 'https://api.example.com/repos/{{owner}}/{{name}}' --rate 5000/hour
  cat urls.txt | gleaner fetch - --field title=css:title > rows.jsonl")]
pub(crate) struct Fetch {
    /// Addresses, or one list, or `-`
    #[arg(required = true, value_name = "URL|FILE|-")]
    pub(crate) what: Vec<String>,
    /// Template of the address over the list's columns
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) url: Option<String>,
    /// Whether robots.txt is obeyed [default: obey]
    #[arg(long, value_name = "HOW")]
    pub(crate) robots: Option<Robots>,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// `crawl`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gleaner crawl https://example.com/ -o pages.csv --field title=css:title --max-pages 500
  gleaner crawl https://example.com/docs/ --scope prefix --exclude '*/old/*' -o docs.jsonl")]
pub(crate) struct Crawl {
    /// Where to begin: addresses, or one list of them: a file, `-` for standard input
    #[arg(required = true, value_name = "URL|FILE|-")]
    pub(crate) what: Vec<String>,
    /// Links from the start at most
    #[arg(long, value_name = "N")]
    pub(crate) depth: Option<u32>,
    /// How far from the start, prefix being its path up to the last slash [default: host]
    #[arg(long, value_name = "SCOPE")]
    pub(crate) scope: Option<ScopeArg>,
    /// Follow only addresses like this glob or /regex/ (repeatable)
    #[arg(long, value_name = "PATTERN")]
    pub(crate) include: Vec<String>,
    /// Leave out addresses like this glob or /regex/ (repeatable)
    #[arg(long, value_name = "PATTERN")]
    pub(crate) exclude: Vec<String>,
    /// Pages in all at most
    #[arg(long, value_name = "N")]
    pub(crate) max_pages: Option<u64>,
    /// Whether robots.txt is obeyed [default: obey]
    #[arg(long, value_name = "HOW")]
    pub(crate) robots: Option<Robots>,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// Flags of `fetch` and `crawl`: the common keys of the job file.
#[derive(Debug, Default, Args)]
pub(crate) struct Common {
    /// Results (.csv .jsonl, also .gz .zst); makes the run resumable
    #[arg(short, long, value_name = "FILE", help_heading = "Rows")]
    pub(crate) output: Option<PathBuf>,
    /// Skipped records [default: RESULTS.skipped.jsonl beside the results]
    #[arg(long, value_name = "FILE", help_heading = "Rows")]
    pub(crate) skipped: Option<PathBuf>,
    /// A column: css:h1, 'css:a @href', json:.id, meta:title, re:…, links: (repeatable)
    #[arg(short, long, value_name = "NAME=SPEC", value_parser = values::field, help_heading = "Rows")]
    pub(crate) field: Vec<(String, String)>,
    /// One row for each of these instead of each page: 'json:.items[]', 'css:li.product'
    #[arg(long, value_name = "SPEC", help_heading = "Rows")]
    pub(crate) rows: Option<String>,

    /// At most so many requests to a host: 5000/hour, 10/second (repeatable)
    #[arg(long, value_name = "RATE", value_parser = values::rate, help_heading = "Pace")]
    pub(crate) rate: Vec<String>,
    /// Requests at once
    #[arg(long, value_name = "N", help_heading = "Pace")]
    pub(crate) workers: Option<u32>,
    /// Requests at once to one host
    #[arg(long, value_name = "N", help_heading = "Pace")]
    pub(crate) per_host: Option<u32>,
    /// Least time between requests to one host
    #[arg(long, value_name = "TIME", value_parser = values::duration, help_heading = "Pace")]
    pub(crate) delay: Option<String>,
    /// Tries for each address in all
    #[arg(long, value_name = "N", help_heading = "Pace")]
    pub(crate) attempts: Option<u32>,

    /// A header of each request (repeatable)
    #[arg(short = 'H', long, value_name = "K: V", value_parser = values::header, help_heading = "Request")]
    pub(crate) header: Vec<(String, String)>,
    /// User-Agent; "browser" sends what a desktop browser sends
    #[arg(short = 'A', long, value_name = "TEXT", help_heading = "Request")]
    pub(crate) user_agent: Option<String>,
    /// http, https or socks5 proxy; "off" ignores the environment's (repeatable: in turn)
    #[arg(short = 'x', long, value_name = "URL", help_heading = "Request")]
    pub(crate) proxy: Vec<String>,
    /// Longest time for one try
    #[arg(long, value_name = "TIME", value_parser = values::duration, help_heading = "Request")]
    pub(crate) timeout: Option<String>,
    /// Method [default: GET, with --body POST]
    #[arg(short = 'X', long, value_name = "METHOD", help_heading = "Request")]
    pub(crate) method: Option<String>,
    /// Body of each request, a template over the list's columns
    #[arg(long, value_name = "TEXT", help_heading = "Request")]
    pub(crate) body: Option<String>,
    /// Statuses that are results: 200..299, 404 (repeatable)
    #[arg(long, value_name = "STATUS", help_heading = "Request")]
    pub(crate) accept: Vec<String>,

    /// Send nothing; write the job file that these flags amount to
    #[arg(long, value_name = "JOB")]
    pub(crate) save: Option<PathBuf>,
    /// Start over; what was gathered is renamed, not deleted
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Do not ask whether to start over
    #[arg(long, short, action = ArgAction::SetTrue)]
    pub(crate) yes: bool,
}

/// `--robots`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Robots {
    Obey,
    Ignore,
}

/// `--scope`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ScopeArg {
    Page,
    Host,
    Domain,
    Prefix,
    Any,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_names_every_exit_code_and_each_flag_has_one_line() {
        let help = Cli::command().render_help().to_string();
        for code in ["0 ", "1 ", "2 ", "65", "73", "74", "75", "130/143"] {
            assert!(help.contains(code), "{code}");
        }
        for command in Cli::command().get_subcommands() {
            for arg in command.get_arguments() {
                let text = arg.get_help().map(ToString::to_string).unwrap_or_default();
                assert!(!text.is_empty() && text.len() <= 90, "{} {}", command.get_name(), arg.get_id());
            }
        }
    }
}

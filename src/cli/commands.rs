//! The commands.

use crate::cli::args::{Budget, BudgetCommand, Check, Cli, Command, Common, Crawl, Fetch, Global, PlanArgs, Run, Status};
use crate::cli::exit::{Exit, Failure, printed};
use crate::cli::session::{Session, runtime, shown};
use crate::cli::settings::Settings;
use crate::cli::wire::{self, RunOptions};
use crate::cli::{demo, fetch, save};
use crate::model::mask_url;
use crate::model::plan::{InputSource, Plan, SinkPlace, StatePlace};
use crate::report::{Output, budget_text, budgets_text, forecast_text, quoted_for_shell, status_text, summary};
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

/// Runs what was asked for.
pub(crate) fn run(cli: Cli, out: &Output) -> Result<Exit, Failure> {
    let global = cli.global;
    match cli.command {
        Command::Run(args) => run_job(&global, out, &args),
        Command::Fetch(args) => run_fetch(&global, out, &args),
        Command::Crawl(args) => run_crawl(&global, out, &args),
        Command::Demo(args) => demo::run(&global, out, &args),
        Command::Check(args) => check(&global, out, &args),
        Command::Plan(args) => foretell(&global, out, &args),
        Command::Status(args) => status(&global, out, &args),
        Command::Budget(args) => budget(out, &args),
        Command::Schema => {
            let mut text = wire::schema();
            text.push('\n');
            printed(out.data(&text))
        }
    }
}

fn run_job(global: &Global, out: &Output, args: &Run) -> Result<Exit, Failure> {
    let job = wire::load(&args.job, &Settings::of_global(global)?)?;
    warn(out, &job.warnings);
    warn_of_stdout(out, &job.plan);
    start(global, out, job.plan, args.fresh, args.yes)
}

fn run_fetch(global: &Global, out: &Output, args: &Fetch) -> Result<Exit, Failure> {
    let source = fetch::source(&args.what, &mut |n| out.notice(&n))?;
    let mut settings = Settings::of_global(global)?;
    settings.add_fetch(args, &source)?;
    run_flags(global, out, settings, &args.common)
}

fn run_crawl(global: &Global, out: &Output, args: &Crawl) -> Result<Exit, Failure> {
    let source = fetch::source(&args.what, &mut |n| out.notice(&n))?;
    let mut settings = Settings::of_global(global)?;
    settings.add_crawl(args, &source)?;
    run_flags(global, out, settings, &args.common)
}

/// A job without a file: saved, kept beside its results, or thrown away.
fn run_flags(global: &Global, out: &Output, mut settings: Settings, common: &Common) -> Result<Exit, Failure> {
    // A file named `-` is standard output, as in job files.
    let output = common.output.as_deref().filter(|o| *o != Path::new("-"));
    if let Some(results) = output {
        fetch::keep_beside(&mut settings, results, common.skipped.as_deref())?;
    } else {
        if common.save.is_none() {
            settings.text("output.results", "-", "--output");
        }
        if let Some(skipped) = &common.skipped {
            settings.text("output.skipped", crate::cli::settings::utf8(skipped)?, "--skipped");
        }
    }
    let wire::Job { mut plan, warnings, .. } = wire::assemble(&settings)?;
    warn(out, &warnings);
    if let Some(job) = &common.save {
        return save_job(out, &plan, &settings, job);
    }
    if output.is_none() {
        plan.state = StatePlace::Throwaway;
        if common.skipped.is_none() {
            plan.output.skipped = None;
        }
        out.notice("rows go to standard output and nothing else is kept: with -o FILE the same command goes on where it stopped");
    }
    warn_of_stdout(out, &plan);
    start(global, out, plan, common.fresh, common.yes)
}

fn warn(out: &Output, warnings: &[String]) {
    for warning in warnings {
        out.warning(warning);
    }
}

/// A pipe cannot be cut back to its last commit (contract, *Streams that die*).
fn warn_of_stdout(out: &Output, plan: &Plan) {
    if plan.output.results.place == SinkPlace::Stdout {
        out.warning("rows on standard output come at least once: after a kill and a new start some come again");
    }
}

fn save_job(out: &Output, plan: &Plan, settings: &Settings, job: &Path) -> Result<Exit, Failure> {
    let saved = save::save(settings, job)?;
    let job = shown(job);
    out.line(&format!("wrote {job}; nothing was sent"));
    let from_list = matches!(plan.input.source, InputSource::File(_) | InputSource::Stdin) && !plan.input.url_set;
    if from_list && plan.secret_hosts.is_empty() && !saved.variables.is_empty() {
        out.hint(&format!("say in {job} who may see the secret: [auth] hosts = [\"…\"]"));
    }
    for variable in saved.variables {
        out.hint(&format!("the job reads a secret from the environment: export {variable}='…'"));
    }
    out.hint(&format!("run it with: {} run {job}", program()));
    Ok(Exit::Done)
}

fn start(global: &Global, out: &Output, plan: Plan, fresh: bool, yes: bool) -> Result<Exit, Failure> {
    if fresh && !confirmed(out, &plan, yes)? {
        out.line("nothing was changed");
        return Ok(Exit::Usage);
    }
    let again = again(&plan);
    let options = RunOptions { fresh, seed: global.network.seed };
    let session = Session { global, out, options, stats: global.stats.as_deref(), listeners: Vec::new() };
    let ended = runtime()?.block_on(session.run(plan)).map_err(|f| match (&again, f.exit) {
        // What failed is not the job: once mended, the same command goes on.
        (Some(again), Exit::Io) if f.hint.is_none() => f.hint(format!("when that is mended, go on with: {again}")),
        _ => f,
    })?;
    summary(out, &ended.stats, &ended.ending(again));
    Ok(ended.exit)
}

/// Whether a fresh start is meant: `--yes`, or a yes at the terminal.
fn confirmed(out: &Output, plan: &Plan, yes: bool) -> Result<bool, Failure> {
    if yes {
        return Ok(true);
    }
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Err(Failure::new(Exit::Usage, "--fresh starts over, and there is no terminal to ask at").hint("say it with --fresh --yes"));
    }
    if !matches!(&plan.state, StatePlace::Folder(folder) if folder.exists()) {
        return Ok(true);
    }
    out.ask(&format!("start {} over? What was gathered is renamed, not deleted. [y/N]", plan.name));
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(|e| Failure::io("standard input", &e))?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// The command that goes on with a job; `None` where nothing is kept.
fn again(plan: &Plan) -> Option<String> {
    match (&plan.state, &plan.job_file) {
        (StatePlace::Throwaway, _) => None,
        (_, Some(job)) => Some(format!("{} run {}", program(), shown(job))),
        (_, None) => {
            let arguments = std::env::args_os().skip(1).filter(|a| a != "--fresh" && a != "--yes" && a != "-y");
            let arguments: Vec<_> = arguments.map(|a| a.to_string_lossy().into_owned()).collect();
            let shown = without_secrets(&arguments);
            if shown != arguments {
                // With stars in their place it would run, and send them.
                return Some("the same command (not shown: it holds what may be secret)".into());
            }
            let shown: Vec<_> = shown.iter().map(|a| quoted_for_shell(a)).collect();
            Some(format!("{} {}", program(), shown.join(" ")))
        }
    }
}

/// Keys whose values are credentials or may hold them.
const SECRET_SETTINGS: [&str; 6] = ["auth.", "request.headers", "request.query", "request.body", "request.form", "request.json"];

/// The arguments as they may stand on a terminal and in logs: `***` for passwords of proxies and addresses, values of headers
/// that hold credentials, bodies, and what `--set` says of either or of `[auth]`.
fn without_secrets(arguments: &[String]) -> Vec<String> {
    let header = |text: &str| match text.split_once(':') {
        Some((name, _)) if save::is_secret_header(name) => format!("{name}: ***"),
        _ => text.to_owned(),
    };
    let setting = |text: &str| match text.split_once('=').map(|(key, value)| (key.trim(), value)) {
        Some((key, _)) if SECRET_SETTINGS.iter().any(|s| key.starts_with(s)) => format!("{key}=***"),
        Some(("request.proxy", value)) => format!("request.proxy={}", masked_proxy(value.trim())),
        // each address of a list
        _ => text.split_inclusive(['"', '\'']).map(mask_url).collect(),
    };
    let mut before = "";
    let mut out = Vec::with_capacity(arguments.len());
    for argument in arguments {
        let (flag, value) = match (argument.split_once('='), short_flag(argument)) {
            (Some((flag, value)), _) if flag.starts_with("--") => (flag, value),
            (_, Some((flag, value))) if !value.is_empty() => (flag, value),
            _ => (before, argument.as_str()),
        };
        let shown = match flag {
            "H" | "--header" => header(value),
            "x" | "--proxy" => masked_proxy(value),
            "--set" => setting(value),
            "--body" => "***".to_owned(),
            _ => mask_url(value),
        };
        out.push(format!("{}{shown}", argument.strip_suffix(value).unwrap_or_default()));
        before = short_flag(argument).map_or(argument, |(flag, _)| flag);
    }
    out
}

/// The letter of a short flag with a value, behind others without one (`-qH`), and what is written together with it.
fn short_flag(argument: &str) -> Option<(&str, &str)> {
    let letters = argument.strip_prefix('-').filter(|l| !l.starts_with('-'))?;
    let at = letters.find(|c| !"qvyhV".contains(c)).filter(|at| letters.is_char_boundary(at + 1))?;
    Some((&letters[at..=at], &letters[at + 1..]))
}

/// A proxy's address may stand without its scheme, and its password hold anything. A list of them is masked whole.
fn masked_proxy(text: &str) -> String {
    match text.rsplit_once('@') {
        Some(_) if text.starts_with('[') => "***".to_owned(),
        Some((userinfo, host)) => {
            format!("{}***@{host}", userinfo.split_once("://").map_or(String::new(), |(scheme, _)| format!("{scheme}://")))
        }
        None => text.to_owned(),
    }
}

/// How this program was called, so that hints can be pasted.
pub(crate) fn program() -> String {
    let called = std::env::args_os().next().map(PathBuf::from);
    match called {
        Some(path) if path.components().count() > 1 => {
            let text = shown(&path);
            if text.contains('/') { text } else { format!("./{text}") }
        }
        _ => "gleaner".to_owned(),
    }
}

fn check(global: &Global, out: &Output, args: &Check) -> Result<Exit, Failure> {
    let job = wire::load(&args.job, &Settings::of_global(global)?)?;
    warn(out, &job.warnings);
    if args.explain {
        return printed(out.data(&job.explain));
    }
    for notice in wire::check(&args.job, &job)? {
        out.notice(&notice);
    }
    out.line(&format!("{} is right: {}", shown(&args.job), described(&job.plan)));
    Ok(Exit::Done)
}

/// A job in one line.
fn described(plan: &Plan) -> String {
    let input = match &plan.input.source {
        InputSource::File(file) => format!("reads {}", shown(file)),
        InputSource::Stdin => "reads standard input".to_owned(),
        InputSource::Urls(urls) if urls.len() == 1 => "reads one address".to_owned(),
        InputSource::Urls(urls) => format!("reads {} addresses", urls.len()),
        InputSource::Request => "asks for one address".to_owned(),
    };
    let what = match (&plan.crawl, &plan.pages) {
        (Some(_), _) => ", follows links",
        (None, Some(_)) => ", turns pages",
        (None, None) => "",
    };
    let to = match &plan.output.results.place {
        SinkPlace::File(file) => shown(file),
        SinkPlace::Stdout => "standard output".to_owned(),
    };
    let rates = match plan.limits.rates.as_slice() {
        [] => String::new(),
        rates => format!(", at most {}", rates.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")),
    };
    format!("{input}{what}, writes {to}{rates}")
}

fn foretell(global: &Global, out: &Output, args: &PlanArgs) -> Result<Exit, Failure> {
    let job = wire::load(&args.job, &Settings::of_global(global)?)?;
    let forecast = wire::forecast(job.plan, args.answer)?;
    let text = if args.json { json(&forecast)? } else { forecast_text(&forecast, &format!("{} run {}", program(), shown(&args.job))) };
    printed(out.data(&text))
}

fn status(global: &Global, out: &Output, args: &Status) -> Result<Exit, Failure> {
    let report = wire::status(&state_of(global, &args.job)?)?;
    let text = if args.json { json(&report)? } else { status_text(&report) };
    printed(out.data(&text))
}

fn budget(out: &Output, args: &Budget) -> Result<Exit, Failure> {
    match &args.what {
        None => {
            let (folder, budgets) = wire::budgets()?;
            if budgets.is_empty() && !args.json {
                out.line(&format!("there are no budgets in {}", shown(&folder)));
            }
            printed(out.data(&if args.json { json(&budgets)? } else { budgets_text(&budgets) }))
        }
        Some(BudgetCommand::Show { name, json: as_json }) => {
            let budget = wire::budget(name)?;
            printed(out.data(&if *as_json { json(&budget)? } else { budget_text(&budget) }))
        }
        Some(BudgetCommand::Clear { name }) => {
            wire::clear_budget(name)?;
            out.line(&format!("budget {name} is as if nothing had been spent"));
            Ok(Exit::Done)
        }
    }
}

fn json(report: &impl serde::Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(report).map_err(|e| Failure::new(Exit::Io, e.to_string()))?;
    Ok(format!("{text}\n"))
}

/// The state folder of a job file, of a results file of `fetch` or `crawl`, or the folder itself.
fn state_of(global: &Global, job: &Path) -> Result<PathBuf, Failure> {
    if job.is_dir() {
        return Ok(job.to_owned());
    }
    let mut beside = job.as_os_str().to_owned();
    beside.push(".gleaner");
    let beside = PathBuf::from(beside);
    if beside.is_dir() {
        return Ok(beside);
    }
    if fetch::is_results(job) {
        let message = format!("{} has no state beside it ({})", shown(job), shown(&beside));
        return Err(
            Failure::new(Exit::Data, message).hint(format!("for the results of a job, name its job file: {} status JOB.toml", program()))
        );
    }
    match wire::state_place(job, &Settings::of_global(global)?)? {
        StatePlace::Folder(folder) if folder.exists() => Ok(folder),
        _ => Err(Failure::new(Exit::Data, format!("{} has no state: it has not run yet", shown(job))).hint(format!(
            "{} run {}",
            program(),
            shown(job)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_that_goes_on_shows_no_secret() {
        let shown = |line: &[&str]| without_secrets(&line.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>()).join(" ");
        let same = ["fetch", "a.txt", "-o", "b.csv", "-H", "Accept: x", "--set", "limits.workers=8", "-x", "http://h:1", "https://h/?q=1"];
        assert_eq!(shown(&same), same.join(" "));
        for line in [
            &["-x", "http://u:canary@h:1"][..],
            &["-xu:canary@h:1"],
            &["--proxy=u:canary@h:1"],
            &["--proxy", "socks5://u:canary@h"],
            &["-H", "Authorization: Bearer canary"],
            &["-HCookie: canary"],
            &["--header=X-Api-Key: canary"],
            &["--set", "auth.bearer=canary"],
            &["--set=request.proxy=http://u:canary@h"],
            &["--set", "request.headers.Authorization=canary"],
            &["https://u:canary@h/", "https://h/?api_key=canary"],
            &["--set", "request.headers.X-Token=canary"],
            &["--set", " request.headers={ Cookie = \"canary\" }"],
            &["--set=request.query.token=canary"],
            &["--set", "request.query={ t = 'canary' }"],
            &["--set", "request.body=canary"],
            &["--set", "request.form.password=canary"],
            &["--set", "request.json={ a = \"canary\" }"],
            &["--set", "auth.basic={ user = \"u\", password = \"canary\" }"],
            &["--set", "request.proxy=[\"http://u:p@h\", \"http://u:canary@i\"]"],
            &["--set", "request.proxy=http://u:canary/%2F@h:1"],
            &["--set", "input.urls=['https://u:p@h/', 'https://u:canary@i/']"],
            &["--proxy", "http://u:a/canary@h:1"],
            &["--body", "password=canary"],
            &["--body=canary"],
            &["-qHAuthorization: Bearer canary"],
            &["-vx", "u:canary@h:1"],
        ] {
            let text = shown(line);
            assert!(!text.contains("canary") && text.contains("***"), "{text}");
        }
        assert_eq!(shown(&["--proxy=http://u:p@h:1"]), "--proxy=http://***@h:1");
    }
}

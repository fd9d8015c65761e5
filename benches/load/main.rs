//! The load bench: `gleaner run`, durable, beside a bare reqwest + scraper loop over the same pages in the same run.
//!
//! ```text
//! cargo bench --bench load                      5 rounds of 10,000 HTML pages, then 5 of JSON answers
//! cargo bench --bench load -- --quick           3 rounds of 2,000
//! cargo bench --bench load -- --rounds 9 --pages 20000 --only html --at-least 0.8
//! ```
//!
//! Three processes, so that the CPU of each is its own: an origin, the bare loop (both are this binary, called again with
//! a word), and the gleaner that cargo built beside the bench (`GLEANER_BIN` names another). The rounds are interleaved
//! and the order within them alternates, so that a noisy minute hits both; what is told is the median. CPU is user plus
//! system time of the whole process tree, start and end included. Linux only: it reads `/proc`.

mod bare;
mod measure;
mod origin;

use anyhow::{Context, Result, bail, ensure};
use measure::{Usage, measure};
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

/// What is fetched and what is drawn from it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workload {
    /// 9.6 KB of HTML: the title and all 21 links.
    Html,
    /// 0.9 KB of JSON: three fields.
    Json,
}

impl Workload {
    const ALL: [Self; 2] = [Self::Html, Self::Json];

    fn name(self) -> &'static str {
        match self {
            Self::Html => "html",
            Self::Json => "json",
        }
    }

    fn path(self) -> &'static str {
        match self {
            Self::Html => "page",
            Self::Json => "item",
        }
    }

    fn fields(self) -> &'static str {
        match self {
            Self::Html => r#"{ title = "css:title", links = "links:" }"#,
            Self::Json => r#"{ id = "json:.id", name = "json:.name", price = "json:.price" }"#,
        }
    }

    /// Links that a row of this workload must hold.
    fn links(self) -> usize {
        match self {
            Self::Html => origin::LINKS,
            Self::Json => 0,
        }
    }

    fn parse(word: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|w| w.name() == word).with_context(|| format!("no workload {word:?}: html or json"))
    }
}

struct Options {
    rounds: usize,
    pages: usize,
    only: Option<Workload>,
    at_least: Option<f64>,
}

impl Options {
    fn parse(args: impl Iterator<Item = String>) -> Result<Self> {
        let mut o = Self { rounds: 5, pages: 10_000, only: None, at_least: None };
        let mut args = args;
        while let Some(arg) = args.next() {
            let mut value = || args.next().with_context(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "--rounds" => o.rounds = value()?.parse().context("--rounds")?,
                "--pages" => o.pages = value()?.parse().context("--pages")?,
                "--only" => o.only = Some(Workload::parse(&value()?)?),
                "--at-least" => o.at_least = Some(value()?.parse().context("--at-least")?),
                "--quick" => (o.rounds, o.pages) = (3, 2_000),
                "--bench" => {} // cargo's own
                _ => bail!("unknown argument {arg}; known: --rounds N --pages N --only html|json --quick --at-least RATIO"),
            }
        }
        ensure!(o.rounds > 0 && o.pages > 0, "--rounds and --pages are at least 1");
        Ok(o)
    }
}

/// The origin's process. It ends when its standard input closes, so it never outlives the bench.
struct Origin {
    child: Child,
    port: u16,
}

impl Origin {
    fn start(me: &Path) -> Result<Self> {
        let mut child = Command::new(me).arg("origin").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("origin's output")?).read_line(&mut line)?;
        Ok(Self { child, port: line.trim().parse().context("origin's port")? })
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

struct Bench {
    me: PathBuf,
    gleaner: PathBuf,
    folder: PathBuf,
    port: u16,
}

impl Bench {
    fn write_list(&self, workload: Workload, pages: usize) -> Result<()> {
        let mut text = String::with_capacity(pages * 48);
        for n in 0..pages {
            let _ = writeln!(text, "http://127.0.0.1:{}/{}/{n}", self.port, workload.path());
        }
        Ok(fs::write(self.folder.join("urls.txt"), text)?)
    }

    fn run_bare(&self, workload: Workload, pages: usize) -> Result<Usage> {
        let out = self.folder.join("bare.jsonl");
        let mut command = Command::new(&self.me);
        command.arg("bare").arg(workload.name()).arg(self.folder.join("urls.txt")).arg(&out);
        let usage = measure(&mut command).context("the bare loop")?;
        check_rows(&out, workload, pages)?;
        Ok(usage)
    }

    /// A job that nothing was done of: new state, new outputs.
    fn run_gleaner(&self, workload: Workload, pages: usize) -> Result<Usage> {
        let folder = self.folder.join("job");
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir(&folder)?;
        let job = folder.join("load.toml");
        fs::write(
            &job,
            format!(
                "[input]\nfile = \"../urls.txt\"\n\n[request]\nrobots = \"ignore\"\n\n[limits]\nworkers = 64\nper_host = 64\n\n\
                 [extract]\nfields = {}\n\n[output]\nresults = \"rows.jsonl\"\n",
                workload.fields()
            ),
        )?;
        let mut command = Command::new(&self.gleaner);
        command.arg("run").arg(&job);
        for (name, _) in std::env::vars().filter(|(n, _)| n.starts_with("GLEANER_")) {
            command.env_remove(name);
        }
        let usage = measure(&mut command).context("gleaner run")?;
        check_rows(&folder.join("rows.jsonl"), workload, pages)?;
        Ok(usage)
    }
}

/// A fast run that did less is no result: every page has its row, and every row what was asked for.
fn check_rows(file: &Path, workload: Workload, pages: usize) -> Result<()> {
    let mut rows = 0;
    for line in BufReader::new(fs::File::open(file).with_context(|| file.display().to_string())?).lines() {
        let row: serde_json::Value = serde_json::from_str(&line?)?;
        let links = row["links"].as_array().map_or(0, Vec::len);
        let filled = ["title", "id", "name", "price"].iter().filter(|k| row.get(**k).is_some_and(|v| !v.is_null())).count();
        let wanted = if workload == Workload::Html { 1 } else { 3 };
        ensure!(links == workload.links() && filled == wanted, "{}: a row lacks what was asked for: {row}", file.display());
        rows += 1;
    }
    ensure!(rows == pages, "{}: {rows} rows for {pages} pages", file.display());
    Ok(())
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
    f64::midpoint(low, high)
}

#[expect(clippy::cast_precision_loss, reason = "pages and bytes of a bench are far below 2^53")]
fn run_workload(bench: &Bench, workload: Workload, o: &Options, out: &mut impl Write) -> Result<f64> {
    bench.write_list(workload, o.pages)?;
    let (mut bare, mut gleaner) = (Vec::new(), Vec::new());
    for round in 0..o.rounds {
        if round % 2 == 0 {
            bare.push(bench.run_bare(workload, o.pages)?);
            gleaner.push(bench.run_gleaner(workload, o.pages)?);
        } else {
            gleaner.push(bench.run_gleaner(workload, o.pages)?);
            bare.push(bench.run_bare(workload, o.pages)?);
        }
    }
    let pages = o.pages as f64;
    let ratio = median(bare.iter().zip(&gleaner).map(|(b, g)| b.cpu() / g.cpu()));
    writeln!(out, "\n{}: {} pages, {} rounds, medians", workload.name(), o.pages, o.rounds)?;
    writeln!(out, "            CPU us/page  user   system  pages/CPU s  pages/s  wall s  peak MiB")?;
    for (name, runs) in [("bare loop", &bare), ("gleaner", &gleaner)] {
        let of = |f: fn(&Usage) -> f64| median(runs.iter().map(f));
        let cpu = of(Usage::cpu);
        let wall = of(|u| u.wall.as_secs_f64());
        writeln!(
            out,
            "{name:<10}  {:>11.0}  {:>5.0}  {:>6.0}  {:>11.0}  {:>7.0}  {wall:>6.2}  {:>8.1}",
            cpu * 1e6 / pages,
            of(|u| u.user.as_secs_f64()) * 1e6 / pages,
            of(|u| u.system.as_secs_f64()) * 1e6 / pages,
            pages / cpu,
            pages / wall,
            of(|u| u.peak_kib as f64) / 1024.0,
        )?;
    }
    writeln!(out, "ratio       {ratio:.2} pages per CPU second, gleaner over bare loop (median of the rounds' ratios)")?;
    Ok(ratio)
}

fn bench(o: &Options) -> Result<bool> {
    let me = std::env::current_exe()?;
    let gleaner = std::env::var_os("GLEANER_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_gleaner")), PathBuf::from);
    let origin = Origin::start(&me)?;
    // on the disk of the target folder, for a durable run on a tmpfs would flatter
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("load-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let bench = Bench { me, gleaner, folder, port: origin.port };
    let ended = run_all(&bench, o);
    fs::remove_dir_all(&bench.folder)?;
    ended
}

/// Whether the ratio is what `--at-least` asks for.
fn run_all(bench: &Bench, o: &Options) -> Result<bool> {
    let mut out = std::io::stdout().lock();
    let mut good = true;
    for workload in Workload::ALL.into_iter().filter(|w| o.only.is_none_or(|only| only == *w)) {
        let ratio = run_workload(bench, workload, o, &mut out)?;
        if let Some(least) = o.at_least.filter(|least| workload == Workload::Html && ratio < *least) {
            writeln!(out, "below       --at-least {least}")?;
            good = false;
        }
    }
    Ok(good)
}

/// `false`: the bench ran and gleaner is slower than was asked for.
fn run(args: Vec<String>) -> Result<bool> {
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["origin"] => origin::serve()?,
        ["bare", workload, list, out] => bare::run(Workload::parse(workload)?, Path::new(list), Path::new(out))?,
        _ => return bench(&Options::parse(args.into_iter())?),
    }
    Ok(true)
}

fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(good) => ExitCode::from(u8::from(!good)),
        Err(e) => {
            let _ = writeln!(std::io::stderr(), "error: {e:#}");
            ExitCode::from(2)
        }
    }
}

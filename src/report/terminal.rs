//! The run at the terminal: a live line, or a plain line now and then, and the lines that stay.

use crate::clock::{Clock, Moment};
use crate::events::{Event, Listener, Snapshot, thousands};
use crate::report::Output;
use crate::report::live::{live_line, live_lines};
use crate::report::text::show_ms;
use crate::report::verbose::verbose_line;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const REDRAW: Duration = Duration::from_millis(100);
const FIRST_PLAIN: Duration = Duration::from_secs(5);
const NEXT_PLAIN: Duration = Duration::from_secs(30);
/// Shorter holds show in the live line only.
const LONG_HOLD_MS: u64 = 10_000;
/// Parked hosts that are told by name without `--verbose`.
const PARKED_TOLD: u32 = 5;

/// Shows a run to a person.
pub struct Terminal {
    out: Output,
    clock: Arc<dyn Clock>,
    start: Moment,
    shown: Mutex<Shown>,
}

#[derive(Default)]
struct Shown {
    drawn: Option<Moment>,
    plain: Option<Moment>,
    parked: u32,
    stopping: bool,
}

impl Terminal {
    /// Begins now.
    #[must_use]
    pub fn new(out: Output, clock: Arc<dyn Clock>) -> Self {
        let start = clock.now();
        Self { out, clock, start, shown: Mutex::default() }
    }

    fn told(&self, event: &Event) {
        match event {
            Event::RunStarted { job, resumed: true, results, skipped, pending } => self.out.line(&format!(
                "resuming {job}: {} done, {} skipped, {} pending",
                thousands(*results),
                thousands(*skipped),
                thousands(*pending)
            )),
            Event::Notice { message } => self.out.notice(message),
            Event::Warned { code, message } => self.out.warning(&format!("{message} [{code}]")),
            Event::Stopping { why } => {
                let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
                if !std::mem::replace(&mut shown.stopping, true) {
                    self.out.line(&stopping(why));
                }
            }
            Event::HoldBegan { key, wait_ms, status, from: "backoff", .. } if !self.out.look().verbose && *wait_ms >= LONG_HOLD_MS => {
                self.out.line(&format!("{key} refused ({status}); we pause there for {}", show_ms(*wait_ms)));
            }
            Event::HoldBegan { key, wait_ms, status, .. } if !self.out.look().verbose && *wait_ms >= LONG_HOLD_MS => {
                self.out.line(&format!("{key} asks for a pause ({status}): nothing is sent there for {}", show_ms(*wait_ms)));
            }
            Event::HostParked { host, why, wait_ms } if !self.out.look().verbose => {
                let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
                shown.parked += 1;
                if shown.parked <= PARKED_TOLD {
                    let what = if *why == "robots" { "gives no robots.txt" } else { "does not answer" };
                    self.out.line(&format!("{host} {what}: its entries wait, asked again in {}", show_ms(*wait_ms)));
                    if shown.parked == PARKED_TOLD {
                        self.out.line("further hosts that do not answer are shown with --verbose");
                    }
                }
            }
            _ => {}
        }
    }
}

/// What a stop is called.
fn stopping(why: &str) -> String {
    let why = why.strip_prefix("stopped:").unwrap_or(why);
    if let Some(what) = why.strip_prefix("deferred: ") {
        return format!("stopping: {what}");
    }
    if let Some(what) = why.strip_prefix("response: ") {
        return format!("stopping: {what}");
    }
    match why {
        "interrupt" => "stopping: handing back what is in flight (Ctrl-C again ends at once)".to_owned(),
        "terminate" => "stopping: asked to end (SIGTERM)".to_owned(),
        "hang-up" => "stopping: the terminal went away (SIGHUP)".to_owned(),
        "deferred" => "stopping: only waits longer than [limits] max_wait are left".to_owned(),
        "failure" => "stopping: something failed".to_owned(),
        "max_pages" => "stopping: [crawl] max_pages is reached".to_owned(),
        key => format!("stopping: [stop] {key} is reached"),
    }
}

impl Listener for Terminal {
    fn event(&self, event: &Event) {
        if self.out.look().quiet {
            return;
        }
        let verbose = self.out.look().verbose;
        if let Some(line) = verbose.then(|| verbose_line(event, self.clock.now().since(self.start))).flatten() {
            self.out.line(&line);
        }
        self.told(event);
        if matches!(event, Event::RunEnded { .. }) {
            self.out.clear();
        }
    }

    fn snapshot(&self, snapshot: &Snapshot) {
        if self.out.look().quiet {
            return;
        }
        let now = self.clock.now();
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if self.out.look().live {
            if shown.drawn.is_none_or(|at| now.since(at) >= REDRAW) {
                shown.drawn = Some(now);
                self.out.draw(&live_lines(snapshot));
            }
            return;
        }
        let due = shown.plain.map_or(self.start + FIRST_PLAIN, |at| at + NEXT_PLAIN);
        if now >= due {
            shown.plain = Some(now);
            self.out.line(&live_line(snapshot));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::report::Look;
    use crate::report::output::tests::kept;

    #[test]
    fn a_pipe_gets_a_line_after_five_seconds_and_then_every_thirty() {
        let (out, kept) = kept(Look::default());
        let clock = ManualClock::default();
        let terminal = Terminal::new(out, Arc::new(clock.clone()));
        for _ in 0..700 {
            clock.advance(Duration::from_millis(100));
            terminal.snapshot(&Snapshot::default());
        }
        assert_eq!(kept.text(), "0/0+ done  0/s\n".repeat(3), "at 5, 35 and 65 s");
    }

    #[test]
    fn a_terminal_is_redrawn_ten_times_a_second_at_most() {
        let (out, kept) = kept(Look { live: true, ..Look::default() });
        let clock = ManualClock::default();
        let terminal = Terminal::new(out, Arc::new(clock.clone()));
        for _ in 0..100 {
            clock.advance(Duration::from_millis(10));
            terminal.snapshot(&Snapshot::default());
        }
        assert_eq!(kept.text().matches('\r').count(), 10);
    }

    #[test]
    fn a_resume_says_where_it_stands_and_a_dead_list_of_hosts_does_not_fill_the_screen() {
        let (out, kept) = kept(Look::default());
        let terminal = Terminal::new(out, Arc::new(ManualClock::default()));
        terminal.event(&Event::RunStarted { job: "j".into(), resumed: true, results: 1000, skipped: 20, pending: 980 });
        for _ in 0..100 {
            terminal.event(&Event::HostParked { host: "https://h".into(), why: "breaker", wait_ms: 5000 });
        }
        let text = kept.text();
        assert!(text.starts_with("resuming j: 1,000 done, 20 skipped, 980 pending\n"), "{text}");
        assert_eq!(text.lines().count(), 7);
    }

    #[test]
    fn a_pause_is_asked_for_only_where_the_server_named_a_time() {
        let (out, kept) = kept(Look::default());
        let terminal = Terminal::new(out, Arc::new(ManualClock::default()));
        for from in ["retry-after", "backoff"] {
            let until = crate::clock::Wall(0);
            terminal.event(&Event::HoldBegan { key: "h".into(), until, wait_ms: 90_000, status: 429, from });
        }
        let wanted = "h asks for a pause (429): nothing is sent there for 1m 30s\nh refused (429); we pause there for 1m 30s\n";
        assert_eq!(kept.text(), wanted);
    }

    #[test]
    fn verbose_tells_attempts_and_quiet_tells_nothing() {
        let event = Event::HostBack { host: "https://h".into() };
        let (out, text) = kept(Look { verbose: true, ..Look::default() });
        Terminal::new(out, Arc::new(ManualClock::default())).event(&event);
        assert_eq!(text.text(), "    0.000s back     https://h\n");
        let (out, text) = kept(Look { quiet: true, verbose: true, ..Look::default() });
        Terminal::new(out, Arc::new(ManualClock::default())).event(&event);
        assert_eq!(text.text(), "");
    }
}

//! What one child cost: CPU of its process tree, wall time, peak memory.

use anyhow::{Context, Result, bail};
use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// `/proc` counts CPU in ticks of `USER_HZ`, which Linux has fixed at 100 for every machine that gleaner runs on.
const TICK: Duration = Duration::from_millis(10);

/// What one child cost.
pub(crate) struct Usage {
    /// CPU time in user code.
    pub(crate) user: Duration,
    /// CPU time in the kernel.
    pub(crate) system: Duration,
    /// From spawn to exit.
    pub(crate) wall: Duration,
    /// Largest resident set.
    pub(crate) peak_kib: u64,
}

impl Usage {
    /// Seconds of CPU, user and system.
    pub(crate) fn cpu(&self) -> f64 {
        (self.user + self.system).as_secs_f64()
    }
}

/// Runs a child to its end, its output dropped; an exit code but 0 is an error that quotes the end of its messages.
#[expect(clippy::disallowed_methods, reason = "a stopwatch around a process, and a poll that must not cost CPU")]
pub(crate) fn measure(command: &mut Command) -> Result<Usage> {
    let before = children()?;
    let start = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let mut stderr = child.stderr.take().context("standard error")?;
    let messages = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = stderr.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    });
    let mut peak_kib = 0;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        peak_kib = peak_kib.max(peak(child.id()).unwrap_or(0));
        std::thread::sleep(Duration::from_millis(5));
    };
    let wall = start.elapsed();
    let after = children()?;
    let messages = messages.join().unwrap_or_default();
    if !status.success() {
        let from = messages.len().saturating_sub(2_000);
        bail!("{status}: {}", messages.get(from..).unwrap_or(&messages).trim());
    }
    Ok(Usage { user: TICK * (after.0 - before.0), system: TICK * (after.1 - before.1), wall, peak_kib })
}

/// User and system ticks of all children that were waited for, and theirs: fields 16 and 17 of proc_pid_stat(5).
fn children() -> Result<(u32, u32)> {
    let stat = fs::read_to_string("/proc/self/stat").context("/proc/self/stat")?;
    let after_name = stat.rsplit(')').next().unwrap_or("");
    let ticks = |n: usize| after_name.split_whitespace().nth(n - 3).and_then(|t| t.parse::<u32>().ok());
    ticks(16).zip(ticks(17)).context("/proc/self/stat has no child times")
}

fn peak(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?.trim().strip_suffix(" kB")?.parse().ok()
}

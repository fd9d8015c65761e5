//! SIGINT, SIGTERM and SIGHUP as messages to the engine; SIGXFSZ out of the way.

use crate::cli::exit::Exit;
use crate::cli::wire::Interrupt;
use crate::clock::{Clock as _, Moment, SystemClock};
use crate::report::Output;
use std::fs;
use std::io;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Wrappers (`timeout`, task runners) pass a Ctrl-C on that the process got from the terminal too: it is one.
const SAME_KEY: Duration = Duration::from_millis(250);

/// Listens until it is dropped.
pub(crate) struct Watch {
    _task: JoinSet<()>,
}

/// Begins to listen. The first signal asks for a clean stop; a second Ctrl-C ends the process at once with 130.
///
/// SIGHUP stays ignored where it was ignored at the start (`nohup`). SIGXFSZ gets a handler that does nothing, which stays
/// for the life of the process, so that a write over the file size limit fails with EFBIG instead of killing the run.
/// Must be called within the runtime.
pub(crate) fn watch(out: Output) -> io::Result<(Watch, mpsc::Receiver<Interrupt>)> {
    let (tell, told) = mpsc::channel(8);
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = if ignored_at_start(1) { None } else { Some(signal(SignalKind::hangup())?) };
    if cfg!(target_os = "linux") {
        // Only where the number is known; a failure leaves the system's default.
        let _ = signal(SignalKind::from_raw(25));
    }
    let mut task = JoinSet::new();
    task.spawn(async move {
        let clock = SystemClock::new();
        let mut asked: Option<Moment> = None;
        loop {
            let what = tokio::select! {
                Some(()) = interrupt.recv() => Interrupt::Interrupt,
                Some(()) = terminate.recv() => Interrupt::Terminate,
                Some(()) = next(hang_up.as_mut()) => Interrupt::HangUp,
                else => return,
            };
            let now = clock.now();
            if what == Interrupt::Interrupt && asked.is_some_and(|first| now.since(first) >= SAME_KEY) {
                out.clear();
                std::process::exit(i32::from(Exit::Interrupt as u8));
            }
            asked.get_or_insert(now);
            // A full channel means that the engine was told before.
            let _ = tell.try_send(what);
        }
    });
    Ok((Watch { _task: task }, told))
}

async fn next(signal: Option<&mut Signal>) -> Option<()> {
    match signal {
        Some(signal) => signal.recv().await,
        None => std::future::pending().await,
    }
}

/// Whether the process was started with this signal ignored, as `/proc` tells; where there is no `/proc`, it was not.
fn ignored_at_start(number: u32) -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| is_ignored(&status, number))
}

fn is_ignored(status: &str, number: u32) -> bool {
    let mask = status.lines().find_map(|l| l.strip_prefix("SigIgn:")).and_then(|m| u64::from_str_radix(m.trim(), 16).ok());
    mask.is_some_and(|m| m & (1 << (number - 1)) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nohup_is_seen_in_the_mask() {
        assert!(is_ignored("Name:\tx\nSigIgn:\t0000000000001001\n", 1));
        assert!(!is_ignored("SigIgn:\t0000000000001000\n", 1));
        assert!(!is_ignored("", 1) && !is_ignored("SigIgn:\tzz\n", 1));
    }
}

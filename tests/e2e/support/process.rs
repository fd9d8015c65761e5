//! The real binary as a process: started, waited for with a deadline, signalled, killed.

use rustix::process::{Pid, Signal, kill_process};
use std::ffi::{OsStr, OsString};
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A command line of gleaner, not yet started. Its environment is empty but for `PATH` and what the test sets.
pub(crate) struct Gleaner {
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    dir: Option<PathBuf>,
    stdin: Option<Vec<u8>>,
    shell: Option<String>,
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Run {
    /// `None` where a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) took: Duration,
}

impl Gleaner {
    pub(crate) fn new(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        let args = args.into_iter().map(|a| a.as_ref().to_owned()).collect();
        Self { args, env: Vec::new(), dir: None, stdin: None, shell: None }
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    pub(crate) fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args.extend(args.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// The working folder, also `HOME`.
    pub(crate) fn home(mut self, dir: &Path) -> Self {
        self.env.push(("HOME".into(), dir.into()));
        self.dir = Some(dir.to_owned());
        self
    }

    pub(crate) fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// Started by `sh -c '<before>; exec gleaner …'`.
    pub(crate) fn shell(mut self, before: &str) -> Self {
        self.shell = Some(format!("{before}; exec \"$0\" \"$@\""));
        self
    }

    pub(crate) fn spawn(self) -> Live {
        let bin = std::env::var_os("GLEANER_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_gleaner").into());
        let mut command = match &self.shell {
            Some(script) => {
                let mut c = Command::new("sh");
                c.arg("-c").arg(script).arg(&bin);
                c
            }
            None => Command::new(&bin),
        };
        command.args(&self.args).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).envs(self.env);
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        command.stdin(if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let start = Instant::now();
        let mut child = command.spawn().unwrap();
        if let (Some(bytes), Some(mut pipe)) = (self.stdin, child.stdin.take()) {
            std::thread::spawn(move || {
                let _ = pipe.write_all(&bytes);
            });
        }
        let (out, out_reader) = collect(child.stdout.take().unwrap());
        let (err, err_reader) = collect(child.stderr.take().unwrap());
        Live { child, start, out, err, readers: vec![out_reader, err_reader] }
    }

    /// Runs to its end, within two minutes.
    pub(crate) fn go(self) -> Run {
        self.spawn().wait(Duration::from_secs(120))
    }

    /// Runs to its end, which must be this exit code.
    pub(crate) fn expect(self, code: i32) -> Run {
        let run = self.go();
        run.assert_code(code);
        run
    }
}

impl Run {
    pub(crate) fn assert_code(&self, code: i32) {
        assert_eq!(self.code, Some(code), "exit code\n--- stderr\n{}\n--- stdout\n{}", tail(&self.err), tail(&self.out));
        assert!(!self.err.contains("panicked at"), "{}", tail(&self.err));
    }

    /// The account line, without its hints after it.
    pub(crate) fn account(&self) -> Option<&str> {
        self.err.lines().rev().find(|l| l.starts_with("inputs ") && l.ends_with(" pending"))
    }
}

fn tail(text: &str) -> &str {
    let mut from = text.len().saturating_sub(4000);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

type Shared = Arc<Mutex<Vec<u8>>>;

fn collect(mut from: impl Read + Send + 'static) -> (Shared, JoinHandle<()>) {
    let bytes = Shared::default();
    let into = Arc::clone(&bytes);
    let reader = std::thread::spawn(move || {
        let mut chunk = [0; 16 * 1024];
        while let Ok(n @ 1..) = from.read(&mut chunk) {
            into.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&chunk[..n]);
        }
    });
    (bytes, reader)
}

/// A running process; it is killed when dropped.
pub(crate) struct Live {
    child: Child,
    start: Instant,
    out: Shared,
    err: Shared,
    readers: Vec<JoinHandle<()>>,
}

impl Live {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.err.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    pub(crate) fn stdout_len(&self) -> usize {
        self.out.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        let _ = kill_process(pid, signal);
    }

    /// Whether it has ended.
    pub(crate) fn ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill9(mut self) -> Run {
        let _ = self.child.kill();
        self.finish()
    }

    /// Waits; past the deadline the test fails with what was printed so far.
    pub(crate) fn wait(mut self, deadline: Duration) -> Run {
        let end = Instant::now() + deadline;
        while self.child.try_wait().unwrap().is_none() {
            if Instant::now() > end {
                let _ = self.child.kill();
                let run = self.finish();
                panic!("still running after {deadline:?}\n--- stderr\n{}", tail(&run.err));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        self.finish()
    }

    fn finish(&mut self) -> Run {
        let status = self.child.wait().unwrap();
        let took = self.start.elapsed();
        for r in self.readers.drain(..) {
            let _ = r.join();
        }
        let text = |s: &Shared| String::from_utf8_lossy(&s.lock().unwrap_or_else(PoisonError::into_inner)).into_owned();
        Run { code: status.code(), out: text(&self.out), err: text(&self.err), took }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! The one way to standard output and standard error.

use crate::model::printable;
use crate::report::text::{columns, cut};
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// What the messages may look like; found out once, at the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Errors only.
    pub quiet: bool,
    /// Each attempt and wait too.
    pub verbose: bool,
    /// Colour is welcome.
    pub colour: bool,
    /// Messages go to a terminal that can redraw a line.
    pub live: bool,
}

impl Look {
    /// From the flags, the terminal and the environment (`NO_COLOR`, `TERM=dumb`).
    #[must_use]
    pub fn detect(quiet: bool, verbose: bool) -> Self {
        let term = std::env::var_os("TERM").unwrap_or_default();
        let able = io::stderr().is_terminal() && !term.is_empty() && term != "dumb";
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        Self { quiet, verbose, colour: able && !no_colour, live: able }
    }
}

/// Messages on standard error and data on standard output. Cheap to clone; all clones share the live line.
///
/// Everything but colour passes through [`printable`]: no page, header or file name drives the terminal. A message that
/// cannot be written (EPIPE, EIO, a full disk behind a redirect) silences all later ones, and the run goes on.
#[derive(Clone)]
pub struct Output {
    messages: Arc<Mutex<Messages>>,
    look: Look,
}

struct Messages {
    to: Box<dyn Write + Send>,
    silenced: bool,
    live: bool,
}

impl Output {
    /// To standard error.
    #[must_use]
    pub fn new(look: Look) -> Self {
        Self::to(Box::new(io::stderr()), look)
    }

    /// To anything, for tests.
    pub(crate) fn to(to: Box<dyn Write + Send>, look: Look) -> Self {
        Self { messages: Arc::new(Mutex::new(Messages { to, silenced: false, live: false })), look }
    }

    /// How it looks.
    #[must_use]
    pub fn look(&self) -> Look {
        self.look
    }

    /// The same output without a live line: where rows go to the same terminal.
    #[must_use]
    pub fn without_live(mut self) -> Self {
        self.look.live = false;
        self
    }

    /// A line that stays. Nothing with `--quiet`.
    pub fn line(&self, text: &str) {
        if !self.look.quiet {
            self.write("", "", text);
        }
    }

    /// `notice: …`: good to know, costs nothing.
    pub fn notice(&self, text: &str) {
        if !self.look.quiet {
            self.write("notice: ", "\x1b[36m", text);
        }
    }

    /// `warning: …`: something is odd.
    pub fn warning(&self, text: &str) {
        if !self.look.quiet {
            self.write("warning: ", "\x1b[33m", text);
        }
    }

    /// `hint: …`: what to do next.
    pub fn hint(&self, text: &str) {
        if !self.look.quiet {
            self.write("hint: ", "\x1b[36m", text);
        }
    }

    /// `error: …` with its advice, `--quiet` or not.
    pub fn error(&self, text: &str, hint: Option<&str>) {
        self.write("error: ", "\x1b[1;31m", text);
        if let Some(hint) = hint {
            self.write("hint: ", "\x1b[36m", hint);
        }
    }

    /// A question on the line where its answer will stand.
    pub fn ask(&self, question: &str) {
        self.raw(|_| format!("{} ", printable(question)));
    }

    /// Draws the live line anew: the first of `texts` that fits the terminal, else the last one cut to its width.
    pub fn draw(&self, texts: &[String]) {
        if !self.look.live || self.look.quiet {
            return;
        }
        // The last column stays free: a full line would wrap and leave a copy behind at each redraw.
        let room = width().saturating_sub(1);
        let texts: Vec<_> = texts.iter().map(|t| printable(t)).collect();
        let line = texts.iter().find(|t| columns(t) <= room).or(texts.last()).map_or(String::new(), |t| cut(t, room));
        self.raw(|m| {
            m.live = true;
            format!("\r{line}\x1b[K")
        });
    }

    /// Takes the live line away.
    pub fn clear(&self) {
        self.raw(|m| if std::mem::take(&mut m.live) { "\r\x1b[K".to_owned() } else { String::new() });
    }

    /// Text for standard output, as it is.
    ///
    /// # Errors
    /// What the system said; a closed pipe is [`io::ErrorKind::BrokenPipe`] and the command should end quietly.
    pub fn data(&self, text: &str) -> io::Result<()> {
        self.clear();
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    fn write(&self, tag: &str, style: &str, text: &str) {
        let mut lines = text.lines();
        let first = printable(lines.next().unwrap_or_default());
        let mut whole =
            if self.look.colour && !tag.is_empty() { format!("{style}{tag}\x1b[0m{first}\n") } else { format!("{tag}{first}\n") };
        for line in lines {
            whole.push_str(&printable(line));
            whole.push('\n');
        }
        self.raw(|m| if std::mem::take(&mut m.live) { format!("\r\x1b[K{whole}") } else { whole });
    }

    fn raw(&self, make: impl FnOnce(&mut Messages) -> String) {
        let mut m = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        if m.silenced {
            return;
        }
        let bytes = make(&mut m);
        if !bytes.is_empty() && m.to.write_all(bytes.as_bytes()).and_then(|()| m.to.flush()).is_err() {
            m.silenced = true;
        }
    }
}

/// Columns of the terminal behind standard error; 80 where it does not say.
fn width() -> usize {
    match rustix::termios::tcgetwinsize(io::stderr()) {
        Ok(size) if size.ws_col > 0 => usize::from(size.ws_col),
        _ => 80,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Keeps what was written.
    #[derive(Clone, Default)]
    pub(crate) struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Kept {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    pub(crate) fn kept(look: Look) -> (Output, Kept) {
        let kept = Kept::default();
        (Output::to(Box::new(kept.clone()), look), kept)
    }

    struct Gone(Arc<Mutex<u32>>);

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            *self.0.lock().unwrap() += 1;
            Err(io::Error::from(io::ErrorKind::BrokenPipe))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_message_takes_the_live_line_away_first() {
        let (out, kept) = kept(Look { live: true, ..Look::default() });
        out.draw(&["1 done".into()]);
        out.notice("hello");
        out.line("more");
        assert_eq!(kept.text(), "\r1 done\x1b[K\r\x1b[Knotice: hello\nmore\n");
    }

    #[test]
    fn the_longest_line_that_fits_is_drawn() {
        let (out, kept) = kept(Look { live: true, ..Look::default() });
        out.draw(&["x".repeat(5000), "short".into(), "s".into()]);
        out.draw(&["y".repeat(5000)]);
        let text = kept.text();
        assert!(text.starts_with("\rshort\x1b[K\ry") && text.ends_with("y…\x1b[K"), "{text}");
    }

    #[test]
    fn text_from_outside_drives_no_terminal() {
        let (out, kept) = kept(Look { live: true, colour: false, ..Look::default() });
        out.warning("a\x1b]0;owned\x07b\r\nsecond\u{202e}line");
        out.draw(&["x\x1b[2J\ny".into()]);
        let text = kept.text();
        assert_eq!(text.matches('\x1b').count(), 1, "{text:?}");
        assert!(text.contains("\\u{1b}]0;owned\\u{7}b"), "{text:?}");
        assert!(text.contains("second\\u{202e}line\n"), "{text:?}");
    }

    #[test]
    fn a_closed_pipe_silences_and_is_asked_once() {
        let tries = Arc::new(Mutex::new(0));
        let out = Output::to(Box::new(Gone(tries.clone())), Look { live: true, ..Look::default() });
        out.line("a");
        out.error("b", Some("c"));
        out.draw(&["d".into()]);
        assert_eq!(*tries.lock().unwrap(), 1);
    }

    #[test]
    fn quiet_prints_errors_only_and_no_escape_codes_without_a_terminal() {
        let (out, kept) = kept(Look { quiet: true, ..Look::default() });
        out.line("a");
        out.notice("b");
        out.hint("c");
        out.draw(&["d".into()]);
        out.error("e", Some("f"));
        assert_eq!(kept.text(), "error: e\nhint: f\n");
    }

    #[test]
    fn colour_is_around_the_tag_alone() {
        let (out, kept) = kept(Look { colour: true, ..Look::default() });
        out.warning("w");
        assert_eq!(kept.text(), "\x1b[33mwarning: \x1b[0mw\n");
    }
}

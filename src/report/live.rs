//! The live line's words.

use crate::events::{Snapshot, thousands};
use crate::report::text::{show_rate, show_seconds};

/// `12,345/200,000 done  812/s  retries 31  skipped 12  eta 3m 20s  waiting: 5,000/hour at api.example.com, next in 0.7 s`.
///
/// A `+` behind the whole says that more may come: the input is not read to its end, or links are still being found.
#[must_use]
pub(crate) fn live_line(s: &Snapshot) -> String {
    pieces(s).into_iter().map(|(_, text)| text).collect::<Vec<_>>().join("  ")
}

/// The line, then shorter ones for narrow terminals: what holds the run back stays longest, figures go first.
#[must_use]
pub(crate) fn live_lines(s: &Snapshot) -> Vec<String> {
    let mut pieces = pieces(s);
    let mut lines = vec![live_line(s)];
    if s.waiting.is_some() {
        for least in [Piece::Retries, Piece::Skipped, Piece::Rate, Piece::Eta] {
            pieces.retain(|(piece, _)| *piece != least);
            lines.push(pieces.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join("  "));
        }
    }
    lines
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Piece {
    Done,
    Rate,
    Retries,
    Skipped,
    Eta,
    Waiting,
}

fn pieces(s: &Snapshot) -> Vec<(Piece, String)> {
    let a = &s.account;
    let more = if s.input_done && a.discovered == 0 { "" } else { "+" };
    let done = format!("{}/{}{more} done", thousands(a.results + a.skipped), thousands(a.inputs + a.discovered));
    let mut pieces = vec![(Piece::Done, done), (Piece::Rate, show_rate(s.rate))];
    if s.retries > 0 {
        pieces.push((Piece::Retries, format!("retries {}", thousands(s.retries))));
    }
    if a.skipped > 0 {
        pieces.push((Piece::Skipped, format!("skipped {}", thousands(a.skipped))));
    }
    if let Some(eta) = s.eta_s.filter(|_| a.pending > 0 || !s.input_done) {
        pieces.push((Piece::Eta, format!("eta {}", show_seconds(eta))));
    }
    if let Some(waiting) = &s.waiting {
        pieces.push((Piece::Waiting, waiting.clone()));
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Account;

    #[test]
    fn the_line_reads_as_the_issue_shows_it() {
        let mut s = Snapshot {
            account: Account { inputs: 200_000, results: 12_333, skipped: 12, pending: 187_655, ..Account::default() },
            retries: 31,
            rate: 812.0,
            eta_s: Some(200.0),
            input_done: true,
            waiting: Some("waiting: 5,000/hour at api.example.com, next in 0.7 s".into()),
            ..Snapshot::default()
        };
        assert_eq!(
            live_line(&s),
            "12,345/200,000 done  812/s  retries 31  skipped 12  eta 3m 20s  waiting: 5,000/hour at api.example.com, next in 0.7 s"
        );
        let narrow = live_lines(&s);
        assert_eq!(narrow.last().unwrap(), "12,345/200,000 done  waiting: 5,000/hour at api.example.com, next in 0.7 s");
        s = Snapshot { account: Account { inputs: 50, results: 1, ..s.account }, ..Snapshot::default() };
        assert_eq!(live_line(&s), "13/50+ done  0/s  skipped 12");
    }
}

//! The origin: `/page/N` and `/item/N` over keep-alive HTTP/1.1, the same bytes for the same N, at the least CPU.
//!
//! A page is a text of fixed length with places for eight-digit numbers, so an answer is one copy, a few patches and one
//! write.

use anyhow::Result;
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Links of a page.
pub(crate) const LINKS: usize = 21;
const DIGITS: usize = 8;
const NUMBERS: u64 = 100_000_000;
const PAGE_BYTES: usize = 9_600;
const MARK: &str = "\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}";

/// Serves until standard input closes; the port is the one line on standard output.
#[expect(clippy::disallowed_methods, reason = "a test server owns its tasks; each ends with its connection")]
pub(crate) fn serve() -> Result<()> {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let (page, item, absent): (&'static Answer, &'static Answer, &'static Answer) =
        (Box::leak(Box::new(page())), Box::leak(Box::new(item())), Box::leak(Box::new(not_found())));
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut out = std::io::stdout();
        writeln!(out, "{}", listener.local_addr()?.port())?;
        out.flush()?;
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(async move {
                let _ = connection(stream, page, item, absent).await;
            });
        }
    })
}

async fn connection(mut stream: TcpStream, page: &Answer, item: &Answer, absent: &Answer) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut seen, mut out, mut chunk) = (Vec::new(), Vec::new(), [0; 4_096]);
    loop {
        while let Some(end) = seen.windows(4).position(|w| w == b"\r\n\r\n") {
            let path = seen[..end].split(|b| *b == b' ').nth(1).and_then(|p| std::str::from_utf8(p).ok()).unwrap_or("");
            let number = |prefix: &str| path.strip_prefix(prefix).and_then(|n| n.parse::<u64>().ok());
            match (number("/page/"), number("/item/")) {
                (Some(n), _) => page.render(n, &mut out),
                (_, Some(n)) => item.render(n, &mut out),
                _ => absent.render(0, &mut out),
            }
            seen.drain(..end + 4);
        }
        stream.write_all(&out).await?;
        out.clear();
        match stream.read(&mut chunk).await? {
            0 => return Ok(()),
            n => seen.extend_from_slice(&chunk[..n]),
        }
    }
}

/// Head and body with places for numbers.
struct Answer {
    bytes: Vec<u8>,
    places: Vec<usize>,
}

impl Answer {
    fn new(status: &str, kind: &str, body: &str) -> Self {
        let text = format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let places = text.match_indices(MARK).map(|(at, _)| at).collect();
        Self { bytes: text.into_bytes(), places }
    }

    /// The first two places hold N itself, each other one a number that follows from N and the place.
    fn render(&self, n: u64, out: &mut Vec<u8>) {
        let from = out.len();
        out.extend_from_slice(&self.bytes);
        for (i, place) in (0u64..).zip(&self.places) {
            let mut left = if i < 2 { n % NUMBERS } else { (n.wrapping_mul(2_654_435_761) + i * 7_919) % NUMBERS };
            for digit in out[from + place..from + place + DIGITS].iter_mut().rev() {
                *digit = b'0' + u8::try_from(left % 10).unwrap_or(0);
                left /= 10;
            }
        }
    }
}

fn not_found() -> Answer {
    Answer::new("404 Not Found", "text/plain", "not found\n")
}

/// A shop page: head with its usual litter, navigation, a table, a list of links, prose.
fn page() -> Answer {
    let mut t = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>Page {MARK} &amp; more</title>\n\
         <meta name=\"description\" content=\"All there is to say about {MARK}\">\n\
         <link rel=\"stylesheet\" href=\"/site.css\">\n<style>body {{ margin: 0 }} .price > b {{ color: #333 }}</style>\n\
         <script>window.data = {{\"a\": 1 < 2, \"b\": \"<b>\"}};</script>\n</head>\n<body class=\"page\">\n<nav><ul>\n"
    );
    let link = |t: &mut String, class: &str, text: &str| {
        let _ = writeln!(t, "<li class=\"{class}\"><a href=\"/page/{MARK}\" title=\"{text}\">{text}</a></li>");
    };
    for name in ["Home", "News", "Shop", "About", "Help", "Contact"] {
        link(&mut t, "nav", name);
    }
    t.push_str("</ul></nav>\n<main><h1>Things to know</h1>\n<table class=\"facts\">\n");
    let mut words = Words(7);
    for _ in 0..12 {
        let _ = writeln!(t, "<tr><th scope=\"row\">{}</th><td class=\"value\">{}</td></tr>", words.some(1), words.some(4));
    }
    t.push_str("</table>\n<p class=\"price\">from <b data-value=\"19.90\">&euro; 19.90</b></p>\n<ul class=\"related\">\n");
    for _ in 0..LINKS - 6 {
        link(&mut t, "item", &words.some(3));
    }
    t.push_str("</ul>\n<article>\n");
    let end = "</article></main>\n<footer><p>&copy; nobody</p></footer>\n</body>\n</html>\n";
    while t.len() + end.len() + 340 < PAGE_BYTES {
        let _ = writeln!(t, "<p>{} <em>{}</em> {}.</p>", words.some(18), words.some(3), words.some(20));
    }
    t.push_str(end);
    Answer::new("200 OK", "text/html; charset=utf-8", &t)
}

fn item() -> Answer {
    let mut words = Words(11);
    let mut t = format!("{{\"id\":1{MARK},\"name\":\"Item {MARK}\",\"price\":19.90,\"stock\":{{\"here\":3,\"soon\":true}},\"tags\":[");
    for i in 0..6 {
        let _ = write!(t, "{}\"{}\"", if i == 0 { "" } else { "," }, words.some(1));
    }
    let _ = write!(t, "],\"text\":\"{}\",\"next\":\"/item/{MARK}\"}}", words.some(110));
    Answer::new("200 OK", "application/json", &t)
}

/// Words from a linear congruential generator: prose enough for a parser.
struct Words(u32);

impl Words {
    fn some(&mut self, count: usize) -> String {
        const WORDS: [&str; 16] = [
            "amber", "below", "cargo", "delta", "ember", "field", "grain", "harbour", "island", "jetty", "kernel", "lantern", "meadow",
            "north", "of", "the",
        ];
        let mut text = String::new();
        for i in 0..count {
            self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            text.push_str(if i == 0 { "" } else { " " });
            text.push_str(WORDS[(self.0 >> 28) as usize]);
        }
        text
    }
}

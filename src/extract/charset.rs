//! Bytes to text: BOM, then the header's label, then the document's own, then detection. Never fails.
//!
//! Sources: WHATWG Encoding (labels, decode), WHATWG HTML 13.2.3.2 (prescan of 1,024 bytes), RFC 8259 8.1 (JSON).

use super::media::Media;
use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252, X_USER_DEFINED};
use std::borrow::Cow;

/// How much of a document is searched for its own label.
const PRESCAN: usize = 1024;

/// A body as text; borrowed where it is UTF-8 already.
pub(super) struct Decoded<'a> {
    /// Always valid UTF-8, without BOM; what could not be read is U+FFFD.
    pub(super) text: Cow<'a, str>,
    /// What it was read as; a link's query is encoded in it.
    pub(super) encoding: &'static Encoding,
}

/// Decodes `body`. `label` is the Content-Type's charset, `host` hints at the language of an unlabelled page.
pub(super) fn decode<'a>(body: &'a [u8], media: Media, label: Option<&str>, host: Option<&str>) -> Decoded<'a> {
    if let Some((encoding, bom)) = Encoding::for_bom(body) {
        return with(encoding, &body[bom..]);
    }
    let labelled = label.and_then(|l| Encoding::for_label_no_replacement(l.as_bytes()));
    if media == Media::Json {
        // JSON is UTF-8 whatever the header says (RFC 8259); a label counts only where the bytes contradict that.
        let encoding = nul_pattern(body).or_else(|| if is_utf8(body) { Some(UTF_8) } else { labelled });
        return with(encoding.unwrap_or(UTF_8), body);
    }
    if let Some(encoding) = labelled {
        return with(encoding, body);
    }
    if media.has_markup()
        && let Some(encoding) = prescan(&body[..body.len().min(PRESCAN)])
    {
        return with(encoding, body);
    }
    // ISO-2022-JP is ASCII with escapes, so that valid UTF-8 with an ESC still has to be detected.
    if !body.contains(&0x1b)
        && let Ok(text) = std::str::from_utf8(body)
    {
        return Decoded { text: Cow::Borrowed(text), encoding: UTF_8 };
    }
    with(detect(body, host), body)
}

fn with<'a>(encoding: &'static Encoding, body: &'a [u8]) -> Decoded<'a> {
    let (text, _) = encoding.decode_without_bom_handling(body);
    Decoded { text, encoding }
}

fn is_utf8(body: &[u8]) -> bool {
    std::str::from_utf8(body).is_ok()
}

/// UTF-16 without BOM, told by the NULs of its first two characters (RFC 4627 3).
fn nul_pattern(body: &[u8]) -> Option<&'static Encoding> {
    match body {
        [0, b, ..] if *b != 0 => Some(UTF_16BE),
        [a, 0, ..] if *a != 0 => Some(UTF_16LE),
        _ => None,
    }
}

fn detect(body: &[u8], host: Option<&str>) -> &'static Encoding {
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Allow);
    detector.feed(body, true);
    let tld = host
        .and_then(|h| h.trim_end_matches('.').rsplit('.').next())
        .filter(|t| !t.is_empty() && t.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'));
    detector.guess(tld.map(str::as_bytes), Utf8Detection::Allow)
}

/// The label inside the document, by the WHATWG prescan: `<meta charset>`, `<meta http-equiv=content-type>`, `<?xml encoding?>`.
/// A UTF-16 label is UTF-8 (the bytes were read as ASCII to find it); an unknown one passes on.
fn prescan(head: &[u8]) -> Option<&'static Encoding> {
    if let Some(label) = xml_encoding(head)
        && let Some(encoding) = own_label(label)
    {
        return Some(encoding);
    }
    let mut at = 0;
    while let Some(open) = find(&head[at..], b"<") {
        at += open;
        let rest = &head[at..];
        if rest.starts_with(b"<!--") {
            at += 2 + find(&rest[2..], b"-->")? + 3;
        } else if rest.len() > 5 && rest[..5].eq_ignore_ascii_case(b"<meta") && (rest[5].is_ascii_whitespace() || rest[5] == b'/') {
            let (label, used) = meta_label(&rest[5..]);
            if let Some(encoding) = label.and_then(|l| own_label(&l)) {
                return Some(encoding);
            }
            at += 5 + used;
        } else if rest.len() > 1 && (rest[1].is_ascii_alphabetic() || rest.len() > 2 && rest[1] == b'/' && rest[2].is_ascii_alphabetic()) {
            let name = rest.iter().position(|b| b.is_ascii_whitespace() || *b == b'>')?;
            at += name;
            let mut used = 0;
            while let Some((_, _, n)) = attribute(&head[at + used..]) {
                used += n;
            }
            at += used;
        } else if rest.len() > 1 && matches!(rest[1], b'!' | b'/' | b'?') {
            at += find(rest, b">")?;
        } else {
            at += 1;
        }
    }
    None
}

fn own_label(label: &[u8]) -> Option<&'static Encoding> {
    let encoding = Encoding::for_label_no_replacement(label)?;
    Some(if encoding == UTF_16BE || encoding == UTF_16LE {
        UTF_8
    } else if encoding == X_USER_DEFINED {
        WINDOWS_1252
    } else {
        encoding
    })
}

fn xml_encoding(head: &[u8]) -> Option<&[u8]> {
    let head = head.strip_prefix(b"<?xml")?;
    let head = &head[..find(head, b"?>")?];
    let value = &head[find(head, b"encoding")? + 8..];
    let value = value.trim_ascii_start().strip_prefix(b"=")?.trim_ascii_start();
    let quote = *value.first().filter(|q| matches!(q, b'"' | b'\''))?;
    let value = &value[1..];
    Some(&value[..value.iter().position(|b| *b == quote)?])
}

/// The label of the `<meta` whose attributes begin `bytes`, and how many bytes they take.
fn meta_label(bytes: &[u8]) -> (Option<Vec<u8>>, usize) {
    let (mut used, mut pragma, mut charset, mut from_content) = (0, false, None, None);
    while let Some((name, value, n)) = attribute(&bytes[used..]) {
        used += n;
        match name.as_slice() {
            b"http-equiv" => pragma |= value == b"content-type",
            b"charset" if charset.is_none() => charset = Some(value),
            b"content" if from_content.is_none() => from_content = content_label(&value),
            _ => {}
        }
    }
    (charset.or(if pragma { from_content } else { None }), used)
}

/// WHATWG "extracting a character encoding from a meta element"; `value` is lower case.
fn content_label(value: &[u8]) -> Option<Vec<u8>> {
    let mut rest = value;
    loop {
        rest = rest[find(rest, b"charset")? + 7..].trim_ascii_start();
        if let Some(after) = rest.strip_prefix(b"=") {
            let after = after.trim_ascii_start();
            return match after.first()? {
                q @ (b'"' | b'\'') => after[1..].split(|b| b == q).next().filter(|v| v.len() + 1 < after.len()).map(<[u8]>::to_vec),
                _ => after.split(|b| b.is_ascii_whitespace() || *b == b';').next().map(<[u8]>::to_vec),
            };
        }
    }
}

/// One attribute in lower case: name, value, bytes read. `None` at the tag's end or the end of the bytes.
fn attribute(bytes: &[u8]) -> Option<(Vec<u8>, Vec<u8>, usize)> {
    let lower = |b: &[u8]| b.to_ascii_lowercase();
    let start = bytes.iter().position(|b| !b.is_ascii_whitespace() && *b != b'/')?;
    if bytes[start] == b'>' {
        return None;
    }
    // A `=` that begins a name belongs to it.
    let end = bytes
        .iter()
        .enumerate()
        .skip(start + 1)
        .find(|(_, b)| matches!(b, b'=' | b'/' | b'>') || b.is_ascii_whitespace())
        .map(|(i, _)| i)?;
    let name = lower(&bytes[start..end]);
    let equals = bytes[end..].iter().position(|b| !b.is_ascii_whitespace())? + end;
    if bytes[equals] != b'=' {
        return Some((name, Vec::new(), end));
    }
    let value = bytes[equals + 1..].iter().position(|b| !b.is_ascii_whitespace())? + equals + 1;
    match bytes[value] {
        q @ (b'"' | b'\'') => {
            let close = bytes[value + 1..].iter().position(|b| *b == q)? + value + 1;
            Some((name, lower(&bytes[value + 1..close]), close + 1))
        }
        b'>' => Some((name, Vec::new(), value)),
        _ => {
            let close = bytes[value..].iter().position(|b| b.is_ascii_whitespace() || *b == b'>')? + value;
            Some((name, lower(&bytes[value..close]), close))
        }
    }
}

fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|w| w == needle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn html(body: &[u8], label: Option<&str>) -> (String, &'static str) {
        let d = decode(body, Media::Html, label, Some("example.jp"));
        (d.text.into_owned(), d.encoding.name())
    }

    #[test]
    fn bom_wins_over_header_and_header_over_meta() {
        assert_eq!(html(b"\xef\xbb\xbf\xc3\xa4", Some("iso-8859-1")).0, "ä");
        assert_eq!(html(b"\xff\xfea\0", Some("utf-8")), ("a".into(), "UTF-16LE"));
        assert_eq!(html(b"<meta charset=utf-8>\xe4", Some("latin1")).0, "<meta charset=utf-8>ä");
    }

    #[test]
    fn an_unknown_label_passes_on_to_the_next() {
        assert_eq!(html(b"<meta charset=nonsense><meta charset='windows-1251'>\xef", Some("x-nope")).1, "windows-1251");
        assert_eq!(html("é".as_bytes(), Some("none")).1, "UTF-8");
        assert_eq!(html(b"a", Some("hz-gb-2312")).1, "UTF-8");
    }

    #[test]
    fn meta_is_read_as_the_standard_says() {
        for (body, name) in [
            (&b"<meta charset=utf-16>"[..], "UTF-8"),
            (b"<META HTTP-EQUIV='Content-Type' CONTENT=\"text/html; charset = Shift_JIS\">", "Shift_JIS"),
            (b"<meta content='text/html; charset=koi8-r' http-equiv=content-type>", "KOI8-R"),
            (b"<!-- <meta charset=koi8-r> --><meta charset=gb2312>", "GBK"),
            (b"<a title='<meta charset=koi8-r>'><meta/charset=\"x-sjis\"/>", "Shift_JIS"),
            (b"<?xml version='1.0' encoding='iso-8859-2'?><html>", "ISO-8859-2"),
            (b"<meta charset=x-user-defined>", "windows-1252"),
            (b"<meta content='text/html; charset=koi8-r'>plain", "UTF-8"),
        ] {
            assert_eq!(html(body, None).1, name, "{}", String::from_utf8_lossy(body));
        }
        let late = [b" ".repeat(1024), b"<meta charset=koi8-r>".to_vec()].concat();
        assert_eq!(html(&late, None).1, "UTF-8");
    }

    #[test]
    fn what_has_no_label_is_detected() {
        let (sjis, _, _) = encoding_rs::SHIFT_JIS.encode("これは日本語の文章です。文字コードを調べます。");
        assert_eq!(html(&sjis, None).1, "Shift_JIS");
        let (jis, _, _) = encoding_rs::SHIFT_JIS.encode("x");
        assert_eq!(html(&jis, None).1, "UTF-8");
        assert!(html(b"\x1b$B$3$l$OF|K\\8l$G$9\x1b(B", None).0.contains('日'));
        assert!(matches!(decode("grün".as_bytes(), Media::Html, None, None).text, Cow::Borrowed(_)));
    }

    #[test]
    fn json_is_utf8_or_utf16_whatever_the_header_says() {
        let json = |body: &[u8], label| decode(body, Media::Json, label, None).text.into_owned();
        assert_eq!(json("\"ä\"".as_bytes(), Some("iso-8859-1")), "\"ä\"");
        assert_eq!(json(b"\"\xe4\"", Some("iso-8859-1")), "\"ä\"");
        assert_eq!(json(b"{\0}\0", None), "{}");
        assert_eq!(json(b"\0{\0}", None), "{}");
        assert_eq!(json(b"\xfe\xff\0{\0}", None), "{}");
        assert_eq!(json(b"\"\xe4\"", None), "\"\u{fffd}\"");
    }

    proptest! {
        #[test]
        fn never_panics(body in proptest::collection::vec(any::<u8>(), 0..300), label in ".{0,12}") {
            for media in [Media::Html, Media::Json, Media::Text] {
                let _ = decode(&body, media, Some(&label), Some("EX.De-"));
                let _ = decode(&body, media, None, None);
            }
        }

        #[test]
        fn prescan_never_panics(text in "[<>!/?=\"' a-cMETAcharsetcontent-]{0,80}") {
            let _ = prescan(text.as_bytes());
            let _ = prescan(format!("<meta {text}").as_bytes());
            let _ = prescan(format!("<?xml {text}").as_bytes());
        }
    }
}

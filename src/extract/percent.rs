//! Percent-encoding of a value by itself.

/// Everything but RFC 3986's unreserved characters is escaped, so that a value cannot end its place.
pub(super) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(b));
        } else {
            out.push('%');
            for nibble in [b >> 4, b & 15] {
                out.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0').to_ascii_uppercase());
            }
        }
    }
    out
}

/// Escapes undone; what is no escape stays, bytes that are no UTF-8 become U+FFFD.
pub(super) fn decode(text: &str) -> String {
    let (bytes, mut out, mut i) = (text.as_bytes(), Vec::with_capacity(text.len()), 0);
    let hex = |b: Option<&u8>| b.and_then(|b| char::from(*b).to_digit(16));
    while let Some(b) = bytes.get(i) {
        if let (b'%', Some(high), Some(low)) = (b, hex(bytes.get(i + 1)), hex(bytes.get(i + 2))) {
            out.push(u8::try_from(high << 4 | low).unwrap_or(b'?'));
            i += 3;
        } else {
            out.push(*b);
            i += 1;
        }
    }
    String::from_utf8(out).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

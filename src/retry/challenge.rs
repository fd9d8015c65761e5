//! Pages of bot protection that come in place of the content.
//!
//! A page that merely speaks of them, or carries a vendor's script beside its content, is none: only small HTML bodies with the
//! marks of the interstitial itself count, and on an accepted status the marks have to be stronger than on a refusal.

use http::HeaderMap;
use regex::bytes::Regex;
use std::sync::LazyLock;

/// Widgets of the captcha vendors.
const CAPTCHAS: [&[u8]; 7] = [
    b"captcha-delivery.com",
    b"px-captcha",
    b"g-recaptcha",
    b"google.com/recaptcha",
    b"hcaptcha.com",
    b"challenges.cloudflare.com/turnstile",
    b"h-captcha",
];

/// Larger bodies are content.
const SMALL: usize = 64 * 1024;

/// One of these stands in every page that the rules below know, so that ordinary pages cost one quick scan.
static MARKS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new("/cdn-cgi/challenge-platform/|_Incapsula_Resource|captcha|Pardon Our Interruption|/sorry/|unusual traffic|turnstile").ok()
});

/// `<title>Just a moment...</title>`, or any element that begins so.
static JUST_A_MOMENT: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"(?i-u)>\s*(just a moment|attention required! \| cloudflare)").ok());

/// A script address of Cloudflare's challenge, within quotes.
static CHALLENGE_SCRIPT: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r#"["'=]\S{0,200}/cdn-cgi/challenge-platform/"#).ok());

/// Names the vendor whose challenge an answer is. `accepted`: its status counts as a result, or as none (a refusal).
#[must_use]
pub(super) fn challenge(status: u16, headers: &HeaderMap, body: &[u8], accepted: bool) -> Option<&'static str> {
    if let Some(vendor) = by_header(headers) {
        return Some(vendor);
    }
    if !(accepted || matches!(status, 403 | 503)) || body.is_empty() || body.len() >= SMALL || !looks_like_html(headers, body) {
        return None;
    }
    if !found(&MARKS, body) {
        return None;
    }
    if accepted { disguised(body) } else { refused(body) }
}

/// Challenges that say so themselves: <https://developers.cloudflare.com/cloudflare-challenges/challenge-types/challenge-pages/detect-response/>
/// and the AWS WAF developer guide (`x-amzn-waf-action`).
fn by_header(headers: &HeaderMap) -> Option<&'static str> {
    let is = |name: &str, words: &[&str]| {
        headers.get(name).and_then(|v| v.to_str().ok()).is_some_and(|v| words.iter().any(|w| v.trim().eq_ignore_ascii_case(w)))
    };
    if is("cf-mitigated", &["challenge"]) {
        return Some("cloudflare");
    }
    is("x-amzn-waf-action", &["challenge", "captcha"]).then_some("aws waf")
}

/// On 403 and 503 the vendor's marks are enough: nobody serves content there.
fn refused(body: &[u8]) -> Option<&'static str> {
    if has(body, b"/cdn-cgi/challenge-platform/")
        && (found(&JUST_A_MOMENT, body) || has(body, b"_cf_chl_opt") || has(body, b"Just a moment"))
    {
        return Some("cloudflare");
    }
    if has(body, b"_Incapsula_Resource") {
        return Some("incapsula");
    }
    if CAPTCHAS.iter().any(|m| has(body, m)) {
        return Some("captcha");
    }
    disguised(body)
}

/// On an accepted status content may well hold a captcha in a form or speak of one: only whole interstitials count.
fn disguised(body: &[u8]) -> Option<&'static str> {
    if found(&CHALLENGE_SCRIPT, body) && found(&JUST_A_MOMENT, body) {
        return Some("cloudflare");
    }
    // Protected sites carry the script on every page; the interstitial has a frame for its body, or no body at all.
    if has(body, b"_Incapsula_Resource?") && (has(body, b"Incapsula incident ID") || has(body, b"id=\"main-iframe\"") || body.len() < 2048)
    {
        return Some("incapsula");
    }
    if has(body, b"captcha-delivery.com/") && has(body, b"var dd=") {
        return Some("datadome");
    }
    if has(body, b"id=\"px-captcha\"") && (has(body, b"Access to this page has been denied") || has(body, b"Robot or human?")) {
        return Some("perimeterx");
    }
    if has(body, b"action=\"index\"") && has(body, b"captcha-form") && has(body, b"unusual traffic") {
        return Some("google");
    }
    if has(body, b"<title>Pardon Our Interruption") {
        return Some("imperva");
    }
    None
}

fn looks_like_html(headers: &HeaderMap, body: &[u8]) -> bool {
    match headers.get("content-type").and_then(|v| v.to_str().ok()) {
        Some(t) => t.to_ascii_lowercase().contains("html"),
        None => body.trim_ascii_start().starts_with(b"<"),
    }
}

fn found(pattern: &LazyLock<Option<Regex>>, body: &[u8]) -> bool {
    pattern.as_ref().is_some_and(|r| r.is_match(body))
}

fn has(body: &[u8], needle: &[u8]) -> bool {
    body.windows(needle.len()).any(|w| w == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn html(extra: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut h = HeaderMap::new();
        h.insert("content-type", "text/html; charset=UTF-8".parse().unwrap());
        for (n, v) in extra {
            h.insert(*n, v.parse().unwrap());
        }
        h
    }

    const CLOUDFLARE: &[u8] = b"<!DOCTYPE html><html><head><title>Just a moment...</title></head><body><script>(function(){window._cf_chl_opt={cvId:'3'};var a=document.createElement('script');a.src='/cdn-cgi/challenge-platform/h/b/orchestrate/chl_page/v1?ray=8';}());</script></body></html>";
    const INCAPSULA: &[u8] = b"<html><head><META NAME=\"robots\" CONTENT=\"noindex,nofollow\"><script src=\"/_Incapsula_Resource?SWJIYLWA=5074a744\"></script><body></body></html>";

    #[test]
    fn the_header_alone_is_enough_on_any_status() {
        for status in [200, 403, 429, 503] {
            assert_eq!(challenge(status, &html(&[("cf-mitigated", "challenge")]), b"", status == 200), Some("cloudflare"));
        }
        assert_eq!(challenge(202, &html(&[("x-amzn-waf-action", "challenge")]), b"", true), Some("aws waf"));
        assert_eq!(challenge(200, &html(&[("cf-mitigated", "other")]), b"", true), None);
    }

    #[test]
    fn interstitials_are_known_by_their_bodies() {
        for status in [200, 403, 503] {
            assert_eq!(challenge(status, &html(&[]), CLOUDFLARE, status == 200), Some("cloudflare"), "{status}");
            assert_eq!(challenge(status, &html(&[]), INCAPSULA, status == 200), Some("incapsula"), "{status}");
        }
        assert_eq!(challenge(403, &html(&[]), b"<form><div class=\"g-recaptcha\"></div></form>", false), Some("captcha"));
        assert_eq!(challenge(404, &html(&[]), CLOUDFLARE, false), None);
        assert_eq!(
            challenge(
                200,
                &html(&[]),
                b"<html><script>var dd={'rt':'c'}</script><script src=\"https://ct.captcha-delivery.com/c.js\">",
                true
            ),
            Some("datadome")
        );
    }

    #[test]
    fn content_that_mentions_a_challenge_is_content() {
        let article =
            b"<title>How \"Just a moment\" pages work</title><p>Cloudflare loads /cdn-cgi/challenge-platform/ and shows Just a moment. \
            Incapsula uses _Incapsula_Resource, others a captcha.</p><code>window._cf_chl_opt</code>";
        assert_eq!(challenge(200, &html(&[]), &[&article[..], &[b' '; 4096]].concat(), true), None);
        let shielded = b"<title>Shop</title><p>Bread 3.20</p><script src='/cdn-cgi/challenge-platform/scripts/jsd/main.js'></script>";
        assert_eq!(challenge(200, &html(&[]), shielded, true), None);
        let protected =
            [b"<title>Shop</title><script src=\"/_Incapsula_Resource?SWJIYLWA=1\"></script>".as_slice(), &[b'x'; 4096]].concat();
        assert_eq!(challenge(200, &html(&[]), &protected, true), None);
        let login =
            b"<title>Log in</title><form><div class=\"g-recaptcha\"></div></form><script src=https://www.google.com/recaptcha/api.js>";
        assert_eq!(challenge(200, &html(&[]), login, true), None);
        let long = [CLOUDFLARE, &vec![b' '; SMALL]].concat();
        assert_eq!(challenge(200, &html(&[]), &long, true), None);
        let mut json = HeaderMap::new();
        json.insert("content-type", "application/json".parse().unwrap());
        assert_eq!(challenge(200, &json, CLOUDFLARE, true), None);
    }
}

//! Codings, caps, what is read of which status.

use super::*;
use crate::fetch::decode::{Coding, Decoder, Trouble};
use crate::model::Reason;
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use std::io::Write;

fn gz(data: &[u8]) -> Vec<u8> {
    let mut e = GzEncoder::new(Vec::new(), Compression::default());
    e.write_all(data).unwrap();
    e.finish().unwrap()
}

fn zlib(data: &[u8]) -> Vec<u8> {
    let mut e = ZlibEncoder::new(Vec::new(), Compression::default());
    e.write_all(data).unwrap();
    e.finish().unwrap()
}

fn raw(data: &[u8]) -> Vec<u8> {
    let mut e = DeflateEncoder::new(Vec::new(), Compression::default());
    e.write_all(data).unwrap();
    e.finish().unwrap()
}

fn br(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    brotli::BrotliCompress(&mut &data[..], &mut out, &brotli::enc::BrotliEncoderParams { quality: 5, ..Default::default() }).unwrap();
    out
}

fn zst(data: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(data, 1).unwrap()
}

fn text(n: usize) -> Vec<u8> {
    (0..n).flat_map(|i| format!("line {} of it\n", i * 7919 % 10_007).into_bytes()).collect()
}

async fn decoded(headers: &str, body: &[u8]) -> Result<Answer, Failure> {
    let origin = Origin::reply(with_body(headers, body), Then::Keep).await;
    match fetcher(&plan()).attempt(get(origin.url()), |_| ()).await {
        Outcome::Answer(a) => Ok(a),
        Outcome::Failure(e) => Err(e),
    }
}

#[tokio::test]
async fn every_coding_comes_back_as_the_content() {
    let page = text(5_000);
    for (headers, body) in [
        ("Content-Encoding: gzip\r\n", gz(&page)),
        ("Content-Encoding: X-GZip\r\n", gz(&page)),
        ("Content-Encoding: deflate\r\n", zlib(&page)),
        ("Content-Encoding: deflate\r\n", raw(&page)),
        ("Content-Encoding: br\r\n", br(&page)),
        ("Content-Encoding: zstd\r\n", zst(&page)),
        ("Content-Encoding: identity\r\n", page.clone()),
        ("Content-Encoding: gzip, br\r\n", br(&gz(&page))),
        ("Content-Encoding: zstd\r\nContent-Encoding: GZIP\r\n", gz(&zst(&page))),
        ("Content-Encoding: gzip\r\n", [gz(&page[..700]), gz(&page[700..])].concat()),
        ("Content-Encoding: zstd\r\n", [zst(&page[..700]), zst(&page[700..])].concat()),
    ] {
        let a = decoded(headers, &body).await.unwrap();
        assert!(a.body == page, "{headers}: {} bytes", a.body.len());
        assert_eq!((a.wire_bytes, a.warnings.len()), (body.len() as u64, 0), "{headers}");
    }
}

#[test]
fn pieces_of_any_size_give_the_same() {
    let page = text(2_000);
    for (codings, body) in [
        (vec![Coding::Gzip], [gz(&page[..99]), gz(&page[99..])].concat()),
        (vec![Coding::Deflate], zlib(&page)),
        (vec![Coding::Deflate], raw(&page)),
        (vec![Coding::Brotli], br(&page)),
        (vec![Coding::Zstd], [zst(&page[..99]), zst(b""), zst(&page[99..])].concat()),
        (vec![Coding::Zstd, Coding::Gzip], gz(&zst(&page))),
        (vec![], page.clone()),
    ] {
        for piece in [1, 2, 3, 7, 1000, 1 << 20] {
            let mut d = Decoder::new(&codings, page.len(), 0);
            for part in body.chunks(piece) {
                d.push(part).unwrap();
            }
            assert!(d.finish().unwrap() == (page.clone(), false), "{codings:?} by {piece}");
        }
        let mut d = Decoder::new(&codings, page.len() - 1, 0);
        assert_eq!(body.chunks(100).try_for_each(|p| d.push(p)), Err(Trouble::Full), "{codings:?}");
        assert!(d.cut() == page[..page.len() - 1]);
    }
}

#[tokio::test]
async fn an_unknown_token_is_identity_with_a_warning() {
    let a = decoded("Content-Encoding: utf-8\r\n", b"plain").await.unwrap();
    assert_eq!((a.body.as_slice(), a.warnings.as_slice()), (b"plain".as_slice(), ["unknown-coding"].as_slice()));
    let a = decoded("Content-Encoding: none, gzip\r\n", &gz(b"plain")).await.unwrap();
    assert_eq!((a.body.as_slice(), a.warnings.as_slice()), (b"plain".as_slice(), ["unknown-coding"].as_slice()));
}

#[tokio::test]
async fn what_has_no_body_is_never_decoded() {
    assert_eq!(decoded("Content-Encoding: gzip\r\n", b"").await.unwrap().body, b"");
    let f = fetcher(&plan());
    let origin = Origin::reply("HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 99999999\r\n\r\n", Then::Keep).await;
    let a = answer(&f, Request { method: http::Method::HEAD, ..get(origin.url()) }).await;
    assert_eq!((a.body.len(), a.warnings.len()), (0, 0));
    let origin = Origin::reply("HTTP/1.1 204 No Content\r\nContent-Encoding: gzip\r\n\r\n", Then::Keep).await;
    assert_eq!(answer(&f, get(origin.url())).await.status, 204);
}

#[tokio::test]
async fn broken_codings_are_told_from_cut_bodies() {
    let page = text(5_000);
    for (headers, body) in [
        ("Content-Encoding: gzip\r\n", gz(&page)[..2000].to_vec()),
        ("Content-Encoding: br\r\n", br(&page)[..1000].to_vec()),
        ("Content-Encoding: zstd\r\n", zst(&page)[..1000].to_vec()),
        ("Content-Encoding: deflate\r\n", zlib(&page)[..1000].to_vec()),
        ("Content-Encoding: gzip\r\n", b"this is no gzip".to_vec()),
        ("Content-Encoding: br\r\n", vec![0xff; 100]),
        ("Content-Encoding: zstd\r\n", b"this is no zstd".to_vec()),
        ("Content-Encoding: gzip, gzip, gzip\r\n", gz(&gz(&gz(&page)))),
    ] {
        let e = decoded(headers, &body).await.unwrap_err();
        assert_eq!(e.reason, Reason::DecodeError, "{headers}: {}", e.message);
    }
    let mut flipped = gz(&page);
    let n = flipped.len();
    flipped[n - 6] ^= 1;
    assert_eq!(decoded("Content-Encoding: gzip\r\n", &flipped).await.unwrap_err().reason, Reason::DecodeError);
    let cut = gz(&page);
    let mut reply = format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", cut.len()).into_bytes();
    reply.extend_from_slice(&cut[..2000]);
    let origin = Origin::reply(reply, Then::Close).await;
    assert_eq!(failure(&fetcher(&plan()), get(origin.url())).await.reason, Reason::BodyTruncated);
}

#[tokio::test]
async fn junk_after_the_coding_is_flagged() {
    for junk in [b"\0\0\0\0".as_slice(), b"junk", b"\x1f-"] {
        let a = decoded("Content-Encoding: gzip\r\n", &[&gz(b"page"), junk].concat()).await.unwrap();
        assert_eq!((a.body.as_slice(), a.warnings.as_slice()), (b"page".as_slice(), ["trailing-junk"].as_slice()));
    }
}

#[tokio::test]
async fn bombs_end_early_and_small() {
    let zeros = || std::io::Read::take(std::io::repeat(0), 300 << 20);
    let mut e = GzEncoder::new(Vec::new(), Compression::fast());
    std::io::copy(&mut zeros(), &mut e).unwrap();
    let gzip = e.finish().unwrap();
    let mut brotli = Vec::new();
    let params = brotli::enc::BrotliEncoderParams { quality: 1, ..Default::default() };
    brotli::BrotliCompress(&mut zeros(), &mut brotli, &params).unwrap();
    let zstd = zstd::stream::encode_all(zeros(), 1).unwrap();
    for (name, body) in [("gzip", gzip.clone()), ("br", brotli), ("zstd", zstd), ("gzip, gzip", gz(&gzip))] {
        let began = std::time::Instant::now();
        let e = decoded(&format!("Content-Encoding: {name}\r\n"), &body).await.unwrap_err();
        assert_eq!(e.reason, Reason::TooLarge, "{name}: {}", e.message);
        assert!(began.elapsed() < Duration::from_secs(5), "{name}");
    }
    let codings = [Coding::Gzip, Coding::Gzip];
    let mut d = Decoder::new(&codings, 32 << 20, 0);
    assert!(d.push(&gz(&gzip)).is_err());
    assert!(d.cut().capacity() < 8 << 20);
}

#[test]
fn a_zstd_window_over_8_mib_is_refused() {
    let mut e = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    e.window_log(26).unwrap();
    e.write_all(&text(700_000)).unwrap();
    let body = e.finish().unwrap();
    let mut d = Decoder::new(&[Coding::Zstd], 64 << 20, 0);
    assert!(matches!(d.push(&body), Err(Trouble::Broken(_))));
}

#[tokio::test]
async fn the_cap_counts_decoded_bytes() {
    let small = fetcher(&RequestPlan { max_body: 1000, ..plan() });
    let page = text(100);
    for reply in [
        with_body("", &page),
        with_body("Content-Encoding: gzip\r\n", &gz(&page)),
        [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), page.clone()].concat(),
    ] {
        let origin = Origin::reply(reply, Then::Close).await;
        let e = failure(&small, get(origin.url())).await;
        assert_eq!((e.reason, e.status), (Reason::TooLarge, Some(200)));
    }
    let noise: Vec<u8> = (0..900u32).map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()[2]).collect();
    let origin = Origin::reply(with_body("Content-Encoding: gzip\r\n", &gz(&noise)), Then::Keep).await;
    assert_eq!(answer(&small, get(origin.url())).await.body, noise);
}

#[tokio::test]
async fn a_body_ended_by_the_connection_is_flagged() {
    let origin = Origin::reply("HTTP/1.1 200 OK\r\n\r\nwhole or not", Then::Close).await;
    let a = answer(&fetcher(&plan()), get(origin.url())).await;
    assert_eq!((a.body.as_slice(), a.warnings.as_slice()), (b"whole or not".as_slice(), ["length-unknown"].as_slice()));
    let origin = Origin::reply("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", Then::Keep).await;
    assert!(answer(&fetcher(&plan()), get(origin.url())).await.warnings.is_empty());
}

#[tokio::test]
async fn of_what_is_no_result_a_glance_is_taken() {
    let f = fetcher(&plan());
    let long = [b"HTTP/1.1 404 Not Found\r\nContent-Length: 200000\r\n\r\n".to_vec(), vec![b'x'; 200_000]].concat();
    let origin = Origin::reply(long, Then::Hang).await;
    let a = answer(&f, get(origin.url())).await;
    assert_eq!((a.status, a.body.len()), (404, 64 << 10));
    // a cut error page is still that status
    let origin = Origin::reply("HTTP/1.1 503 Busy\r\nContent-Length: 99\r\nRetry-After: 1\r\n\r\nslow down", Then::Close).await;
    let a = answer(&f, get(origin.url())).await;
    assert_eq!((a.status, a.body.as_slice()), (503, b"slow down".as_slice()));
    let body = gz(b"secondary rate limit");
    let mut reply = format!("HTTP/1.1 403 No\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    reply.extend_from_slice(&body);
    let origin = Origin::reply(reply, Then::Keep).await;
    assert_eq!(answer(&f, get(origin.url())).await.body, b"secondary rate limit");
}

#[tokio::test]
async fn what_a_rule_may_accept_is_read_whole_or_not_at_all() {
    let f = fetcher(&RequestPlan { may_accept: vec![(300, 404)], ..plan() });
    let long = [b"HTTP/1.1 404 Not Found\r\nContent-Length: 200000\r\n\r\n".to_vec(), vec![b'x'; 200_000]].concat();
    let origin = Origin::reply(long, Then::Keep).await;
    let a = answer(&f, get(origin.url())).await;
    assert_eq!((a.status, a.body.len()), (404, 200_000));
    let origin = Origin::reply("HTTP/1.1 404 Not Found\r\nContent-Length: 99\r\n\r\nhalf", Then::Close).await;
    let e = failure(&f, get(origin.url())).await;
    assert_eq!((e.reason, e.status), (Reason::BodyTruncated, Some(404)));
    let origin = Origin::reply("HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 4\r\n\r\nbody", Then::Keep).await;
    let a = answer(&f, get(origin.url())).await;
    assert_eq!((a.status, a.body.len()), (302, 0), "of a redirect there is no body");
}

#[tokio::test]
async fn robots_txt_is_cut_without_an_error() {
    let origin = Origin::reply(with_body("", &vec![b'#'; 700_000]), Then::Hang).await;
    let f = fetcher(&RequestPlan { max_body: 10, ..plan() });
    let a = answer(&f, Request { want: Want::Robots, ..get(origin.url()) }).await;
    assert_eq!(a.body.len(), 512_000);
}

//! What an attempt costs beside the bare client: `cargo test --release --lib fetch::tests::cost -- --ignored --nocapture`.

use super::*;
use crate::clock::{Clock, Moment};
use rustix::time::{ClockId, clock_gettime};

const PAGES: u32 = 30_000;

fn cpu() -> Duration {
    let t = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(t.tv_sec).unwrap(), u32::try_from(t.tv_nsec).unwrap())
}

/// An origin on a thread of its own, so that this thread's time is the client's alone.
fn origin(page: Vec<u8>) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let reply = with_body("Content-Type: text/html\r\n", &page);
        for stream in listener.incoming() {
            let (mut stream, reply) = (stream.unwrap(), reply.clone());
            std::thread::spawn(move || {
                use std::io::{Read, Write};
                let mut buf = [0; 4096];
                while stream.read(&mut buf).is_ok_and(|n| n > 0) {
                    stream.write_all(&reply).unwrap();
                }
            });
        }
    });
    addr
}

#[tokio::test]
#[ignore = "a measurement"]
async fn near_the_bare_client() {
    let addr = origin(vec![b'x'; 10_000]);
    let url = Url::parse(&format!("http://{addr}/")).unwrap();
    let bare = reqwest::Client::builder().no_proxy().tls_backend_preconfigured(crate::fetch::client::tls(None).unwrap()).build().unwrap();
    let f = fetcher(&plan());
    let clock = SystemClock::new();
    for round in 0..3 {
        let before = cpu();
        for _ in 0..PAGES {
            let mut got = bare.execute(reqwest::Request::new(http::Method::GET, url.clone())).await.unwrap();
            let mut body = Vec::new();
            while let Some(chunk) = got.chunk().await.unwrap() {
                body.extend_from_slice(&chunk);
            }
            assert_eq!(body.len(), 10_000);
        }
        let plain = cpu().saturating_sub(before);
        let before = cpu();
        let mut last = Moment::ZERO;
        for _ in 0..PAGES {
            let Outcome::Answer(a) = f.attempt(get(url.as_str()), |at| last = at).await else { panic!() };
            assert_eq!(a.body.len(), 10_000);
        }
        let ours = cpu().saturating_sub(before);
        assert!(last <= clock.now() + Duration::from_secs(1));
        println!("round {round}: bare {:?}, attempt {:?} a page", plain / PAGES, ours / PAGES);
    }
}

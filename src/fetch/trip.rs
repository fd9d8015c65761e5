//! What an attempt tells the connector, and the connector the attempt.
//!
//! The client's `Resolve` sees no port and its pool does not say whether a connection was new, so both travel in a task
//! local around the client's call. A connect that outlives its attempt (the pool answered first) keeps its own copy.

use crate::clock::Clock;
use rustls::client::{ClientSessionMemoryCache, ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;
use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};
use tower::{Layer, Service};

tokio::task_local! {
    static TRIP: Trip;
}

/// How far an attempt has come, for whoever ends it from outside or tells where it stalled.
#[derive(Clone, Debug, Default)]
pub struct Stage(Arc<AtomicU8>);

impl Stage {
    /// Handed to the client: a pooled connection takes it at once.
    const AWAY: u8 = 1;
    /// A connection is being made for it.
    const DIALLING: u8 = 2;
    /// TCP stands, TLS is being agreed on.
    const TLS: u8 = 3;

    /// Whether the request may have been written: false before it is begun and while its connection is being made. One that a
    /// pooled connection took over from a connect that still hangs reads as not written.
    #[must_use]
    pub fn may_be_written(&self) -> bool {
        self.0.load(Ordering::Relaxed) == Self::AWAY
    }

    pub(super) fn is_dialling(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= Self::DIALLING
    }

    pub(super) fn is_in_tls(&self) -> bool {
        self.0.load(Ordering::Relaxed) == Self::TLS
    }

    fn set(&self, stage: u8) {
        self.0.store(stage, Ordering::Relaxed);
    }
}

/// One attempt, as its connector sees it.
#[derive(Clone, Default)]
pub(super) struct Trip {
    port: u16,
    named: bool,
    made: Cell<bool>,
    stage: Stage,
}

impl Trip {
    pub(super) fn new(port: u16, named: bool, stage: Stage) -> Self {
        Self { port, named, made: Cell::new(false), stage }
    }

    /// Runs `attempt` as this trip; the second value is whether a new connection was made for it.
    pub(super) async fn around<T>(self, attempt: impl Future<Output = T>) -> (T, bool) {
        self.stage.set(Stage::AWAY);
        TRIP.scope(self, async {
            let got = attempt.await;
            (got, TRIP.with(|t| t.made.get()))
        })
        .await
    }

    /// Port and `named` of the request in whose name something is resolved.
    pub(super) fn asked() -> (u16, bool) {
        TRIP.try_with(|t| (t.port, t.named)).unwrap_or_default()
    }
}

/// Counts the connections that are made.
#[derive(Clone)]
pub(super) struct CountLayer {
    /// All connections of the fetcher.
    pub(super) made: Arc<AtomicU64>,
    /// The instant of this client's last one, in nanoseconds of the clock; 0: none.
    pub(super) last: Arc<AtomicU64>,
    pub(super) clock: Arc<dyn Clock>,
}

impl<S> Layer<S> for CountLayer {
    type Service = Count<S>;
    fn layer(&self, inner: S) -> Count<S> {
        Count { inner, layer: self.clone() }
    }
}

#[derive(Clone)]
pub(super) struct Count<S> {
    inner: S,
    layer: CountLayer,
}

impl<S, R> Service<R> for Count<S>
where
    S: Service<R>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, dst: R) -> Self::Future {
        let trip = TRIP.try_with(Trip::clone).unwrap_or_default();
        let stage = trip.stage.clone();
        stage.set(Stage::DIALLING);
        let connecting = self.inner.call(dst);
        let layer = self.layer.clone();
        Box::pin(async move {
            let conn = TRIP.scope(trip, connecting).await?;
            stage.set(Stage::AWAY);
            layer.made.fetch_add(1, Ordering::Relaxed);
            layer.last.store(layer.clock.now().0.max(1), Ordering::Relaxed);
            // only where the attempt itself still waits for it
            let _ = TRIP.try_with(|t| t.made.set(true));
            Ok(conn)
        })
    }
}

/// The TLS sessions of a fetcher. It is asked for one where a handshake begins, which nothing else tells.
#[derive(Debug)]
pub(super) struct Sessions(ClientSessionMemoryCache);

impl Sessions {
    pub(super) fn new() -> Self {
        // As many as rustls keeps by itself.
        Self(ClientSessionMemoryCache::new(256))
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, server: ServerName<'static>, group: rustls::NamedGroup) {
        self.0.set_kx_hint(server, group);
    }

    fn kx_hint(&self, server: &ServerName<'_>) -> Option<rustls::NamedGroup> {
        let _ = TRIP.try_with(|t| t.stage.set(Stage::TLS));
        self.0.kx_hint(server)
    }

    fn set_tls12_session(&self, server: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.0.set_tls12_session(server, value);
    }

    fn tls12_session(&self, server: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(server)
    }

    fn remove_tls12_session(&self, server: &ServerName<'static>) {
        self.0.remove_tls12_session(server);
    }

    fn insert_tls13_ticket(&self, server: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(server, value);
    }

    fn take_tls13_ticket(&self, server: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(server)
    }
}

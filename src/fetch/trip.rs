//! What an attempt tells the connector, and the connector the attempt.
//!
//! The client's `Resolve` sees no port and its pool does not say whether a connection was new, so both travel in a task
//! local around the client's call. A connect that outlives its attempt (the pool answered first) keeps its own copy.

use crate::clock::Clock;
use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use tower::{Layer, Service};

tokio::task_local! {
    static TRIP: Trip;
}

/// One attempt, as its connector sees it.
#[derive(Clone, Default)]
pub(super) struct Trip {
    port: u16,
    named: bool,
    made: Cell<bool>,
}

impl Trip {
    pub(super) fn new(port: u16, named: bool) -> Self {
        Self { port, named, made: Cell::new(false) }
    }

    /// Runs `attempt` as this trip; the second value is whether a new connection was made for it.
    pub(super) async fn around<T>(self, attempt: impl Future<Output = T>) -> (T, bool) {
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
        let connecting = self.inner.call(dst);
        let layer = self.layer.clone();
        Box::pin(async move {
            let conn = TRIP.scope(trip, connecting).await?;
            layer.made.fetch_add(1, Ordering::Relaxed);
            layer.last.store(layer.clock.now().0.max(1), Ordering::Relaxed);
            // only where the attempt itself still waits for it
            let _ = TRIP.try_with(|t| t.made.set(true));
            Ok(conn)
        })
    }
}

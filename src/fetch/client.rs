//! The HTTP clients: TLS with its roots, and for each way out one client that pools and one that does not.

use super::SetupError;
use super::dns::{Dns, HostResolver};
use super::proxy::ProxyAddr;
use super::trip::{CountLayer, Sessions};
use crate::clock::{Clock, Moment};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Idle connections end after this: shorter than most servers' own limit, and 100,000 hosts leave few sockets behind.
pub(super) const IDLE: Duration = Duration::from_secs(8);
/// Header lines of an answer, and bytes of a list of HTTP/2.
const MAX_HEADERS: usize = 512;
const MAX_HEADER_LIST: u32 = 256 << 10;
/// HTTP/2 windows: 100 ms of round trip at 80 MB/s for a connection, 20 MB/s for a stream.
const H2_STREAM_WINDOW: u32 = 2 << 20;
const H2_CONNECTION_WINDOW: u32 = 8 << 20;

/// What all clients of a fetcher share.
pub(super) struct Base {
    pub(super) tls: ClientConfig,
    pub(super) dns: Arc<Dns>,
    pub(super) made: Arc<AtomicU64>,
    pub(super) clock: Arc<dyn Clock>,
}

/// One way out.
pub(super) struct Pair {
    pub(super) pooled: reqwest::Client,
    /// Pools nothing: each request on a connection of its own.
    pub(super) lone: reqwest::Client,
    last: Arc<AtomicU64>,
}

impl Pair {
    pub(super) fn new(base: &Base, proxy: Option<&ProxyAddr>, connect: Duration) -> Result<Self, SetupError> {
        let last = Arc::new(AtomicU64::new(0));
        let build = |idle: usize| {
            let count = CountLayer { made: Arc::clone(&base.made), last: Arc::clone(&last), clock: Arc::clone(&base.clock) };
            let resolver =
                HostResolver { dns: Arc::clone(&base.dns), proxy_host: proxy.and_then(|p| p.url.host_str()).map(|h| h.to_owned().into()) };
            let mut builder = reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .referer(false)
                .connect_timeout(connect)
                .tcp_nodelay(true)
                .pool_idle_timeout(IDLE)
                .pool_max_idle_per_host(idle)
                .http1_allow_obsolete_multiline_headers_in_responses(true)
                .http1_allow_spaces_after_header_name_in_responses(true)
                .http1_ignore_invalid_headers_in_responses(true)
                .http1_max_headers(MAX_HEADERS)
                .http2_max_header_list_size(MAX_HEADER_LIST)
                .http2_initial_stream_window_size(H2_STREAM_WINDOW)
                .http2_initial_connection_window_size(H2_CONNECTION_WINDOW)
                .tls_backend_preconfigured(base.tls.clone())
                .dns_resolver(resolver)
                .connector_layer(count)
                // the way out is decided per address (`proxy.rs`), never by the client
                .no_proxy();
            if let Some(proxy) = proxy {
                let told = |e: reqwest::Error| SetupError::Proxy(format!("proxy {}: {}", proxy.shown, e.without_url()));
                builder = builder.proxy(reqwest::Proxy::all(proxy.url.as_str()).map_err(told)?);
            }
            builder.build().map_err(|e| SetupError::Client(e.without_url().to_string()))
        };
        Ok(Self { pooled: build(usize::MAX)?, lone: build(0)?, last })
    }

    /// Whether a connection was made through this way since `then`.
    pub(super) fn made_since(&self, then: Moment) -> bool {
        let last = self.last.load(Ordering::Relaxed);
        last > 0 && last >= then.0
    }
}

/// TLS 1.2 and newer by ring. Roots: the system's, or Mozilla's as bundled where the machine has none
/// (rustls-platform-verifier#211), and those of `ca_file`.
///
/// # Errors
/// [`SetupError::CaFile`] where the file cannot be read or holds no certificate.
pub(super) fn tls(ca_file: Option<&Path>) -> Result<ClientConfig, SetupError> {
    let extra = ca_file.map(read_roots).transpose()?.unwrap_or_default();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let fail = |e: &dyn std::fmt::Display| SetupError::Tls(e.to_string());
    let ca_fail = |e: rustls::Error| match ca_file {
        Some(path) => SetupError::CaFile(format!("{}: {e}", path.display())),
        None => SetupError::Tls(e.to_string()),
    };
    // Asked without the extra roots: with them a machine without a store would trust those alone.
    let verifier: Arc<dyn ServerCertVerifier> = match Verifier::new(Arc::clone(&provider)) {
        Ok(system) if extra.is_empty() => Arc::new(system),
        #[cfg(not(target_os = "android"))]
        Ok(_) => Arc::new(Verifier::new_with_extra_roots(extra, Arc::clone(&provider)).map_err(ca_fail)?),
        _ => bundled(extra, &provider).map_err(ca_fail)?,
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|e| fail(&e))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::store(Arc::new(Sessions::new()));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Mozilla's roots as of the build, and `extra`.
pub(super) fn bundled(
    extra: Vec<CertificateDer<'static>>,
    provider: &Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
    for cert in extra {
        roots.add(cert)?;
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|e| rustls::Error::General(e.to_string()))?;
    Ok(verifier)
}

fn read_roots(path: &Path) -> Result<Vec<CertificateDer<'static>>, SetupError> {
    let fail = |e: &dyn std::fmt::Display| SetupError::CaFile(format!("{}: {e}", path.display()));
    let certs = CertificateDer::pem_file_iter(path).map_err(|e| fail(&e))?.collect::<Result<Vec<_>, _>>().map_err(|e| fail(&e))?;
    if certs.is_empty() { Err(fail(&"no PEM certificate in it")) } else { Ok(certs) }
}

//! A connection to a destination: looked up once, every address checked, then dialled as it was checked.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};

use tenon_model::HttpScheme;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{CertificateError, ClientConfig, Error as TlsError, RootCertStore};
use wasmtime_wasi_http::Error;

use super::address::may_reach;
use super::destination::Destination;

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

/// Whose signature on a server's certificate is believed. Loaded once, when the first request needs it.
#[derive(Default)]
pub struct Roots {
    /// These alone, instead of those that the system trusts.
    only: Option<Vec<CertificateDer<'static>>>,
    loaded: OnceLock<Arc<ClientConfig>>,
}

impl Roots {
    /// Believes these certificates (DER) alone, and not those that the system trusts.
    pub fn only(certificates: Vec<Vec<u8>>) -> Self {
        let only = certificates.into_iter().map(CertificateDer::from).collect();
        Self { only: Some(only), loaded: OnceLock::new() }
    }

    /// The settings of a TLS client, verification on, HTTP/2 before HTTP/1.1.
    fn client(&self) -> Result<Arc<ClientConfig>, TlsError> {
        if let Some(loaded) = self.loaded.get() {
            return Ok(Arc::clone(loaded));
        }
        let mut roots = RootCertStore::empty();
        let (added, ignored) = match &self.only {
            Some(only) => roots.add_parsable_certificates(only.iter().cloned()),
            None => {
                let found = rustls_native_certs::load_native_certs();
                for error in &found.errors {
                    tracing::warn!(%error, "some of the system's certificates cannot be read");
                }
                roots.add_parsable_certificates(found.certs)
            }
        };
        tracing::debug!(added, ignored, "certificates of authorities");
        if added == 0 {
            tracing::warn!("no certificate authority is known: every https request will fail");
        }
        let mut client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::clone(self.loaded.get_or_init(|| Arc::new(client))))
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Roots").field("only", &self.only.as_ref().map(Vec::len)).finish_non_exhaustive()
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum NoConnection {
    /// The destination has an address that a request may not go to without `private`.
    Prohibited,
    /// The server's certificate is not believed.
    Mistrusted(Mistrust),
    /// What else happened.
    Failed(Error),
}

/// Why a certificate is not believed, and what can be done about it.
#[derive(Debug)]
pub(super) struct Mistrust {
    pub(super) cause: String,
    pub(super) mend: &'static str,
}

impl Mistrust {
    fn of(error: &TlsError) -> Option<Self> {
        let mend = match error {
            TlsError::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            ) => {
                "trust its authority: start `tenon serve` with SSL_CERT_FILE set to a PEM file that has the authority's certificate"
            }
            TlsError::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            ) => "ask for a name that the certificate has, or give the server a certificate for this name",
            TlsError::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. },
            ) => "renew the server's certificate, and look at this machine's clock",
            TlsError::InvalidCertificate(
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
            ) => "look at the clocks of this machine and of whoever made the certificate",
            TlsError::InvalidCertificate(_) => "give the server another certificate",
            TlsError::NoCertificatesPresented => "give the server a certificate",
            _ => return None,
        };
        Some(Self { cause: error.to_string(), mend })
    }
}

/// A byte stream of either kind.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// What a request is sent over.
pub(super) struct Connection {
    pub(super) stream: Box<dyn Stream>,
    /// Whether HTTP/2 was agreed on.
    pub(super) h2: bool,
}

/// Connects. Without a deadline of its own.
pub(super) async fn connect(
    destination: &Destination,
    private: bool,
    roots: &Arc<Roots>,
) -> Result<Connection, NoConnection> {
    connect_by(destination, private, roots, &resolve).await
}

/// [`connect`], with the lookup of the destination's addresses.
async fn connect_by(
    destination: &Destination,
    private: bool,
    roots: &Arc<Roots>,
    lookup: &impl AsyncFn(&Destination) -> Result<Vec<SocketAddr>, Error>,
) -> Result<Connection, NoConnection> {
    let addresses = lookup(destination).await.map_err(NoConnection::Failed)?;
    // One address that may not be reached condemns them all: whoever answers for the name decides which it is.
    if addresses.iter().any(|address| !may_reach(address.ip(), private)) {
        return Err(NoConnection::Prohibited);
    }
    let stream = dial(&addresses).await.map_err(NoConnection::Failed)?;
    match destination.scheme {
        HttpScheme::Http => Ok(Connection { stream: Box::new(stream), h2: false }),
        HttpScheme::Https => secure(destination, stream, roots).await,
    }
}

/// The addresses of the destination. This is the only lookup: what is dialled is what was checked.
async fn resolve(destination: &Destination) -> Result<Vec<SocketAddr>, Error> {
    let Destination { host, port, .. } = destination;
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, *port)]);
    }
    let found = tokio::net::lookup_host((host.as_str(), *port)).await.map_err(|error| {
        tracing::debug!(%error, host, "the name cannot be resolved");
        Error::DnsError { rcode: None, info_code: None }
    })?;
    let found: Vec<_> = found.take(ADDRESSES_MAX).collect();
    if found.is_empty() { Err(Error::DestinationNotFound) } else { Ok(found) }
}

async fn dial(addresses: &[SocketAddr]) -> Result<TcpStream, Error> {
    let mut last = Error::DestinationNotFound;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // A request is written whole; waiting to fill a segment only delays it.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => {
                last = match error.kind() {
                    std::io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
                    std::io::ErrorKind::TimedOut => Error::ConnectionTimeout,
                    std::io::ErrorKind::HostUnreachable | std::io::ErrorKind::NetworkUnreachable => {
                        Error::DestinationIpUnroutable
                    }
                    _ => Error::DestinationUnavailable,
                };
            }
        }
    }
    Err(last)
}

async fn secure(
    destination: &Destination,
    stream: TcpStream,
    roots: &Arc<Roots>,
) -> Result<Connection, NoConnection> {
    let name = match destination.host.parse::<IpAddr>() {
        Ok(ip) => ServerName::from(ip),
        Err(_) => ServerName::try_from(destination.host.clone())
            .map_err(|_| NoConnection::Failed(Error::HttpRequestUriInvalid))?,
    };
    // The system's certificates are files: they are read where blocking is allowed.
    let roots = Arc::clone(roots);
    let client = tokio::task::spawn_blocking(move || roots.client())
        .await
        .map_err(|_| NoConnection::Failed(Error::InternalError(None)))?
        .map_err(|_| NoConnection::Failed(Error::ConfigurationError))?;
    let stream = TlsConnector::from(client).connect(name, stream).await.map_err(|error| {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
        if let Some(mistrust) = tls.and_then(Mistrust::of) {
            return NoConnection::Mistrusted(mistrust);
        }
        NoConnection::Failed(match tls {
            Some(TlsError::AlertReceived(alert)) => {
                Error::TlsAlertReceived { alert_id: Some(u8::from(*alert)), alert_message: None }
            }
            _ => Error::TlsProtocolError,
        })
    })?;
    let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    Ok(Connection { stream: Box::new(stream), h2 })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    /// Connects to a name that has these addresses, one list after the other each time it is looked up. Gives back how
    /// often that was.
    async fn rebinding(
        private: bool,
        answers: &[&[SocketAddr]],
    ) -> (Result<Connection, NoConnection>, usize) {
        let destination = Destination::of(&"http://rebinding.test:8080/".parse().unwrap()).unwrap();
        let lookups = AtomicUsize::new(0);
        let lookup = async |_: &Destination| Ok(answers[lookups.fetch_add(1, Relaxed)].to_vec());
        let connected = connect_by(&destination, private, &Arc::default(), &lookup).await;
        (connected, lookups.into_inner())
    }

    #[tokio::test]
    async fn what_is_dialled_is_what_was_checked() {
        let listen = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (first, second) = (listen(), listen());
        let addresses = [&first, &second].map(|it| [it.local_addr().unwrap()]);
        // Whatever the name is the next time, there is none.
        let (connected, lookups) = rebinding(true, &[&addresses[0], &addresses[1]]).await;
        assert!(connected.is_ok());
        assert_eq!(lookups, 1);
        first.set_nonblocking(true).unwrap();
        second.set_nonblocking(true).unwrap();
        assert!(first.accept().is_ok());
        assert!(second.accept().is_err(), "the second address was never asked for");
    }

    #[tokio::test]
    async fn one_private_address_among_public_ones_condemns_the_name() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let inside = listener.local_addr().unwrap();
        let outside: SocketAddr = "1.1.1.1:80".parse().unwrap();
        let mapped = SocketAddr::new("::ffff:127.0.0.1".parse().unwrap(), inside.port());
        for answer in [&[inside][..], &[outside, inside], &[inside, outside], &[outside, mapped]] {
            let (connected, lookups) = rebinding(false, &[answer]).await;
            assert!(matches!(connected, Err(NoConnection::Prohibited)), "{answer:?}");
            assert_eq!(lookups, 1);
        }
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err(), "nobody was let in");
    }
}

//! An HTTPS server with a certificate authority of its own, and a client that trusts it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// A certificate authority that nobody knows yet.
#[derive(Debug)]
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// What is wrong with a server's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// Nothing.
    Good,
    /// It is for `elsewhere.test`.
    OtherName,
    /// Its time is over.
    Expired,
}

impl Ca {
    /// Makes one that is called `name`.
    ///
    /// # Panics
    /// When there is no randomness.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Writes its certificate where somebody can be told to trust it.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn write(&self, file: &Path) {
        std::fs::write(file, &self.pem).expect("the certificate is written");
    }

    /// What a client has that trusts it alone.
    pub(crate) fn client(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.pem.as_bytes()).expect("a certificate"))
            .expect("an authority");
        ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the protocols are known")
            .with_root_certificates(roots)
            .with_no_client_auth()
    }

    /// A certificate for `name`, and its key, as PEM.
    ///
    /// # Panics
    /// When there is no randomness.
    pub fn issue(&self, name: &str) -> (String, String) {
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key");
        let signed = params.signed_by(&key, &self.issuer).expect("a certificate");
        (signed.pem(), key.serialize_pem())
    }

    /// Starts a server on a free port of `localhost`, with a certificate of this authority. It says by which protocol
    /// and path it was reached, and lives as long as the test process.
    ///
    /// # Panics
    /// When no port is free.
    pub fn serve(&self, certificate: Certificate, protocols: &[&str]) -> SocketAddr {
        self.listen(certificate, protocols).0
    }

    /// The same, and the paths that it was asked for so far.
    ///
    /// # Panics
    /// When no port is free.
    pub fn listen(&self, certificate: Certificate, protocols: &[&str]) -> (SocketAddr, Asked) {
        let name = if certificate == Certificate::OtherName { "elsewhere.test" } else { "localhost" };
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        if certificate == Certificate::Expired {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().expect("a key");
        let signed = params.signed_by(&key, &self.issuer).expect("a certificate");
        let secret = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the protocols are known")
            .with_no_client_auth()
            .with_single_cert(vec![signed.der().clone()], secret)
            .expect("key and certificate belong together");
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket of its own");
        let address = listener.local_addr().expect("a bound address");
        let asked = Asked::default();
        let noting = asked.clone();
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(accept(listener, acceptor, noting));
        });
        (address, asked)
    }
}

/// The paths that a server was asked for.
#[derive(Clone, Debug, Default)]
pub struct Asked(Arc<Mutex<Vec<String>>>);

impl Asked {
    /// Those so far.
    pub fn paths(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What a server said over TLS.
#[derive(Debug)]
pub struct Fetched {
    /// The protocol that was agreed on, where any was offered.
    pub protocol: Option<String>,
    /// Its certificate.
    pub certificate: Vec<u8>,
    /// The headers of its answer.
    pub headers: HeaderMap,
    /// The body of its answer.
    pub body: String,
}

/// Asks the server at `address` for `path` as `name`, trusting `ca` alone and offering `protocols`.
///
/// # Errors
/// When the server cannot be trusted, or does not answer.
pub fn fetch(
    address: SocketAddr,
    ca: &Ca,
    name: &str,
    path: &str,
    protocols: &[&str],
) -> std::io::Result<Fetched> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let exchange = tokio::time::timeout(crate::DEADLINE, exchange(address, ca, name, path, protocols));
        exchange.await.unwrap_or_else(|_| Err(std::io::Error::other("no answer in time")))
    })
}

async fn exchange(
    address: SocketAddr,
    ca: &Ca,
    name: &str,
    path: &str,
    protocols: &[&str],
) -> std::io::Result<Fetched> {
    let mut config = ca.client();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let connector = TlsConnector::from(Arc::new(config));
    let stream = tokio::net::TcpStream::connect(address).await?;
    let stream = connector.connect(ServerName::try_from(name.to_owned()).expect("a name"), stream).await?;
    let (_, session) = stream.get_ref();
    let certificate =
        session.peer_certificates().and_then(|all| all.first()).map(|it| it.to_vec()).unwrap_or_default();
    let protocol = session.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
    let request = Request::builder().uri(format!("https://{name}{path}")).header("host", name);
    let request = request.body(Full::new(Bytes::new())).expect("a request");
    let response = if protocol.as_deref() == Some("h2") {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .map_err(std::io::Error::other)?;
        tokio::spawn(connection);
        sender.send_request(request).await
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(std::io::Error::other)?;
        tokio::spawn(connection);
        let (mut head, body) = request.into_parts();
        head.uri = path.parse().expect("a path");
        sender.send_request(Request::from_parts(head, body)).await
    };
    let (head, body) = response.map_err(std::io::Error::other)?.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?;
    let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    Ok(Fetched { protocol, certificate, headers: head.headers, body })
}

async fn accept(listener: std::net::TcpListener, acceptor: TlsAcceptor, asked: Asked) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (acceptor, asked) = (acceptor.clone(), asked.clone());
        // A client that does not trust the certificate ends its own connection.
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let http = auto::Builder::new(TokioExecutor::new());
            let _ = http
                .serve_connection(TokioIo::new(stream), service_fn(|request| answer(request, asked.clone())))
                .await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    Asked(asked): Asked,
) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    asked.lock().unwrap_or_else(PoisonError::into_inner).push(request.uri().path().to_owned());
    let text = format!("{:?} from {}", request.version(), request.uri().path());
    Ok(Response::new(Full::new(text.into())))
}

//! An HTTPS server with a certificate authority of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

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

    /// Starts a server on a free port of `localhost`, with a certificate of this authority. It says by which protocol
    /// and path it was reached, and lives as long as the test process.
    ///
    /// # Panics
    /// When no port is free.
    pub fn serve(&self, certificate: Certificate, protocols: &[&str]) -> SocketAddr {
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
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(accept(listener, acceptor));
        });
        address
    }
}

async fn accept(listener: std::net::TcpListener, acceptor: TlsAcceptor) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let acceptor = acceptor.clone();
        // A client that does not trust the certificate ends its own connection.
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let http = auto::Builder::new(TokioExecutor::new());
            let _ = http.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    let text = format!("{:?} from {}", request.version(), request.uri().path());
    Ok(Response::new(Full::new(text.into())))
}

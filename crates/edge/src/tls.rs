//! Certificates by the name that a client asks for (SNI), replaced while connections run.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio_rustls::rustls;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;

/// Certificates that a node may hold.
pub const CERTIFICATES_MAX: usize = 10_000;

/// One certificate with its key, as they stand in files: PEM.
#[derive(Clone)]
pub struct Certificate {
    /// What the certificate is called in errors: its file.
    pub name: String,
    /// The certificate, and those that vouch for it.
    pub chain: Vec<u8>,
    /// Its private key.
    pub key: Vec<u8>,
}

/// Why certificates cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// There is none.
    #[error("there is no certificate")]
    None,
    /// There are more than may be.
    #[error("there are more than {CERTIFICATES_MAX} certificates")]
    TooMany,
    /// This is not a certificate with its chain.
    #[error("`{name}` holds no certificate in PEM: {cause}")]
    Chain {
        /// What it is called.
        name: String,
        /// What is wrong with it.
        cause: String,
    },
    /// This is not a private key, or not one that can sign here.
    #[error("`{name}` has no private key in PEM that can be used: {cause}")]
    Key {
        /// What it is called.
        name: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The key is another certificate's.
    #[error("the key of `{name}` does not fit its certificate")]
    Mismatch {
        /// What it is called.
        name: String,
    },
    /// The certificate names no host.
    #[error("`{name}` is for no host name")]
    NoNames {
        /// What it is called.
        name: String,
    },
    /// The protocol cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Protocol(String),
}

/// The certificates of a node, by name.
#[derive(Debug)]
pub struct Certificates {
    by_name: Arc<ByName>,
    config: Arc<ServerConfig>,
    /// Whether each has to be for some host name.
    is_by_name: bool,
}

/// What is looked up in a handshake.
#[derive(Debug)]
struct ByName(ArcSwap<Names>);

struct Names {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// By the name that one label stands in front of.
    wildcard: HashMap<String, Arc<CertifiedKey>>,
    /// For a client that asks for no name, or for one that there is no certificate for.
    first: Arc<CertifiedKey>,
}

impl Certificates {
    /// These certificates, each for the names that it says itself. A client that asks for none of them gets the first.
    ///
    /// # Errors
    /// When one of them cannot be used, or there is none.
    pub fn new(certificates: &[Certificate]) -> Result<Arc<Self>, CertificateError> {
        Self::made(certificates, true)
    }

    /// One certificate for all clients, whatever they ask for: it may be for an address, which has no name.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn for_all(certificate: Certificate) -> Result<Arc<Self>, CertificateError> {
        Self::made(&[certificate], false)
    }

    fn made(certificates: &[Certificate], is_by_name: bool) -> Result<Arc<Self>, CertificateError> {
        let provider = Arc::new(ring::default_provider());
        let names = Names::of(certificates, is_by_name, &provider)?;
        let by_name = Arc::new(ByName(ArcSwap::from_pointee(names)));
        let config = config(provider, rustls::DEFAULT_VERSIONS, &by_name, &["h2", "http/1.1"])?;
        Ok(Arc::new(Self { by_name, config: Arc::new(config), is_by_name }))
    }

    /// What handshakes of HTTP/3 are made with: the same certificates, now and when they are replaced. What a client sends
    /// before its handshake is over (0-RTT) is not taken: whoever records it could send it again.
    pub(crate) fn over_quic(&self) -> Result<ServerConfig, CertificateError> {
        let provider = Arc::clone(self.config.crypto_provider());
        let config = config(provider, &[&rustls::version::TLS13], &self.by_name, &["h3"])?;
        debug_assert_eq!(config.max_early_data_size, 0);
        Ok(config)
    }

    /// Uses these from now on. Connections that have begun are not touched; nothing changes when one cannot be used.
    ///
    /// # Errors
    /// When one of them cannot be used, or there is none.
    pub fn replace(&self, certificates: &[Certificate]) -> Result<(), CertificateError> {
        let names = Names::of(certificates, self.is_by_name, self.config.crypto_provider())?;
        self.by_name.0.store(Arc::new(names));
        Ok(())
    }

    /// The names that there are certificates for, in order.
    pub fn names(&self) -> Vec<String> {
        let names = self.by_name.0.load();
        let wildcard = names.wildcard.keys().map(|name| format!("*.{name}"));
        let mut all: Vec<_> = names.exact.keys().cloned().chain(wildcard).collect();
        all.sort_unstable();
        all
    }

    /// What makes connections with them.
    pub fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        Arc::clone(&self.config).into()
    }
}

fn config(
    provider: Arc<CryptoProvider>,
    versions: &[&'static rustls::SupportedProtocolVersion],
    by_name: &Arc<ByName>,
    protocols: &[&str],
) -> Result<ServerConfig, CertificateError> {
    let failed = |error: rustls::Error| CertificateError::Protocol(error.to_string());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(failed)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(by_name) as Arc<dyn ResolvesServerCert>);
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    config.ticketer = ring::Ticketer::new().map_err(failed)?;
    Ok(config)
}

impl Names {
    fn of(
        certificates: &[Certificate],
        is_by_name: bool,
        provider: &CryptoProvider,
    ) -> Result<Self, CertificateError> {
        if certificates.len() > CERTIFICATES_MAX {
            return Err(CertificateError::TooMany);
        }
        let mut first = None;
        let (mut exact, mut wildcard) = (HashMap::new(), HashMap::new());
        for certificate in certificates {
            let (key, names) = certificate.read(provider)?;
            if is_by_name && names.is_empty() {
                return Err(CertificateError::NoNames { name: certificate.name.clone() });
            }
            let key = Arc::new(key);
            for name in names {
                // Of two for the same name, the first is used.
                match name.strip_prefix("*.") {
                    Some(parent) => wildcard.entry(parent.to_owned()).or_insert_with(|| Arc::clone(&key)),
                    None => exact.entry(name).or_insert_with(|| Arc::clone(&key)),
                };
            }
            first.get_or_insert(key);
        }
        Ok(Self { exact, wildcard, first: first.ok_or(CertificateError::None)? })
    }

    fn find(&self, name: Option<&str>) -> Arc<CertifiedKey> {
        let found = name.and_then(|name| {
            let parent = || name.split_once('.').and_then(|(_, parent)| self.wildcard.get(parent));
            self.exact.get(name).or_else(parent)
        });
        Arc::clone(found.unwrap_or(&self.first))
    }
}

impl Certificate {
    fn read(&self, provider: &CryptoProvider) -> Result<(CertifiedKey, Vec<String>), CertificateError> {
        let name = || self.name.clone();
        let chain = |cause: String| CertificateError::Chain { name: name(), cause };
        let key = |cause: String| CertificateError::Key { name: name(), cause };
        let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&self.chain)
            .collect::<Result<_, _>>()
            .map_err(|error| chain(error.to_string()))?;
        let Some(own) = certificates.first() else { return Err(chain("there is none in it".into())) };
        let names: Vec<String> = webpki::EndEntityCert::try_from(own)
            .map_err(|error| chain(error.to_string()))?
            .valid_dns_names()
            .map(str::to_ascii_lowercase)
            .collect();
        let private = PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| key(error.to_string()))?;
        let private =
            provider.key_provider.load_private_key(private).map_err(|error| key(error.to_string()))?;
        let certified = CertifiedKey::new(certificates, private);
        match certified.keys_match() {
            // Of some keys the public half is not known.
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
                Ok((certified, names))
            }
            Err(_) => Err(CertificateError::Mismatch { name: name() }),
        }
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // The name is in lower case already.
        Some(self.0.load().find(hello.server_name()))
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").field("exact", &self.exact.keys()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn certificate(names: &[&str]) -> Certificate {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        Certificate {
            name: "test.pem".into(),
            chain: made.cert.pem().into_bytes(),
            key: made.signing_key.serialize_pem().into_bytes(),
        }
    }

    fn found(certificates: &Certificates, name: Option<&str>) -> Vec<u8> {
        certificates.by_name.0.load().find(name).cert[0].to_vec()
    }

    #[test]
    fn a_certificate_is_found_by_name_and_the_first_for_all_else() {
        let (a, b) = (certificate(&["a.example", "*.a.example"]), certificate(&["B.example"]));
        let certificates = Certificates::new(&[a, b]).unwrap();
        assert_eq!(certificates.names(), ["*.a.example", "a.example", "b.example"]);
        let a = found(&certificates, Some("a.example"));
        let b = found(&certificates, Some("b.example"));
        assert_ne!(a, b);
        assert_eq!(found(&certificates, Some("x.a.example")), a);
        for other in [None, Some("x.y.a.example"), Some("x.b.example"), Some("example")] {
            assert_eq!(found(&certificates, other), a, "{other:?}");
        }
    }

    #[test]
    fn one_for_all_may_be_for_an_address() {
        let of_address = || certificate(&["127.0.0.1"]);
        assert!(matches!(Certificates::new(&[of_address()]), Err(CertificateError::NoNames { .. })));
        let certificates = Certificates::for_all(of_address()).unwrap();
        let before = found(&certificates, None);
        certificates.replace(&[of_address()]).unwrap();
        assert_ne!(found(&certificates, Some("localhost")), before);
    }

    #[test]
    fn they_are_replaced_as_a_whole_or_not_at_all() {
        let certificates = Certificates::new(&[certificate(&["a.example"])]).unwrap();
        let before = found(&certificates, Some("a.example"));
        let (good, other) = (certificate(&["a.example"]), certificate(&["a.example"]));
        let mismatch = Certificate { key: other.key, ..good.clone() };
        let no_key = Certificate { key: b"nothing".to_vec(), ..good.clone() };
        let no_chain = Certificate { chain: Vec::new(), ..good.clone() };
        let name = || "test.pem".to_owned();
        assert_eq!(certificates.replace(&[]), Err(CertificateError::None));
        let refused = certificates.replace(&[good.clone(), mismatch]);
        assert_eq!(refused, Err(CertificateError::Mismatch { name: name() }));
        assert!(matches!(certificates.replace(&[no_key]), Err(CertificateError::Key { .. })));
        assert!(matches!(certificates.replace(&[no_chain]), Err(CertificateError::Chain { .. })));
        assert_eq!(found(&certificates, Some("a.example")), before);
        certificates.replace(&[good]).unwrap();
        assert_ne!(found(&certificates, Some("a.example")), before);
    }
}

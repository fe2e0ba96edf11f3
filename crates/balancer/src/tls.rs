//! TLS on the HTTPS port: certificates by the name a client asks for, and their reload while connections run.
//!
//! Certificates are read and checked before anything uses them, so that a wrong file never replaces a right one:
//! Pingora would panic on it. A handshake under way keeps the certificate it began with.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use ctedge_settings::CertificateFiles;
use pingora::listeners::tls::Acceptor;
use rustls::ServerConfig;
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// HTTPS is on, but there is nothing to show.
    #[error("HTTPS needs a certificate, and the settings name none")]
    None,
    /// A file cannot be read or has no PEM of the kind.
    #[error("{setting}: cannot read {path}: {reason}; name a PEM file that the user who runs the edge may read")]
    Read {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Chain and key do not work together.
    #[error(
        "certificates: chain {chain} and key {key} cannot be used: {source}; name the key that belongs to the chain"
    )]
    Unusable {
        /// The file of the chain.
        chain: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// What the TLS library says.
        source: rustls::Error,
    },
    /// The TLS library refuses its own set-up.
    #[error("cannot set TLS up: {0}")]
    SetUp(#[from] rustls::Error),
}

/// The certificates in use. Cheap to read at every handshake, replaced as a whole.
#[derive(Debug)]
pub(crate) struct Certificates {
    loaded: ArcSwap<Loaded>,
}

/// Certificates that were read together.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The first is for clients that name no host, or one that no certificate is for.
    keys: Vec<Arc<CertifiedKey>>,
    /// When the certificates end, by the file of their chain.
    ends: Vec<(PathBuf, i64)>,
    /// What the files looked like before they were read.
    stamps: Vec<Stamp>,
}

/// Tells whether a file has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    path: PathBuf,
    modified: Option<SystemTime>,
    length: Option<u64>,
}

impl Loaded {
    /// Reads and checks certificates.
    pub(crate) fn read(files: &[CertificateFiles]) -> Result<Self, CertificateError> {
        if files.is_empty() {
            return Err(CertificateError::None);
        }
        // Stamps first: a file that changes while it is read is then read again.
        let stamps = stamps(files);
        let provider = ring::default_provider();
        let keys = files.iter().map(|pair| read_pair(pair, &provider)).collect::<Result<Vec<_>, _>>()?;
        let ends = files.iter().zip(&keys).filter_map(|(pair, key)| Some((pair.chain.clone(), end_of(key)?))).collect();
        Ok(Self { keys, ends, stamps })
    }
}

impl Certificates {
    pub(crate) fn new(loaded: Loaded) -> Self {
        Self { loaded: ArcSwap::from_pointee(loaded) }
    }

    /// Uses these from the next handshake on.
    pub(crate) fn replace(&self, loaded: Loaded) {
        self.loaded.store(Arc::new(loaded));
    }

    /// When the certificates in use end, in seconds since 1970, by the file of their chain.
    pub(crate) fn ends(&self) -> Vec<(PathBuf, i64)> {
        self.loaded.load().ends.clone()
    }

    /// Whether the files look different from when they were read.
    pub(crate) fn have_changed(&self, files: &[CertificateFiles]) -> bool {
        self.loaded.load().stamps != stamps(files)
    }

    /// Accepts TLS 1.2 and 1.3, HTTP/2 preferred.
    pub(crate) fn acceptor(self: &Arc<Self>) -> Result<Acceptor, CertificateError> {
        let provider = Arc::new(ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Tickets let a client resume without a full handshake, and cost us no memory.
        config.ticketer = ring::Ticketer::new()?;
        Ok(Acceptor::from_server_config(Arc::new(config)))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let loaded = self.loaded.load();
        let named = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let fitting = named.and_then(|name| loaded.keys.iter().find(|key| is_for(key, &name)));
        fitting.or(loaded.keys.first()).cloned()
    }
}

fn is_for(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let certificate = key.cert.first().and_then(|der| ParsedCertificate::try_from(der).ok());
    certificate.is_some_and(|certificate| verify_server_name(&certificate, name).is_ok())
}

/// The first end of a chain: clients refuse it from then on.
fn end_of(key: &CertifiedKey) -> Option<i64> {
    let ends = key.cert.iter().filter_map(|der| X509Certificate::from_der(der).ok());
    ends.map(|(_, certificate)| certificate.validity().not_after.timestamp()).min()
}

fn read_pair(files: &CertificateFiles, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, CertificateError> {
    let unreadable =
        |setting, path: &Path, reason: String| CertificateError::Read { setting, path: path.to_owned(), reason };
    let no_chain = |reason| unreadable("certificates.chain", &files.chain, reason);
    let no_key = |reason| unreadable("certificates.key", &files.key, reason);
    let chain = fs::read(&files.chain).map_err(|error| no_chain(error.to_string()))?;
    let chain = CertificateDer::pem_slice_iter(&chain)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| no_chain(error.to_string()))?;
    if chain.is_empty() {
        return Err(no_chain("it has no certificate".to_owned()));
    }
    let key = fs::read(&files.key).map_err(|error| no_key(error.to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| no_key(error.to_string()))?;
    // This also compares the key with the certificate's.
    let certified = CertifiedKey::from_der(chain, key, provider).map_err(|source| CertificateError::Unusable {
        chain: files.chain.clone(),
        key: files.key.clone(),
        source,
    })?;
    Ok(Arc::new(certified))
}

fn stamps(files: &[CertificateFiles]) -> Vec<Stamp> {
    let paths = files.iter().flat_map(|pair| [&pair.chain, &pair.key]);
    let stamp = |path: &PathBuf| {
        let metadata = fs::metadata(path).ok();
        let modified = metadata.as_ref().and_then(|metadata| metadata.modified().ok());
        Stamp { path: path.clone(), modified, length: metadata.map(|metadata| metadata.len()) }
    };
    paths.map(stamp).collect()
}

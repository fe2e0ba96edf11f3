//! TLS that takes any certificate, and remembers it to be judged.
//!
//! A certificate that clients refuse is a finding, not a reason to look at nothing else. Nothing secret is sent over these
//! connections: what they carry is made for this examination alone.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use ctedge_doctor::facts::{CertificateFacts, Trust};
use ctedge_settings::CertificateFiles;
use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The client's side of TLS for one host.
#[derive(Debug)]
pub(super) struct Tls {
    config: Arc<ClientConfig>,
    recorder: Arc<Recorder>,
    host: String,
}

impl Tls {
    pub(super) fn new(host: &str) -> anyhow::Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let recorder = Arc::new(Recorder { provider: Arc::clone(&provider), chain: Mutex::default() });
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&recorder) as Arc<dyn ServerCertVerifier>)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config), recorder, host: host.to_owned() })
    }

    pub(super) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// The facts of the certificate that the last connection showed.
    pub(super) fn certificate(&self) -> anyhow::Result<CertificateFacts> {
        facts(&self.recorder.chain.lock(), &self.host)
    }
}

/// The facts of the certificate that a balancer with these files would show to clients of `host`: of one that is for it, or else
/// of the first.
pub(super) fn listed_certificate(listed: &[CertificateFiles], host: &str) -> Option<Result<CertificateFacts, String>> {
    let read = |files: &CertificateFiles| {
        let chain = CertificateDer::pem_file_iter(&files.chain).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let facts = chain.map_err(anyhow::Error::from).and_then(|chain| facts(&chain, host));
        let file = Some(files.chain.display().to_string());
        let named = |facts| CertificateFacts { file, ..facts };
        facts.map(named).map_err(|error| format!("{}: {error:#}", files.chain.display()))
    };
    let mut all: Vec<_> = listed.iter().map(read).collect();
    let fitting = all.iter().position(|facts| facts.as_ref().is_ok_and(|facts| facts.names_host)).unwrap_or(0);
    (fitting < all.len()).then(|| all.swap_remove(fitting))
}

fn facts(chain: &[CertificateDer<'_>], host: &str) -> anyhow::Result<CertificateFacts> {
    let (first, rest) = chain.split_first().context("there is no certificate")?;
    let (_, parsed) = X509Certificate::from_der(first).context("the certificate cannot be read")?;
    let name = ServerName::try_from(host).context("the host is no name for a certificate")?;
    let certificate = ParsedCertificate::try_from(first).context("the certificate cannot be used by clients")?;
    let (begins, ends) = (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
    let now = i64::try_from(unix_now().as_secs()).unwrap_or(i64::MAX);
    let is_self_signed = parsed.issuer() == parsed.subject();
    // The dates are a matter of their own.
    let at = u64::try_from(now.clamp(begins, ends.max(begins))).unwrap_or_default();
    let at = UnixTime::since_unix_epoch(Duration::from_secs(at));
    let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms.all;
    let verified = verify_server_cert_signed_by_trust_anchor(&certificate, &roots(), rest, at, algorithms);
    Ok(CertificateFacts {
        file: None,
        names: names(&parsed),
        names_host: verify_server_name(&certificate, &name).is_ok(),
        issuer: parsed.issuer().to_string(),
        is_self_signed,
        chain_length: chain.len(),
        trust: match verified {
            Ok(()) => Trust::Rooted,
            Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => Trust::UnknownIssuer,
            // One that may sign others is refused in other words when it signed itself.
            Err(_) if is_self_signed => Trust::UnknownIssuer,
            Err(error) => Trust::Broken(error.to_string()),
        },
        begins_in_s: begins - now,
        ends_in_s: ends - now,
    })
}

/// The roots of this machine, those of SSL_CERT_FILE where it is set.
fn roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    // What cannot be read is not trusted.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|bytes| std::net::Ipv4Addr::from(bytes).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|bytes| std::net::Ipv6Addr::from(bytes).to_string()),
        },
        _ => None,
    };
    names.value.general_names.iter().filter_map(name).collect()
}

/// The time since 1970.
pub(super) fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Takes any certificate and remembers it, but checks that the server holds its key.
#[derive(Debug)]
struct Recorder {
    provider: Arc<CryptoProvider>,
    chain: Mutex<Vec<CertificateDer<'static>>>,
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = std::iter::once(end_entity).chain(intermediates);
        *self.chain.lock() = chain.map(|certificate| certificate.clone().into_owned()).collect();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

//! Where the load goes: a URL, resolved once, so that no name is looked up while anything is measured.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::stream::Stream;
use crate::tls;

/// The protocol asked for in the TLS handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alpn {
    Http1,
    Http2,
}

/// A server as a client sees it.
#[derive(Clone)]
pub(crate) struct Endpoint {
    address: SocketAddr,
    /// The value of the `Host` header.
    pub(crate) authority: String,
    /// The path of the URL, with its query, never empty.
    pub(crate) path: String,
    pub(crate) is_tls: bool,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Endpoint {
    /// Reads `http://`, `https://`, `ws://` and `wss://` URLs and resolves their host. `insecure` takes any certificate.
    pub(crate) fn resolve(url: &str, insecure: bool, alpn: Alpn) -> Result<Self> {
        let uri: http::Uri = url.parse().with_context(|| format!("{url} is not a URL"))?;
        let is_tls = match uri.scheme_str() {
            Some("http" | "ws") => false,
            Some("https" | "wss") => true,
            _ => bail!("{url} must begin with http://, https://, ws:// or wss://"),
        };
        let host = uri.host().with_context(|| format!("{url} has no host"))?;
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let bare_host = host.trim_start_matches('[').trim_end_matches(']');
        let address = (bare_host, port)
            .to_socket_addrs()
            .with_context(|| format!("cannot resolve {host}"))?
            .next()
            .with_context(|| format!("{host} has no address"))?;
        let tls = if is_tls {
            let name = ServerName::try_from(bare_host.to_owned()).context("the host is no name for a certificate")?;
            Some((TlsConnector::from(Arc::new(tls::client(insecure, alpn)?)), name))
        } else {
            None
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let authority = uri.authority().map(|authority| authority.as_str().to_owned()).unwrap_or_default();
        Ok(Self { address, authority, path, is_tls, tls })
    }

    /// `path` below the path of the URL.
    pub(crate) fn below(&self, path: &str) -> String {
        format!("{}{path}", self.path.trim_end_matches('/'))
    }

    /// A connection, ready for requests.
    pub(crate) async fn connect(&self) -> Result<Stream> {
        let tcp =
            TcpStream::connect(self.address).await.with_context(|| format!("cannot connect to {}", self.address))?;
        tcp.set_nodelay(true)?;
        match &self.tls {
            None => Ok(Stream::Plain(tcp)),
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), tcp).await.context("the TLS handshake failed")?;
                Ok(Stream::Tls(Box::new(stream)))
            }
        }
    }
}

/// A header as `NAME: VALUE`, the way curl takes it.
pub(crate) fn parse_header(text: &str) -> Result<(String, String)> {
    let (name, value) = text.split_once(':').with_context(|| format!("{text:?} is not NAME: VALUE"))?;
    ensure!(!name.is_empty() && !text.contains(['\r', '\n']), "{text:?} is no header");
    Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_gives_address_authority_and_path() {
        let endpoint = Endpoint::resolve("http://127.0.0.1:8100/prefix?x=1", false, Alpn::Http1).unwrap();
        assert_eq!(endpoint.address.port(), 8100);
        assert_eq!(endpoint.authority, "127.0.0.1:8100");
        assert_eq!(endpoint.path, "/prefix?x=1");
        assert!(!endpoint.is_tls);
    }

    #[test]
    fn the_path_of_a_url_is_the_prefix_of_what_lies_below_it() {
        for (url, expected) in [("http://127.0.0.1", "/api/meta"), ("http://127.0.0.1/edge/", "/edge/api/meta")] {
            assert_eq!(Endpoint::resolve(url, false, Alpn::Http1).unwrap().below("/api/meta"), expected);
        }
    }

    #[test]
    fn other_schemes_are_refused() {
        assert!(Endpoint::resolve("ftp://127.0.0.1/", false, Alpn::Http1).is_err());
        assert!(Endpoint::resolve("127.0.0.1:80", false, Alpn::Http1).is_err());
    }
}

//! A public URL, or an address of this edge, and connections to it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use ctedge_doctor::facts::Reach;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use super::tls::Tls;

/// Where connections go.
#[derive(Clone)]
pub(super) struct Endpoint {
    /// Its host, without brackets.
    pub(super) host: String,
    /// The value of the `Host` header.
    authority: String,
    /// The path below which it serves, without a slash at its end.
    pub(super) prefix: String,
    addresses: Vec<SocketAddr>,
    /// `None` for plain HTTP.
    pub(super) tls: Option<Arc<Tls>>,
    /// How long connecting, and each read and write, may take.
    pub(super) timeout: Duration,
}

impl Endpoint {
    /// The endpoint of a URL, without its addresses.
    pub(super) fn of_url(url: &str, timeout: Duration) -> anyhow::Result<Self> {
        let (is_tls, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => bail!("{url} is no URL: it begins with https:// or http://"),
        };
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        if authority.is_empty() || authority.contains('@') || rest.contains(['?', '#', '\\', ' ']) {
            bail!("{url} is not the URL of an edge: it has a host, and at most a port and a path");
        }
        let host = match authority.strip_prefix('[') {
            Some(bracketed) => bracketed.split(']').next().unwrap_or_default(),
            None => authority.split(':').next().unwrap_or_default(),
        };
        let tls = is_tls.then(|| Tls::new(host)).transpose()?.map(Arc::new);
        Ok(Self {
            host: host.to_owned(),
            authority: authority.to_owned(),
            prefix: path.trim_end_matches('/').to_owned(),
            addresses: Vec::new(),
            tls,
            timeout,
        })
    }

    /// The endpoint at an address of this edge.
    pub(super) fn at(address: SocketAddr, is_tls: bool, prefix: &str, timeout: Duration) -> anyhow::Result<Self> {
        let scheme = if is_tls { "https" } else { "http" };
        let mut endpoint = Self::of_url(&format!("{scheme}://{address}{prefix}"), timeout)?;
        endpoint.addresses = vec![address];
        Ok(endpoint)
    }

    /// The same, with at least this much time for each read and write.
    pub(super) fn patient(&self, timeout: Duration) -> Self {
        Self { timeout: self.timeout.max(timeout), ..self.clone() }
    }

    /// Finds the addresses and connects once.
    pub(super) fn reach(&mut self) -> Reach {
        let port = match self.authority.rsplit_once(':').filter(|(_, port)| !port.contains(']')) {
            Some((_, port)) => port.parse().ok(),
            None => Some(if self.tls.is_some() { 443 } else { 80 }),
        };
        let Some(port) = port else { return Reach::Failed("its port is no number".to_owned()) };
        match (self.host.as_str(), port).to_socket_addrs() {
            Ok(addresses) => self.addresses = addresses.collect(),
            Err(error) => return Reach::Unresolved(error.to_string()),
        }
        if self.addresses.is_empty() {
            return Reach::Unresolved("no address".to_owned());
        }
        let began = Instant::now();
        match self.tcp() {
            Ok(_) => Reach::Reached(began.elapsed()),
            Err(error) => match error.kind() {
                io::ErrorKind::ConnectionRefused => Reach::Refused,
                io::ErrorKind::TimedOut => Reach::TimedOut,
                _ => Reach::Failed(error.to_string()),
            },
        }
    }

    /// A connection, ready for one request.
    pub(super) fn connect(&self) -> anyhow::Result<Stream> {
        let tcp = self.tcp().context("cannot connect")?;
        tcp.set_read_timeout(Some(self.timeout))?;
        tcp.set_write_timeout(Some(self.timeout))?;
        tcp.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return Ok(Stream::Plain(tcp)) };
        let name = ServerName::try_from(self.host.clone()).context("the host is no name for a certificate")?;
        let mut stream = StreamOwned::new(ClientConnection::new(tls.config(), name)?, tcp);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).context("the TLS handshake failed")?;
        }
        Ok(Stream::Tls(Box::new(stream)))
    }

    fn tcp(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in &self.addresses {
            match TcpStream::connect_timeout(address, self.timeout) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The first lines of a request for `path` below the prefix.
    pub(super) fn request_lines(&self, method: &str, path: &str) -> String {
        format!(
            "{method} {}{path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: ctedge-doctor/{}\r\nAccept: application/json, */*\r\n",
            self.prefix,
            self.authority,
            env!("CARGO_PKG_VERSION")
        )
    }
}

/// A connection, in the clear or over TLS.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, expected: Option<(&str, &str, bool)>) {
        let endpoint = Endpoint::of_url(url, Duration::from_secs(1)).ok();
        let parts = endpoint.as_ref().map(|end| (end.host.as_str(), end.prefix.as_str(), end.tls.is_some()));
        assert_eq!(parts, expected, "{url}");
    }

    #[test]
    fn a_url_has_a_host_a_prefix_and_perhaps_tls() {
        check("https://edge.example.com", Some(("edge.example.com", "", true)));
        check("http://[::1]:1080/a/b/", Some(("::1", "/a/b", false)));
        for wrong in ["edge.example.com", "ftp://a", "https://", "https://user@a", "https://a/?b", "http://a/b c"] {
            check(wrong, None);
        }
    }
}

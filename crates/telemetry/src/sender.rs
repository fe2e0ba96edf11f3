//! Brings StatsD lines to their receiver. One that is away costs nothing but the points: what cannot be sent is dropped
//! and counted, and the next lines try again.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UdpSocket, lookup_host};
use tokio::time::timeout;

/// How long resolving, connecting and writing may take together.
const SENDING_MAX: Duration = Duration::from_secs(3);

/// What fits into one datagram on an Ethernet path with room for tunnels, as the StatsD documentation advises.
const DATAGRAM_BYTES_MAX: usize = 1432;

/// How lines travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Datagrams of several lines.
    Udp,
    /// One connection, a line break after each line.
    Tcp,
}

/// A StatsD receiver's other end.
#[derive(Debug)]
pub struct Sender {
    host: String,
    port: u16,
    protocol: Protocol,
    connection: Option<TcpStream>,
    /// Whether the last lines were sent, so that trouble is told once.
    is_away: bool,
    lines_dropped: u64,
}

impl Sender {
    /// A sender to `host`, a name or an address, which is looked up again whenever something is sent.
    #[must_use]
    pub fn new(host: &str, port: u16, protocol: Protocol) -> Self {
        Self { host: host.to_owned(), port, protocol, connection: None, is_away: false, lines_dropped: 0 }
    }

    /// Sends the lines, or drops them when the receiver does not take them in time.
    pub async fn send(&mut self, lines: &[String]) {
        let sent = match timeout(SENDING_MAX, self.try_send(lines)).await {
            Ok(sent) => sent,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        match sent {
            Ok(()) if self.is_away => {
                self.is_away = false;
                tracing::info!(host = self.host, port = self.port, "the StatsD receiver is back");
            }
            Ok(()) => {}
            Err(error) => {
                // Half a line may be out; what follows must not be glued to it.
                self.connection = None;
                self.lines_dropped += lines.len() as u64;
                if !std::mem::replace(&mut self.is_away, true) {
                    tracing::warn!(
                        host = self.host,
                        port = self.port,
                        %error,
                        "the StatsD receiver does not answer; its points are dropped until it does \
                         (CT_METRICS_STATSD_HOST, CT_METRICS_STATSD_PORT, CT_METRICS_STATSD_PROTOCOL)"
                    );
                }
            }
        }
    }

    /// How many lines were dropped.
    #[must_use]
    pub fn lines_dropped(&self) -> u64 {
        self.lines_dropped
    }

    async fn try_send(&mut self, lines: &[String]) -> io::Result<()> {
        match self.protocol {
            Protocol::Udp => self.send_datagrams(lines).await,
            Protocol::Tcp => self.send_on_connection(lines).await,
        }
    }

    async fn send_datagrams(&self, lines: &[String]) -> io::Result<()> {
        let receiver = self.look_up().await?;
        let any: SocketAddr =
            if receiver.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
        let socket = UdpSocket::bind(any).await?;
        // Connected, so that the answer "nobody listens there" to one datagram fails the next.
        socket.connect(receiver).await?;
        for datagram in datagrams(lines) {
            socket.send(datagram.as_bytes()).await?;
        }
        Ok(())
    }

    async fn send_on_connection(&mut self, lines: &[String]) -> io::Result<()> {
        if self.connection.as_ref().is_some_and(has_ended) {
            self.connection = None;
        }
        if self.connection.is_none() {
            let receiver = self.look_up().await?;
            self.connection = Some(TcpStream::connect(receiver).await?);
        }
        let Some(connection) = &mut self.connection else { return Err(io::ErrorKind::NotConnected.into()) };
        connection.write_all((lines.join("\n") + "\n").as_bytes()).await
    }

    async fn look_up(&self) -> io::Result<SocketAddr> {
        let mut found = lookup_host((self.host.as_str(), self.port)).await?;
        found.next().ok_or_else(|| io::Error::other("the name has no address"))
    }
}

/// Whether the receiver has closed the connection: a write into it would still succeed once, and be lost.
fn has_ended(connection: &TcpStream) -> bool {
    let mut byte = [0; 64];
    match connection.try_read(&mut byte) {
        Ok(0) => true,
        // A receiver has nothing to say; whatever it says is not listened to.
        Ok(_) => false,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}

/// The lines in datagrams, each as full as it may be.
fn datagrams(lines: &[String]) -> Vec<String> {
    let mut datagrams: Vec<String> = Vec::new();
    for line in lines {
        match datagrams.last_mut() {
            Some(last) if last.len() + 1 + line.len() <= DATAGRAM_BYTES_MAX => {
                last.push('\n');
                last.push_str(line);
            }
            _ => datagrams.push(line.clone()),
        }
    }
    datagrams
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncBufReadExt, BufReader};
    use tokio::net::TcpListener;

    fn lines(of: &[&str]) -> Vec<String> {
        of.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn datagrams_are_full_and_never_too_long() {
        let many = lines(&["x".repeat(700).as_str(); 5]);
        let sent = datagrams(&many);
        assert_eq!(sent.iter().map(String::len).collect::<Vec<_>>(), [1401, 1401, 700]);
    }

    #[tokio::test]
    async fn datagrams_arrive() {
        let receiver = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut sender = Sender::new("localhost", receiver.local_addr().unwrap().port(), Protocol::Udp);
        sender.send(&lines(&["a:1|g", "b:2|g"])).await;
        let mut datagram = [0; 100];
        let length = timeout(SENDING_MAX, receiver.recv(&mut datagram)).await.unwrap().unwrap();
        assert_eq!(&datagram[..length], b"a:1|g\nb:2|g");
    }

    #[tokio::test]
    async fn a_receiver_that_was_away_gets_what_is_sent_after_its_return() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut sender = Sender::new("127.0.0.1", address.port(), Protocol::Tcp);
        sender.send(&lines(&["a:1|g"])).await;
        let (first, _) = listener.accept().await.unwrap();
        let mut first = BufReader::new(first).lines();
        assert_eq!(first.next_line().await.unwrap().as_deref(), Some("a:1|g"));
        drop((first, listener));
        // The end has to reach this side before anybody can see it.
        sender.connection.as_ref().unwrap().readable().await.unwrap();

        sender.send(&lines(&["b:2|g", "c:3|g"])).await;
        assert_eq!(sender.lines_dropped(), 2);

        let listener = TcpListener::bind(address).await.unwrap();
        sender.send(&lines(&["d:4|g"])).await;
        let (second, _) = timeout(SENDING_MAX, listener.accept()).await.unwrap().unwrap();
        let mut second = BufReader::new(second).lines();
        assert_eq!(second.next_line().await.unwrap().as_deref(), Some("d:4|g"));
        assert_eq!(sender.lines_dropped(), 2);
    }
}

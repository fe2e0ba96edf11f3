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
    way: Way,
    /// Whether the last lines were lost, so that trouble is told once.
    is_away: bool,
    lines_dropped: u64,
}

/// How lines travel, and on what.
#[derive(Debug)]
enum Way {
    Udp(Option<Datagrams>),
    Tcp(Option<TcpStream>),
}

/// A socket for datagrams to one address, from which the answer "nobody listens there" can be read.
#[derive(Debug)]
struct Datagrams {
    socket: UdpSocket,
    receiver: SocketAddr,
    /// How many lines the last datagrams held.
    lines: usize,
}

impl Sender {
    /// A sender to `host`, a name or an address, which is looked up again whenever something is sent.
    #[must_use]
    pub fn new(host: &str, port: u16, protocol: Protocol) -> Self {
        let way = match protocol {
            Protocol::Udp => Way::Udp(None),
            Protocol::Tcp => Way::Tcp(None),
        };
        Self { host: host.to_owned(), port, way, is_away: false, lines_dropped: 0 }
    }

    /// Sends the lines, or drops them when the receiver does not take them in time.
    pub async fn send(&mut self, lines: &[String]) {
        let refused = self.refused();
        let sent = match timeout(SENDING_MAX, self.try_send(lines)).await {
            Ok(sent) => sent,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        if sent.is_err() {
            self.lines_dropped += lines.len() as u64;
            // Half a line may be out; what follows must not be glued to it.
            self.way = match self.way {
                Way::Udp(_) => Way::Udp(None),
                Way::Tcp(_) => Way::Tcp(None),
            };
        }
        match (sent, refused) {
            // Datagrams can always be sent: whether they arrived shows when the next are.
            (Err(error), _) | (Ok(()), Some(error)) => self.lost(&error),
            (Ok(()), None) if self.is_away => {
                self.is_away = false;
                tracing::info!(host = self.host, port = self.port, "the StatsD receiver is back");
            }
            (Ok(()), None) => {}
        }
    }

    /// How many lines were dropped.
    #[must_use]
    pub fn lines_dropped(&self) -> u64 {
        self.lines_dropped
    }

    /// Whether the last datagrams found nobody. They are given up; the next go to the next address that the name has.
    fn refused(&mut self) -> Option<io::Error> {
        let Way::Udp(datagrams) = &mut self.way else { return None };
        let error = datagrams.as_ref()?.socket.take_error().ok().flatten()?;
        self.lines_dropped += datagrams.as_ref().map_or(0, |datagrams| datagrams.lines) as u64;
        Some(error)
    }

    fn lost(&mut self, error: &io::Error) {
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

    async fn try_send(&mut self, lines: &[String]) -> io::Result<()> {
        let found = look_up(&self.host, self.port).await;
        match &mut self.way {
            Way::Udp(datagrams) => Datagrams::send(datagrams, &found?, self.is_away, lines).await,
            Way::Tcp(connection) => send_on_connection(connection, found, lines).await,
        }
    }
}

impl Datagrams {
    /// Sends on the socket that there is, if it leads to an address that the name still has.
    async fn send(
        datagrams: &mut Option<Self>,
        found: &[SocketAddr],
        was_lost: bool,
        lines: &[String],
    ) -> io::Result<()> {
        let before = datagrams.as_ref().map(|datagrams| datagrams.receiver);
        let position = found.iter().position(|address| Some(*address) == before);
        let receiver = match position {
            Some(position) if was_lost => found[(position + 1) % found.len()],
            Some(position) => found[position],
            None => *found.first().ok_or_else(no_address)?,
        };
        if before != Some(receiver) {
            *datagrams = Some(Self::to(receiver).await?);
        }
        let Some(Self { socket, lines: count, .. }) = datagrams else { return Err(no_address()) };
        *count = lines.len();
        for datagram in split(lines) {
            socket.send(datagram.as_bytes()).await?;
        }
        Ok(())
    }

    async fn to(receiver: SocketAddr) -> io::Result<Self> {
        let any: SocketAddr =
            if receiver.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
        let socket = UdpSocket::bind(any).await?;
        // Connected, so that the answer "nobody listens there" reaches the socket.
        socket.connect(receiver).await?;
        Ok(Self { socket, receiver, lines: 0 })
    }
}

/// Sends on the connection that there is, if it leads to an address that the name still has. One that works is kept while
/// nobody knows what the name means.
async fn send_on_connection(
    connection: &mut Option<TcpStream>,
    found: io::Result<Vec<SocketAddr>>,
    lines: &[String],
) -> io::Result<()> {
    let leads_elsewhere = |stream: &TcpStream| {
        let known = found.as_ref().ok().zip(stream.peer_addr().ok());
        known.is_some_and(|(found, receiver)| !found.contains(&receiver))
    };
    if connection.as_ref().is_some_and(|stream| has_ended(stream) || leads_elsewhere(stream)) {
        *connection = None;
    }
    let stream = match connection {
        Some(stream) => stream,
        None => connection.insert(TcpStream::connect(found?.as_slice()).await?),
    };
    stream.write_all((lines.join("\n") + "\n").as_bytes()).await
}

async fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let found: Vec<_> = lookup_host((host, port)).await?.collect();
    if found.is_empty() { Err(no_address()) } else { Ok(found) }
}

fn no_address() -> io::Error {
    io::Error::other("the name has no address")
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
fn split(lines: &[String]) -> Vec<String> {
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
        let sent = split(&many);
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
        let Way::Tcp(Some(connection)) = &sender.way else { panic!("there is a connection") };
        connection.readable().await.unwrap();

        sender.send(&lines(&["b:2|g", "c:3|g"])).await;
        assert_eq!(sender.lines_dropped(), 2);

        let listener = TcpListener::bind(address).await.unwrap();
        sender.send(&lines(&["d:4|g"])).await;
        let (second, _) = timeout(SENDING_MAX, listener.accept()).await.unwrap().unwrap();
        let mut second = BufReader::new(second).lines();
        assert_eq!(second.next_line().await.unwrap().as_deref(), Some("d:4|g"));
        assert_eq!(sender.lines_dropped(), 2);
    }

    #[tokio::test]
    async fn datagrams_that_nobody_takes_are_counted_and_the_next_arrive() {
        let receiver = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = receiver.local_addr().unwrap();
        drop(receiver);
        let mut sender = Sender::new("127.0.0.1", address.port(), Protocol::Udp);
        sender.send(&lines(&["a:1|g", "b:2|g"])).await;
        assert_eq!((sender.lines_dropped(), sender.is_away), (0, false), "nobody can know yet");

        // The kernel answers for a closed port of its own before sending returns.
        let receiver = UdpSocket::bind(address).await.unwrap();
        sender.send(&lines(&["c:3|g"])).await;
        assert_eq!((sender.lines_dropped(), sender.is_away), (2, true));
        let mut datagram = [0; 100];
        let length = timeout(SENDING_MAX, receiver.recv(&mut datagram)).await.unwrap().unwrap();
        assert_eq!(&datagram[..length], b"c:3|g");

        sender.send(&lines(&["d:4|g"])).await;
        assert_eq!((sender.lines_dropped(), sender.is_away), (2, false));
    }

    #[tokio::test]
    async fn datagrams_that_one_address_refuses_go_to_the_next() {
        let (one, other) =
            (UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let found = [one.local_addr().unwrap(), other.local_addr().unwrap()];
        let mut way = None;
        for (was_lost, expected) in [(false, &one), (false, &one), (true, &other), (true, &one)] {
            Datagrams::send(&mut way, &found, was_lost, &lines(&["a:1|g"])).await.unwrap();
            let mut datagram = [0; 100];
            timeout(SENDING_MAX, expected.recv(&mut datagram)).await.unwrap().unwrap();
        }
        // The name means something else.
        Datagrams::send(&mut way, &found[1..], false, &lines(&["a:1|g"])).await.unwrap();
        assert_eq!(way.unwrap().receiver, found[1]);
    }

    #[tokio::test]
    async fn a_connection_is_left_when_its_name_leads_elsewhere() {
        let (one, other) =
            (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let mut connection = None;
        for (found, expected) in [(Some(&one), &one), (None, &one), (Some(&other), &other)] {
            let found = match found {
                Some(listener) => Ok(vec![listener.local_addr().unwrap()]),
                None => Err(no_address()),
            };
            send_on_connection(&mut connection, found, &lines(&["a:1|g"])).await.unwrap();
            let receiver = connection.as_ref().unwrap().peer_addr().unwrap();
            assert_eq!(receiver, expected.local_addr().unwrap());
        }
        send_on_connection(&mut None, Err(no_address()), &[]).await.unwrap_err();
    }
}

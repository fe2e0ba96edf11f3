//! The public sockets: bound once by the supervisor, and handed to each balancer that it starts.
//!
//! The sockets outlive every balancer. While one is replaced by its successor, or has crashed, clients wait in the
//! kernel's queue instead of being refused.
//!
//! They are passed as ancillary data over a socket pair whose other end is the child's standard input. Compared with
//! numbered descriptors and variables that announce them (systemd's socket activation), nothing leaks into
//! grandchildren, and both ends are safe code.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, bail};
use ctedge_settings::Listeners;
use parking_lot::Mutex;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socket_with, socketpair, sockopt,
};

/// Connections that wait to be accepted; the kernel's own bound (`somaxconn`) is usually the same.
const BACKLOG: i32 = 4096;

/// One of each kind at most.
const SOCKETS_MAX: usize = 3;

/// Bytes of the names of all sockets.
const NAMES_BYTES_MAX: usize = 64;

/// Sockets of a balancer, bound and listening.
#[derive(Debug)]
pub struct Sockets {
    /// Public plain HTTP.
    pub http: Option<TcpListener>,
    /// Public HTTPS.
    pub https: Option<TcpListener>,
    /// The admin API.
    pub admin: Option<TcpListener>,
}

/// The supervisor's own copies, while it holds them.
#[derive(Debug, Default)]
pub(crate) struct PublicSockets(Mutex<Option<Sockets>>);

impl PublicSockets {
    /// Binds what `listeners` say, unless that is done.
    pub(crate) fn open(&self, listeners: &Listeners) -> anyhow::Result<()> {
        let mut sockets = self.0.lock();
        if sockets.is_none() {
            *sockets = Some(Sockets::bind(listeners)?);
        }
        Ok(())
    }

    /// Lets go of them. Those of a child are its own.
    pub(crate) fn close(&self) {
        *self.0.lock() = None;
    }

    /// A standard input for a child that [`Sockets::inherited`] reads them from.
    pub(crate) fn hand_over(&self) -> io::Result<OwnedFd> {
        match &*self.0.lock() {
            Some(sockets) => sockets.hand_over(),
            None => Err(io::Error::other("the public sockets are closed")),
        }
    }
}

impl Sockets {
    /// Binds what `listeners` say.
    fn bind(listeners: &Listeners) -> anyhow::Result<Self> {
        let bind = |address: SocketAddr| listen(address).with_context(|| format!("cannot listen on {address}"));
        Ok(Self {
            http: listeners.http.map(bind).transpose()?,
            https: listeners.https.map(bind).transpose()?,
            admin: Some(bind(listeners.admin)?),
        })
    }

    fn hand_over(&self) -> io::Result<OwnedFd> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let named = [("http", &self.http), ("https", &self.https), ("admin", &self.admin)];
        let named: Vec<_> = named.into_iter().filter_map(|(name, socket)| Some((name, socket.as_ref()?))).collect();
        let names = named.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" ");
        let descriptors: Vec<BorrowedFd<'_>> = named.iter().map(|(_, socket)| socket.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)), "there is space for every socket");
        sendmsg(ours, &[IoSlice::new(names.as_bytes())], &mut control, SendFlags::empty())?;
        Ok(theirs)
    }

    /// What the supervisor of this process has put into its standard input.
    pub fn inherited() -> anyhow::Result<Self> {
        Self::receive(io::stdin().as_fd()).context("the supervisor handed no sockets over")
    }

    fn receive(from: BorrowedFd<'_>) -> anyhow::Result<Self> {
        let mut names = [0; NAMES_BYTES_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let message = recvmsg(from, &mut [IoSliceMut::new(&mut names)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let mut descriptors = control.drain().flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect::<Vec<_>>(),
            _ => Vec::new(),
        });
        let mut sockets = Self { http: None, https: None, admin: None };
        for name in std::str::from_utf8(&names[..message.bytes])?.split(' ') {
            let socket = descriptors.next().with_context(|| format!("there is no socket for {name:?}"))?;
            let place = match name {
                "http" => &mut sockets.http,
                "https" => &mut sockets.https,
                "admin" => &mut sockets.admin,
                _ => bail!("a socket has the name {name:?}"),
            };
            *place = Some(TcpListener::from(socket));
        }
        Ok(sockets)
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    // An edge that starts again takes its ports although connections of the one before still linger.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream;

    fn loopback() -> SocketAddr {
        "127.0.0.1:0".parse().unwrap()
    }

    #[test]
    fn what_is_handed_over_accepts_what_connected_before() {
        let sockets = Sockets::bind(&Listeners { http: None, https: Some(loopback()), admin: loopback() }).unwrap();
        let https = sockets.https.as_ref().unwrap().local_addr().unwrap();
        let mut client = TcpStream::connect(https).unwrap();
        client.write_all(b"hello").unwrap();

        let stdin = sockets.hand_over().unwrap();
        drop(sockets);
        let received = Sockets::receive(stdin.as_fd()).unwrap();
        assert!(received.http.is_none() && received.admin.is_some());
        let listener = received.https.unwrap();
        assert_eq!(listener.local_addr().unwrap(), https);
        listener.set_nonblocking(false).unwrap();
        let (mut connection, _) = listener.accept().unwrap();
        let mut said = [0; 5];
        connection.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"hello");
    }

    #[test]
    fn each_child_gets_sockets_of_its_own() {
        let sockets = Sockets::bind(&Listeners { http: Some(loopback()), https: None, admin: loopback() }).unwrap();
        let address = sockets.http.as_ref().unwrap().local_addr().unwrap();
        let first = Sockets::receive(sockets.hand_over().unwrap().as_fd()).unwrap();
        let second = Sockets::receive(sockets.hand_over().unwrap().as_fd()).unwrap();
        drop((sockets, first));
        assert!(TcpStream::connect(address).is_ok(), "the second still listens");
        drop(second);
        assert!(TcpStream::connect(address).is_err(), "nobody listens");
    }

    #[test]
    fn an_input_without_sockets_is_an_error() {
        let nothing = std::fs::File::open("/dev/null").unwrap();
        assert!(Sockets::receive(nothing.as_fd()).is_err());
    }
}

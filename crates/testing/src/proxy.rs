//! A TCP proxy that can be cut and stalled, to show what happens when a network does.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;

/// A proxy on a port of 127.0.0.1.
pub struct Proxy {
    shared: Arc<Shared>,
    port: u16,
}

struct Shared {
    target: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    mode: Mode,
    connections: HashMap<u64, [TcpStream; 2]>,
    next: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Mode {
    #[default]
    Open,
    Stalled,
    Cut,
}

impl Proxy {
    /// A proxy before `target`.
    #[must_use]
    pub fn before(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared { target, state: Mutex::default(), changed: Condvar::new() });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                accepting.accept(client);
            }
        });
        Self { shared, port }
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends all connections, and ends each that comes at once.
    pub fn cut(&self) {
        self.shared.set(Mode::Cut);
    }

    /// Holds back everything that is sent, without ending anything: what a lost network looks like.
    pub fn stall(&self) {
        self.shared.set(Mode::Stalled);
    }

    /// Lets everything through again.
    pub fn restore(&self) {
        self.shared.set(Mode::Open);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panicked")
    }

    fn set(&self, mode: Mode) {
        let mut state = self.state();
        state.mode = mode;
        if mode == Mode::Cut {
            for (_, sockets) in state.connections.drain() {
                close(&sockets);
            }
        }
        self.changed.notify_all();
    }

    fn accept(self: &Arc<Self>, client: TcpStream) {
        let mut state = self.state();
        if state.mode == Mode::Cut {
            return;
        }
        let Ok(server) = TcpStream::connect(self.target) else {
            return;
        };
        let clone = |socket: &TcpStream| socket.try_clone().expect("a socket can be cloned");
        let number = state.next;
        state.next += 1;
        state.connections.insert(number, [clone(&client), clone(&server)]);
        drop(state);
        for (from, to) in [(clone(&client), clone(&server)), (server, client)] {
            let shared = Arc::clone(self);
            thread::spawn(move || shared.pump(number, from, to));
        }
    }

    fn pump(&self, number: u64, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = [0; 16 * 1024];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            drop(self.unstalled());
            if to.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        // An end is held back as well: across a lost network nobody hears of it.
        if let Some(sockets) = self.unstalled().connections.remove(&number) {
            close(&sockets);
        }
    }

    /// Waits until nothing is held back.
    fn unstalled(&self) -> MutexGuard<'_, State> {
        let state = self.state();
        self.changed.wait_while(state, |state| state.mode == Mode::Stalled).expect("no thread panicked")
    }
}

fn close(sockets: &[TcpStream; 2]) {
    for socket in sockets {
        // One that is closed already is as it should be.
        let _ = socket.shutdown(Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A server that gives back what it gets.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for mut socket in listener.incoming().flatten() {
                thread::spawn(move || {
                    let mut copy = socket.try_clone().unwrap();
                    std::io::copy(&mut socket, &mut copy)
                });
            }
        });
        address
    }

    fn asked(socket: &mut TcpStream) -> std::io::Result<u8> {
        let mut byte = [0];
        socket.write_all(b"x")?;
        socket.read_exact(&mut byte)?;
        Ok(byte[0])
    }

    #[test]
    fn a_proxy_lets_through_holds_back_and_cuts() {
        let proxy = Proxy::before(echo());
        let connect = || TcpStream::connect(("127.0.0.1", proxy.port())).unwrap();
        let mut socket = connect();
        assert_eq!(asked(&mut socket).unwrap(), b'x');
        proxy.stall();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        assert!(asked(&mut socket).is_err());
        proxy.restore();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap();
        proxy.cut();
        assert!(asked(&mut socket).is_err());
        assert!(asked(&mut connect()).is_err());
        proxy.restore();
        assert_eq!(asked(&mut connect()).unwrap(), b'x');
    }
}

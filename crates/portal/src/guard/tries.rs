//! Wrong passwords by client, and who has to pause because of them.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use parking_lot::Mutex;

use super::visitor::VisitorId;

/// Who tries: an address, or a network of IPv6 where one subscriber has as many addresses as they like (RFC 6177). All
/// that come without a balancer, which names the client, count as one: they reach a node's private port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Client {
    /// An address or a network; none where nothing names it.
    At(Option<IpAddr>),
    /// Somebody who has been let in before, wherever they are.
    Visitor(VisitorId),
}

impl Client {
    /// The client of a request with these headers.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let named = headers.get("x-real-ip").and_then(|name| name.to_str().ok()?.trim().parse::<IpAddr>().ok());
        Self::At(named.map(|address| match address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
            address @ IpAddr::V4(_) => address,
        }))
    }
}

impl fmt::Display for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(Some(IpAddr::V6(network))) => write!(formatter, "{network}/64"),
            Self::At(Some(IpAddr::V4(address))) => address.fmt(formatter),
            Self::At(None) => formatter.write_str("this machine"),
            Self::Visitor(_) => formatter.write_str("a visitor who had the right password before"),
        }
    }
}

/// What a try came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judged {
    /// It was right.
    Right,
    /// It was wrong.
    Wrong,
    /// Right or wrong does not count: the client has to pause.
    Paused {
        /// For how long from this moment.
        seconds: u64,
        /// Whether this try was the one too many.
        begins: bool,
    },
}

/// The wrong tries of all clients.
pub(super) struct Tries {
    tries_max: u32,
    pause: Duration,
    clients_max: usize,
    clients: Mutex<HashMap<Client, Wrong>>,
}

/// The wrong tries of one client.
#[derive(Debug, Clone, Copy)]
struct Wrong {
    tries: u32,
    last: Instant,
}

impl Tries {
    /// After `tries_max` wrong tries in a row a client pauses for `pause`; as long without one forgets those before.
    pub(super) fn new(tries_max: u32, pause: Duration, clients_max: usize) -> Self {
        Self { tries_max, pause, clients_max, clients: Mutex::default() }
    }

    /// The seconds that `client` has to pause for, if it has to.
    pub(super) fn pause(&self, client: Client, now: Instant) -> Option<u64> {
        self.left(self.clients.lock().get(&client)?, now)
    }

    /// Takes one try of `client` into account.
    pub(super) fn judge(&self, client: Client, right: bool, now: Instant) -> Judged {
        let mut clients = self.clients.lock();
        // Of tries made at the same time only as many count as there may be.
        if let Some(seconds) = clients.get(&client).and_then(|wrong| self.left(wrong, now)) {
            return Judged::Paused { seconds, begins: false };
        }
        if right {
            clients.remove(&client);
            return Judged::Right;
        }
        if !clients.contains_key(&client) {
            self.make_room(&mut clients, now);
        }
        let wrong = clients.entry(client).or_insert(Wrong { tries: 0, last: now });
        if now.saturating_duration_since(wrong.last) >= self.pause {
            wrong.tries = 0;
        }
        *wrong = Wrong { tries: wrong.tries + 1, last: now };
        match self.left(wrong, now) {
            Some(seconds) => Judged::Paused { seconds, begins: true },
            None => Judged::Wrong,
        }
    }

    fn left(&self, wrong: &Wrong, now: Instant) -> Option<u64> {
        let left = self.pause.saturating_sub(now.saturating_duration_since(wrong.last));
        // Whole seconds, and never one too few: whoever comes back after them is heard.
        (wrong.tries >= self.tries_max && !left.is_zero()).then(|| left.as_millis().div_ceil(1000) as u64)
    }

    /// Forgets what no longer counts, and the longest silent clients where that is not enough: several at once, so that
    /// a flood of addresses does not sort the table for each.
    fn make_room(&self, clients: &mut HashMap<Client, Wrong>, now: Instant) {
        if clients.len() < self.clients_max {
            return;
        }
        clients.retain(|_, wrong| now.saturating_duration_since(wrong.last) < self.pause);
        if clients.len() < self.clients_max {
            return;
        }
        let mut last: Vec<_> = clients.iter().map(|(client, wrong)| (wrong.last, *client)).collect();
        last.sort_unstable_by_key(|(last, _)| *last);
        for (_, client) in last.iter().take(self.clients_max.div_ceil(8)) {
            clients.remove(client);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    const PAUSE: Duration = Duration::from_secs(60);
    const SECOND: Duration = Duration::from_secs(1);

    fn client(address: &str) -> Client {
        Client::of(&[("x-real-ip".parse().unwrap(), HeaderValue::from_str(address).unwrap())].into_iter().collect())
    }

    #[test]
    fn too_many_wrong_tries_pause_one_client_and_no_other() {
        let (tries, now) = (Tries::new(3, PAUSE, 16), Instant::now());
        let (eve, ada) = (client("192.0.2.1"), client("192.0.2.2"));
        assert_eq!(tries.judge(eve, false, now), Judged::Wrong);
        assert_eq!(tries.judge(eve, false, now), Judged::Wrong);
        assert_eq!(tries.pause(eve, now), None);
        assert_eq!(tries.judge(eve, false, now), Judged::Paused { seconds: 60, begins: true });
        assert_eq!(tries.pause(eve, now + SECOND), Some(59));
        // Not even the right password gets in, so that guessing on is of no use.
        assert_eq!(tries.judge(eve, true, now + SECOND), Judged::Paused { seconds: 59, begins: false });
        assert_eq!(tries.judge(ada, true, now), Judged::Right);
        assert_eq!(tries.pause(eve, now + PAUSE), None);
        assert_eq!(tries.judge(eve, true, now + PAUSE), Judged::Right);
    }

    #[test]
    fn a_right_try_and_a_quiet_while_forget_the_wrong_ones() {
        let (tries, now) = (Tries::new(2, PAUSE, 16), Instant::now());
        let ada = client("192.0.2.1");
        tries.judge(ada, false, now);
        assert_eq!(tries.judge(ada, true, now), Judged::Right);
        assert_eq!(tries.judge(ada, false, now), Judged::Wrong);
        assert_eq!(tries.judge(ada, false, now + PAUSE), Judged::Wrong);
        assert_eq!(tries.judge(ada, false, now + PAUSE), Judged::Paused { seconds: 60, begins: true });
        // After the pause the count begins again.
        assert_eq!(tries.judge(ada, false, now + PAUSE * 2), Judged::Wrong);
    }

    #[test]
    fn the_table_never_outgrows_its_bound_and_keeps_the_latest() {
        let (tries, now) = (Tries::new(1, PAUSE, 16), Instant::now());
        for number in 0..100u32 {
            tries.judge(client(&format!("198.51.100.{number}")), false, now + SECOND * number / 10);
            assert!(tries.clients.lock().len() <= 16);
        }
        assert!(tries.pause(client("198.51.100.99"), now + SECOND * 10).is_some());
        assert_eq!(tries.pause(client("198.51.100.0"), now + SECOND * 10), None);
    }

    #[test]
    fn addresses_of_one_subscriber_are_one_client() {
        assert_eq!(client("2001:db8::1"), client("2001:db8::2"));
        assert_ne!(client("2001:db8::1"), client("2001:db8:0:1::1"));
        assert_eq!(client("::ffff:192.0.2.1"), client("192.0.2.1"));
        assert_eq!(client("nonsense"), Client::of(&HeaderMap::new()));
    }
}

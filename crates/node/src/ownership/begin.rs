//! The driver makes the sessions that this node has come to own.

use ctedge_ownership::{Epoch, Estate, Origin, StoredPeer};
use ctedge_wire::Key;

use super::driver::Driver;
use super::logins;
use crate::hub::AdoptError;

impl Driver {
    /// Makes the session of a key that the node owns since `epoch`. What cannot be made is over: its record goes, and
    /// whoever asked for it finds nothing.
    pub(super) fn begin(&mut self, key: &Key, epoch: Epoch, origin: Origin) {
        let is_begun = match origin {
            Origin::Created => self.begin_fresh(key, epoch),
            Origin::Estate(estate) => self.adopt(key, epoch, &estate),
            Origin::Takeover(legacy) => self.take_over(key, epoch, &legacy.peers, legacy.in_flight.as_deref()),
        };
        if !is_begun {
            self.machine.session_ended(key, epoch, crate::clock::awake_or_not());
        }
    }

    /// The first one who asked begins the session. When all who did have gone away, nobody wants it, except for the logins
    /// that wait under the key.
    fn begin_fresh(&mut self, key: &Key, epoch: Epoch) -> bool {
        let Some((ticket, beginning)) = self.questions.beginning(key) else {
            let is_wanted = self.login_keys.contains(key);
            if is_wanted {
                self.login_keys.own(key.clone());
            }
            return is_wanted;
        };
        self.login_keys.become_session(key);
        let is_begun = self.app.hub.begin_owned(key, beginning, epoch.0);
        if is_begun {
            self.questions.begun(ticket);
        }
        is_begun
    }

    fn adopt(&mut self, key: &Key, epoch: Epoch, estate: &Estate) -> bool {
        let (waiting, session) = logins::read(&estate.bytes);
        if let Some(waiting) = waiting {
            logins::restore(&self.app.logins, waiting, std::time::Instant::now());
            if session.is_empty() {
                self.login_keys.own(key.clone());
                return true;
            }
        }
        match self.app.hub.adopt(key, session, estate.peers.len(), epoch.0) {
            Ok(()) => {
                self.login_keys.become_session(key);
                true
            }
            Err(error @ AdoptError::InUse) => {
                tracing::error!(session = %key, %error, "a session was taken up twice");
                true
            }
            Err(error) => {
                tracing::error!(session = %key, %error, "what a session was handed over with is lost; its peers are not");
                self.app.hub.metrics().ownership.lost("estate_unreadable");
                self.take_over(key, epoch, &estate.peers, estate.in_flight.as_deref())
            }
        }
    }

    /// A session without its host is none, unless it is its host that has asked: it begins the session anew.
    fn take_over(&mut self, key: &Key, epoch: Epoch, peers: &[StoredPeer], in_flight: Option<&[u8]>) -> bool {
        match self.app.hub.resume(key, peers, in_flight, epoch.0) {
            Ok(()) => {
                self.login_keys.become_session(key);
                true
            }
            Err(error) => {
                tracing::info!(session = %key, %error, peers = peers.len(), "a session cannot be taken over");
                if !peers.is_empty() {
                    self.tell_lost(key, "no_host");
                }
                self.begin_fresh(key, epoch)
            }
        }
    }
}

/// A session's peer as ownership keeps it.
pub(super) fn stored_peer(peer: ctedge_session::StoredPeer) -> StoredPeer {
    let ctedge_session::StoredPeer { clock, host, user, handshake } = peer;
    StoredPeer { clock, host, user, handshake }
}

/// The same, back.
pub(crate) fn session_peer(peer: &StoredPeer) -> ctedge_session::StoredPeer {
    let StoredPeer { clock, host, user, handshake } = peer.clone();
    ctedge_session::StoredPeer { clock, host, user, handshake }
}

//! How much a node is used: its users, counted now and then, and written down every five minutes.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ctedge_protocol::User;
use parking_lot::Mutex;

use crate::hub::Hub;
use crate::ownership::{Journal, USAGE_EVERY, Usage};

/// How often users are counted: each count looks at every session.
const COUNT_EVERY: Duration = Duration::from_secs(5);

/// The last count.
#[derive(Debug, Default)]
pub(crate) struct UsageCounter(Mutex<Usage>);

impl UsageCounter {
    /// What was counted last.
    pub(crate) fn last(&self) -> Usage {
        *self.0.lock()
    }

    /// Counts until it is dropped.
    pub(crate) async fn run(self: Arc<Self>, hub: Arc<Hub>, journal: Option<Journal>) {
        let mut written = Instant::now();
        let mut largest = Usage::default();
        loop {
            let usage = count(&hub);
            *self.0.lock() = usage;
            let sessions = largest.sessions.max(usage.sessions);
            largest = Usage { sessions, ..usage };
            if written.elapsed() >= USAGE_EVERY {
                if let Some(journal) = &journal {
                    journal.usage(largest);
                }
                (written, largest) = (Instant::now(), Usage::default());
            }
            tokio::time::sleep(COUNT_EVERY).await;
        }
    }
}

fn count(hub: &Hub) -> Usage {
    let hasher = RandomState::new();
    let (mut online, mut in_sessions) = (HashSet::new(), HashSet::new());
    hub.for_each_user(|user, is_online| {
        // Hashes instead of names: what is kept for a moment is small, and tells nothing.
        let identity = hasher.hash_one(identity(user));
        in_sessions.insert(identity);
        if is_online {
            online.insert(identity);
        }
    });
    Usage {
        users_online: online.len() as u64,
        users_in_sessions: in_sessions.len() as u64,
        sessions: hub.totals().sessions as u64,
        connections: hub.connections().count() as u64,
    }
}

/// What tells a user from others: the address, else the id.
fn identity(user: &User) -> String {
    user.email.as_ref().filter(|email| !email.is_empty()).map_or_else(|| user.id.clone(), |email| email.to_lowercase())
}

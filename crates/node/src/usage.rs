//! How much a node is used: its users, counted now and then, and written down every five minutes.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ctedge_protocol::User;
use ctedge_telemetry::Users;
use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::hub::Hub;
use crate::ownership::{Journal, USAGE_EVERY, Usage};

/// How often users are counted: each count looks at every session.
const COUNT_EVERY: Duration = Duration::from_secs(5);

/// The last count.
#[derive(Debug, Default)]
pub(crate) struct UsageCounter(Mutex<(Usage, Users)>);

impl UsageCounter {
    /// What was counted last.
    pub(crate) fn last(&self) -> Usage {
        self.0.lock().0
    }

    /// The users who were online at the last count.
    pub(crate) fn users_online(&self) -> Users {
        self.0.lock().1.clone()
    }

    /// Counts until it is dropped.
    pub(crate) async fn run(self: Arc<Self>, hub: Arc<Hub>, journal: Option<Journal>) {
        let mut written = Instant::now();
        let mut largest = Usage::default();
        let seed = hub.settings().secret.users_seed();
        loop {
            let (usage, users_online) = count(&hub, seed);
            *self.0.lock() = (usage, users_online);
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

fn count(hub: &Hub, seed: u64) -> (Usage, Users) {
    let (mut online, mut in_sessions) = (HashSet::new(), HashSet::new());
    hub.for_each_user(|user, is_online| {
        // Hashes instead of names: they are small, and those that other nodes see tell nothing without the secret.
        let identity = xxh3_64_with_seed(identity(user).as_bytes(), seed);
        in_sessions.insert(identity);
        if is_online {
            online.insert(identity);
        }
    });
    let mut users_online = Users::default();
    online.iter().for_each(|hash| users_online.add(*hash));
    let usage = Usage {
        users_online: online.len() as u64,
        users_in_sessions: in_sessions.len() as u64,
        sessions: hub.totals().sessions as u64,
        connections: hub.connections().count() as u64,
    };
    (usage, users_online)
}

/// What tells a user from others: the address, else the id.
fn identity(user: &User) -> String {
    user.email.as_ref().filter(|email| !email.is_empty()).map_or_else(|| user.id.clone(), |email| email.to_lowercase())
}

//! How much is used: users and sessions, counted now and then.
//!
//! The first of all nodes tells it for all of them, to the store and to `usage.log`: users who are on two nodes count once,
//! and a session that moves is not taken for two. While a node knows nothing of the others it tells what it has itself.
//!
//! - `peak`: the largest figures of a slot, for the store. `log`: `usage.log`.

mod log;
mod peak;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ctedge_protocol::User;
use ctedge_store::AuditUser;
use ctedge_telemetry::Users;
use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use self::peak::Peak;
use crate::app::App;
use crate::hub::Hub;

pub(crate) use log::{open, write};

/// How often users are counted: each count looks at every session.
const COUNT_EVERY: Duration = Duration::from_secs(5);

/// How much is used at one time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) users_online: u64,
    pub(crate) users_in_sessions: u64,
    pub(crate) sessions: u64,
    pub(crate) connections: u64,
}

/// Whose usage it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    AllNodes,
    ThisNode,
}

/// The last count.
#[derive(Debug, Default)]
pub(crate) struct UsageCounter(Mutex<Counted>);

/// The node's own usage, and its users in a form that is added up with those of other nodes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counted {
    pub(crate) usage: Usage,
    pub(crate) users_online: Users,
    pub(crate) users_in_sessions: Users,
}

impl UsageCounter {
    /// What was counted last.
    pub(crate) fn last(&self) -> Usage {
        self.0.lock().usage
    }

    /// What was counted last, with the users.
    pub(crate) fn counted(&self) -> Counted {
        self.0.lock().clone()
    }

    fn count(&self, hub: &Hub) {
        *self.0.lock() = count(hub);
    }
}

/// Counts until it is dropped, and writes what was used most into the store.
pub(crate) async fn run(app: Arc<App>) {
    let mut peaks = [(Scope::AllNodes, Peak::default()), (Scope::ThisNode, Peak::default())];
    loop {
        app.usage.count(&app.hub);
        if let (Some(journal), Some((scope, usage))) = (&app.journal, app.usage_to_tell()) {
            let now = SystemTime::now();
            let (_, peak) = &mut peaks[usize::from(scope == Scope::ThisNode)];
            if let Some(usage) = peak.risen(journal.slot(now), usage) {
                journal.usage(now, scope, usage);
            }
        }
        tokio::time::sleep(COUNT_EVERY).await;
    }
}

fn count(hub: &Hub) -> Counted {
    let seed = hub.settings().secret.users_seed();
    let (mut online, mut in_sessions) = (HashSet::new(), HashSet::new());
    hub.for_each_user(|user, is_online| {
        // Hashes instead of names: they are small, and those that other nodes see tell nothing without the secret.
        let identity = xxh3_64_with_seed(audit_user(user).identity().as_bytes(), seed);
        in_sessions.insert(identity);
        if is_online {
            online.insert(identity);
        }
    });
    let usage = Usage {
        users_online: online.len() as u64,
        users_in_sessions: in_sessions.len() as u64,
        sessions: hub.totals().sessions as u64,
        connections: hub.connections().count() as u64,
    };
    Counted { usage, users_online: users(&online), users_in_sessions: users(&in_sessions) }
}

fn users(hashes: &HashSet<u64>) -> Users {
    let mut users = Users::default();
    hashes.iter().for_each(|hash| users.add(*hash));
    users
}

/// A user as the store knows and counts users.
pub(crate) fn audit_user(user: &User) -> AuditUser {
    let User { id, name, email, auth_provider } = user.clone();
    AuditUser { id: Some(id), name, email, provider: Some(auth_provider) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_logs_in_twice_by_the_form_is_one_user() {
        assert_eq!(AuditUser::UNVERIFIED, ctedge_protocol::http::SIMPLE_LOGIN_PROVIDER);
        let user = |id: &str, provider: &str| {
            let user = User { id: id.into(), name: "Ada".into(), email: None, auth_provider: provider.into() };
            audit_user(&user).identity()
        };
        assert_eq!(user("1", AuditUser::UNVERIFIED), user("2", AuditUser::UNVERIFIED));
        assert_ne!(user("1", "sso"), user("2", "sso"));
    }
}

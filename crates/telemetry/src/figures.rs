//! The figures of one node, and of all together.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::users::Users;

/// The editors whose clients are downloaded. Their figures are there before the first download, so that the first one
/// shows as a rise.
const IDES: [&str; 3] = ["eclipse", "intellij", "vscode"];

/// What operators watch of one node, or of all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Different users with an open connection.
    pub users_online: Users,
    /// Different users in sessions, those included who are about to come back. A node of an earlier version tells none.
    #[serde(default)]
    pub users_in_sessions: Users,
    /// Sessions that have not ended.
    pub sessions: u64,
    /// Connections of peers to these sessions.
    pub connections: u64,
    /// How late the event loop runs its timers, in seconds. Of all nodes, their average.
    pub lag_seconds: f64,
    /// What only rises. `None` while it is unknown.
    pub totals: Option<Totals>,
}

/// What only rises: of one node since its start, of all nodes since there is the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Sessions hosted.
    pub sessions_hosted: u64,
    /// Plugins and extensions downloaded, by IDE.
    pub downloads: BTreeMap<String, u64>,
}

impl Totals {
    /// So many sessions, and these downloads.
    #[must_use]
    pub fn new(sessions_hosted: u64, downloads: BTreeMap<String, u64>) -> Self {
        let none = IDES.into_iter().map(|ide| (ide.to_owned(), 0));
        Self { sessions_hosted, downloads: none.chain(downloads).collect() }
    }
}

impl Figures {
    /// Those of whoever has stopped.
    #[must_use]
    pub fn at_rest(totals: Option<Totals>) -> Self {
        Self { totals, ..Self::default() }
    }

    /// What all nodes have together. What only rises is not known from what nodes have had since their starts: `totals`
    /// come from the store.
    #[must_use]
    pub fn sum<'a>(of_nodes: impl IntoIterator<Item = &'a Self>, totals: Option<Totals>) -> Self {
        let mut sum = Self { totals, ..Self::default() };
        let mut nodes = 0.0;
        for figures in of_nodes {
            nodes += 1.0;
            sum.users_online.merge(&figures.users_online);
            sum.users_in_sessions.merge(&figures.users_in_sessions);
            sum.sessions += figures.sessions;
            sum.connections += figures.connections;
            sum.lag_seconds += figures.lag_seconds;
        }
        if nodes > 0.0 {
            sum.lag_seconds /= nodes;
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_lags_average_and_users_count_once() {
        let mut users = Users::default();
        users.add(7);
        let own = Some(Totals::new(9, BTreeMap::new()));
        let one = Figures {
            users_online: users.clone(),
            users_in_sessions: users,
            sessions: 2,
            connections: 4,
            lag_seconds: 0.004,
            totals: own,
        };
        let other = Figures { sessions: 5, lag_seconds: 0.002, ..one.clone() };
        let totals = Totals::new(3, BTreeMap::from([("vscode".to_owned(), 4)]));
        let sum = Figures::sum([&one, &other], Some(totals.clone()));
        assert_eq!((sum.sessions, sum.connections), (7, 8));
        assert_eq!((sum.users_online.count(), sum.users_in_sessions.count()), (1, 1));
        assert!((sum.lag_seconds - 0.003).abs() < 1e-9, "{}", sum.lag_seconds);
        assert_eq!(sum.totals, Some(totals));
        assert_eq!(Figures::sum([], None), Figures::default());
    }

    #[test]
    fn an_editor_without_a_download_has_a_figure() {
        let totals = Totals::new(0, BTreeMap::from([("vscode".to_owned(), 4)]));
        assert_eq!(totals.downloads["vscode"], 4);
        assert_eq!(totals.downloads["eclipse"], 0);
        assert_eq!(totals.downloads.len(), IDES.len());
    }
}

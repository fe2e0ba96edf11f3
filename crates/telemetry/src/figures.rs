//! The figures of one node, and their sum.

use std::collections::BTreeMap;

/// What operators watch of one node, or of all.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures {
    /// Different users with an open connection. In a sum, a user on two nodes counts twice.
    pub users_online: u64,
    /// Sessions that have not ended.
    pub sessions: u64,
    /// Connections of peers to these sessions.
    pub connections: u64,
    /// How late the event loop runs its timers, in seconds. In a sum, the average over the nodes.
    pub lag_seconds: f64,
    /// Sessions ever hosted.
    pub sessions_hosted: u64,
    /// Plugins and extensions ever downloaded, by IDE.
    pub downloads: BTreeMap<String, u64>,
}

impl Figures {
    /// What all nodes have together.
    #[must_use]
    pub fn sum<'a>(of_nodes: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut sum = Self::default();
        let mut nodes = 0.0;
        for figures in of_nodes {
            nodes += 1.0;
            sum.users_online += figures.users_online;
            sum.sessions += figures.sessions;
            sum.connections += figures.connections;
            sum.lag_seconds += figures.lag_seconds;
            sum.sessions_hosted += figures.sessions_hosted;
            for (ide, count) in &figures.downloads {
                *sum.downloads.entry(ide.clone()).or_default() += count;
            }
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
    fn counts_add_up_and_lags_average() {
        let downloads = |count| BTreeMap::from([("vscode".to_owned(), count)]);
        let one = Figures { sessions: 2, lag_seconds: 0.004, downloads: downloads(3), ..Figures::default() };
        let other = Figures { sessions: 5, lag_seconds: 0.002, downloads: downloads(1), ..Figures::default() };
        let sum = Figures::sum([&one, &other]);
        assert_eq!((sum.sessions, sum.downloads), (7, downloads(4)));
        assert!((sum.lag_seconds - 0.003).abs() < 1e-9, "{}", sum.lag_seconds);
        assert_eq!(Figures::sum([]), Figures::default());
    }
}

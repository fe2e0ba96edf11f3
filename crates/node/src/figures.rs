//! The operators' figures: the node's own, those of the nodes beside it, and the sums.
//!
//! A node's heartbeat carries its figures into the store, as a part of its report, and brings back the reports of all. So
//! any node knows the sums, and none has to ask another. A node whose heartbeat stands still is left out of them. What
//! only rises is read from the store itself, whose counts survive every node.
//!
//! - `statsd`: sends them.

mod statsd;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ctedge_ownership::{Lease, LeaseId};
use ctedge_store::Store;
use ctedge_telemetry::{Figures, Totals};
use ctedge_wire::HealthReport;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::usage::{Scope, Usage};
pub(crate) use statsd::{send, send_last};

/// How long totals are told without asking the store again. Prometheus takes a total that was larger a moment ago, on
/// another node, for one that began anew: this is shorter than any interval it reads in.
const TOTALS_KEPT: Duration = Duration::from_secs(1);

/// After how many times the silence that makes a lease suspicious nothing is said about the other nodes any more.
const SILENCES_KNOWN: u32 = 3;

/// What a node says of itself beside its lease. Whoever wants the health report alone reads it from the same text.
#[derive(Serialize)]
pub(crate) struct LeaseReport {
    #[serde(flatten)]
    pub(crate) health: HealthReport,
    pub(crate) figures: Figures,
    /// Whether the node can take no more sessions, or no more of their connections.
    full: bool,
    /// The nodes whose sessions somebody looks for here, since a balancer does not reach them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    awaited: Vec<String>,
}

/// What others read of it. A node of an earlier version tells no figures.
#[derive(Deserialize)]
struct Reported {
    figures: Option<Figures>,
}

/// Whether a node that reports this has no room. A report that does not say so means that it has.
pub(crate) fn says_full(report: &str) -> bool {
    #[derive(Deserialize)]
    struct Reported {
        full: bool,
    }
    serde_json::from_str(report).is_ok_and(|Reported { full }| full)
}

/// What the node knows for its figures beside what it counts anyway.
#[derive(Default)]
pub(crate) struct FigureBoard {
    others: Mutex<Option<Others>>,
    downloads: Mutex<BTreeMap<String, u64>>,
    /// What the store said last, and when. Held while it is asked, so that it is asked once for all who wait.
    totals: tokio::sync::Mutex<Option<(Instant, Option<Totals>)>>,
}

/// The other nodes, as the last heartbeat told of them.
#[derive(Clone)]
struct Others {
    at: Instant,
    figures: BTreeMap<String, Figures>,
    /// Whether the node's own lease is the first of all: one node speaks for all of them.
    is_first: bool,
}

impl Others {
    /// The figures of all nodes, with the `own` ones.
    fn and<'a>(&'a self, own: &'a Figures) -> impl Iterator<Item = &'a Figures> {
        self.figures.values().chain([own])
    }
}

impl FigureBoard {
    /// Takes what a heartbeat told of the leases that beat beside the own one.
    pub(crate) fn learn<'a>(&self, own: &LeaseId, beating: impl Iterator<Item = &'a Lease>, now: Instant) {
        let mut others = Others { at: now, figures: BTreeMap::new(), is_first: true };
        for lease in beating {
            others.is_first &= *own < lease.id;
            let reported = serde_json::from_str(&lease.report).ok();
            if let Some(figures) = reported.and_then(|Reported { figures }| figures) {
                others.figures.insert(lease.id.node.as_str().to_owned(), figures);
            }
        }
        *self.others.lock() = Some(others);
    }

    /// Counts a client that was downloaded completely.
    pub(crate) fn downloaded(&self, ide: &str) {
        *self.downloads.lock().entry(ide.to_owned()).or_default() += 1;
    }

    async fn totals(&self, store: &Store) -> Option<Totals> {
        let mut last = self.totals.lock().await;
        match &*last {
            Some((at, totals)) if at.elapsed() < TOTALS_KEPT => totals.clone(),
            _ => {
                let totals = store.lifetime().await.ok();
                let totals = totals.map(|lifetime| Totals::new(lifetime.sessions, lifetime.downloads));
                *last = Some((Instant::now(), totals.clone()));
                totals
            }
        }
    }
}

impl App {
    /// What the heartbeat tells other nodes. People wait here for sessions of the nodes `awaited`.
    pub(crate) fn lease_report(&self, awaited: Vec<String>) -> LeaseReport {
        LeaseReport { health: self.health(), figures: self.own_figures(), full: self.hub.is_full(), awaited }
    }

    /// The node's own figures.
    pub(crate) fn own_figures(&self) -> Figures {
        let downloads = self.figures.downloads.lock().clone();
        let counted = self.usage.counted();
        Figures {
            users_online: counted.users_online,
            users_in_sessions: counted.users_in_sessions,
            sessions: self.hub.totals().sessions as u64,
            connections: self.hub.connections().count() as u64,
            lag_seconds: self.lag.average_ms() / 1000.0,
            totals: Some(Totals::new(self.hub.metrics().sessions_created.get(), downloads)),
        }
    }

    /// The figures as Prometheus reads them: those of each node by its id, and the sums. Without a store, or without news
    /// of it, the own ones are all that is known.
    pub(crate) async fn exposition(&self) -> String {
        let own = self.own_figures();
        let others = self.others();
        let sum = self.sum(&own, others.as_ref()).await;
        let mut nodes = others.map(|others| others.figures).unwrap_or_default();
        nodes.insert(self.settings().id.clone(), own);
        ctedge_telemetry::render(&nodes, sum.as_ref())
    }

    /// What the node leaves behind when it stops: its own figures, and the sums if there is nobody else to have any.
    async fn last_figures(&self) -> (Figures, Option<Figures>) {
        let own = Figures::at_rest(self.own_figures().totals);
        let others = self.others().filter(|others| others.figures.is_empty());
        let sum = self.sum(&own, others.as_ref()).await;
        (own, sum)
    }

    /// The sums, if it is this node that tells them.
    pub(crate) async fn sum_to_tell(&self, own: &Figures) -> Option<Figures> {
        let others = self.others().filter(|others| others.is_first);
        self.sum(own, others.as_ref()).await
    }

    /// How much is used of what this node speaks for: the first of all nodes for all of them, the others for nothing.
    /// Whoever knows nothing of the others, since there is no store or none that answers, speaks for itself.
    pub(crate) fn usage_to_tell(&self) -> Option<(Scope, Usage)> {
        let own = self.usage.last();
        let Some(others) = self.others() else {
            let has_known_others = self.keeper.is_none() || self.figures.others.lock().is_some();
            return has_known_others.then_some((Scope::ThisNode, own));
        };
        let is_alone = others.figures.is_empty();
        others.is_first.then(|| {
            // The own count is exact for any number of users.
            let usage = if is_alone { own } else { usage_of(&Figures::sum(others.and(&self.own_figures()), None)) };
            (Scope::AllNodes, usage)
        })
    }

    async fn sum(&self, own: &Figures, others: Option<&Others>) -> Option<Figures> {
        let (others, store) = (others?, self.keeper.as_ref()?.store()?);
        let totals = self.figures.totals(store).await;
        Some(Figures::sum(others.and(own), totals))
    }

    /// The other nodes, if something was heard of them lately.
    fn others(&self) -> Option<Others> {
        let known_for = self.settings().lease.lost_after * SILENCES_KNOWN;
        self.figures.others.lock().clone().filter(|others| others.at.elapsed() < known_for)
    }
}

fn usage_of(figures: &Figures) -> Usage {
    Usage {
        users_online: figures.users_online.count(),
        users_in_sessions: figures.users_in_sessions.count(),
        sessions: figures.sessions,
        connections: figures.connections,
    }
}

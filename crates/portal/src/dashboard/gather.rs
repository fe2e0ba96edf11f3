//! Where the state of everything comes from: the node that is asked, the store that all nodes share, and the registry.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ctedge_ownership::Lease;
use ctedge_store::{Day as CivilDay, DownloadFigures, Store, StoreFailure, UnixMillis};
use ctedge_wire::HealthReport;
use ctedge_wire::health::{NodeStatus, StoreState};

use super::problems;
use super::state::{Client, DAYS, Day, Download, Node, NodeState, Seats, Sessions, State, Users, Versions};
use crate::portal::Portal;

/// A page does not wait longer for a registry: what it answers later is there for the next one.
const REGISTRY_PATIENCE: Duration = Duration::from_millis(1_500);

const DAY_MILLIS: u64 = 86_400_000;

/// The state at this moment. It takes no longer than the store's timeout, or what a registry is waited for: everything is
/// asked at the same time.
pub(super) async fn gather(portal: &Portal) -> State {
    let now = now();
    let (mut state, versions) = tokio::join!(of_nodes(portal, now), versions(portal));
    state.at = timestamp(now);
    state.versions = versions;
    state.problems = problems::problems(&state);
    state
}

async fn versions(portal: &Portal) -> Option<Versions> {
    let asking = portal.clone();
    // What is answered too late for this page is there for the next one.
    let answer = tokio::spawn(async move { asking.versions().await });
    match tokio::time::timeout(REGISTRY_PATIENCE, answer).await {
        Ok(Ok(listed)) => listed.map(|listed| match listed {
            Ok(published) => Versions { published: published.to_vec(), problem: None },
            Err(error) => Versions { published: Vec::new(), problem: Some(error.to_string()) },
        }),
        // It panicked, which was logged.
        Ok(Err(_)) => None,
        Err(_) => Some(Versions { problem: Some("the registry has not answered yet".into()), ..Versions::default() }),
    }
}

/// What the store knows of all nodes, or else what the node that is asked knows by itself.
async fn of_nodes(portal: &Portal, now: u64) -> State {
    let health = portal.surroundings().health();
    let listed = &portal.settings().nodes;
    let read = match portal.surroundings().store() {
        Some(store) => of_all(&store, &health, listed, now).await,
        None if health.store == StoreState::None => return alone(&health, listed),
        // It has not been opened yet.
        None => Err(StoreFailure::Unreachable),
    };
    read.unwrap_or_else(|failure| State { store_failure: Some(failure.to_string()), ..alone(&health, listed) })
}

/// What the node knows by itself: nothing of the others that the settings list.
fn alone(health: &HealthReport, listed: &[String]) -> State {
    let node = Node {
        id: health.node.clone(),
        state: state_of(health.status),
        listed: true,
        report: Some(health.clone()),
        ..Node::default()
    };
    let unknown = |id: &String| Node { id: id.clone(), state: NodeState::Unknown, listed: true, ..Node::default() };
    let mut nodes: Vec<_> = listed.iter().filter(|id| **id != health.node).map(unknown).collect();
    nodes.push(node);
    nodes.sort_by(|one, other| one.id.cmp(&other.id));
    summed(health, nodes, None)
}

/// What the store knows of all nodes.
async fn of_all(store: &Store, health: &HealthReport, listed: &[String], now: u64) -> Result<State, StoreFailure> {
    // The operator's days may be a day ahead of UTC.
    let day = |millis: u64| CivilDay::of_utc(UnixMillis(millis));
    let (from, to) = (day(now.saturating_sub((DAYS - 1) * DAY_MILLIS)), day(now + DAY_MILLIS));
    let (leases, held, downloads, days, totals, unique, clients) = tokio::try_join!(
        store.leases(),
        store.seats_held(),
        store.downloads(from, to),
        store.days(from, to),
        store.totals(),
        store.unique_users(from, to),
        store.clients(from, to),
    )?;
    let mut state = summed(health, nodes(leases, listed, health), Some(held));
    state.of_all_nodes = true;
    state.users.unique = Some(unique);
    state.sessions.total = Some(totals.sessions);
    state.sessions.average_size =
        (totals.sessions > 0).then(|| (totals.sessions + totals.joins) as f64 / totals.sessions as f64);
    state.days = Some(by_day(days, &downloads));
    state.downloads = Some(by_version(downloads));
    let client = |figures: ctedge_store::ClientFigures| Client {
        name: figures.client,
        hosted: figures.hosted,
        joined: figures.joined,
    };
    state.clients = Some(clients.into_iter().map(client).collect());
    Ok(state)
}

/// The figures of `nodes` together.
fn summed(health: &HealthReport, nodes: Vec<Node>, held: Option<u64>) -> State {
    let sum = |figure: fn(&HealthReport) -> u64| nodes.iter().filter_map(Node::alive).map(figure).sum();
    let users =
        Users { online: sum(|node| node.users_online), in_sessions: sum(|node| node.users_in_sessions), unique: None };
    let sessions = Sessions {
        open: sum(|node| node.sessions),
        peers: sum(|node| node.peers),
        connections: sum(|node| node.connections),
        ..Sessions::default()
    };
    let seats = health.seats.map(|seats| Seats {
        licensed: seats.licensed.into(),
        taken: sum(|node| node.seats.map_or(0, |seats| seats.taken.into())),
        held: held.unwrap_or(seats.held.into()),
    });
    State {
        node: health.node.clone(),
        version: health.version.clone(),
        store: health.store,
        license: health.license.clone(),
        nodes,
        users,
        sessions,
        seats,
        ..State::default()
    }
}

/// One node for each id: of its processes the one that runs, or else the last one.
fn nodes(leases: Vec<Lease>, listed: &[String], health: &HealthReport) -> Vec<Node> {
    let mut nodes: BTreeMap<String, Node> = BTreeMap::new();
    for id in listed {
        nodes.insert(id.clone(), Node { id: id.clone(), listed: true, ..Node::default() });
    }
    for lease in leases {
        let id = lease.id.node.as_str().to_owned();
        let node = nodes.entry(id.clone()).or_insert_with(|| Node { id, ..Node::default() });
        // Leases come by id, and of one node in the order of their starts.
        if node.state == NodeState::Down || lease.ended.is_none() {
            let listed = node.listed;
            *node = Node { listed, ..of_lease(&lease) };
        }
    }
    // What this node says of itself is younger than what it last wrote.
    if let Some(own) = nodes.get_mut(&health.node)
        && own.alive().is_some_and(|report| report.incarnation == health.incarnation)
    {
        (own.state, own.report) = (state_of(health.status), Some(health.clone()));
    }
    nodes.into_values().collect()
}

fn of_lease(lease: &Lease) -> Node {
    Node {
        id: lease.id.node.as_str().to_owned(),
        state: if lease.ended.is_some() { NodeState::Down } else { state_of(lease.status) },
        address: Some(lease.address.to_string()),
        listed: false,
        stopped: lease.ended.is_some() && lease.status == NodeStatus::Draining,
        // A node of another version may say it in another way.
        report: serde_json::from_str(&lease.report).ok(),
    }
}

fn state_of(status: NodeStatus) -> NodeState {
    match status {
        NodeStatus::Ready => NodeState::Ready,
        NodeStatus::Draining => NodeState::Draining,
        NodeStatus::Suspended => NodeState::Suspended,
    }
}

fn by_day(figures: Vec<ctedge_store::DayFigures>, downloads: &[DownloadFigures]) -> Vec<Day> {
    let mut days: BTreeMap<String, Day> = BTreeMap::new();
    let empty = |day: &str| Day {
        day: day.to_owned(),
        sessions: 0,
        joins: 0,
        sessions_most: 0,
        users_online_most: 0,
        users: 0,
        downloads: 0,
    };
    for of_day in figures {
        let day = of_day.day.to_string();
        let figures = Day {
            sessions: of_day.sessions,
            joins: of_day.joins,
            sessions_most: of_day.sessions_most,
            users_online_most: of_day.users_online_most,
            users: of_day.users,
            ..empty(&day)
        };
        days.insert(day, figures);
    }
    for download in downloads {
        let day = download.day.to_string();
        days.entry(day.clone()).or_insert_with(|| empty(&day)).downloads += download.downloads;
    }
    days.into_values().collect()
}

fn by_version(figures: Vec<DownloadFigures>) -> Vec<Download> {
    let mut versions: BTreeMap<(String, String), u64> = BTreeMap::new();
    for figure in figures {
        *versions.entry((figure.ide, figure.version)).or_default() += figure.downloads;
    }
    let download = |((ide, version), downloads)| Download { ide, version, downloads };
    versions.into_iter().map(download).collect()
}

/// Milliseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn timestamp(millis: u64) -> String {
    let seconds = millis / 1000 % 86_400;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{}T{hours:02}:{minutes:02}:{seconds:02}Z", CivilDay::of_utc(UnixMillis(millis)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ctedge_ownership::{LeaseEnd, LeaseId, NodeId};

    fn lease(node: &str, incarnation: u64, ended: bool, status: NodeStatus) -> Lease {
        let report =
            HealthReport { node: node.into(), incarnation, status, sessions: incarnation, ..HealthReport::default() };
        Lease {
            id: LeaseId::new(NodeId::new(node), incarnation),
            address: "127.0.0.1:3001".parse().unwrap(),
            beat: 1,
            status,
            ended: ended.then_some(LeaseEnd::Exited),
            report: serde_json::to_string(&report).unwrap(),
        }
    }

    #[test]
    fn each_node_is_shown_once_and_those_that_do_not_run_too() {
        use NodeStatus::{Draining, Ready, Suspended};
        let leases = vec![
            lease("node-1", 1, true, Ready),
            lease("node-1", 2, false, Ready),
            lease("node-2", 1, true, Ready),
            lease("node-2", 2, true, Draining),
            lease("node-4", 1, false, Suspended),
        ];
        let listed = ["node-1", "node-2", "node-3"].map(str::to_owned);
        let health = HealthReport { node: "node-1".into(), incarnation: 2, sessions: 9, ..HealthReport::default() };
        let nodes = nodes(leases, &listed, &health);
        let of = |node: &Node| {
            (node.id.clone(), node.state, node.listed, node.stopped, node.alive().map(|node| node.sessions))
        };
        let expected = [
            ("node-1".to_owned(), NodeState::Ready, true, false, Some(9)),
            ("node-2".to_owned(), NodeState::Down, true, true, None),
            ("node-3".to_owned(), NodeState::Down, true, false, None),
            ("node-4".to_owned(), NodeState::Suspended, false, false, Some(1)),
        ];
        assert_eq!(nodes.iter().map(of).collect::<Vec<_>>(), expected);
        // A dead node serves nobody, whatever it said last.
        assert_eq!(summed(&health, nodes, None).sessions.open, 10);
    }

    #[test]
    fn without_an_answer_of_the_store_the_other_nodes_are_unknown() {
        let health = HealthReport { node: "node-2".into(), sessions: 9, ..HealthReport::default() };
        let state = alone(&health, &["node-1", "node-2", "node-3"].map(str::to_owned));
        let nodes: Vec<_> = state.nodes.iter().map(|node| (node.id.as_str(), node.state)).collect();
        let unknown = NodeState::Unknown;
        assert_eq!(nodes, [("node-1", unknown), ("node-2", NodeState::Ready), ("node-3", unknown)]);
        assert_eq!((state.sessions.open, state.of_all_nodes), (9, false));
    }

    #[test]
    fn a_time_is_written_as_programs_read_it() {
        assert_eq!(timestamp(1_793_491_200_000 + 45_296_789), "2026-11-01T12:34:56Z");
    }
}

//! Turns checks and failed connects of one node into its state.
//!
//! A node is down until its first check succeeds: a node that was just listed gets no keys before it has answered
//! once. From then on it takes `fall` failures in a row to take it down, and `rise` successes in a row to bring it up
//! again. A refused connect needs no second opinion: nobody listens there, so that the node is down at once and its
//! keys can go on elsewhere; the good answer to a check that was asked before that is of the process that has ended, and
//! counts for nothing. What a node that is up says of itself (draining, suspended) counts at once too.
//!
//! A node that reaches neither the store nor the other nodes cannot know that they have taken its sessions over. They say so,
//! and whoever hears both believes them: that node is down until it has begun anew.

use std::time::Instant;

use ctedge_wire::{HealthReport, NodeStatus};

use crate::node::NodeState;

/// Why a node is down that answers its checks.
const OVER: &str = "its lease is over and it goes on: it reaches neither the store nor the other nodes";

/// How many checks in a row change a node's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// Successes that bring a node up. 0 is taken as 1.
    pub rise: u32,
    /// Failures that take it down. 0 is taken as 1.
    pub fall: u32,
}

/// A node's state became another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateChange {
    /// What it was.
    pub from: NodeState,
    /// What it is.
    pub to: NodeState,
}

/// How a connect to a node failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectFailure {
    /// Nobody listens at the address.
    Refused,
    /// Anything else, a timeout above all: it may be the node, the way there, or a moment of overload.
    Other,
}

/// The health of one node.
#[derive(Debug, Clone)]
pub struct HealthMachine {
    thresholds: Thresholds,
    /// Whether checks say that the node answers.
    up: bool,
    /// Whether any check ever succeeded.
    seen: bool,
    /// Checks in a row that say the opposite of `up`.
    contrary: u32,
    said: NodeStatus,
    ordered: NodeStatus,
    since: Instant,
    /// When a connect was last refused.
    refused: Option<Instant>,
    report: Option<HealthReport>,
    trouble: Option<String>,
    /// The start of the node's process whose lease is over, as another node said.
    over: Option<u64>,
}

impl HealthMachine {
    /// A node of which nothing is known yet: it is down.
    #[must_use]
    pub fn new(thresholds: Thresholds, now: Instant) -> Self {
        Self {
            thresholds,
            up: false,
            seen: false,
            contrary: 0,
            said: NodeStatus::Ready,
            ordered: NodeStatus::Ready,
            since: now,
            refused: None,
            report: None,
            trouble: None,
            over: None,
        }
    }

    /// The state: the worse of what the node said and what the operator ordered, while it answers.
    #[must_use]
    pub fn state(&self) -> NodeState {
        if self.up && !self.is_over() {
            NodeState::from(self.said).max(NodeState::from(self.ordered))
        } else {
            NodeState::Down
        }
    }

    /// When the state last changed.
    #[must_use]
    pub fn since(&self) -> Instant {
        self.since
    }

    /// What the node last said of itself.
    #[must_use]
    pub fn report(&self) -> Option<&HealthReport> {
        self.report.as_ref()
    }

    /// Why the last check or connect failed, if the last one did, or why the node is down though it answers.
    #[must_use]
    pub fn trouble(&self) -> Option<&str> {
        if self.is_over() { Some(OVER) } else { self.trouble.as_deref() }
    }

    /// Another node said that the lease is over which this one had as `incarnation`. As long as it goes on as that, it serves
    /// what may be another's already. What is over of its former lives says nothing of this one.
    pub fn lease_over(&mut self, incarnation: u64, now: Instant) -> Option<StateChange> {
        let is_current = self.report.as_ref().is_some_and(|report| report.incarnation == incarnation);
        if is_current { self.change(now, |health| health.over = Some(incarnation)) } else { None }
    }

    /// Whether the node goes on with a lease that is over.
    pub(crate) fn is_over(&self) -> bool {
        self.over.is_some() && self.over == self.report.as_ref().map(|report| report.incarnation)
    }

    /// A check that was sent at `asked` found the node serving. `report` is what it said of itself; a server that is not
    /// ours says nothing and is taken as ready.
    pub fn check_succeeded(
        &mut self,
        report: Option<HealthReport>,
        asked: Instant,
        now: Instant,
    ) -> Option<StateChange> {
        if self.refused.is_some_and(|refused| asked < refused) {
            return None;
        }
        self.change(now, |health| {
            health.said = report.as_ref().map_or(NodeStatus::Ready, |report| report.status);
            health.report = report;
            health.trouble = None;
            if health.up {
                health.contrary = 0;
            } else {
                health.contrary += 1;
                health.up = !health.seen || health.contrary >= health.thresholds.rise;
                health.contrary = if health.up { 0 } else { health.contrary };
            }
            health.seen = true;
        })
    }

    /// Another node said that this one is alive. It is believed until a check or a connect says otherwise.
    pub fn vouched_for(&mut self, now: Instant) -> Option<StateChange> {
        self.change(now, |health| health.up = true)
    }

    /// A check failed, for this reason.
    pub fn check_failed(&mut self, reason: &str, now: Instant) -> Option<StateChange> {
        self.change(now, |health| health.failed(reason, false))
    }

    /// A request could not connect to the node.
    pub fn connect_failed(&mut self, failure: ConnectFailure, now: Instant) -> Option<StateChange> {
        self.change(now, |health| match failure {
            ConnectFailure::Refused => {
                health.refused = Some(now);
                health.failed("the connection was refused", true);
            }
            ConnectFailure::Other => health.failed("the connection could not be made", false),
        })
    }

    /// The operator's word, for servers that know no states of their own: it holds until another word is given.
    pub fn ordered(&mut self, status: NodeStatus, now: Instant) -> Option<StateChange> {
        self.change(now, |health| health.ordered = status)
    }

    /// Takes other thresholds, after a reload.
    pub fn set_thresholds(&mut self, thresholds: Thresholds) {
        self.thresholds = thresholds;
    }

    fn failed(&mut self, reason: &str, certain: bool) {
        self.trouble = Some(reason.to_owned());
        if self.up {
            self.contrary += 1;
            self.up = !certain && self.contrary < self.thresholds.fall;
            self.contrary = if self.up { self.contrary } else { 0 };
        } else {
            self.contrary = 0;
        }
    }

    fn change(&mut self, now: Instant, event: impl FnOnce(&mut Self)) -> Option<StateChange> {
        let from = self.state();
        event(self);
        let to = self.state();
        if from == to {
            return None;
        }
        self.since = now;
        Some(StateChange { from, to })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// What happens to a node, one letter each: `.` a good check, `d` and `s` one that says draining or suspended,
    /// `x` a failed check, `r` a refused connect, `t` a connect that timed out.
    fn states(events: &str) -> Vec<&'static str> {
        let start = Instant::now();
        let mut health = HealthMachine::new(Thresholds { rise: 2, fall: 3 }, start);
        let step = |(second, event): (u64, char)| {
            let now = start + Duration::from_secs(second);
            let before = health.state();
            let change = match event {
                'x' => health.check_failed("timeout", now),
                'r' => health.connect_failed(ConnectFailure::Refused, now),
                't' => health.connect_failed(ConnectFailure::Other, now),
                'd' => health.check_succeeded(Some(report(NodeStatus::Draining)), now, now),
                's' => health.check_succeeded(Some(report(NodeStatus::Suspended)), now, now),
                _ => health.check_succeeded(None, now, now),
            };
            let expected = (before != health.state()).then(|| StateChange { from: before, to: health.state() });
            assert_eq!(change, expected);
            if change.is_some() {
                assert_eq!(health.since(), now);
            }
            health.state().as_str()
        };
        (0..).zip(events.chars()).map(step).collect()
    }

    fn report(status: NodeStatus) -> HealthReport {
        let (node, version) = ("node-1".to_owned(), "0.1.0".to_owned());
        HealthReport { status, node, pid: 1, version, uptime_s: 1, sessions: 0, peers: 0, ..HealthReport::default() }
    }

    #[test]
    fn a_node_is_down_until_its_first_check_succeeds() {
        assert_eq!(states("xx."), ["down", "down", "ready"]);
    }

    #[test]
    fn failures_in_a_row_take_a_node_down_and_successes_in_a_row_bring_it_up() {
        assert_eq!(states(".xx.xxx"), ["ready", "ready", "ready", "ready", "ready", "ready", "down"]);
        assert_eq!(states(".xxx.x..")[3..], ["down", "down", "down", "down", "ready"]);
    }

    #[test]
    fn a_refused_connect_takes_a_node_down_at_once_and_a_timeout_counts_as_one_failure() {
        assert_eq!(states(".r"), ["ready", "down"]);
        assert_eq!(states(".tt"), ["ready", "ready", "ready"]);
        assert_eq!(states(".ttx")[3], "down");
    }

    #[test]
    fn a_check_that_was_asked_before_a_connect_was_refused_does_not_bring_the_node_back() {
        let asked = Instant::now();
        let refused = asked + Duration::from_millis(1);
        let mut health = HealthMachine::new(Thresholds { rise: 1, fall: 3 }, asked);
        health.check_succeeded(None, asked, asked);
        health.connect_failed(ConnectFailure::Refused, refused);
        assert_eq!(health.check_succeeded(None, asked, refused), None);
        assert_eq!(health.state(), NodeState::Down);
        assert!(health.check_succeeded(None, refused, refused).is_some());
    }

    #[test]
    fn what_a_node_says_of_itself_counts_at_once() {
        assert_eq!(states(".ds."), ["ready", "draining", "suspended", "ready"]);
        assert_eq!(states(".drd."), ["ready", "draining", "down", "down", "ready"]);
    }

    #[test]
    fn a_node_whose_lease_is_over_is_down_until_it_has_another() {
        let now = Instant::now();
        let mut health = HealthMachine::new(Thresholds { rise: 1, fall: 3 }, now);
        let said = |incarnation| Some(HealthReport { incarnation, ..report(NodeStatus::Ready) });
        health.check_succeeded(said(7), now, now);
        assert_eq!(health.lease_over(6, now), None, "an earlier one");
        assert_eq!(health.lease_over(7, now), Some(StateChange { from: NodeState::Ready, to: NodeState::Down }));
        assert_eq!((health.check_succeeded(said(7), now, now), health.trouble()), (None, Some(OVER)));
        let back = Some(StateChange { from: NodeState::Down, to: NodeState::Ready });
        assert_eq!((health.check_succeeded(said(8), now, now), health.trouble()), (back, None));
        assert_eq!(health.lease_over(7, now), None, "the others say it for a while");
        assert_eq!(health.lease_over(8, now), Some(StateChange { from: NodeState::Ready, to: NodeState::Down }));
        assert_eq!((health.lease_over(7, now), health.state()), (None, NodeState::Down));
    }

    #[test]
    fn the_operators_order_holds_until_another_and_does_not_bring_a_node_up() {
        let now = Instant::now();
        let mut health = HealthMachine::new(Thresholds { rise: 1, fall: 1 }, now);
        assert_eq!(health.ordered(NodeStatus::Suspended, now), None);
        health.check_succeeded(None, now, now);
        assert_eq!(health.state(), NodeState::Suspended);
        health.check_failed("timeout", now);
        assert_eq!((health.state(), health.trouble()), (NodeState::Down, Some("timeout")));
        health.check_succeeded(Some(report(NodeStatus::Ready)), now, now);
        assert_eq!((health.state(), health.trouble()), (NodeState::Suspended, None));
        let resumed = StateChange { from: NodeState::Suspended, to: NodeState::Ready };
        assert_eq!(health.ordered(NodeStatus::Ready, now), Some(resumed));
    }
}

//! The router's rules, one by one. `tests/simulation.rs` has them all at once.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ctedge_routing::{
    Choice, ConnectFailure, Node, NodeId, NodeSpec, NodeState, Owner, PinReason, Placed, RedirectReason, Redirected,
    Router, RouterSettings, Standing, Thresholds,
};
use ctedge_wire::{HealthReport, Key, LeaseOver, NodeStatus};

const IDLE_MAX: Duration = Duration::from_secs(60);

/// A router over nodes `n1`, `n2`, … that are all up, and a clock.
struct Bench {
    router: Router,
    now: Cell<Instant>,
}

impl Bench {
    fn new(nodes: &[u16]) -> Self {
        Self::with_pins(nodes, 1_000)
    }

    fn with_pins(nodes: &[u16], pins_max: usize) -> Self {
        let thresholds = Thresholds { rise: 1, fall: 2 };
        let settings = RouterSettings { seed: 7, pins_max, pin_idle_max: IDLE_MAX, load_bound: 0.25, thresholds };
        let bench = Self { router: Router::new(&settings), now: Cell::new(Instant::now()) };
        bench.list(nodes);
        nodes.iter().for_each(|number| bench.says(*number, None));
        bench
    }

    fn list(&self, nodes: &[u16]) {
        let specs: Vec<NodeSpec> = nodes.iter().map(|number| spec(*number)).collect();
        self.router.set_nodes(&specs, self.now());
    }

    fn now(&self) -> Instant {
        self.now.get()
    }

    fn pass(&self, seconds: u64) {
        self.now.set(self.now() + Duration::from_secs(seconds));
    }

    fn node(&self, number: u16) -> Arc<Node> {
        self.router.node(&format!("n{number}")).expect("a known node")
    }

    /// A check of the node succeeds; it reports this, or nothing.
    fn says(&self, number: u16, report: Option<(NodeStatus, u64)>) {
        let report = report.map(|(status, sessions)| HealthReport {
            status,
            node: format!("n{number}"),
            pid: 1,
            version: "0".into(),
            uptime_s: 1,
            sessions,
            ..HealthReport::default()
        });
        self.router.check_succeeded(&self.node(number), report, self.now(), self.now());
    }

    fn drains(&self, number: u16) {
        self.says(number, Some((NodeStatus::Draining, 0)));
    }

    fn dies(&self, number: u16) {
        self.router.connect_failed(&self.node(number), ConnectFailure::Refused, self.now());
    }

    fn choose(&self, name: &str, standing: Standing, ranked: &[u16], tried: &[u16]) -> Choice {
        let tried: Vec<_> = tried.iter().map(|number| self.node(*number)).collect();
        self.router.choose(&key(name), standing, addresses(ranked), &tried, self.now())
    }

    /// Chooses and has the node answer.
    fn asks(&self, name: &str, standing: Standing, ranked: &[u16]) -> (u16, PinReason) {
        let placed = placed(self.choose(name, standing, ranked, &[]));
        assert!(self.router.answered(&key(name), &placed.node, self.now()));
        (placed.node.address().port(), placed.reason)
    }

    fn named(&self, name: &str, ranked: &[u16]) -> (u16, PinReason) {
        self.asks(name, Standing::Named, ranked)
    }
}

fn spec(number: u16) -> NodeSpec {
    NodeSpec { id: NodeId::new(&format!("n{number}")), address: address(number), weight: 1 }
}

fn address(number: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], number))
}

fn addresses(numbers: &[u16]) -> Vec<SocketAddr> {
    numbers.iter().map(|number| address(*number)).collect()
}

fn key(name: &str) -> Key {
    Key::parse(name).expect("a sound key")
}

fn placed(choice: Choice) -> Placed {
    match choice {
        Choice::Node(placed) => placed,
        other => panic!("expected a node, not {other:?}"),
    }
}

fn port(choice: Choice) -> u16 {
    placed(choice).node.address().port()
}

#[test]
fn a_key_without_a_pin_goes_to_its_first_rank() {
    let bench = Bench::new(&[1, 2, 3]);
    assert_eq!(bench.named("k", &[2, 1, 3]), (2, PinReason::Placed));
}

#[test]
fn a_pinned_key_stays_when_the_ranks_change() {
    let bench = Bench::new(&[1, 2, 3]);
    bench.named("k", &[2, 1, 3]);
    bench.list(&[1, 2, 3, 4]);
    bench.says(4, None);
    assert_eq!(bench.named("k", &[4, 1, 2, 3]), (2, PinReason::Placed));
    assert_eq!(bench.named("other", &[4, 1, 2, 3]), (4, PinReason::Placed));
}

#[test]
fn a_node_that_leaves_the_list_keeps_its_keys_until_it_is_down_and_gets_no_new_ones() {
    let bench = Bench::new(&[1, 2]);
    bench.named("k", &[2, 1]);
    bench.list(&[1]);
    bench.pass(55);
    bench.router.expire(bench.now());
    assert_eq!(bench.named("k", &[1]).0, 2);
    assert_eq!(bench.named("new", &[2, 1]), (1, PinReason::NextRank));
    bench.pass(10);
    bench.router.expire(bench.now());
    assert_eq!(bench.router.nodes().len(), 2, "it is still there to be checked");
    bench.dies(2);
    assert_eq!(bench.named("k", &[1]), (1, PinReason::Failover));
    bench.router.expire(bench.now());
    assert_eq!(bench.router.nodes().len(), 1);
}

#[test]
fn a_node_that_left_the_list_is_forgotten_when_it_keeps_nothing() {
    let bench = Bench::new(&[1, 2]);
    bench.list(&[1]);
    bench.router.expire(bench.now());
    assert_eq!(bench.router.nodes().len(), 2, "a request may have chosen it a moment ago");
    bench.pass(60);
    bench.router.expire(bench.now());
    assert_eq!(bench.router.nodes().len(), 1);
}

#[test]
fn a_node_id_may_come_back_with_its_keys_or_at_another_address() {
    let bench = Bench::new(&[1, 2]);
    bench.named("k", &[2, 1]);
    bench.list(&[1]);
    let changes = bench.router.set_nodes(&[spec(1), spec(2)], bench.now());
    assert_eq!((changes.added.len(), changes.returned.len(), changes.removed.len()), (0, 1, 0));
    assert_eq!(bench.named("k", &[2, 1]), (2, PinReason::Placed));

    let moved = NodeSpec { address: address(22), ..spec(2) };
    bench.router.set_nodes(&[spec(1), moved], bench.now());
    let node = bench.node(2);
    assert_eq!(node.address(), address(22), "the listed one has the name");
    bench.router.check_succeeded(&node, None, bench.now(), bench.now());
    assert_eq!(bench.named("k", &[22, 1]).0, 2, "the key still lives at the old address");
    assert_eq!(bench.named("new", &[22, 1]).0, 22);
}

#[test]
fn draining_and_suspended_nodes_get_no_new_keys_but_keep_their_own() {
    for status in [NodeStatus::Draining, NodeStatus::Suspended] {
        let bench = Bench::new(&[1, 2]);
        bench.named("k", &[1, 2]);
        bench.says(1, Some((status, 1)));
        assert_eq!(bench.named("k", &[1, 2]), (1, PinReason::Placed));
        for standing in [Standing::Named, Standing::Fresh] {
            let name = format!("{standing:?}");
            assert_eq!(bench.asks(&name, standing, &[1, 2]), (2, PinReason::NextRank));
        }
    }
}

#[test]
fn an_issued_key_whose_pin_was_lost_finds_its_draining_node_but_is_not_placed_on_a_second_one() {
    let bench = Bench::new(&[1, 2, 3]);
    bench.drains(1);
    bench.drains(2);
    assert_eq!(bench.asks("k", Standing::Issued, &[1, 2, 3]), (1, PinReason::Placed));
    bench.dies(1);
    assert_eq!(bench.asks("k", Standing::Issued, &[1, 2, 3]), (3, PinReason::Failover));
    assert_eq!(bench.asks("l", Standing::Issued, &[1, 2, 3]), (3, PinReason::NextRank));
}

#[test]
fn where_nobody_takes_new_keys_a_node_that_shares_ownership_is_asked_whose_an_old_one_is() {
    let bench = Bench::new(&[1, 2, 3]);
    let drains = |number: u16, shares_ownership| {
        let (status, node) = (NodeStatus::Draining, format!("n{number}"));
        let report = HealthReport { status, node, shares_ownership, ..HealthReport::default() };
        bench.router.check_succeeded(&bench.node(number), Some(report), bench.now(), bench.now());
    };
    bench.dies(1);
    drains(2, false);
    drains(3, true);
    for standing in [Standing::Named, Standing::Issued] {
        let name = format!("{standing:?}");
        assert_eq!(bench.asks(&name, standing, &[1, 2, 3]), (3, PinReason::NextRank));
        assert!(matches!(bench.choose(&name, standing, &[1, 2, 3], &[3]), Choice::Unreachable(_) | Choice::NoneUp));
    }
    assert!(matches!(bench.choose("new", Standing::Fresh, &[1, 2, 3], &[]), Choice::NoneUp));
}

#[test]
fn a_key_fails_over_once_and_stays_when_its_node_returns() {
    let bench = Bench::new(&[1, 2, 3]);
    bench.named("k", &[1, 2, 3]);
    bench.dies(1);
    assert_eq!(bench.named("k", &[1, 2, 3]), (2, PinReason::Failover));
    bench.says(1, None);
    assert_eq!(bench.named("k", &[1, 2, 3]), (2, PinReason::Failover));
    assert_eq!(bench.router.pin_counts().failovers, 1);
}

#[test]
fn a_key_that_nobody_asked_for_while_its_node_was_down_is_still_there_when_it_returns() {
    let bench = Bench::new(&[1, 2]);
    bench.named("k", &[1, 2]);
    bench.dies(1);
    bench.says(1, None);
    assert_eq!(bench.named("k", &[2, 1]), (1, PinReason::Placed));
}

#[test]
fn a_live_key_whose_node_is_unreachable_but_not_down_does_not_move() {
    let bench = Bench::new(&[1, 2]);
    bench.named("k", &[1, 2]);
    let choice = bench.choose("k", Standing::Named, &[1, 2], &[1]);
    assert!(matches!(choice, Choice::Unreachable(node) if node.address() == address(1)));
    bench.dies(1);
    assert_eq!(port(bench.choose("k", Standing::Named, &[1, 2], &[1])), 2);
}

/// While a process ends, its connections are reset before they are refused.
#[test]
fn a_live_key_whose_node_resets_connects_is_asked_for_there_again_and_moves_when_they_are_refused() {
    let bench = Bench::new(&[1, 2]);
    bench.named("k", &[1, 2]);
    bench.router.connect_failed(&bench.node(1), ConnectFailure::Other, bench.now());
    assert!(matches!(bench.choose("k", Standing::Named, &[1, 2], &[1]), Choice::Unreachable(_)));
    assert_eq!(port(bench.choose("k", Standing::Named, &[1, 2], &[])), 1, "after a pause it is asked again");
    bench.dies(1);
    assert_eq!(port(bench.choose("k", Standing::Named, &[1, 2], &[1])), 2);
}

#[test]
fn a_live_key_whose_node_went_down_and_came_back_under_a_request_is_asked_for_there_again() {
    let bench = Bench::new(&[1, 2]);
    bench.named("k", &[1, 2]);
    bench.dies(1);
    bench.says(1, None);
    assert!(matches!(bench.choose("k", Standing::Named, &[1, 2], &[1]), Choice::Unreachable(_)));
    assert_eq!(port(bench.choose("k", Standing::Named, &[1, 2], &[])), 1);
}

/// While the ranks are read for a first request, another one places the key on a node that then ends.
#[test]
fn a_key_that_was_placed_on_a_node_that_ended_meanwhile_is_chosen_for_again() {
    let bench = Bench::new(&[1, 2]);
    let ranked = addresses(&[1, 2]).into_iter().inspect(|_| {
        bench.choose("k", Standing::Named, &[2, 1], &[]);
        bench.dies(2);
    });
    let choice = bench.router.choose(&key("k"), Standing::Named, ranked, &[], bench.now());
    assert!(matches!(choice, Choice::Unreachable(node) if node.address() == address(2)));
    assert_eq!(port(bench.choose("k", Standing::Named, &[1, 2], &[])), 1);
}

#[test]
fn a_key_of_which_no_node_has_answered_moves_on_when_its_node_is_unreachable() {
    let bench = Bench::new(&[1, 2]);
    assert_eq!(port(bench.choose("k", Standing::Fresh, &[1, 2], &[])), 1);
    let second = placed(bench.choose("k", Standing::Fresh, &[1, 2], &[1]));
    assert_eq!((second.node.address().port(), second.reason), (2, PinReason::NextRank));
    assert_eq!(bench.named("k", &[1, 2]).0, 2, "and stays there");
}

#[test]
fn of_two_nodes_that_were_asked_the_first_to_answer_has_the_key() {
    let bench = Bench::new(&[1, 2]);
    let first = placed(bench.choose("k", Standing::Named, &[1, 2], &[])).node;
    let second = placed(bench.choose("k", Standing::Named, &[1, 2], &[1])).node;
    assert!(bench.router.answered(&key("k"), &first, bench.now()));
    assert!(!bench.router.answered(&key("k"), &second, bench.now()));
    assert!(bench.router.tunnel_opened(&key("k"), &second, bench.now()).is_none());
    assert_eq!(bench.named("k", &[2, 1]).0, 1);
}

#[test]
fn with_no_node_up_nobody_is_chosen() {
    let bench = Bench::new(&[1, 2]);
    bench.named("k", &[1, 2]);
    bench.dies(1);
    bench.dies(2);
    assert!(matches!(bench.choose("k", Standing::Named, &[1, 2], &[]), Choice::NoneUp));
    assert!(matches!(bench.choose("new", Standing::Fresh, &[1, 2], &[]), Choice::NoneUp));
    bench.says(2, None);
    assert_eq!(bench.named("k", &[1, 2]), (2, PinReason::Failover));
}

/// While the ranks of a request are read, another request of the same key runs from start to end.
#[test]
fn two_first_requests_of_one_key_agree_whatever_ranks_they_see() {
    let bench = Bench::new(&[1, 2]);
    let other = RefCell::new(None);
    let ranked = addresses(&[1, 2]).into_iter().inspect(|_| {
        other.borrow_mut().get_or_insert_with(|| port(bench.choose("k", Standing::Named, &[2, 1], &[])));
    });
    let one = port(bench.router.choose(&key("k"), Standing::Named, ranked, &[], bench.now()));
    assert_eq!((one, other.into_inner()), (2, Some(2)));
    assert_eq!(bench.node(1).pins() + bench.node(2).pins(), 1);
}

#[test]
fn two_failovers_of_one_key_agree_whatever_ranks_they_see() {
    let bench = Bench::new(&[1, 2, 3]);
    bench.named("k", &[1, 2, 3]);
    bench.dies(1);
    let other = RefCell::new(None);
    let ranked = addresses(&[1, 2, 3]).into_iter().inspect(|_| {
        other.borrow_mut().get_or_insert_with(|| port(bench.choose("k", Standing::Named, &[1, 3, 2], &[])));
    });
    let one = port(bench.router.choose(&key("k"), Standing::Named, ranked, &[], bench.now()));
    assert_eq!((one, other.into_inner()), (3, Some(3)));
    assert_eq!(bench.router.pin_counts().failovers, 1);
}

#[test]
fn a_key_does_not_leave_a_node_that_came_back_while_another_was_looked_for() {
    let bench = Bench::new(&[1, 2]);
    bench.named("k", &[1, 2]);
    bench.dies(1);
    let ranked = addresses(&[1, 2]).into_iter().filter(|address| {
        let skipped = *address == self::address(1);
        if !skipped {
            bench.says(1, None);
        }
        !skipped
    });
    assert_eq!(port(bench.router.choose(&key("k"), Standing::Named, ranked, &[], bench.now())), 1);
}

#[test]
fn threads_that_race_for_new_keys_agree() {
    let bench = Bench::new(&[1, 2, 3, 4]);
    let (router, now) = (&bench.router, bench.now());
    let places = |ranked: [u16; 4]| -> Vec<u16> {
        let names = (0..2_000).map(|index| key(&format!("k{}", index % 500)));
        names.map(|key| port(router.choose(&key, Standing::Named, addresses(&ranked), &[], now))).collect()
    };
    let places = std::thread::scope(|scope| {
        let orders = [[1, 2, 3, 4], [2, 3, 4, 1], [3, 4, 1, 2], [4, 1, 2, 3]];
        let threads = orders.map(|order| scope.spawn(move || places(order)));
        threads.map(|thread| thread.join().unwrap())
    });
    assert!(places.iter().all(|of_thread| *of_thread == places[0]));
    assert_eq!(router.pin_counts().total(), 500);
    assert_eq!((1..=4).map(|number| bench.node(number).pins()).sum::<u64>(), 500);
}

fn redirect(bench: &Bench, owner: &str, epoch: u64) -> (&'static str, u16) {
    redirect_to(bench, owner, epoch, None)
}

fn redirect_to(bench: &Bench, name: &str, epoch: u64, address: Option<SocketAddr>) -> (&'static str, u16) {
    let owner = Owner { name, epoch, address };
    match bench.router.redirected(&key("k"), owner, &bench.node(1), bench.now()) {
        Redirected::Owner(placed) => ("owner", placed.node.address().port()),
        Redirected::Stale(placed) => ("stale", placed.node.address().port()),
        Redirected::UnknownNode => ("unknown", 0),
    }
}

/// The redirects by why they were needed, those that were not left out.
fn redirects(bench: &Bench) -> Vec<(RedirectReason, u64)> {
    let counts = RedirectReason::ALL.into_iter().zip(bench.router.pin_counts().redirects);
    counts.filter(|(_, count)| *count > 0).collect()
}

#[test]
fn a_node_that_names_the_owner_is_believed_and_the_higher_epoch_wins() {
    let bench = Bench::new(&[1, 2, 3]);
    bench.named("k", &[1, 2, 3]);
    assert_eq!(redirect(&bench, "n2", 4), ("owner", 2));
    assert_eq!(bench.named("k", &[1, 2, 3]), (2, PinReason::Redirect));
    assert_eq!(redirect(&bench, "n3", 3), ("stale", 2));
    assert_eq!(redirect(&bench, "n3", 4), ("stale", 2), "one epoch has one owner");
    assert_eq!(redirect(&bench, "n2", 4), ("owner", 2));
    assert_eq!(redirect(&bench, "n3", 5), ("owner", 3));
    assert_eq!(redirect(&bench, "elsewhere", 6), ("unknown", 0));
    assert_eq!(bench.named("k", &[1, 2, 3]), (3, PinReason::Redirect));
    use RedirectReason::{Meanwhile, Moved, NotBelieved, Unknown, UnknownNode};
    assert_eq!(redirects(&bench), [(Unknown, 1), (Moved, 1), (Meanwhile, 1), (NotBelieved, 2), (UnknownNode, 1)]);
}

#[test]
fn a_redirect_pins_a_key_that_was_not_known() {
    let bench = Bench::new(&[1, 2]);
    assert_eq!(redirect(&bench, "n2", 1), ("owner", 2));
    assert_eq!(bench.named("k", &[1, 2]), (2, PinReason::Redirect));
}

#[test]
fn after_a_failover_an_owner_that_is_alive_after_all_gets_the_key_back() {
    let bench = Bench::new(&[1, 2]);
    redirect(&bench, "n1", 4);
    bench.dies(1);
    assert_eq!(bench.named("k", &[1, 2]), (2, PinReason::Failover));
    bench.says(1, None);
    assert_eq!(redirect(&bench, "n1", 3), ("stale", 2));
    assert_eq!(redirect(&bench, "n1", 4), ("owner", 1));
    use RedirectReason::{Failover, NotBelieved, Unknown};
    assert_eq!(redirects(&bench), [(Unknown, 1), (Failover, 1), (NotBelieved, 1)]);
}

#[test]
fn a_redirect_to_a_node_whose_lease_is_over_comes_back_to_whoever_said_it_until_the_node_has_another() {
    let bench = Bench::new(&[1, 2]);
    let checked = |incarnation| {
        let report = HealthReport { node: "n2".into(), incarnation, ..HealthReport::default() };
        bench.router.check_succeeded(&bench.node(2), Some(report), bench.now(), bench.now());
    };
    checked(7);
    bench.router.leases_over(&[LeaseOver { node: "n2".into(), incarnation: 7 }], bench.now());
    assert_eq!(redirect(&bench, "n2", 4), ("stale", 1));
    assert_eq!(bench.named("k", &[1, 2]), (1, PinReason::Placed));
    checked(8);
    assert_eq!(redirect(&bench, "n2", 5), ("owner", 2));
}

#[test]
fn a_redirect_by_the_node_that_had_the_key_is_a_handoff() {
    let bench = Bench::new(&[1, 2]);
    redirect(&bench, "n1", 4);
    assert_eq!(redirect(&bench, "n2", 5), ("owner", 2));
    assert_eq!(redirects(&bench), [(RedirectReason::Unknown, 1), (RedirectReason::Handoff, 1)]);
}

#[test]
fn an_unused_pin_expires_but_not_while_a_tunnel_is_open() {
    let bench = Bench::new(&[1, 2]);
    bench.named("k", &[1, 2]);
    bench.named("t", &[1, 2]);
    let ticket = bench.router.tunnel_opened(&key("t"), &bench.node(1), bench.now()).unwrap();
    bench.pass(61);
    bench.router.expire(bench.now());
    assert_eq!(bench.named("k", &[2, 1]).0, 2);
    assert_eq!(bench.named("t", &[2, 1]).0, 1);
    bench.pass(1_000);
    bench.router.tunnel_closed(ticket, bench.now());
    bench.pass(59);
    assert_eq!(bench.named("t", &[2, 1]).0, 1, "the time begins when the tunnel closes");
    bench.pass(61);
    assert_eq!(bench.named("t", &[2, 1]).0, 2);
    assert_eq!((bench.node(1).pins(), bench.node(1).tunnels()), (0, 0));
}

#[test]
fn a_tunnel_pins_its_key() {
    let bench = Bench::new(&[1, 2]);
    let ticket = bench.router.tunnel_opened(&key("k"), &bench.node(2), bench.now()).unwrap();
    assert_eq!(bench.named("k", &[1, 2]), (2, PinReason::Tunnel));
    assert_eq!(bench.node(2).tunnels(), 1);
    bench.router.tunnel_closed(ticket, bench.now());
}

#[test]
fn a_tunnel_to_a_node_that_the_key_has_left_does_not_hold_it_there() {
    let bench = Bench::new(&[1, 2]);
    let old = bench.router.tunnel_opened(&key("k"), &bench.node(1), bench.now()).unwrap();
    bench.dies(1);
    bench.named("k", &[1, 2]);
    let new = bench.router.tunnel_opened(&key("k"), &bench.node(2), bench.now()).unwrap();
    bench.router.tunnel_closed(old, bench.now());
    let pin = bench.router.explain(&key("k"), addresses(&[1, 2]), bench.now()).pin.unwrap();
    assert_eq!((pin.node.as_str(), pin.tunnels), ("n2", 1));
    bench.router.tunnel_closed(new, bench.now());
}

#[test]
fn under_pressure_keys_asked_for_once_go_first_and_keys_with_a_tunnel_last() {
    let bench = Bench::with_pins(&[1, 2], 8);
    let ticket = bench.router.tunnel_opened(&key("t"), &bench.node(1), bench.now()).unwrap();
    for name in ["a", "b", "c"] {
        bench.named(name, &[1, 2]);
        bench.named(name, &[1, 2]);
    }
    for scan in 0..100 {
        bench.named(&format!("scan{scan}"), &[1, 2]);
    }
    for name in ["a", "b", "c", "t"] {
        assert_eq!(bench.named(name, &[2, 1]).0, 1, "{name} is still pinned");
    }
    let counts = bench.router.pin_counts();
    assert_eq!((counts.total(), counts.evicted, counts.evicted_with_tunnel), (8, 96, 0));
    bench.router.tunnel_closed(ticket, bench.now());
}

#[test]
fn under_pressure_the_key_that_was_not_used_for_the_longest_time_goes() {
    let bench = Bench::with_pins(&[1, 2], 4);
    for name in ["a", "b", "c", "d", "a", "b", "c", "d", "a", "c"] {
        bench.named(name, &[1, 2]);
    }
    bench.named("new", &[1, 2]);
    for (name, node) in [("a", 1), ("c", 1), ("d", 1), ("b", 2)] {
        let explained = bench.router.explain(&key(name), addresses(&[2, 1]), bench.now());
        assert_eq!(explained.node, Some(bench.node(node).id().clone()), "{name}");
    }
}

#[test]
fn the_bound_on_pins_holds_even_when_every_key_has_a_tunnel() {
    let bench = Bench::with_pins(&[1], 2);
    let node = bench.node(1);
    let open = |name: &str| bench.router.tunnel_opened(&key(name), &node, bench.now()).unwrap();
    let tickets = ["a", "b", "c"].map(open);
    let counts = bench.router.pin_counts();
    assert_eq!((counts.total(), counts.evicted, counts.evicted_with_tunnel), (2, 1, 1));
    assert_eq!(node.tunnels(), 3);
    bench.named("a", &[1]);
    tickets.into_iter().for_each(|ticket| bench.router.tunnel_closed(ticket, bench.now()));
    assert_eq!(node.tunnels(), 0);
    assert_eq!(node.pins(), 2);
}

#[test]
fn a_lower_bound_after_a_reload_is_reached() {
    let bench = Bench::with_pins(&[1], 1_000);
    for name in 0..1_000 {
        bench.named(&format!("k{name}"), &[1]);
    }
    let thresholds = Thresholds { rise: 1, fall: 2 };
    let settings = RouterSettings { seed: 7, pins_max: 10, pin_idle_max: IDLE_MAX, load_bound: 0.25, thresholds };
    bench.router.set_settings(&settings);
    bench.router.expire(bench.now());
    assert_eq!((bench.router.pin_counts().total(), bench.node(1).pins()), (10, 10));
}

#[test]
fn a_new_session_skips_a_node_above_its_share_and_an_old_one_does_not() {
    let bench = Bench::new(&[1, 2]);
    bench.says(1, Some((NodeStatus::Ready, 60)));
    bench.says(2, Some((NodeStatus::Ready, 20)));
    assert_eq!(bench.asks("new", Standing::Fresh, &[1, 2]), (2, PinReason::LoadBound));
    assert_eq!(bench.named("old", &[1, 2]), (1, PinReason::Placed));
}

#[test]
fn a_node_that_reports_counts_its_sessions_and_what_was_placed_since() {
    let bench = Bench::new(&[1, 2]);
    bench.says(1, Some((NodeStatus::Ready, 30)));
    bench.named("a", &[1, 2]);
    bench.named("a", &[1, 2]);
    bench.named("b", &[1, 2]);
    assert_eq!(bench.node(1).load(), 32);
    bench.says(1, Some((NodeStatus::Ready, 31)));
    assert_eq!(bench.node(1).load(), 31);
}

#[test]
fn a_node_that_does_not_report_counts_its_pins() {
    let bench = Bench::new(&[1, 2]);
    for name in ["a", "b", "a"] {
        bench.named(name, &[1, 2]);
    }
    bench.says(1, None);
    assert_eq!(bench.node(1).load(), 2);
    bench.pass(61);
    bench.router.expire(bench.now());
    assert_eq!(bench.node(1).load(), 0);
}

#[test]
fn the_load_bound_spreads_keys_that_placement_would_heap() {
    let bench = Bench::new(&[1, 2, 3]);
    for name in 0..300 {
        bench.asks(&format!("k{name}"), Standing::Fresh, &[1, 2, 3]);
    }
    let loads = [1, 2, 3].map(|number| bench.node(number).load());
    assert_eq!(loads, [125, 125, 50]);
}

#[test]
fn a_fresh_key_is_minted_so_that_its_first_rank_takes_it() {
    let bench = Bench::new(&[1, 2, 3]);
    bench.drains(1);
    bench.says(2, Some((NodeStatus::Ready, 60)));
    bench.says(3, Some((NodeStatus::Ready, 20)));
    let mut minted = 0;
    let mint = || {
        minted += 1;
        key(&format!("k{minted}"))
    };
    let rank = |key: &Key| match key.as_str() {
        "k1" => addresses(&[1, 2, 3]),
        "k2" => addresses(&[2, 3, 1]),
        _ => addresses(&[3, 2, 1]),
    };
    let (minted, choice) = bench.router.choose_fresh(mint, rank, bench.now());
    assert_eq!((minted, port(choice)), (key("k3"), 3));
    assert_eq!(bench.router.pin_counts().total(), 1, "keys that were not taken leave nothing");
}

#[test]
fn a_fresh_key_is_minted_for_the_balancers_own_region_as_long_as_a_node_there_takes_it() {
    let bench = Bench::new(&[1, 2, 3]);
    let says = |number: u16, status, region: Option<&str>| {
        let (node, region) = (format!("n{number}"), region.map(str::to_owned));
        let report = HealthReport { status, node, region, ..HealthReport::default() };
        bench.router.check_succeeded(&bench.node(number), Some(report), bench.now(), bench.now());
    };
    bench.router.prefer_region(Some("eu"));
    says(1, NodeStatus::Ready, Some("us"));
    says(2, NodeStatus::Ready, None);
    says(3, NodeStatus::Ready, Some("eu"));
    let fresh = || {
        let mut minted = 0;
        let mint = || {
            minted += 1;
            key(&format!("k{minted}"))
        };
        // The third of three keys ranks the third node first, and so on.
        let rank = |key: &Key| {
            let first = key.as_str()[1..].parse::<u16>().unwrap() % 3;
            addresses(&[[3, 1, 2], [1, 2, 3], [2, 3, 1]][usize::from(first)])
        };
        let (key, choice) = bench.router.choose_fresh(mint, rank, bench.now());
        (key.as_str().to_owned(), port(choice))
    };
    assert_eq!(fresh(), ("k3".into(), 3));
    // Nobody near takes new keys: the first key that anybody takes will do.
    says(3, NodeStatus::Draining, Some("eu"));
    assert_eq!(fresh(), ("k1".into(), 1));
    bench.router.prefer_region(None);
    says(3, NodeStatus::Ready, Some("eu"));
    says(1, NodeStatus::Ready, Some("us"));
    assert_eq!(fresh(), ("k1".into(), 1), "without a region all nodes are near");
}

#[test]
fn a_fresh_key_takes_a_worse_rank_when_minting_does_not_help() {
    let bench = Bench::new(&[1, 2]);
    bench.drains(1);
    let (_, choice) = bench.router.choose_fresh(|| key("k"), |_| addresses(&[1, 2]), bench.now());
    let placed = placed(choice);
    assert_eq!((placed.node.address().port(), placed.reason), (2, PinReason::NextRank));
}

#[test]
fn an_order_of_the_operator_counts_for_a_server_that_knows_no_states() {
    let bench = Bench::new(&[1, 2]);
    bench.named("k", &[1, 2]);
    let change = bench.router.order(&bench.node(1), NodeStatus::Suspended, bench.now()).unwrap();
    assert_eq!(change.to, NodeState::Suspended);
    bench.says(1, None);
    assert_eq!(bench.named("new", &[1, 2]).0, 2);
    assert_eq!(bench.named("k", &[1, 2]).0, 1);
}

#[test]
fn an_explanation_says_where_the_next_request_goes_and_changes_nothing() {
    let bench = Bench::new(&[1, 2, 3]);
    let explain = || bench.router.explain(&key("k"), addresses(&[1, 2, 3]), bench.now());
    let unpinned = explain();
    assert_eq!((unpinned.node.unwrap().as_str(), unpinned.reason, unpinned.pin.is_none()), ("n1", "placed", true));
    assert_eq!(unpinned.why, "The key is not pinned yet; it would go to n1: placement ranks n1 first.");
    assert_eq!(bench.router.pin_counts().total(), 0);

    bench.drains(1);
    assert_eq!(explain().reason, "next_rank");
    bench.named("k", &[2, 1, 3]);
    bench.pass(5);
    let pinned = explain();
    let pin = pinned.pin.unwrap();
    assert_eq!((pinned.reason, pin.age_s, pin.idle_s, pin.settled), ("placed", 5, 5, true));
    assert_eq!(pinned.ranked.iter().map(|ranked| ranked.node.as_str()).collect::<Vec<_>>(), ["n1", "n2", "n3"]);

    bench.dies(2);
    let failing = explain();
    assert_eq!((failing.node.unwrap().as_str(), failing.reason), ("n3", "failover"));
    assert_eq!(failing.why, "The key lived on n2, which is down; n3 is the best node that takes it.");
    bench.dies(1);
    bench.dies(3);
    let json = serde_json::to_value(explain()).unwrap();
    assert_eq!(
        (&json["key"], &json["node"], &json["reason"]),
        (&"k".into(), &serde_json::Value::Null, &"none_up".into())
    );
    assert_eq!(json["pin"]["state"], "down");
}

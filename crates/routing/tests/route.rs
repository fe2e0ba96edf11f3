//! The way of a request, as tables: what becomes of each try, and the step that follows.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ctedge_routing::{
    Answer, ConnectFailure, Finding, Found, KeySource, NodeId, NodeSpec, Route, Router, RouterSettings, Step,
    TRIES_MAX, Then, Thresholds,
};
use ctedge_wire::{HealthReport, Key, NodeStatus, Redirect};

/// Nodes `1`, `2` and `3`, ranked in this order for every key, and a clock.
struct Bench {
    router: Router,
    now: Cell<Instant>,
}

impl Bench {
    /// Nodes that ask each other who owns a key.
    fn sharing() -> Self {
        Self::with(true)
    }

    /// Servers that know nothing of each other.
    fn strangers() -> Self {
        Self::with(false)
    }

    fn with(shares_ownership: bool) -> Self {
        // Nothing but a refused connect takes a node down.
        let thresholds = Thresholds { rise: 1, fall: 1_000 };
        let pin_idle_max = Duration::from_secs(60);
        let router =
            Router::new(&RouterSettings { seed: 7, pins_max: 100, pin_idle_max, load_bound: 0.25, thresholds });
        let bench = Self { router, now: Cell::new(Instant::now()) };
        let spec = |number| NodeSpec { id: NodeId::new(&number_name(number)), address: address(number), weight: 1 };
        bench.router.set_nodes(&[1, 2, 3].map(spec), bench.now.get());
        for number in 1..=3 {
            bench.says(number, NodeStatus::Ready, shares_ownership);
        }
        bench
    }

    fn says(&self, number: u16, status: NodeStatus, shares_ownership: bool) {
        let report = HealthReport { status, node: number_name(number), shares_ownership, ..HealthReport::default() };
        let (node, now) = (self.router.node(&number_name(number)).unwrap(), self.now.get());
        self.router.check_succeeded(&node, Some(report), now, now);
    }

    /// Something lives under the key on its first rank.
    fn living(self) -> Self {
        self.check(Asks::Living, &[("", "try 1"), ("200", "pass on")]);
        self
    }

    /// Carries a request as the table says: what becomes of each try, and the step that follows.
    fn check(&self, asks: Asks, table: &[(&str, &str)]) -> Route {
        let begun = Route::begin(&self.router, asks.finding(), || key("minted"), |_| ranked(), self.now.get());
        let mut route = begun.unwrap_or_else(|refused| panic!("refused at once: {refused:?}"));
        if matches!(asks, Asks::Much) {
            route = route.ask_first();
        }
        for (number, (event, expected)) in table.iter().enumerate() {
            let step = self.happens(&mut route, event).unwrap_or_else(|| self.next(&mut route));
            assert_eq!(step, *expected, "after {event:?}, line {number} of {table:?}");
        }
        route
    }

    /// What becomes of a try. `None` when the route is to be asked for the next step.
    fn happens(&self, route: &mut Route, event: &str) -> Option<String> {
        let (router, now) = (&self.router, self.now.get());
        let words: Vec<&str> = event.split(' ').collect();
        let then = match words[..] {
            [] | [""] => return None,
            ["waited", milliseconds] => {
                self.now.set(now + Duration::from_millis(milliseconds.parse().unwrap()));
                return None;
            }
            ["refused"] | ["timeout"] => {
                let failure = if event == "refused" { ConnectFailure::Refused } else { ConnectFailure::Other };
                route.could_not_connect(router, failure, now);
                return None;
            }
            ["told", status, ref rest @ ..] => {
                let told = route.told(answer(status.parse().unwrap(), rest), router, |_| ranked(), now);
                return told.err().map(|refused| format!("refuse {refused:?}"));
            }
            ["down", number] => {
                let node = router.node(&number_name(number.parse().unwrap())).unwrap();
                router.connect_failed(&node, ConnectFailure::Refused, now);
                route.died(true)
            }
            ["died"] => route.died(true),
            ["died", "undecided"] => route.died(false),
            [status, ref rest @ ..] => route.heard(answer(status.parse().unwrap(), rest), router, |_| ranked(), now),
        };
        match then {
            Then::Again(_) => None,
            Then::PassOn { fault: None } => Some("pass on".to_owned()),
            Then::PassOn { fault: Some(_) } => Some("pass on, two owners".to_owned()),
            Then::Refuse(refused) => Some(format!("refuse {refused:?}")),
        }
    }

    fn next(&self, route: &mut Route) -> String {
        match route.next(&self.router, |_| ranked(), self.now.get()) {
            Step::Try(placed) => format!("try {}", placed.node.address().port()),
            Step::Ask(placed) => format!("ask {}", placed.node.address().port()),
            Step::Pause(pause) => format!("pause {}", pause.as_millis()),
            Step::Refuse(refused) => format!("refuse {refused:?}"),
        }
    }

    fn pinned(&self, name: &str) -> Option<String> {
        let explained = self.router.explain(&key(name), ranked(), self.now.get());
        explained.pin.map(|pin| format!("{}{}", pin.node, if pin.settled { ", settled" } else { "" }))
    }
}

/// What a request is about.
#[derive(Clone, Copy)]
enum Asks {
    /// A session that exists: `room`.
    Living,
    /// The same, with a body that cannot be sent again.
    Much,
    /// A new session.
    Fresh,
}

impl Asks {
    fn finding(self) -> Finding {
        let wants_fresh = matches!(self, Self::Fresh);
        let found = (!wants_fresh).then(|| Found { key: key("room"), source: KeySource::RoomToken });
        Finding { found, cookie: None, malformed: 0, wants_fresh }
    }
}

/// `unsafe` and `gone` say of the request that it changes something, and that it cannot be sent again. `@5` is an epoch, `key=x`
/// and `owner=2` are redirects.
fn answer(status: u16, words: &[&str]) -> Answer {
    let epoch = words.iter().find_map(|word| word.strip_prefix('@')).map(|epoch| epoch.parse().unwrap());
    let redirect = words.iter().find_map(|word| match word.split_once('=')? {
        ("key", name) => Some(Redirect::Key(key(name))),
        ("owner", name) => {
            let address = name.parse().ok().map(address);
            let node = address.map_or(name.to_owned(), |address| number_name(address.port()));
            Some(Redirect::Owner { node, epoch: epoch.unwrap_or(1), address })
        }
        _ => None,
    });
    let epoch = epoch.filter(|_| redirect.is_none());
    Answer { status, redirect, epoch, can_replay: !words.contains(&"gone"), is_safe: !words.contains(&"unsafe") }
}

fn number_name(number: u16) -> String {
    format!("n{number}")
}

fn address(number: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], number))
}

fn ranked() -> Vec<SocketAddr> {
    [1, 2, 3].map(address).to_vec()
}

fn key(name: &str) -> Key {
    Key::parse(name).unwrap()
}

#[test]
fn an_answer_is_the_clients_and_settles_the_key() {
    for status in ["200", "204", "302", "400", "401", "404", "413", "500", "502"] {
        let bench = Bench::sharing();
        bench.check(Asks::Living, &[("", "try 1"), (status, "pass on")]);
        assert_eq!(bench.pinned("room").as_deref(), Some("n1, settled"), "{status}");
    }
}

#[test]
fn not_mine_and_not_now_settle_nothing_even_when_the_request_cannot_go_on() {
    for status in ["421", "421 gone", "503 unsafe", "503 gone", "101"] {
        let bench = Bench::sharing();
        bench.check(Asks::Living, &[("", "try 1"), (status, "pass on")]);
        assert_eq!(bench.pinned("room").as_deref(), Some("n1"), "{status}");
    }
}

#[test]
fn a_node_that_was_not_reached_was_not_asked_so_that_the_next_one_is() {
    let bench = Bench::sharing();
    let table = [("", "try 1"), ("refused", "try 2"), ("refused", "try 3"), ("refused", "refuse NoNode")];
    bench.check(Asks::Fresh, &table);
}

#[test]
fn a_living_key_goes_on_at_once_where_nodes_share_ownership() {
    let bench = Bench::sharing().living();
    bench.check(Asks::Living, &[("", "try 1"), ("timeout", "try 2"), ("200", "pass on")]);
}

#[test]
fn a_living_key_of_strangers_waits_for_its_node() {
    let bench = Bench::strangers().living();
    let table = [
        ("", "try 1"),
        ("timeout", "pause 50"),
        ("waited 50", "try 1"),
        ("timeout", "pause 100"),
        ("waited 100", "try 1"),
    ];
    bench.check(Asks::Living, &table);
    // Once it is down for certain, the key goes on.
    bench.check(Asks::Living, &[("", "try 1"), ("timeout", "pause 50"), ("waited 50", "try 1"), ("refused", "try 2")]);
}

#[test]
fn a_living_key_of_strangers_is_refused_when_its_node_takes_no_connection_for_long() {
    let bench = Bench::strangers().living();
    let mut table = vec![("", "try 1")];
    let pauses = [("pause 50", "waited 50"), ("pause 100", "waited 100"), ("pause 200", "waited 200")];
    let more = [("pause 400", "waited 400"), ("pause 800", "waited 800"), ("pause 1600", "waited 1600")];
    for (pause, waited) in pauses.into_iter().chain(more) {
        table.extend([("timeout", pause), (waited, "try 1")]);
    }
    table.push(("timeout", "refuse Unreachable"));
    bench.check(Asks::Living, &table);
    assert_eq!(bench.pinned("room").as_deref(), Some("n1, settled"));
}

#[test]
fn a_node_that_went_away_under_a_request_is_asked_again_if_that_may_be_and_not_for_ever() {
    let bench = Bench::sharing();
    bench.check(Asks::Living, &[("", "try 1"), ("died undecided", "pass on")]);
    let table = [("", "try 1"), ("died", "try 1"), ("died", "try 1"), ("died", "try 1"), ("died", "pass on")];
    bench.check(Asks::Living, &table);
    bench.check(Asks::Living, &[("", "try 1"), ("died", "try 1"), ("refused", "try 2")]);
}

#[test]
fn a_redirect_to_the_owner_is_followed_and_remembered() {
    let bench = Bench::sharing();
    bench.check(Asks::Living, &[("", "try 1"), ("421 owner=3 @4", "try 3"), ("200 @4", "pass on")]);
    bench.check(Asks::Living, &[("", "try 3"), ("200 @4", "pass on")]);
}

#[test]
fn a_redirect_is_followed_whatever_the_method_is() {
    let bench = Bench::sharing().living();
    bench.check(Asks::Living, &[("", "try 1"), ("421 owner=2 @4 unsafe", "try 2")]);
}

#[test]
fn a_redirect_that_cannot_be_followed_is_remembered_for_the_next_request() {
    let bench = Bench::sharing().living();
    bench.check(Asks::Living, &[("", "try 1"), ("421 owner=2 @4 gone", "pass on")]);
    bench.check(Asks::Living, &[("", "try 2")]);
}

#[test]
fn a_redirect_to_a_key_is_placed_again_by_it() {
    let bench = Bench::sharing();
    let route = bench.check(Asks::Living, &[("", "try 1"), ("refused", "try 2"), ("421 key=other", "try 2")]);
    assert_eq!(route.key(), &key("other"));
    bench.says(1, NodeStatus::Draining, true);
    // An issued key finds the node that is drained; a creation is for a key that lives nowhere.
    bench.check(Asks::Living, &[("", "try 2"), ("421 key=another", "try 1")]);
    bench.check(Asks::Fresh, &[("", "try 2"), ("421 key=unused", "try 2")]);
}

#[test]
fn nodes_that_redirect_in_a_circle_are_left() {
    let bench = Bench::sharing();
    let table = [
        ("", "try 1"),
        ("421 owner=2 @1", "try 2"),
        ("421 owner=1 @2", "try 1"),
        ("421 owner=2 @3", "try 2"),
        ("421 owner=1 @4", "try 1"),
        ("421 owner=2 @5", "refuse Circle"),
    ];
    bench.check(Asks::Living, &table);
}

#[test]
fn an_owner_that_was_asked_a_moment_ago_is_given_a_moment() {
    let bench = Bench::sharing().living();
    let table = [
        ("", "try 1"),
        ("timeout", "try 2"),
        ("421 owner=1 @1", "pause 50"),
        ("waited 50", "try 1"),
        ("200 @1", "pass on"),
    ];
    bench.check(Asks::Living, &table);
    bench.check(Asks::Living, &[("", "try 1"), ("421 owner=1 @1", "pause 50"), ("waited 50", "try 1")]);
}

#[test]
fn an_owner_that_is_on_no_list_and_has_no_address_is_not_looked_for() {
    let bench = Bench::sharing();
    bench.check(Asks::Living, &[("", "try 1"), ("421 owner=stranger @2", "refuse UnknownOwner(\"stranger\")")]);
    // With an address it is found.
    bench.check(Asks::Living, &[("", "try 1"), ("421 owner=9 @2", "try 9")]);
}

#[test]
fn a_request_that_is_refused_for_now_goes_on_if_that_does_no_harm() {
    let bench = Bench::sharing();
    bench.check(
        Asks::Fresh,
        &[("", "try 1"), ("503 unsafe", "try 2"), ("503 unsafe", "try 3"), ("503 unsafe", "pass on")],
    );
    bench.check(Asks::Living, &[("", "try 1"), ("503", "try 2"), ("200", "pass on")]);
    let bench = Bench::sharing();
    bench.check(Asks::Living, &[("", "try 1"), ("503 unsafe", "pass on")]);
    bench.check(Asks::Living, &[("", "try 1"), ("503 gone", "pass on")]);
}

#[test]
fn an_owner_that_another_request_has_found_meanwhile_is_not_left() {
    let bench = Bench::sharing();
    let mut early = bench.check(Asks::Living, &[("", "try 1")]);
    // Another node says that it is the first.
    bench.check(Asks::Living, &[("", "try 1"), ("timeout", "try 2"), ("421 owner=1 @5", "pause 50")]);
    assert_eq!(bench.pinned("room").as_deref(), Some("n1, settled"));
    assert_eq!(bench.happens(&mut early, "503").as_deref(), Some("pass on"));
    assert_eq!(bench.pinned("room").as_deref(), Some("n1, settled"));
}

#[test]
fn an_owner_that_refuses_for_now_is_not_left() {
    for bench in [Bench::sharing().living(), Bench::strangers().living()] {
        bench.check(Asks::Living, &[("", "try 1"), ("503", "pass on")]);
        assert_eq!(bench.pinned("room").as_deref(), Some("n1, settled"));
    }
}

#[test]
fn an_owner_that_was_missed_is_asked_again_before_a_third_node_waits_for_it() {
    let bench = Bench::sharing().living();
    // The second waits for the end of the first, which does not come.
    let table = [("", "try 1"), ("timeout", "try 2"), ("503", "try 1"), ("timeout", "try 3"), ("503", "try 1")];
    bench.check(Asks::Living, &[&table[..], &[("200", "pass on")]].concat());
    let bench = Bench::sharing();
    bench.check(Asks::Living, &[("", "try 1"), ("421 owner=3 @4", "try 3"), ("200 @4", "pass on")]);
    bench.check(Asks::Living, &[("", "try 3"), ("timeout", "try 1"), ("503", "try 3"), ("200 @4", "pass on")]);
    let bench = Bench::sharing().living();
    let table = [("", "ask 1"), ("timeout", "ask 2"), ("told 503", "ask 1"), ("told 204", "try 1")];
    bench.check(Asks::Much, &table);
}

#[test]
fn a_node_that_was_missed_is_not_asked_again_where_it_cannot_be_the_owner() {
    let bench = Bench::sharing();
    bench.check(Asks::Fresh, &[("", "try 1"), ("timeout", "try 2"), ("503", "try 3")]);
    let bench = Bench::sharing().living();
    bench.check(Asks::Living, &[("", "try 1"), ("refused", "try 2"), ("503", "try 3")]);
    let bench = Bench::sharing().living();
    bench.check(Asks::Living, &[("", "try 1"), ("timeout", "try 2"), ("421 key=other", "try 1"), ("503", "try 2")]);
    let bench = Bench::strangers();
    bench.check(Asks::Living, &[("", "try 1"), ("timeout", "try 2"), ("503", "try 3")]);
}

#[test]
fn a_node_that_goes_down_under_a_request_is_not_asked_again() {
    let bench = Bench::sharing().living();
    bench.check(Asks::Living, &[("", "try 1"), ("down 1", "try 2"), ("200", "pass on")]);
    let bench = Bench::sharing().living();
    bench.check(Asks::Much, &[("", "ask 1"), ("down 1", "ask 2"), ("told 204", "try 2")]);
}

#[test]
fn two_owners_of_one_epoch_are_told() {
    let bench = Bench::sharing();
    bench.check(Asks::Living, &[("", "try 1"), ("200 @4", "pass on")]);
    bench.check(Asks::Living, &[("", "try 1"), ("timeout", "try 2"), ("200 @4", "pass on, two owners")]);
}

#[test]
fn a_request_that_cannot_be_sent_again_asks_its_node_before() {
    let bench = Bench::sharing().living();
    bench.check(Asks::Much, &[("", "ask 1"), ("told 204", "try 1"), ("200 gone", "pass on")]);
    bench.check(Asks::Much, &[("", "ask 1"), ("told 421 owner=2 @4", "ask 2"), ("told 204", "try 2")]);
    bench.check(Asks::Much, &[("", "ask 2"), ("told 421 key=other", "ask 1"), ("told 204", "try 1")]);
    // A node of an earlier version does not know the question.
    bench.check(Asks::Much, &[("", "ask 2"), ("told 405", "try 2")]);
}

#[test]
fn a_node_that_cannot_be_asked_is_none_to_send_to() {
    let bench = Bench::sharing().living();
    bench.check(Asks::Much, &[("", "ask 1"), ("timeout", "ask 2"), ("told 204", "try 2")]);
    let bench = Bench::sharing().living();
    bench.check(Asks::Much, &[("", "ask 1"), ("told 204", "try 1"), ("timeout", "ask 2"), ("told 204", "try 2")]);
    let bench = Bench::sharing().living();
    bench.check(Asks::Much, &[("", "ask 1"), ("told 503", "refuse Unavailable")]);
    let table = [("", "ask 1"), ("died", "ask 1"), ("told 204", "try 1"), ("died", "ask 1"), ("refused", "ask 2")];
    bench.check(Asks::Much, &table);
    let bench = Bench::sharing();
    bench.check(Asks::Much, &[("", "ask 1"), ("told 503", "ask 2"), ("told 204", "try 2"), ("503 gone", "pass on")]);
}

#[test]
fn servers_that_know_nothing_of_each_other_are_not_asked() {
    Bench::strangers().living().check(Asks::Much, &[("", "try 1"), ("200 gone", "pass on")]);
    // One that another node names knows it, though no check has heard so yet.
    let bench = Bench::strangers().living();
    bench.check(Asks::Much, &[("", "try 1"), ("421 owner=2 @4", "ask 2")]);
}

#[test]
fn no_request_is_sent_for_ever() {
    let bench = Bench::sharing();
    let mut route = bench.check(Asks::Living, &[]);
    for _ in 0..TRIES_MAX {
        assert_eq!(bench.next(&mut route), "try 1");
    }
    assert_eq!(bench.next(&mut route), "refuse TooManyTries");
}

#[test]
fn a_node_is_told_of_the_others_that_cannot_be_reached_if_it_knows_others() {
    let bench = Bench::sharing();
    let route = bench.check(Asks::Living, &[("", "try 1"), ("timeout", "try 2")]);
    assert_eq!(route.unreachable(&bench.router), ["n1"]);
    let route = bench.check(Asks::Living, &[("", "try 2"), ("refused", "try 1"), ("refused", "try 3")]);
    assert_eq!(route.unreachable(&bench.router), ["n2", "n1"]);
    // Whoever comes next is told by what the checks and the others found.
    let route = bench.check(Asks::Living, &[("", "try 3")]);
    assert_eq!(route.unreachable(&bench.router), ["n1", "n2"]);
    let strangers = Bench::strangers();
    let route = strangers.check(Asks::Living, &[("", "try 1"), ("refused", "try 2")]);
    assert!(route.unreachable(&strangers.router).is_empty());
}

#[test]
fn without_a_node_a_request_does_not_even_begin() {
    let bench = Bench::sharing();
    bench.check(Asks::Fresh, &[("refused", "try 2"), ("refused", "try 3"), ("refused", "refuse NoNode")]);
    let begun = Route::begin(&bench.router, Asks::Fresh.finding(), || key("minted"), |_| ranked(), bench.now.get());
    begun.unwrap_err();
}

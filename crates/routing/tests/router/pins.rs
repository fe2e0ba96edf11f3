//! How long a key is known, and how many are.

use ctedge_routing::{PinReason, RouterSettings, Thresholds};

use crate::support::{Bench, IDLE_MAX, addresses, key};

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

//! What a decision costs. Run with `cargo bench -p ctedge-routing`.

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ctedge_placement::Rendezvous;
use ctedge_routing::{
    Choice, KeyFinder, KeyNames, NodeId, NodeSpec, RequestView, Router, RouterSettings, Standing, Thresholds,
};
use ctedge_wire::{Key, KeyedToken};

const PINS: usize = 100_000;

/// Nanoseconds per call: the median of short rounds, most of which nothing else interrupts.
fn measure(what: &str, mut call: impl FnMut(usize)) {
    const CALLS: usize = 500;
    let mut rounds: Vec<u128> = (0..PINS / CALLS)
        .map(|round| {
            let start = Instant::now();
            (round * CALLS..(round + 1) * CALLS).for_each(&mut call);
            start.elapsed().as_nanos() / CALLS as u128
        })
        .collect();
    rounds.sort_unstable();
    println!("{what}: {} ns", rounds[rounds.len() / 2]);
}

fn main() {
    let thresholds = Thresholds { rise: 1, fall: 1 };
    let idle_max = Duration::from_secs(3_600);
    let settings = RouterSettings { seed: 1, pins_max: PINS, pin_idle_max: idle_max, load_bound: 0.25, thresholds };
    let router = Router::new(&settings);
    let now = Instant::now();
    let addresses: Vec<SocketAddr> = (1..=10).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect();
    let spec = |address: &SocketAddr| NodeSpec { id: NodeId::new(&address.to_string()), address: *address, weight: 1 };
    router.set_nodes(&addresses.iter().map(spec).collect::<Vec<_>>(), now);
    for node in router.nodes().iter() {
        router.check_succeeded(node, None, now, now);
    }
    let named: Vec<_> = addresses.iter().map(|address| (address.to_string(), 1)).collect();
    let placement = Rendezvous::new(1, &named);
    let keys: Vec<Key> = (0..PINS as u64).map(|number| Key::mint(&random(number))).collect();
    let choose = |index: usize| {
        let key = &keys[index * 7_919 % PINS];
        let ranked = placement.rank(key.as_str().as_bytes()).map(|node| addresses[node]);
        let choice = router.choose(key, Standing::Named, ranked, &[], now);
        assert!(matches!(choice, Choice::Node(_)));
    };

    measure("choose, first time", choose);
    measure("choose, pinned, of 100,000 keys", choose);
    measure("choose, pinned, of one key", |_| choose(1));
    for count in [3_u16, 10, 50] {
        for uneven in [0, 1] {
            let nodes: Vec<_> = (0..count).map(|node| (node.to_le_bytes(), 1 + uneven * node)).collect();
            let placement = Rendezvous::new(1, &nodes);
            let weights = if uneven == 0 { "equal" } else { "uneven" };
            measure(&format!("first rank of {count} nodes, {weights} weights"), |index| {
                black_box(placement.rank(keys[index].as_str().as_bytes()).next());
            });
        }
    }

    let name = || Some("ctstickiness".to_owned());
    let finder = KeyFinder::new(KeyNames { header: name(), query: name(), cookie: name(), protocol: true });
    let find = |what: &str, path: &str, query: Option<&str>, sent: Option<&str>, cookies: &[&str]| {
        let header = |name: &str| sent.filter(|_| name == "ctstickiness");
        let view = RequestView { method: "GET", path, query, header: &header, cookies };
        measure(what, |_| assert!(black_box(finder.find(&view)).found.is_some()));
    };
    let query = format!("EIO=4&transport=polling&sid={}", KeyedToken::mint(&keys[0], &random(0)).as_str());
    find("find, header", "/", None, Some(keys[0].as_str()), &[]);
    find("find, sid", "/socket.io/", Some(&query), None, &[]);
    find("find, cookie", "/", None, None, &[&format!("a=b; ctstickiness={}", keys[0])]);
}

fn random(number: u64) -> [u8; 32] {
    std::array::from_fn(|index| (number.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(index as u32 * 5) >> 7) as u8)
}

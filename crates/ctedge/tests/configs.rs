//! Every file in `configs/` is loaded, and does what it is for.

#![allow(clippy::unwrap_used, reason = "helpers of tests are not seen as tests by the lint")]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use ctedge_settings::{BalancerSettings, ClusterSecret, Settings};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../configs")
}

fn load(name: &str) -> Settings {
    let text = fs::read_to_string(folder().join(name)).unwrap();
    ctedge_settings::parse(&text, &|_| None).unwrap_or_else(|faults| panic!("{name}: {faults:#?}"))
}

fn balancer(name: &str) -> BalancerSettings {
    let secret = ClusterSecret::new(&"s".repeat(32)).unwrap();
    load(name).balancer(secret, 2).unwrap_or_else(|faults| panic!("{name}: {faults:#?}"))
}

#[test]
fn every_file_has_no_fault() {
    let names: Vec<_> =
        fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.len() >= 4, "{names:?}");
    for name in names {
        load(&name);
    }
}

#[test]
fn the_default_file_is_what_the_command_prints() {
    let file = fs::read_to_string(folder().join("ctedge.toml")).unwrap();
    let printed = ctedge_settings::default_config();
    let differing = file.lines().zip(printed.lines()).position(|(one, other)| one != other);
    assert!(file == printed, "write it again with `ctedge default-config`; they differ after {differing:?} lines");
}

#[test]
fn behind_a_proxy_clients_have_a_path_prefix_and_the_proxy_is_believed() {
    let settings = load("behind-proxy.toml");
    assert_eq!(settings.server_url().unwrap().path_prefix(), "/codetogether");
    assert_eq!(settings.listeners().https, None);
    assert_eq!(settings.up().nodes, 3);
}

#[test]
fn one_of_several_machines_starts_its_own_nodes_and_knows_all() {
    let settings = load("several-machines.toml");
    let machine = settings.up().machine.unwrap();
    let nodes = &settings.nodes().fixed;
    assert_eq!(nodes.iter().filter(|node| node.address.ip() == machine).count(), 2);
    assert_eq!(nodes.len(), 4);
}

#[test]
fn in_front_of_containers_keys_are_header_and_cookie_and_pins_last_by_time() {
    let balancer = balancer("codetogether-containers.toml");
    assert_eq!(load("codetogether-containers.toml").up().nodes, 0);
    assert!(!balancer.key.protocol && balancer.key.query.is_empty());
    assert_eq!((balancer.key.header.as_str(), balancer.key.cookie.as_str()), ("ctstickiness", "ctstickiness"));
    assert_eq!(balancer.pins.idle_max, Duration::from_secs(12 * 3600));
    assert_eq!(balancer.nodes.fixed.len(), 3);
}

#[test]
fn nodes_behind_a_name_are_resolved() {
    let balancer = balancer("dns.toml");
    assert_eq!(balancer.nodes.dns[0].name, "ctedge-nodes.edge.svc.cluster.local");
    assert!(balancer.nodes.fixed.is_empty());
}

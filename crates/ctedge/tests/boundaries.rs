//! The boundaries between crates, as `ARCHITECTURE.md` draws them, held against `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Crates that decide. Time and randomness are handed to them.
const PURE: [&str; 12] = [
    "ctedge-doctor",
    "ctedge-license",
    "ctedge-ownership",
    "ctedge-placement",
    "ctedge-protocol",
    "ctedge-routing",
    "ctedge-session",
    "ctedge-settings",
    "ctedge-sign-on",
    "ctedge-simulation",
    "ctedge-socketio",
    "ctedge-wire",
];

/// What a crate that decides may not even depend on.
const IO: [&str; 11] = [
    "async-trait",
    "axum",
    "getrandom",
    "hyper",
    "hyper-util",
    "pingora",
    "pingora-proxy",
    "rand",
    "sqlx",
    "tokio",
    "tungstenite",
];

/// What source of a pure crate may not say: each of these reads a clock, a file, a socket or the environment, or writes to
/// the terminal.
const IMPURE_WORDS: [&str; 9] = [
    "Instant::now",
    "SystemTime::now",
    "std::env",
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "std::thread",
    "println!",
    "print!",
];

fn metadata() -> serde_json::Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        // Asked in a member's folder, cargo names that member as the only default one, whatever the workspace says.
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON")
}

/// All Rust files below these folders.
fn sources(mut folders: Vec<PathBuf>) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a crate has sources") {
            let path = entry.expect("a readable folder").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = std::fs::read_to_string(&path).expect("UTF-8 source");
                found.push((path, source));
            }
        }
    }
    found
}

/// Each workspace member's direct dependencies, those of its tests left out.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = metadata();
    let text = |value: &serde_json::Value| value.as_str().expect("a name").to_owned();
    let packages = metadata["packages"].as_array().expect("packages");
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().expect("dependencies").iter();
            let at_run_time = dependencies.filter(|dependency| dependency["kind"].is_null());
            (text(&package["name"]), at_run_time.map(|dependency| text(&dependency["name"])).collect())
        })
        .collect()
}

#[test]
fn a_crate_that_decides_depends_on_nothing_that_does() {
    let dependencies = dependencies();
    for pure in PURE {
        let direct = &dependencies[pure];
        for io in IO {
            assert!(!direct.contains(io), "{pure} is pure, but depends on {io}");
        }
        for own in direct.iter().filter(|name| name.starts_with("ctedge")) {
            assert!(PURE.contains(&own.as_str()), "{pure} is pure, but depends on {own}, which is not");
        }
    }
}

#[test]
fn a_crate_that_decides_reads_no_clock_file_socket_or_environment() {
    for pure in PURE {
        let folder = pure.trim_start_matches("ctedge-").replace('-', "_");
        let folder = format!("{}/../{folder}/src", env!("CARGO_MANIFEST_DIR"));
        for (path, source) in sources(vec![folder.into()]) {
            // Tests stand last in a file, or in a file of their own, and may look at a clock.
            let is_test = path.file_stem().is_some_and(|stem| stem == "tests");
            let decides = if is_test { "" } else { source.split("#[cfg(test)]").next().unwrap_or_default() };
            for word in IMPURE_WORDS {
                assert!(!decides.contains(word), "{} is pure, but says {word}", path.display());
            }
        }
    }
}

#[test]
fn every_dependency_is_used() {
    let metadata = metadata();
    for package in metadata["packages"].as_array().expect("packages") {
        let manifest = Path::new(package["manifest_path"].as_str().expect("a path"));
        let text_of = |folders: &[&str]| {
            let folders = folders.iter().map(|folder| manifest.with_file_name(folder));
            sources(folders.filter(|folder| folder.exists()).collect()).into_iter().map(|(_, source)| source).collect()
        };
        let product: String = text_of(&["src"]);
        let all: String = text_of(&["src", "tests", "benches"]);
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let name = dependency["name"].as_str().expect("a name");
            let source = if dependency["kind"] == "dev" { &all } else { &product };
            let ident = name.replace('-', "_");
            let is_whole = |at: usize| {
                let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
                !source[..at].ends_with(is_part) && !source[at + ident.len()..].starts_with(is_part)
            };
            let is_used = source.match_indices(&ident).any(|(at, _)| is_whole(at));
            assert!(is_used, "{} does not use {name}", package["name"]);
        }
    }
}

#[test]
fn only_the_balancer_imports_pingora() {
    for (name, direct) in dependencies() {
        let pingora = direct.iter().find(|dependency| dependency.starts_with("pingora"));
        assert!(pingora.is_none() || name == "ctedge-balancer", "{name} imports {pingora:?}");
    }
}

#[test]
fn balancer_and_node_meet_on_the_wire_alone() {
    let dependencies = dependencies();
    let own =
        |name: &str| dependencies[name].iter().filter(|d| d.starts_with("ctedge")).cloned().collect::<BTreeSet<_>>();
    let shared: BTreeSet<_> = own("ctedge-balancer").intersection(&own("ctedge-node")).cloned().collect();
    // Both are handed settings; logs are where both write. A node hands a session to where balancers look for it, which is
    // the same pure function.
    let allowed = ["ctedge-wire", "ctedge-settings", "ctedge-logs", "ctedge-placement"].map(String::from);
    assert!(shared.iter().all(|name| allowed.contains(name)), "shared: {shared:?}");
    assert!(!own("ctedge-balancer").contains("ctedge-node") && !own("ctedge-node").contains("ctedge-balancer"));
}

#[test]
fn only_the_binary_knows_every_role() {
    for (name, direct) in dependencies() {
        let roles = ["ctedge-balancer", "ctedge-node", "ctedge-supervisor"];
        let known = roles.iter().filter(|role| direct.contains(**role)).count();
        assert!(known == 0 || name == "ctedge", "{name} depends on a role");
    }
}

#[test]
fn a_bare_cargo_run_finds_one_binary_and_it_is_the_product() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages").iter();
    let default = metadata["workspace_default_members"].as_array().expect("default members");
    let targets = packages.filter(|package| default.contains(&package["id"])).flat_map(|package| {
        package["targets"].as_array().expect("targets").iter().filter(|target| target["kind"][0] == "bin")
    });
    assert_eq!(targets.map(|target| &target["name"]).collect::<Vec<_>>(), ["ctedge"]);
}

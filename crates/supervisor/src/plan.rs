//! Which children a settings file asks for, and the effective file that they read.
//!
//! The file that the operator wrote says how many nodes; the children need each node's address. So the supervisor
//! settles what the operator left open (ports, nodes, certificate) and writes one file that leaves nothing open. All
//! children read that one, and an operator who wants to know what runs can read it too.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use ctedge_settings::{ClusterSecret, GENERATED_USER, Listeners, Override, ServerUrl, Settings, Value};

use crate::data::{self, DataFolder};
use crate::password::ensure_password;
use crate::ports::{self, Ports};

/// How overrides of the supervisor are named, should one have a fault.
const ORIGIN: &str = "ctedge up";

/// What the place of a node begins with, beside those of the listeners.
const NODE: &str = "node ";

/// What stays as it was at the start of the supervisor, whatever the file says meanwhile: a child that is started again would
/// not understand those that run.
const HELD: [&str; 2] = ["secret_file", "store.url"];

/// Where the settings come from. Whoever implements it may read files and the environment.
pub trait Load: Send + Sync {
    /// Reads the settings anew, with `overrides` counting more than anything else. The error lists every fault.
    fn load(&self, overrides: Vec<Override>) -> anyhow::Result<Settings>;

    /// Whether the file's text is another one than at the last load. Asked about once a second.
    fn has_changed(&self) -> bool;
}

/// What runs, or is about to.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Ids and addresses of the nodes that this supervisor starts.
    pub(crate) nodes: BTreeMap<String, SocketAddr>,
    pub(crate) listeners: Listeners,
    /// What the children read.
    pub(crate) settings: Settings,
    /// What the operator wrote, before anything was settled.
    pub(crate) wanted: Settings,
}

impl Plan {
    /// The longest that the balancer, and that a node, may take to stop in order.
    pub(crate) fn stop_max(&self) -> (Duration, Duration) {
        self.settings.stop_max()
    }
}

/// Remembers what was settled, so that a reload changes only what the operator changed.
#[derive(Debug, Default)]
pub(crate) struct Settler {
    ports: Ports,
    /// Addresses by the setting or the node, with what the file asked for.
    settled: BTreeMap<String, (SocketAddr, SocketAddr)>,
    /// Settings in which all parts of an edge must agree, as they were at the first plan.
    held: Vec<Override>,
}

impl Settler {
    /// Settles what `load` gives. Fails where a port is taken that was not ours before.
    pub(crate) fn plan(&mut self, load: &dyn Load, data: &DataFolder) -> anyhow::Result<Plan> {
        let wanted = load.load(vec![])?;
        if self.held.is_empty() {
            self.held = HELD.iter().filter_map(|setting| wanted.held(setting, ORIGIN)).collect();
        }
        let mut overrides = self.held.clone();
        overrides.push(text("data", data.root().to_string_lossy()));

        let listeners = wanted.listeners();
        let http = self.optional(listeners.http, "balancer.http", "balancer.http, --http")?;
        let https = self.optional(listeners.https, "balancer.https", "balancer.https, --https")?;
        let admin = self.settle(listeners.admin, "balancer.admin", "balancer.admin, --admin")?;
        overrides.push(text("balancer.http", http.map_or(String::new(), |address| address.to_string())));
        overrides.push(text("balancer.https", https.map_or(String::new(), |address| address.to_string())));
        overrides.push(text("balancer.admin", admin.to_string()));

        let counted = self.counted_nodes(&wanted)?;
        overrides.push(node_rows(&wanted, &counted));
        let mut nodes = counted;
        nodes.extend(self.listed_nodes(&wanted)?);
        // A node that was taken away gives its place back.
        self.settled.retain(|place, _| place.strip_prefix(NODE).is_none_or(|id| nodes.contains_key(id)));
        if https.is_some() && wanted.certificates().is_empty() {
            overrides.push(certificate_rows(data));
        }
        let settings = load.load(overrides).context("the settings cannot be completed")?;
        Ok(Plan { nodes, listeners: Listeners { http, https, admin }, settings, wanted })
    }

    /// The nodes that this supervisor starts by their count, `node-1` and up.
    fn counted_nodes(&mut self, wanted: &Settings) -> anyhow::Result<BTreeMap<String, SocketAddr>> {
        let up = wanted.up();
        let mut nodes = BTreeMap::new();
        for index in 0..up.nodes {
            let id = format!("node-{}", index + 1);
            // The settings make sure that the last port is one.
            let port = if up.node_base_port == 0 { 0 } else { up.node_base_port + index as u16 };
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let named = format!("{id}: up.node_base_port, --node-base-port");
            let address = self.settle(address, &format!("{NODE}{id}"), &named)?;
            nodes.insert(id, address);
        }
        Ok(nodes)
    }

    /// Those of the nodes listed for all machines that are this machine's. Other machines read their addresses in their own
    /// files, so that one that changes is taken as it is.
    fn listed_nodes(&mut self, wanted: &Settings) -> anyhow::Result<BTreeMap<String, SocketAddr>> {
        let Some(machine) = wanted.up().machine else {
            return Ok(BTreeMap::new());
        };
        let mut nodes = BTreeMap::new();
        for node in wanted.nodes().fixed.iter().filter(|node| node.address.ip() == machine) {
            let place = format!("{NODE}{}", node.id);
            let settled = (node.listen, node.listen);
            if self.settled.get(&place) != Some(&settled) {
                ports::check(node.listen, &format!("{}: [[nodes]]", node.id))?;
                self.settled.insert(place, settled);
            }
            nodes.insert(node.id.clone(), node.address);
        }
        Ok(nodes)
    }

    fn optional(&mut self, wanted: Option<SocketAddr>, place: &str, named: &str) -> anyhow::Result<Option<SocketAddr>> {
        wanted.map(|address| self.settle(address, place, named)).transpose()
    }

    /// The address for `place`, once and for all: a listener that moves would cut what it carries.
    fn settle(&mut self, wanted: SocketAddr, place: &str, named: &str) -> anyhow::Result<SocketAddr> {
        if let Some((asked, settled)) = self.settled.get(place) {
            if *asked != wanted {
                tracing::warn!("{named} changed, which takes a new start of `ctedge up`; {settled} stays");
            }
            return Ok(*settled);
        }
        let settled = self.ports.settle(wanted)?;
        ports::check(settled, named)?;
        self.settled.insert(place.to_owned(), (wanted, settled));
        Ok(settled)
    }
}

fn text(setting: &str, value: impl Into<String>) -> Override {
    Override::new(setting, Value::Text(value.into()), ORIGIN)
}

/// The nodes that the file lists, and those that this supervisor starts by their count.
fn node_rows(wanted: &Settings, counted: &BTreeMap<String, SocketAddr>) -> Override {
    let listed = wanted.nodes().fixed.iter().map(|node| {
        vec![
            ("id", Value::Text(node.id.clone())),
            ("address", Value::Text(node.address.to_string())),
            ("listen", Value::Text(node.listen.to_string())),
            ("weight", Value::Integer(node.weight.into())),
        ]
    });
    let counted = counted
        .iter()
        .map(|(id, address)| vec![("id", Value::Text(id.clone())), ("address", Value::Text(address.to_string()))]);
    Override::rows("nodes", listed.chain(counted), ORIGIN)
}

fn certificate_rows(data: &DataFolder) -> Override {
    let files = data.self_signed();
    let path = |path: &std::path::Path| Value::Text(path.to_string_lossy().into_owned());
    Override::rows("certificates", [vec![("chain", path(&files.chain)), ("key", path(&files.key))]], ORIGIN)
}

/// Writes what the children read, and makes what it names where it is missing. Returns what was made, in plain words.
pub(crate) fn carry_out(plan: &Plan, data: &DataFolder) -> anyhow::Result<Vec<String>> {
    let mut made = Vec::new();
    let secret = plan.settings.secret_file();
    if data::ensure_secret(&secret)
        .context("secret_file: name a file that the user who runs the edge may read and write")?
    {
        made.push(format!("Made the cluster secret {}", secret.display()));
    }
    let own = data.self_signed();
    if plan.settings.certificates().contains(&own) {
        let public_host = plan.settings.server_url().map(ServerUrl::host);
        if data::ensure_certificate(&own, data::certificate_names(public_host))? {
            made.push(format!("Made a self-signed certificate {}", own.chain.display()));
        }
    }
    let portal = plan.settings.portal();
    if ensure_password(&portal, &read_secret(&secret)?)? {
        let file = portal.password_file.display();
        made.push(format!("Made the password of {GENERATED_USER} for /dashboard and /logs: {file}"));
    }
    data::write_private(&data.effective_file(), plan.settings.written())?;
    Ok(made)
}

fn read_secret(path: &Path) -> anyhow::Result<ClusterSecret> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("secret_file: cannot read the cluster secret {}", path.display()))?;
    ClusterSecret::new(&text).with_context(|| format!("{} (secret_file) is no cluster secret", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    /// A file that lives in memory.
    struct Text(Mutex<String>);

    impl Load for Text {
        fn load(&self, overrides: Vec<Override>) -> anyhow::Result<Settings> {
            ctedge_settings::parse_with(&self.0.lock(), overrides).map_err(|faults| anyhow::anyhow!("{faults:?}"))
        }

        fn has_changed(&self) -> bool {
            false
        }
    }

    const FREE: &str = "[balancer]\nhttp = \"127.0.0.1:0\"\nhttps = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n";

    fn file(up: &str) -> String {
        format!("{FREE}[up]\nnode_base_port = 0\n{up}")
    }

    #[test]
    fn the_effective_file_leaves_nothing_open() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataFolder::take(folder.path()).unwrap();
        let source = Text(Mutex::new(file("")));
        let plan = Settler::default().plan(&source, &data).unwrap();
        let made = carry_out(&plan, &data).unwrap();
        assert_eq!(made.len(), 3, "{made:?}");
        assert!(carry_out(&plan, &data).unwrap().is_empty());

        let effective = fs::read_to_string(data.effective_file()).unwrap();
        let settings = ctedge_settings::parse_with(&effective, []).unwrap();
        assert_eq!(settings.nodes().fixed.len(), 3);
        assert!(settings.nodes().fixed.iter().all(|node| node.address.port() != 0));
        assert_ne!(settings.listeners().admin.port(), 0);
        let secret = ClusterSecret::new(&fs::read_to_string(settings.secret_file()).unwrap());
        let balancer = settings.balancer(secret.unwrap(), 1).unwrap();
        assert_eq!(balancer.certificates, [data.self_signed()]);
    }

    #[test]
    fn a_reload_moves_nothing_that_listens() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataFolder::take(folder.path()).unwrap();
        let source = Text(Mutex::new(file("nodes = 3")));
        let mut settler = Settler::default();
        let before = settler.plan(&source, &data).unwrap();
        *source.0.lock() = file("nodes = 4").replacen("127.0.0.1:0", "127.0.0.1:1080", 1);
        let after = settler.plan(&source, &data).unwrap();
        assert_eq!(after.listeners, before.listeners);
        assert_eq!(after.nodes.len(), 4);
        for (id, address) in &before.nodes {
            assert_eq!(after.nodes[id], *address);
        }
    }

    #[test]
    fn a_reload_changes_nothing_that_all_parts_must_agree_on() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataFolder::take(folder.path()).unwrap();
        let source = Text(Mutex::new(file("")));
        let mut settler = Settler::default();
        let before = settler.plan(&source, &data).unwrap();
        *source.0.lock() = format!("data = \"x\"\nsecret_file = \"y\"\n{}[store]\nurl = \"sqlite:z\"\n", file(""));
        let after = settler.plan(&source, &data).unwrap();
        assert_eq!(after.settings.changed_since(&before.settings), [""; 0]);
        assert_eq!(after.wanted.changed_since(&before.wanted), ["data", "secret_file", "store.url"]);
    }

    #[test]
    fn nodes_of_the_file_are_balanced_beside_the_supervisors_own() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataFolder::take(folder.path()).unwrap();
        let source =
            Text(Mutex::new(file("nodes = 1\n[[nodes]]\nid = \"far\"\naddress = \"10.0.0.1:80\"\nweight = 7\n")));
        let plan = Settler::default().plan(&source, &data).unwrap();
        let nodes: Vec<_> = plan.settings.nodes().fixed.iter().map(|node| (node.id.as_str(), node.weight)).collect();
        assert_eq!(nodes, [("far", 7), ("node-1", 100)]);
        assert_eq!(plan.nodes.keys().collect::<Vec<_>>(), ["node-1"]);
    }

    #[test]
    fn of_the_nodes_of_several_machines_those_of_this_one_are_started() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataFolder::take(folder.path()).unwrap();
        let free = std::net::TcpListener::bind("127.0.0.2:0").unwrap().local_addr().unwrap();
        let node = |id: &str, address: &str| format!("[[nodes]]\nid = \"{id}\"\naddress = \"{address}\"\n");
        let [here, far] = [node("here", &free.to_string()), node("far", "10.0.0.1:80")];
        let machine = "nodes = 0\nmachine = \"127.0.0.2\"\n";
        let source = Text(Mutex::new(file(&format!("{machine}{here}{far}"))));
        let mut settler = Settler::default();
        let plan = settler.plan(&source, &data).unwrap();
        assert_eq!(plan.nodes, BTreeMap::from([("here".to_owned(), free)]));
        assert_eq!(plan.settings.nodes().fixed.len(), 2);

        // Once it runs, its port is its own; another node's is looked at.
        let taken = std::net::TcpListener::bind(free).unwrap();
        settler.plan(&source, &data).unwrap();
        *source.0.lock() = file(&format!("{machine}{}{far}", node("other", &free.to_string())));
        let error = settler.plan(&source, &data).unwrap_err().to_string();
        assert!(error.contains("other: [[nodes]]"), "{error}");
        drop(taken);
        assert_eq!(settler.plan(&source, &data).unwrap().nodes.keys().collect::<Vec<_>>(), ["other"]);
    }

    #[test]
    fn a_taken_port_ends_the_plan_with_the_setting_and_the_port() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataFolder::take(folder.path()).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let source = Text(Mutex::new(file("").replacen("127.0.0.1:0", &address.to_string(), 1)));
        let error = Settler::default().plan(&source, &data).unwrap_err().to_string();
        assert!(error.contains("balancer.http, --http") && error.contains(&address.to_string()), "{error}");
    }
}

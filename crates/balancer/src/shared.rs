//! What all threads of a balancer share.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use ctedge_logs::{AccessLog, Spell};
use ctedge_routing::{
    KeyFinder, KeyNames, Node, NodeChanges, NodeSpec, NodeState, Router, RouterSettings, StateChange, Thresholds,
};
use ctedge_settings::BalancerSettings;
use ctedge_wire::HealthReport;
use http::HeaderValue;
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};
use tokio::sync::{Notify, watch};

use crate::forwarded::TrustedProxies;
use crate::handshake::Told;
use crate::leaving::Polls;
use crate::limits::Limits;
use crate::metrics::{Metrics, NO_NODE, NodeMetrics};
use crate::placement::Placement;
use crate::selection::SelectionConfig;
use crate::stop::Stop;
use crate::tls::Certificates;
use crate::tunnel::dial::{self, DialError, Dialed};
use crate::unread::Unread;

/// What the kernel keeps of an answer that the balancer has not read. It is as much as the kernel begins with; what it would grow
/// to is megabytes for each client that reads slowly.
const NODE_RECEIVE_BYTES: usize = 128 * 1024;

/// How long a connection to a node may lie idle before it is closed here. Below the 5 s after which servers on Node.js
/// close theirs, so that a request never meets a connection that its node has just given up.
const NODE_IDLE_TIME_MAX: Duration = Duration::from_secs(4);

/// A balancer, as its threads see it.
pub(crate) struct Shared {
    pub(crate) live: ArcSwap<Live>,
    pub(crate) router: Router,
    pub(crate) placement: ArcSwap<Placement>,
    pub(crate) metrics: Metrics,
    pub(crate) own_answers: NodeMetrics,
    pub(crate) limits: Arc<Limits>,
    pub(crate) access_log: Option<AccessLog>,
    pub(crate) unread: Unread,
    pub(crate) handshakes: Told,
    /// Of what it takes to accept a connection: file descriptors.
    pub(crate) shortage: Spell,
    pub(crate) certificates: Option<Arc<Certificates>>,
    pub(crate) stop: Stop,
    pub(crate) polls: Arc<Polls>,
    /// For how long the balancer goes on after its successor has taken over; `None` while it has none.
    pub(crate) retire: watch::Sender<Option<Duration>>,
    /// Where the supervisor of this balancer takes commands.
    pub(crate) control_socket: OnceLock<PathBuf>,
    pub(crate) started: Instant,
    /// Tells that there are nodes that are not checked yet.
    pub(crate) learned: Notify,
    targets: ArcSwap<HashMap<usize, Arc<Target>>>,
}

/// The settings in force, and what is made of them once. A request sees one of these from its beginning to its end.
pub(crate) struct Live {
    pub(crate) settings: BalancerSettings,
    pub(crate) finder: KeyFinder,
    pub(crate) trusted: TrustedProxies,
}

/// What is kept ready per node, so that requests need not make it.
pub(crate) struct Target {
    pub(crate) node: Arc<Node>,
    pub(crate) peer: HttpPeer,
    pub(crate) metrics: NodeMetrics,
    /// The value of `x-ctedge-node`.
    pub(crate) name: HeaderValue,
    /// Tells the node's tunnels that it went down. Their clients must come back and meet at another node: kept, the
    /// tunnels of a node that only seems dead would hold one part of a session while the others begin it elsewhere.
    pub(crate) went_down: watch::Sender<()>,
}

impl Target {
    /// Waits until the node goes down. One that was down before is another node's word for it that it is not.
    pub(crate) async fn until_down(&self) {
        // The sender is this target's own.
        let _ = self.went_down.subscribe().changed().await;
    }

    /// Sends the head of a request over a connection of its own and reads that of the answer, until the node goes down: one that is
    /// frozen accepts, and never answers.
    pub(crate) async fn ask(
        &self,
        head: &[u8],
        connect_time_max: Duration,
        answer_time_max: Duration,
    ) -> Result<Dialed, DialError> {
        tokio::select! {
            answer = dial::ask(self.node.address(), head, connect_time_max, answer_time_max) => answer,
            () = self.until_down() => Err(DialError::Answer(io::Error::other("the node went down"))),
        }
    }
}

impl Live {
    pub(crate) fn new(settings: BalancerSettings) -> Self {
        let named = |name: &String| (!name.is_empty()).then(|| name.clone());
        let finder = KeyFinder::new(KeyNames {
            header: named(&settings.key.header),
            query: named(&settings.key.query),
            cookie: named(&settings.key.cookie),
            protocol: settings.key.protocol,
        });
        let trusted = TrustedProxies::new(settings.trusted_proxies.clone());
        Self { settings, finder, trusted }
    }

    fn router(&self) -> Router {
        let router = Router::new(&self.router_settings());
        router.prefer_region(self.settings.region.as_deref());
        router
    }

    pub(crate) fn router_settings(&self) -> RouterSettings {
        RouterSettings {
            seed: self.settings.secret.placement_seed(),
            pins_max: self.settings.pins.count_max,
            pin_idle_max: self.settings.pins.idle_max,
            load_bound: self.settings.placement.load_bound,
            thresholds: Thresholds { rise: self.settings.health.rise, fall: self.settings.health.fall },
        }
    }

    pub(crate) fn selection_config(&self) -> SelectionConfig {
        SelectionConfig { algorithm: self.settings.placement.algorithm, seed: self.settings.secret.placement_seed() }
    }
}

impl Shared {
    pub(crate) fn new(
        settings: BalancerSettings,
        metrics: Metrics,
        access_log: Option<AccessLog>,
        certificates: Option<Arc<Certificates>>,
    ) -> Self {
        let live = Live::new(settings);
        Self {
            router: live.router(),
            placement: ArcSwap::from_pointee(Placement::new(live.selection_config())),
            own_answers: metrics.of_node(NO_NODE),
            metrics,
            limits: Arc::default(),
            access_log,
            unread: Unread::default(),
            handshakes: Told::default(),
            shortage: Spell::default(),
            certificates,
            stop: Stop::default(),
            polls: Arc::default(),
            retire: watch::Sender::new(None),
            control_socket: OnceLock::new(),
            started: Instant::now(),
            learned: Notify::new(),
            targets: ArcSwap::default(),
            live: ArcSwap::from_pointee(live),
        }
    }

    /// Whether another balancer accepts from the same sockets.
    pub(crate) fn has_successor(&self) -> bool {
        self.retire.borrow().is_some()
    }

    /// Takes another list of nodes. No pinned key moves. Not to be called by two at once.
    pub(crate) async fn set_nodes(&self, specs: &[NodeSpec]) -> pingora::Result<NodeChanges> {
        // A node is known to the router before placement can name it.
        let changes = self.router.set_nodes(specs, Instant::now());
        self.refresh_targets();
        self.placement.load_full().set(specs).await?;
        Ok(changes)
    }

    /// Makes what is kept ready per node anew, after nodes or settings have changed.
    pub(crate) fn refresh_targets(&self) {
        // Of several at once, each one after the first looks again.
        self.targets.rcu(|known| {
            let live = self.live.load();
            let nodes = self.router.nodes();
            let targets = nodes.iter().map(|node| {
                let went_down = known.get(&identity(node)).map(|target| target.went_down.clone()).unwrap_or_default();
                (identity(node), Arc::new(self.make_target(node, &live, went_down)))
            });
            targets.collect::<HashMap<_, _>>()
        });
    }

    /// Sees to it that a node that others told of is looked after like those of the list.
    pub(crate) fn know(&self, node: &Arc<Node>) {
        if !self.targets.load().contains_key(&identity(node)) {
            tracing::info!(node = node.id().as_str(), address = %node.address(), "learned of a node outside of the list");
            self.refresh_targets();
            self.learned.notify_one();
        }
    }

    /// What is kept ready for `node`.
    pub(crate) fn target(&self, node: &Arc<Node>) -> Arc<Target> {
        let known = self.targets.load().get(&identity(node)).cloned();
        // A node that left the list a moment ago may still be named by a pin.
        known.unwrap_or_else(|| Arc::new(self.make_target(node, &self.live.load(), watch::Sender::default())))
    }

    /// Believes what a node said of itself, and of others, in the answer to what it was asked at `asked`.
    pub(crate) fn heard_from(&self, node: &Node, report: Option<HealthReport>, asked: Instant) {
        let now = Instant::now();
        let over = report.as_ref().map(|report| report.over.clone()).unwrap_or_default();
        self.note(node, self.router.check_succeeded(node, report, asked, now));
        for (other, change) in self.router.leases_over(&over, now) {
            self.note(&other, Some(change));
        }
    }

    /// Notes that a node's state has changed, if it has.
    pub(crate) fn note(&self, node: &Node, change: Option<StateChange>) {
        let Some(change) = change else { return };
        let (id, from, to) = (node.id().as_str(), change.from.as_str(), change.to.as_str());
        let trouble = node.trouble();
        tracing::info!(node = id, address = %node.address(), from, to, reason = trouble, "node is {to}");
        self.metrics.state_changes.with_label_values(&[id, to]).inc();
        if change.to == NodeState::Down
            && let Some(target) = self.targets.load().get(&identity(node))
        {
            target.went_down.send_replace(());
        }
    }

    fn make_target(&self, node: &Arc<Node>, live: &Live, went_down: watch::Sender<()>) -> Target {
        let timeouts = &live.settings.timeouts;
        let mut peer = HttpPeer::new(node.address(), false, String::new());
        peer.options.connection_timeout = Some(timeouts.connect);
        peer.options.total_connection_timeout = Some(timeouts.connect);
        peer.options.tcp_recv_buf = Some(NODE_RECEIVE_BYTES);
        peer.options.read_timeout = Some(timeouts.response);
        peer.options.write_timeout = Some(timeouts.response);
        peer.options.idle_timeout = Some(NODE_IDLE_TIME_MAX);
        // WebSockets go through tunnels of our own; nothing else is upgraded.
        peer.options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
        let name = HeaderValue::from_str(node.id().as_str());
        Target {
            node: Arc::clone(node),
            peer,
            metrics: self.metrics.of_node(node.id().as_str()),
            name: name.unwrap_or_else(|_| HeaderValue::from_static("unnamed")),
            went_down,
        }
    }
}

/// The router has one object per node for as long as anything needs it, so that its address tells nodes apart.
fn identity(node: &Node) -> usize {
    std::ptr::from_ref(node) as usize
}

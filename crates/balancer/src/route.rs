//! The way of one request to its node, over as many tries as it takes.
//!
//! Plain requests and tunnels go the same way; they only differ in how a node is asked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ctedge_routing::{Choice, ConnectFailure, Finding, Node, Owner, Placed, Redirected, Standing};
use ctedge_wire::{Key, Redirect};
use http::HeaderValue;
use tokio::time::sleep;

use crate::answer::Refusal;
use crate::metrics::Retry;
use crate::request::mint_key;
use crate::shared::{Shared, Target};

/// How often a request may be sent elsewhere because a node said so. One redirect finds the owner; more are needed
/// only while ownership moves.
const REDIRECTS_MAX: u32 = 4;

/// How often a request is sent at all. Each failure to connect excludes a node or is followed by a pause, so that this
/// bounds large clusters with many dead nodes and nothing else.
pub(crate) const TRIES_MAX: u32 = 16;

/// How often a node may go away under a request. The first time it may have been the connection alone; a node that is
/// being killed may still accept one more.
const DEATHS_MAX: u32 = 3;

/// The first pause before a node that could not be reached, and yet is not down, is asked again; each further one is
/// twice as long. A process that is being killed resets connections for a few milliseconds before it refuses them.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// How long a request waits in such pauses before it is refused. Either the node answers by then, or the failed connects
/// have taken it down and the key goes on elsewhere.
const PATIENCE: Duration = Duration::from_secs(2);

/// How many unreachable nodes a node is told of, so that the header stays short in a cluster that is mostly down.
const UNREACHABLE_MAX: usize = 32;

/// Where a request goes, and where it has been.
pub(crate) struct Route {
    pub(crate) finding: Finding,
    pub(crate) key: Key,
    standing: Standing,
    placed: Option<Placed>,
    pub(crate) target: Option<Arc<Target>>,
    /// Nodes that this request could not reach, or that refused it without having done anything.
    tried: Vec<Arc<Node>>,
    /// Nodes that this request could not connect to, for nodes that would send it on to one of them.
    unreachable: Vec<Arc<Node>>,
    /// Whether the node of the next try was asked a moment ago, so that asking it again at once would not help.
    wants_pause: bool,
    tries: u32,
    redirects: u32,
    deaths: u32,
    /// When the first pause began, and how long the next one is.
    pauses: Option<(Instant, Duration)>,
}

impl Route {
    /// Takes or mints the key and chooses its node. Without a place, the next try looks for one.
    pub(crate) fn begin(shared: &Shared, finding: Finding) -> Result<Self, (Box<Self>, Refusal)> {
        shared.metrics.key_from(finding.source());
        if finding.malformed > 0 {
            shared.metrics.malformed_keys.inc_by(u64::from(finding.malformed));
        }
        let placement = shared.placement.load();
        let standing = finding.standing();
        let (key, choice) = match &finding.found {
            Some(found) => {
                let key = found.key.clone();
                let choice = shared.router.choose(&key, standing, placement.rank(&key), &[], Instant::now());
                (key, choice)
            }
            None => shared.router.choose_fresh(mint_key, |key| placement.rank(key), Instant::now()),
        };
        let mut route = Self {
            finding,
            key,
            standing,
            placed: None,
            target: None,
            tried: Vec::new(),
            unreachable: Vec::new(),
            wants_pause: false,
            tries: 0,
            redirects: 0,
            deaths: 0,
            pauses: None,
        };
        match choice {
            Choice::Node(placed) => route.take(shared, placed),
            Choice::Unreachable(_) => {}
            Choice::NoneUp => return Err((Box::new(route), Refusal::NoNode)),
        }
        Ok(route)
    }

    /// Chooses again, after a try that failed. What the request was not given to may pass in a moment: the node is dying,
    /// or overrun. So it is asked again after a pause, until it answers, is down, or took too long.
    async fn choose(&mut self, shared: &Shared) -> Result<(), Refusal> {
        loop {
            match self.look(shared) {
                Choice::Node(placed) => {
                    self.take(shared, placed);
                    return Ok(());
                }
                Choice::Unreachable(node) => {
                    self.pause().await?;
                    shared.metrics.retried(Retry::Pause);
                    self.tried.retain(|tried| !Arc::ptr_eq(tried, &node));
                }
                Choice::NoneUp => return Err(Refusal::NoNode),
            }
        }
    }

    async fn pause(&mut self) -> Result<(), Refusal> {
        let now = Instant::now();
        let (begun, pause) = self.pauses.unwrap_or((now, PAUSE_MIN));
        if now.saturating_duration_since(begun) >= PATIENCE {
            return Err(Refusal::NoNode);
        }
        self.pauses = Some((begun, pause * 2));
        sleep(pause).await;
        Ok(())
    }

    fn look(&self, shared: &Shared) -> Choice {
        let placement = shared.placement.load();
        let ranked = placement.rank(&self.key);
        shared.router.choose(&self.key, self.standing, ranked, &self.tried, Instant::now())
    }

    /// The node of the next try.
    pub(crate) async fn next_target(&mut self, shared: &Shared) -> Result<&Arc<Target>, Refusal> {
        if std::mem::take(&mut self.wants_pause) {
            self.pause().await?;
        }
        if self.target.is_none() {
            self.choose(shared).await?;
        }
        self.tries += 1;
        self.target.as_ref().filter(|_| self.tries <= TRIES_MAX).ok_or(Refusal::NoNode)
    }

    /// The value of the key's header.
    pub(crate) fn key_value(&self) -> HeaderValue {
        // Keys have no character that a header could not have.
        HeaderValue::from_str(self.key.as_str()).unwrap_or_else(|_| HeaderValue::from_static("-"))
    }

    /// The node could not be reached: nothing was asked, so that any request may go on.
    pub(crate) fn could_not_connect(&mut self, shared: &Shared, was_refused: bool) {
        let Some(placed) = self.placed.take() else { return };
        let failure = if was_refused { ConnectFailure::Refused } else { ConnectFailure::Other };
        shared.note(&placed.node, shared.router.connect_failed(&placed.node, failure, Instant::now()));
        shared.metrics.retried(Retry::Connect);
        if !is_among(&placed.node, &self.unreachable) {
            self.unreachable.push(Arc::clone(&placed.node));
        }
        self.exclude(placed.node);
    }

    /// Tells the node of this try which others cannot be reached, by this request or by the checks, so that it does not
    /// send the request on to one of them. Nothing is told to a server that knows no others.
    pub(crate) fn unreachable_value(&self, shared: &Shared) -> Option<HeaderValue> {
        let target = self.target.as_ref().filter(|target| target.node.shares_ownership())?;
        let nodes = shared.router.nodes();
        let down = nodes.iter().filter(|node| !node.state().serves_own() && !is_among(node, &self.unreachable));
        let others = self.unreachable.iter().chain(down).filter(|node| !Arc::ptr_eq(node, &target.node));
        let names: Vec<_> = others.take(UNREACHABLE_MAX).map(|node| node.own_name()).collect();
        if names.is_empty() { None } else { HeaderValue::from_str(&names.join(",")).ok() }
    }

    /// The node was asked and went away. It is asked again over a new connection, and if nobody listens any more, the
    /// next one is.
    /// Returns whether that is worth a try.
    pub(crate) fn died(&mut self, shared: &Shared) -> bool {
        self.deaths += 1;
        if self.deaths > DEATHS_MAX {
            return false;
        }
        shared.metrics.retried(Retry::Died);
        true
    }

    /// The node answered 421 and said where the request belongs. Without a place, the next try looks for one.
    pub(crate) fn follow(&mut self, shared: &Shared, redirect: Redirect) -> Result<(), Refusal> {
        self.redirects += 1;
        if self.redirects > REDIRECTS_MAX {
            tracing::warn!(key = %self.key, "nodes redirect each other in a circle");
            return Err(Refusal::NodeFailed);
        }
        match redirect {
            Redirect::Key(key) => {
                shared.metrics.retried(Retry::RedirectKey);
                self.key = key;
                // A session that is being created has got another unused key; anything else names one that lives.
                self.standing = if self.finding.wants_fresh { Standing::Fresh } else { Standing::Issued };
                self.tried.clear();
                (self.target, self.placed) = (None, None);
                Ok(())
            }
            Redirect::Owner { node, epoch, address } => {
                shared.metrics.retried(Retry::RedirectOwner);
                let Some(by) = self.placed.take().map(|placed| placed.node) else { return Err(Refusal::Internal) };
                let owner = Owner { name: &node, epoch, address };
                match shared.router.redirected(&self.key, owner, &by, Instant::now()) {
                    Redirected::Owner(placed) | Redirected::Stale(placed) => {
                        self.wants_pause = is_among(&placed.node, &self.tried) || Arc::ptr_eq(&placed.node, &by);
                        self.tried.retain(|tried| !Arc::ptr_eq(tried, &placed.node));
                        shared.know(&placed.node);
                        self.take(shared, placed);
                        Ok(())
                    }
                    Redirected::UnknownNode => {
                        tracing::warn!(key = %self.key, owner = node, "the owner of a key is no node of the list");
                        Err(Refusal::NoNode)
                    }
                }
            }
        }
    }

    /// The node answered 503. Whether there is another that may take the request; the router says no when something
    /// may live under the key where it is.
    pub(crate) fn go_elsewhere(&mut self, shared: &Shared) -> bool {
        let Some(placed) = self.placed.clone() else { return false };
        if placed.settled && placed.node.shares_ownership() {
            // It answers for what is its own; another node could only send the request back.
            return false;
        }
        self.exclude(Arc::clone(&placed.node));
        if let Choice::Node(elsewhere) = self.look(shared) {
            shared.metrics.retried(Retry::Unavailable);
            self.take(shared, elsewhere);
            return true;
        }
        // The answer that there is goes to the client, as that node's.
        self.take(shared, placed);
        false
    }

    /// The node gave an answer: what lives under the key lives there from here on.
    pub(crate) fn answered(&self, shared: &Shared) {
        if let Some(placed) = self.placed.as_ref().filter(|placed| !placed.settled) {
            shared.router.answered(&self.key, &placed.node, Instant::now());
        }
    }

    /// The node answered as the owner of the key since `epoch`.
    pub(crate) fn served(&self, shared: &Shared, epoch: u64) {
        let Some(Placed { node, epoch: known, .. }) = &self.placed else { return };
        let Some(fault) = shared.router.served(&self.key, node, epoch, *known, Instant::now()) else { return };
        shared.metrics.two_owners.inc();
        if fault.is_first {
            let other = fault.other.as_ref().map_or("-", |other| other.id().as_str());
            let (key, node, other_epoch) = (self.key.as_str(), node.id().as_str(), fault.epoch);
            tracing::error!(key, node, epoch, other, other_epoch, "two nodes answer as the owner of one key");
        }
    }

    fn exclude(&mut self, node: Arc<Node>) {
        if !is_among(&node, &self.tried) {
            self.tried.push(node);
        }
        self.target = None;
    }

    fn take(&mut self, shared: &Shared, placed: Placed) {
        self.target = Some(shared.target(&placed.node));
        self.placed = Some(placed);
    }
}

fn is_among(node: &Arc<Node>, nodes: &[Arc<Node>]) -> bool {
    nodes.iter().any(|known| Arc::ptr_eq(known, node))
}

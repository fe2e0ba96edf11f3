//! The way of one request to its node, over as many tries as it takes.
//!
//! Plain requests and tunnels go the same way; they only differ in how a node is asked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ctedge_routing::{Choice, ConnectFailure, Finding, Node, Placed, Redirected, Standing};
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

/// Where a request goes, and where it has been.
pub(crate) struct Route {
    pub(crate) finding: Finding,
    pub(crate) key: Key,
    standing: Standing,
    placed: Option<Placed>,
    pub(crate) target: Option<Arc<Target>>,
    /// Nodes that this request could not reach, or that refused it without having done anything.
    tried: Vec<Arc<Node>>,
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
        self.exclude(placed.node);
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
            Redirect::Owner { node, epoch, .. } => {
                shared.metrics.retried(Retry::RedirectOwner);
                match shared.router.redirected(&self.key, &node, epoch, Instant::now()) {
                    Redirected::Owner(placed) | Redirected::Stale(placed) => {
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

    fn exclude(&mut self, node: Arc<Node>) {
        if !self.tried.iter().any(|tried| Arc::ptr_eq(tried, &node)) {
            self.tried.push(node);
        }
        self.target = None;
    }

    fn take(&mut self, shared: &Shared, placed: Placed) {
        self.target = Some(shared.target(&placed.node));
        self.placed = Some(placed);
    }
}

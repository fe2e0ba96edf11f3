//! The way of one request to its node, over as many tries as it takes.
//!
//! Plain requests and tunnels go the same way; they only differ in how a node is asked.

use std::sync::Arc;
use std::time::Instant;

use ctedge_routing::{Choice, ConnectFailure, Finding, Node, Placed, Redirected, Standing};
use ctedge_wire::{Key, Redirect};
use http::HeaderValue;

use crate::answer::Refusal;
use crate::metrics::Retry;
use crate::request::mint_key;
use crate::shared::{Shared, Target};

/// How often a request may be sent elsewhere because a node said so. One redirect finds the owner; more are needed
/// only while ownership moves.
const REDIRECTS_MAX: u32 = 4;

/// How often a request is sent at all. Each failure to connect excludes a node, so that this bounds large clusters with
/// many dead nodes and nothing else.
pub(crate) const TRIES_MAX: u32 = 12;

/// How often a node may go away under a request. The first time it may have been the connection alone; a node that is
/// being killed may still accept one more.
const DEATHS_MAX: u32 = 3;

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
}

impl Route {
    /// Takes or mints the key and chooses its node.
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
        };
        match route.take(shared, choice) {
            Ok(()) => Ok(route),
            Err(refusal) => Err((Box::new(route), refusal)),
        }
    }

    /// Chooses again, after a try that failed.
    pub(crate) fn choose(&mut self, shared: &Shared) -> Result<(), Refusal> {
        let placement = shared.placement.load();
        let ranked = placement.rank(&self.key);
        let choice = shared.router.choose(&self.key, self.standing, ranked, &self.tried, Instant::now());
        self.take(shared, choice)
    }

    /// The node of the next try.
    pub(crate) fn next_target(&mut self) -> Result<&Arc<Target>, Refusal> {
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

    /// The node answered 421 and said where the request belongs.
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
                self.choose(shared)
            }
            Redirect::Owner { node, epoch, .. } => {
                shared.metrics.retried(Retry::RedirectOwner);
                match shared.router.redirected(&self.key, &node, epoch, Instant::now()) {
                    Redirected::Owner(placed) | Redirected::Stale(placed) => self.take(shared, Choice::Node(placed)),
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
        if self.choose(shared).is_ok() {
            shared.metrics.retried(Retry::Unavailable);
            return true;
        }
        // The answer that there is goes to the client, as that node's.
        self.target = Some(shared.target(&placed.node));
        self.placed = Some(placed);
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

    fn take(&mut self, shared: &Shared, choice: Choice) -> Result<(), Refusal> {
        match choice {
            Choice::Node(placed) => {
                self.target = Some(shared.target(&placed.node));
                self.placed = Some(placed);
                Ok(())
            }
            Choice::Unreachable(_) | Choice::NoneUp => {
                self.target = None;
                self.placed = None;
                Err(Refusal::NoNode)
            }
        }
    }
}

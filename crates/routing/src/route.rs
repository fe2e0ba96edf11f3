//! The way of one request to its node, over as many tries as it takes.
//!
//! This is a state machine without a clock or a socket: whoever carries the request asks it for the [`Step`] to take,
//! and tells it what became of each try. Plain requests, tunnels and the simulation are all carried by it.
//!
//! ```text
//! begin ──► next ──► Try ──┬─ could_not_connect ──► next      nothing was asked: another node is
//!            ▲  │          ├─ died ──► Again | PassOn         the same node is asked over a new connection
//!            │  ├► Pause ──┘─ heard ──► Again | PassOn | Refuse
//!            │  └► Ask ──────  told ──► next
//!            └──────────────────────────┘
//! ```
//!
//! The rules:
//!
//! 1. A node that could not be reached was not asked, so that any request goes on to the next one. If the key cannot
//!    move, its node is asked again after a pause, until it answers, is down, or that took too long.
//! 2. A node that went away under a request may have done it: only what may be repeated is, and not for ever.
//! 3. 421 means that the node did nothing: the request follows, whatever it is, as long as all of it is still there.
//! 4. 503 sends a request on that is harmless, unless the node answers as the owner of a living key: another one could
//!    only send the request back. If a node could not be reached before, that one is next: it is the likely owner, and
//!    the others could only wait for its end as well.
//! 5. A request that could not be sent again goes to no node that might say that it is not its own: a node that shares
//!    ownership is asked first, and its 421 is followed like any other.
//! 6. Any other answer is the client's. What lives under the key lives there from then on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ctedge_wire::{Key, Redirect};

use crate::health::{ConnectFailure, StateChange};
use crate::node::Node;
use crate::pins::RedirectReason;
use crate::router::{Choice, Owner, Placed, Redirected, Router, TwoOwners};
use crate::source::{Finding, Standing};

/// How often a request may be sent elsewhere because a node said so. One redirect finds the owner; more are needed
/// only while ownership moves.
const REDIRECTS_MAX: u32 = 4;

/// How often a request is sent at all. Each failure to connect excludes a node or is followed by a pause, so that this
/// bounds large clusters with many dead nodes and nothing else.
pub const TRIES_MAX: u32 = 16;

/// How often a node may go away under a request. The first time it may have been the connection alone; a node that is
/// being killed may still accept one more.
const DEATHS_MAX: u32 = 3;

/// The first pause before a node that could not be reached, and yet is not down, is asked again; each further one is
/// twice as long. A process that is being killed resets connections for a few milliseconds before it refuses them.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// How long a request waits in such pauses before it is refused. Either the node answers by then, or the failed connects
/// have taken it down and the key goes on elsewhere.
const PATIENCE: Duration = Duration::from_secs(2);

const MISDIRECTED: u16 = 421;
const UNAVAILABLE: u16 = 503;
const SWITCHING_PROTOCOLS: u16 = 101;

/// What to do with the request now.
#[derive(Debug, Clone)]
pub enum Step {
    /// Send it to this node, and tell what becomes of it.
    Try(Placed),
    /// Ask this node whether the key is its own, and tell what becomes of that; its answer goes to [`Route::told`].
    Ask(Placed),
    /// Wait so long, then ask again.
    Pause(Duration),
    /// Tell the client.
    Refuse(Refused),
}

/// What to do after a node answered, or went away.
#[derive(Debug, Clone)]
pub enum Then {
    /// Nothing goes to the client: the request is sent again, for this reason. [`Route::next`] says where.
    Again(Retry),
    /// The answer, or the lack of one, is for the client.
    PassOn {
        /// The answer must not be: two nodes answer as the owner of the key.
        fault: Option<TwoOwners>,
    },
    /// Tell the client.
    Refuse(Refused),
}

/// Why a request is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The node could not be reached.
    Connect,
    /// The node went away before it answered.
    Died,
    /// The node named the key that the request belongs to.
    RedirectKey,
    /// The node named the owner of the key.
    RedirectOwner,
    /// The node takes nothing new.
    Unavailable,
    /// The node could not be reached and is not down: it was asked again, or another was, after a pause.
    Pause,
}

impl Retry {
    /// All reasons.
    pub const ALL: [Self; 6] =
        [Self::Connect, Self::Died, Self::RedirectKey, Self::RedirectOwner, Self::Unavailable, Self::Pause];

    /// The word of logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Died => "died",
            Self::RedirectKey => "redirect_key",
            Self::RedirectOwner => "redirect_owner",
            Self::Unavailable => "unavailable",
            Self::Pause => "pause",
        }
    }
}

/// Why a request does not get to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// No node takes it.
    NoNode,
    /// The node of its key takes no connection, and is not known to be down.
    Unreachable,
    /// It was sent too often.
    TooManyTries,
    /// The node of its key said that it cannot take it now, before it was sent.
    Unavailable,
    /// Nodes send it to each other.
    Circle,
    /// Its key is owned by a node of this name, which is not known and cannot become known.
    UnknownOwner(String),
}

/// A node's answer, as far as it matters to where the request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status; not an informational one, but for 101.
    pub status: u16,
    /// What a 421 says, if it is of a node of ours.
    pub redirect: Option<Redirect>,
    /// Since when the node owns the key, if it answers as the owner.
    pub epoch: Option<u64>,
    /// Whether all of the request can be sent again.
    pub can_replay: bool,
    /// Whether sending the request to two nodes does no harm: its method is safe (RFC 9110, section 9.2.1).
    pub is_safe: bool,
}

/// Where a request goes, and where it has been.
#[derive(Debug, Clone)]
pub struct Route {
    finding: Finding,
    key: Key,
    standing: Standing,
    /// The node of the try that is under way or comes next.
    placed: Option<Placed>,
    /// Nodes that this request could not reach, or that refused it without having done anything.
    tried: Vec<Arc<Node>>,
    /// Nodes that this request could not connect to, for nodes that would send it on to one of them.
    unreachable: Vec<Arc<Node>>,
    /// Where the request was sent and could not connect, for when another node refuses it.
    missed: Option<Placed>,
    /// Whether the node of the next try was asked a moment ago, so that asking it again at once would not help.
    wants_pause: bool,
    /// Whether nodes are asked before the request is sent to them.
    asks_first: bool,
    /// Whether the node of the next try was, and had nothing against it.
    is_cleared: bool,
    tries: u32,
    redirects: u32,
    deaths: u32,
    /// When the first pause began, and how long the next one is.
    pauses: Option<(Instant, Duration)>,
}

impl Route {
    /// Takes the key that was found, or mints one, and chooses its node. `rank` yields the addresses of nodes as placement
    /// ranks them for a key, here and in the other methods.
    ///
    /// # Errors
    ///
    /// When no node takes the request.
    pub fn begin<I: IntoIterator<Item = SocketAddr>>(
        router: &Router,
        finding: Finding,
        mint: impl FnMut() -> Key,
        mut rank: impl FnMut(&Key) -> I,
        now: Instant,
    ) -> Result<Self, Refused> {
        let standing = finding.standing();
        let (key, choice) = match &finding.found {
            Some(found) => (found.key.clone(), router.choose(&found.key, standing, rank(&found.key), &[], now)),
            None => router.choose_fresh(mint, rank, now),
        };
        let placed = match choice {
            Choice::Node(placed) => Some(placed),
            // The first step looks again, and pauses.
            Choice::Unreachable(_) => None,
            Choice::NoneUp => return Err(Refused::NoNode),
        };
        Ok(Self {
            finding,
            key,
            standing,
            placed,
            tried: Vec::new(),
            unreachable: Vec::new(),
            missed: None,
            wants_pause: false,
            asks_first: false,
            is_cleared: false,
            tries: 0,
            redirects: 0,
            deaths: 0,
            pauses: None,
        })
    }

    /// The request cannot be sent again once a node has begun to read it.
    #[must_use]
    pub fn ask_first(self) -> Self {
        Self { asks_first: true, ..self }
    }

    /// What the request said of its key.
    #[must_use]
    pub fn finding(&self) -> &Finding {
        &self.finding
    }

    /// The key that the request belongs to, as far as is known.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The node of the try that is under way or comes next, if there is one.
    #[must_use]
    pub fn node(&self) -> Option<&Arc<Node>> {
        self.placed.as_ref().map(|placed| &placed.node)
    }

    /// Whether a node could not be reached by this request, or refused it without having done anything.
    #[must_use]
    pub fn has_tried(&self) -> bool {
        !self.tried.is_empty()
    }

    /// What to do now. To be asked at the beginning, after a pause, after a connect that failed, and after
    /// [`Then::Again`].
    pub fn next<I: IntoIterator<Item = SocketAddr>>(
        &mut self,
        router: &Router,
        rank: impl FnOnce(&Key) -> I,
        now: Instant,
    ) -> Step {
        if std::mem::take(&mut self.wants_pause) {
            return self.pause(now);
        }
        let placed = match self.placed.clone() {
            Some(placed) => placed,
            None => match self.look(router, rank, now) {
                Choice::Node(placed) => self.take(placed),
                Choice::Unreachable(node) => {
                    // What the request was not given to may pass in a moment: the node is dying, or overrun.
                    self.tried.retain(|tried| !Arc::ptr_eq(tried, &node));
                    return self.pause(now);
                }
                Choice::NoneUp => return Step::Refuse(Refused::NoNode),
            },
        };
        self.tries += 1;
        if self.tries > TRIES_MAX {
            return Step::Refuse(Refused::TooManyTries);
        }
        // Whom a node names shares ownership with it, whether or not the checks have heard so.
        let shares = placed.node.shares_ownership() || self.redirects > 0;
        let is_asked_about = self.asks_first && !self.is_cleared && shares;
        if is_asked_about { Step::Ask(placed) } else { Step::Try(placed) }
    }

    /// The names of the nodes that cannot be reached, by this request or by the checks, for the node of this try: so it
    /// does not send the request on to one of them. A server that knows no others is told of none.
    pub fn unreachable(&self, router: &Router) -> Vec<String> {
        let Some(asked) = self.node().filter(|node| node.shares_ownership()) else { return Vec::new() };
        let nodes = router.nodes();
        let down = nodes.iter().filter(|node| !node.state().serves_own() && !is_among(node, &self.unreachable));
        let others = self.unreachable.iter().chain(down).filter(|node| !Arc::ptr_eq(node, asked));
        others.map(|node| node.own_name()).collect()
    }

    /// The node could not be reached: nothing was asked, so that any request may go on. Tells how the node's state
    /// changed by that.
    pub fn could_not_connect(
        &mut self,
        router: &Router,
        failure: ConnectFailure,
        now: Instant,
    ) -> Option<(Arc<Node>, StateChange)> {
        let placed = self.placed.take()?;
        let node = Arc::clone(&placed.node);
        let change = router.connect_failed(&node, failure, now);
        if !is_among(&node, &self.unreachable) {
            self.unreachable.push(Arc::clone(&node));
        }
        self.exclude(&node);
        // What is known to own the key comes before what was asked by rank.
        if placed.settled || self.missed.is_none() {
            self.missed = Some(placed);
        }
        change.map(|change| (node, change))
    }

    /// The node was asked and went away without an answer; `can_repeat` says that the request may be asked twice and is
    /// still there. The same node is asked again, and if it is down or nobody listens any more, the next one is.
    pub fn died(&mut self, can_repeat: bool) -> Then {
        self.deaths += 1;
        // One that is frozen still accepts.
        self.placed = self.placed.take().filter(|placed| placed.node.state().serves_own());
        // Another process may listen there by now.
        self.is_cleared = false;
        if can_repeat && self.deaths <= DEATHS_MAX { Then::Again(Retry::Died) } else { Then::PassOn { fault: None } }
    }

    /// The node answered.
    pub fn heard<I: IntoIterator<Item = SocketAddr>>(
        &mut self,
        answer: Answer,
        router: &Router,
        rank: impl FnOnce(&Key) -> I,
        now: Instant,
    ) -> Then {
        let Some(placed) = self.placed.clone() else { return Then::PassOn { fault: None } };
        match answer.status {
            MISDIRECTED => {
                let Some(redirect) = answer.redirect else { return Then::PassOn { fault: None } };
                return match self.follow(redirect, &placed.node, router, now) {
                    // What cannot be sent again is lost here; whoever comes next is placed right.
                    _ if !answer.can_replay => Then::PassOn { fault: None },
                    Ok(reason) => Then::Again(reason),
                    Err(refused) => Then::Refuse(refused),
                };
            }
            UNAVAILABLE => {
                // A node of ours refuses a session to be created before it does anything.
                let is_harmless = answer.is_safe || self.finding.wants_fresh;
                if answer.can_replay && is_harmless && self.goes_elsewhere(&placed, router, rank, now) {
                    return Then::Again(Retry::Unavailable);
                }
            }
            // What a tunnel settles, it settles when it is registered.
            SWITCHING_PROTOCOLS => {}
            _ if placed.settled => {}
            _ => {
                router.answered(&self.key, &placed.node, now);
            }
        }
        let served = |epoch| router.served(&self.key, &placed.node, epoch, placed.epoch, now);
        Then::PassOn { fault: answer.epoch.and_then(served) }
    }

    /// The node answered the question of [`Step::Ask`]. Gives the reason if another one is asked for that; the answer of a
    /// node that does not know the question is as good as a yes.
    ///
    /// # Errors
    ///
    /// Why the request is refused, by the node's word.
    pub fn told<I: IntoIterator<Item = SocketAddr>>(
        &mut self,
        answer: Answer,
        router: &Router,
        rank: impl FnOnce(&Key) -> I,
        now: Instant,
    ) -> Result<Option<Retry>, Refused> {
        let Some(placed) = self.placed.clone() else { return Ok(None) };
        match (answer.status, answer.redirect) {
            (MISDIRECTED, Some(redirect)) => self.follow(redirect, &placed.node, router, now).map(Some),
            (UNAVAILABLE, _) if self.goes_elsewhere(&placed, router, rank, now) => Ok(Some(Retry::Unavailable)),
            (UNAVAILABLE, _) => Err(Refused::Unavailable),
            _ => {
                self.is_cleared = true;
                Ok(None)
            }
        }
    }

    /// The node `by` said where the request belongs. Without a place, the next step looks for one.
    fn follow(&mut self, redirect: Redirect, by: &Arc<Node>, router: &Router, now: Instant) -> Result<Retry, Refused> {
        self.redirects += 1;
        if self.redirects > REDIRECTS_MAX {
            return Err(Refused::Circle);
        }
        match redirect {
            Redirect::Key(key) => {
                router.pins.count_redirect(RedirectReason::OtherKey);
                self.key = key;
                // A session that is being created has got another unused key; anything else names one that lives.
                self.standing = if self.finding.wants_fresh { Standing::Fresh } else { Standing::Issued };
                self.tried.clear();
                (self.placed, self.missed) = (None, None);
                Ok(Retry::RedirectKey)
            }
            Redirect::Owner { node, epoch, address } => {
                let owner = Owner { name: &node, epoch, address };
                match router.redirected(&self.key, owner, by, now) {
                    Redirected::Owner(placed) | Redirected::Stale(placed) => {
                        self.wants_pause = is_among(&placed.node, &self.tried) || Arc::ptr_eq(&placed.node, by);
                        self.tried.retain(|tried| !Arc::ptr_eq(tried, &placed.node));
                        self.take(placed);
                        Ok(Retry::RedirectOwner)
                    }
                    Redirected::UnknownNode => Err(Refused::UnknownOwner(node)),
                }
            }
        }
    }

    /// The node `placed` takes nothing new. Whether there is another that may take the request, which is the next then.
    fn goes_elsewhere<I: IntoIterator<Item = SocketAddr>>(
        &mut self,
        placed: &Placed,
        router: &Router,
        rank: impl FnOnce(&Key) -> I,
        now: Instant,
    ) -> bool {
        // Another request may have found out since this one was sent.
        let is_settled = placed.settled || router.is_settled_at(&self.key, &placed.node, now);
        if is_settled && placed.node.shares_ownership() {
            // It answers for what is its own.
            return false;
        }
        self.exclude(&placed.node);
        if let Some(missed) = self.take_missed(placed) {
            self.tried.retain(|tried| !Arc::ptr_eq(tried, &missed.node));
            self.take(missed);
            return true;
        }
        let Choice::Node(elsewhere) = self.look(router, rank, now) else { return false };
        self.take(elsewhere);
        true
    }

    /// Where to come back to from `refuser`, which was told that the request could not connect there, and has waited for
    /// that node's end in vain or cannot wait: if it is not down, one packet may have been lost, or a moment of overload
    /// has passed.
    fn take_missed(&mut self, refuser: &Placed) -> Option<Placed> {
        let missed = self.missed.take()?;
        let was_told = refuser.node.shares_ownership() && !Arc::ptr_eq(&refuser.node, &missed.node);
        (was_told && !self.finding.wants_fresh && missed.node.state().serves_own()).then_some(missed)
    }

    fn take(&mut self, placed: Placed) -> Placed {
        self.is_cleared = false;
        self.placed.insert(placed).clone()
    }

    fn look<I: IntoIterator<Item = SocketAddr>>(
        &self,
        router: &Router,
        rank: impl FnOnce(&Key) -> I,
        now: Instant,
    ) -> Choice {
        router.choose(&self.key, self.standing, rank(&self.key), &self.tried, now)
    }

    fn pause(&mut self, now: Instant) -> Step {
        let (begun, pause) = self.pauses.unwrap_or((now, PAUSE_MIN));
        if now.saturating_duration_since(begun) >= PATIENCE {
            return Step::Refuse(Refused::Unreachable);
        }
        self.pauses = Some((begun, pause * 2));
        Step::Pause(pause)
    }

    fn exclude(&mut self, node: &Arc<Node>) {
        if !is_among(node, &self.tried) {
            self.tried.push(Arc::clone(node));
        }
    }
}

fn is_among(node: &Arc<Node>, nodes: &[Arc<Node>]) -> bool {
    nodes.iter().any(|known| Arc::ptr_eq(known, node))
}

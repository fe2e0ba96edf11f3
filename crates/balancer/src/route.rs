//! Carries out where a request goes: the decisions are [`ctedge_routing::Route`]'s, here are the clock, the pauses, the
//! log and the metrics.
//!
//! Plain requests and tunnels go the same way; they only differ in how a node is asked.

use std::sync::Arc;
use std::time::Instant;

use ctedge_routing::{Answer, ConnectFailure, Finding, Refused, Retry, Step, Then, TwoOwners};
use ctedge_wire::{Key, Redirect, write_unreachable};
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::time::sleep;

use crate::answer::Refusal;
use crate::client::was_refused;
use crate::question::Question;
use crate::request::{epoch_of, mint_key};
use crate::shared::{Shared, Target};
use crate::tunnel::dial::DialError;

/// Where a request goes, and who answers it.
pub(crate) struct Route {
    way: ctedge_routing::Route,
    /// What a node is asked before the request is sent to it, if the way wants that.
    question: Option<Question>,
    /// The node that was asked last.
    pub(crate) target: Option<Arc<Target>>,
}

impl Route {
    /// Takes or mints the key and chooses its node.
    pub(crate) fn begin(shared: &Shared, finding: Finding) -> Result<Self, Refusal> {
        shared.metrics.key_from(finding.source());
        if finding.malformed > 0 {
            shared.metrics.malformed_keys.inc_by(u64::from(finding.malformed));
        }
        let placement = shared.placement.load();
        let rank = |key: &Key| placement.rank(key);
        match ctedge_routing::Route::begin(&shared.router, finding, mint_key, rank, Instant::now()) {
            Ok(way) => Ok(Self { way, question: None, target: None }),
            Err(refused) => Err(refusal(&refused)),
        }
    }

    /// The request can be sent only once: nodes are asked before.
    pub(crate) fn ask_first(self, question: Question) -> Self {
        Self { way: self.way.ask_first(), question: Some(question), ..self }
    }

    pub(crate) fn key(&self) -> &Key {
        self.way.key()
    }

    pub(crate) fn finding(&self) -> &Finding {
        self.way.finding()
    }

    /// The value of the key's header.
    pub(crate) fn key_value(&self) -> HeaderValue {
        // Keys have no character that a header could not have.
        HeaderValue::from_str(self.key().as_str()).unwrap_or_else(|_| HeaderValue::from_static("-"))
    }

    /// Tells the node of this try which others cannot be reached.
    pub(crate) fn unreachable_value(&self, shared: &Shared) -> Option<HeaderValue> {
        HeaderValue::from_str(&write_unreachable(&self.way.unreachable(&shared.router))?).ok()
    }

    /// The node of the next try.
    pub(crate) async fn next_target(&mut self, shared: &Shared) -> Result<&Arc<Target>, Refusal> {
        loop {
            match self.next(shared) {
                Step::Try(placed) => return Ok(self.target.insert(shared.target(&placed.node))),
                Step::Ask(placed) => self.ask(shared, shared.target(&placed.node)).await?,
                Step::Pause(pause) => {
                    shared.metrics.retried(Retry::Pause);
                    sleep(pause).await;
                }
                Step::Refuse(refused) => return Err(self.refuse(&refused)),
            }
        }
    }

    fn next(&mut self, shared: &Shared) -> Step {
        let placement = shared.placement.load();
        self.way.next(&shared.router, |key| placement.rank(key), Instant::now())
    }

    /// Asks a node whether the request is its own.
    async fn ask(&mut self, shared: &Shared, target: Arc<Target>) -> Result<(), Refusal> {
        let Some(question) = &self.question else { return Err(Refusal::Internal) };
        let unreachable = self.unreachable_value(shared);
        match question.ask(shared, &target, self.key().as_str(), unreachable.as_ref()).await {
            Err(DialError::Connect(error)) => self.could_not_connect(shared, was_refused(&error)),
            Err(DialError::Answer(_)) if self.died(shared, true) => {}
            Err(DialError::Answer(_)) => return Err(Refusal::NodeFailed),
            Err(DialError::Timeout) => return Err(Refusal::NodeTimeout),
            Ok(dialed) => {
                let answer = answer(dialed.status, &dialed.headers, true, true);
                let is_redirect = answer.redirect.is_some();
                let placement = shared.placement.load();
                let told = self.way.told(answer, &shared.router, |key| placement.rank(key), Instant::now());
                self.redirected(shared, is_redirect);
                match told {
                    Ok(reason) => reason.into_iter().for_each(|reason| shared.metrics.retried(reason)),
                    Err(refused) => return Err(self.refuse(&refused)),
                }
            }
        }
        Ok(())
    }

    /// The node could not be reached.
    pub(crate) fn could_not_connect(&mut self, shared: &Shared, was_refused: bool) {
        let failure = if was_refused { ConnectFailure::Refused } else { ConnectFailure::Other };
        if let Some((node, change)) = self.way.could_not_connect(&shared.router, failure, Instant::now()) {
            shared.note(&node, Some(change));
        }
        shared.metrics.retried(Retry::Connect);
    }

    /// The node was asked and went away; `can_repeat` says that it may be asked again. Whether it is.
    pub(crate) fn died(&mut self, shared: &Shared, can_repeat: bool) -> bool {
        let then = self.way.died(can_repeat);
        self.goes_on(shared, then, 0).unwrap_or(false)
    }

    /// The node answered. `true`: the request is sent again, and nothing of the answer goes to the client.
    pub(crate) fn heard(
        &mut self,
        shared: &Shared,
        status: StatusCode,
        headers: &HeaderMap,
        can_replay: bool,
        is_safe: bool,
    ) -> Result<bool, Refusal> {
        let answer = answer(status, headers, can_replay, is_safe);
        let (is_redirect, epoch) = (answer.redirect.is_some(), answer.epoch);
        let placement = shared.placement.load();
        let then = self.way.heard(answer, &shared.router, |key| placement.rank(key), Instant::now());
        self.redirected(shared, is_redirect);
        self.goes_on(shared, then, epoch.unwrap_or_default())
    }

    /// Sees to it that a node is known that another one named.
    fn redirected(&self, shared: &Shared, is_redirect: bool) {
        if let Some(owner) = self.way.node().filter(|_| is_redirect) {
            shared.know(owner);
        }
    }

    /// `epoch` is that of the answer.
    fn goes_on(&self, shared: &Shared, then: Then, epoch: u64) -> Result<bool, Refusal> {
        match then {
            Then::Again(reason) => {
                shared.metrics.retried(reason);
                Ok(true)
            }
            Then::PassOn { fault } => {
                if let Some(fault) = fault {
                    self.tell_two_owners(shared, &fault, epoch);
                }
                Ok(false)
            }
            Then::Refuse(refused) => Err(self.refuse(&refused)),
        }
    }

    fn tell_two_owners(&self, shared: &Shared, fault: &TwoOwners, epoch: u64) {
        shared.metrics.two_owners.inc();
        if fault.is_first {
            let node = self.target.as_ref().map_or("-", |target| target.node.id().as_str());
            let other = fault.other.as_ref().map_or("-", |other| other.id().as_str());
            let (key, other_epoch) = (self.key().as_str(), fault.epoch);
            tracing::error!(key, node, epoch, other, other_epoch, "two nodes answer as the owner of one key");
        }
    }

    fn refuse(&self, refused: &Refused) -> Refusal {
        let key = self.key();
        match refused {
            Refused::Circle => tracing::warn!(%key, "nodes redirect each other in a circle"),
            Refused::UnknownOwner(owner) => tracing::warn!(%key, owner, "the owner of a key is no node of the list"),
            Refused::NoNode | Refused::Unreachable | Refused::Unavailable | Refused::TooManyTries => {}
        }
        refusal(refused)
    }
}

fn answer(status: StatusCode, headers: &HeaderMap, can_replay: bool, is_safe: bool) -> Answer {
    let redirect = match status {
        StatusCode::MISDIRECTED_REQUEST => Redirect::read(|name| headers.get(name)?.to_str().ok()),
        _ => None,
    };
    // The epoch of a redirect is another node's.
    let epoch = if redirect.is_some() { None } else { epoch_of(headers) };
    Answer { status: status.as_u16(), redirect, epoch, can_replay, is_safe }
}

/// What the client is told.
fn refusal(refused: &Refused) -> Refusal {
    match refused {
        Refused::Circle => Refusal::NodeFailed,
        Refused::NoNode
        | Refused::Unreachable
        | Refused::Unavailable
        | Refused::TooManyTries
        | Refused::UnknownOwner(_) => Refusal::NoNode,
    }
}

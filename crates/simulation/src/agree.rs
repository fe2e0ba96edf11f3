//! Balancers hold no truth and agree without talking: what one of them may ask the wrong node for, and how often.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ctedge_ownership::{Epoch, LeaseId, Verdict, Wants};
use ctedge_wire::Key;

use crate::balancer::{Reply, Request};
use crate::profile::Profile;
use crate::promise::Promise;
use crate::world::World;

/// How long a request that could not reach a node may go on to move pins: its question and itself may each be held up.
const UNREACHED_FOR: Duration = Duration::from_secs(20);

/// What a balancer must know, as long as it has forgotten no pin.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    generation: u32,
    /// Pins that it has dropped.
    dropped: u64,
    up: BTreeSet<SocketAddr>,
    list: Vec<SocketAddr>,
    /// When that list replaced another of the same process: pins that are older go by that other.
    relisted_at: Option<Instant>,
    /// Since when nothing of that has changed.
    steady_since: Option<Instant>,
    /// The owners that have answered it, or that nodes have named.
    owners: BTreeMap<Key, Known>,
    /// Until when requests that reached no node may move pins.
    unsure_until: Option<Instant>,
    /// Keys of requests that could not reach a node, or were refused there: their pins may have been led elsewhere, until a
    /// redirect leads them back at the time noted.
    astray: Elsewhere,
    /// Keys that were asked for elsewhere because the node of their first rank was down: their pins stay there when it
    /// is back, until a redirect leads them to it, at the time noted.
    passed_over: Elsewhere,
    /// The request that a stale redirect sends there.
    stale: Option<(usize, u64, SocketAddr)>,
}

/// An owner.
#[derive(Debug, Clone, Copy)]
struct Known {
    epoch: Epoch,
    address: SocketAddr,
    /// When it was first heard of.
    at: Instant,
}

/// Where a session was begun, and by which list of nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Birth {
    epoch: Epoch,
    at: Instant,
    list: Vec<SocketAddr>,
}

impl Heard {
    fn learn(&mut self, request: &Request, key: &Key, known: Known) {
        if self.is_steady_for(request) {
            let owner = self.owners.entry(key.clone()).or_insert(known);
            if owner.epoch < known.epoch {
                *owner = known;
            }
        }
    }

    /// Whether the balancer chose the node of the request by what it knows still.
    fn is_steady_for(&self, request: &Request) -> bool {
        request.chosen.zip(self.steady_since).is_some_and(|(chosen, since)| since < chosen)
    }
}

/// A key and when a redirect led its pin back, for pins that are not where they should be.
type Elsewhere = BTreeMap<Key, Option<Instant>>;

/// Whether the request was `chosen` by such a pin, before the first redirect of the key. If none came before, it is
/// this one.
fn is_led_back(elsewhere: &mut Elsewhere, key: &Key, chosen: Option<Instant>, now: Instant) -> bool {
    let back = elsewhere.get_mut(key).map(|back| *back.get_or_insert(now));
    back.is_some_and(|back| chosen.is_none_or(|chosen| chosen <= back))
}

impl World {
    /// A balancer hears from a node.
    pub(crate) fn hear(&mut self, request: &Request, address: SocketAddr, key: &Key, reply: &Reply) {
        self.refresh(request.balancer);
        let now = self.now;
        let heard = &mut self.heard[request.balancer];
        match reply {
            Reply::ConnectRefused | Reply::ConnectTimeout | Reply::Died => {
                heard.owners.clear();
                heard.unsure_until = Some(now + UNREACHED_FOR);
            }
            Reply::Verdict(Verdict::Serve { epoch }) => {
                heard.learn(request, key, Known { epoch: *epoch, address, at: now });
                if request.wants == Wants::New {
                    self.note_birth(request.balancer, key, *epoch, address);
                }
            }
            Reply::Verdict(Verdict::Redirect { owner, epoch, address }) => {
                let known = heard.owners.get(key).copied();
                let is_old = known.is_some_and(|known| known.epoch > *epoch && known.address != *address);
                heard.stale = is_old.then_some((request.client, request.attempt, *address));
                heard.learn(request, key, Known { epoch: *epoch, address: *address, at: now });
                self.check_redirect(request, key, *epoch, known);
                self.check_birth(request, key, *epoch, owner);
            }
            Reply::Verdict(_) => {}
        }
    }

    /// What a balancer must know is over with its process, with each pin that it drops, and where a node goes down or comes.
    pub(crate) fn refresh(&mut self, index: usize) {
        let balancer = &self.balancers[index];
        if self.heard.len() <= index {
            self.heard.resize_with(index + 1, Heard::default);
        }
        let counts = balancer.router.pin_counts();
        let dropped = counts.evicted + counts.expired;
        let nodes = balancer.router.nodes();
        let up = nodes.iter().filter(|node| node.state().serves_own());
        let up: BTreeSet<SocketAddr> = up.map(|node| node.address()).collect();
        let list = self.list_of(index);
        let (generation, steady_since) = (balancer.generation, Some(self.now));
        let heard = &mut self.heard[index];
        let is_same =
            (heard.generation, heard.dropped) == (generation, dropped) && heard.up == up && heard.list == list;
        if !is_same {
            let goes_on = heard.generation == generation && heard.steady_since.is_some();
            let unsure_until = heard.unsure_until.filter(|_| goes_on);
            let relisted_at = if heard.list == list { heard.relisted_at } else { Some(self.now) }.filter(|_| goes_on);
            let kept = |keys: &mut Elsewhere| if goes_on { std::mem::take(keys) } else { Elsewhere::new() };
            let (astray, passed_over) = (kept(&mut heard.astray), kept(&mut heard.passed_over));
            *heard = Heard {
                generation,
                dropped,
                up,
                list,
                relisted_at,
                steady_since,
                unsure_until,
                astray,
                passed_over,
                ..Heard::default()
            };
        }
    }

    /// A session that begins by the first rank is found by every balancer with the same list.
    fn note_birth(&mut self, balancer: usize, key: &Key, epoch: Epoch, address: SocketAddr) {
        let (list, first) = (self.heard[balancer].list.clone(), self.balancers[balancer].ranked(key).first().copied());
        if let Some(room) = self.room_of(key).filter(|_| first == Some(address)) {
            self.rooms[room].birth = Some(Birth { epoch, at: self.now, list });
        }
    }

    fn list_of(&self, balancer: usize) -> Vec<SocketAddr> {
        let nodes = self.balancers[balancer].router.nodes();
        let mut list: Vec<_> = nodes.iter().filter(|node| node.is_listed()).map(|node| node.address()).collect();
        list.sort_unstable();
        list
    }

    /// A key that lives elsewhere than placement says costs one redirect per balancer.
    fn check_redirect(&mut self, request: &Request, key: &Key, epoch: Epoch, known: Option<Known>) {
        let heard = &mut self.heard[request.balancer];
        if request.is_led_astray()
            || is_led_back(&mut heard.astray, key, request.chosen, self.now)
            || !heard.is_steady_for(request)
            || heard.unsure_until.is_some_and(|until| self.now < until)
        {
            return;
        }
        let chosen = request.chosen.unwrap_or(self.now);
        let knew = known.is_some_and(|known| known.epoch >= epoch && known.at < chosen);
        self.check(Promise::BalancersHoldNothing, !knew, || {
            format!("balancer {} knew the owner of {key}, and asked another node", request.balancer)
        });
    }

    /// A key that lives where it was begun costs none, for every balancer with the same list.
    fn check_birth(&mut self, request: &Request, key: &Key, epoch: Epoch, owner: &LeaseId) {
        let lives = self.process_of(owner).is_some_and(|process| self.processes[process].alive);
        let heard = &mut self.heard[request.balancer];
        let was_passed_over = is_led_back(&mut heard.passed_over, key, request.chosen, self.now);
        if request.is_led_astray()
            || was_passed_over
            || is_led_back(&mut heard.astray, key, request.chosen, self.now)
            || !heard.is_steady_for(request)
            // Where a node was deaf, pins may have been led elsewhere for good.
            || self.processes.iter().any(|process| process.unreached_as.is_some())
            || !lives
            || self.profile != Profile::Operated
        {
            return;
        }
        let heard = &self.heard[request.balancer];
        let birth = self.room_of(key).and_then(|room| self.rooms[room].birth.as_ref());
        let is_there = birth.is_some_and(|birth| {
            birth.epoch == epoch && birth.list == heard.list && heard.relisted_at.is_none_or(|at| at < birth.at)
        });
        self.check(Promise::BalancersHoldNothing, !is_there, || {
            format!("balancer {} places {key} elsewhere than another, by the same list", request.balancer)
        });
    }

    /// A request is sent to a node: not to one that only an older redirect names.
    pub(crate) fn check_forward(&mut self, request: &Request, address: SocketAddr) {
        self.refresh(request.balancer);
        let first = request.key().and_then(|key| self.balancers[request.balancer].ranked(key).first().copied());
        let heard = &mut self.heard[request.balancer];
        let is_passed_over = first.is_some_and(|first| first != address && !heard.up.contains(&first));
        if let Some(key) = request.key() {
            if request.is_led_astray() {
                heard.astray.insert(key.clone(), None);
            }
            if is_passed_over {
                heard.passed_over.insert(key.clone(), None);
            }
        }
        let stale = heard.stale.take();
        let is_stale = stale == Some((request.client, request.attempt, address));
        self.check(Promise::BalancersHoldNothing, !is_stale, || {
            format!("balancer {} believes an old redirect to {address}", request.balancer)
        });
    }
}

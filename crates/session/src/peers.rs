//! The table of peers.

use std::time::Instant;

use bytes::Bytes;
use ctedge_protocol::{Handshake, Peer, PeerId, User};

use crate::action::{AttachmentId, CloseReason};
use crate::outbox::Outbox;

/// A place in the table of peers, and which of its tenants is meant: it never means the next one. Cheap to copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerSlot {
    index: u32,
    tenant: u32,
}

/// What a session knows of one peer.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) id: PeerId,
    /// The id as a MessagePack text, as it stands in the `origin` of what the peer sends.
    pub(crate) origin: Bytes,
    pub(crate) clock: u64,
    pub(crate) host: bool,
    pub(crate) user: User,
    pub(crate) handshake: Handshake,
    /// Whether nothing has come from it yet: it may not have heard what a peer hears that joins.
    pub(crate) is_silent: bool,
    pub(crate) outbox: Outbox,
    /// The transport that the peer has.
    pub(crate) attachment: Option<AttachmentId>,
    /// When a peer without a transport is given up.
    pub(crate) given_up_at: Option<Instant>,
    /// A peer that is closing is no part of the session any more; only its transport still gets what the outbox holds.
    pub(crate) closing: Option<CloseReason>,
    /// Whether an [`crate::Action::Wake`] waits to be taken.
    pub(crate) wake_waits: bool,
    /// Which warnings have been given, a bit each.
    pub(crate) warned: u8,
}

impl Member {
    /// The peer as others see it.
    pub(crate) fn to_protocol(&self) -> Peer {
        Peer::new(&self.id, self.host, &self.user, &self.handshake)
    }
}

/// The peers of a session.
#[derive(Debug, Clone, Default)]
pub(crate) struct Peers {
    places: Vec<Place>,
    free: Vec<u32>,
    present: usize,
}

#[derive(Debug, Clone)]
struct Place {
    tenant: u32,
    member: Option<Member>,
}

impl Peers {
    /// How many take part in the session; those that are closing do not.
    pub(crate) fn present(&self) -> usize {
        self.present
    }

    /// Whether nobody is left, not even one that is closing.
    pub(crate) fn is_empty(&self) -> bool {
        self.free.len() == self.places.len()
    }

    pub(crate) fn insert(&mut self, member: Member) -> PeerSlot {
        self.present += 1;
        if let Some(index) = self.free.pop() {
            let place = &mut self.places[index as usize];
            place.member = Some(member);
            return PeerSlot { index, tenant: place.tenant };
        }
        let index = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
        self.places.push(Place { tenant: 0, member: Some(member) });
        PeerSlot { index, tenant: 0 }
    }

    /// The member at `slot`, one that is closing included.
    #[inline]
    pub(crate) fn member(&self, slot: PeerSlot) -> Option<&Member> {
        let place = self.places.get(slot.index as usize)?;
        if place.tenant == slot.tenant { place.member.as_ref() } else { None }
    }

    #[inline]
    pub(crate) fn member_mut(&mut self, slot: PeerSlot) -> Option<&mut Member> {
        let place = self.places.get_mut(slot.index as usize)?;
        if place.tenant == slot.tenant { place.member.as_mut() } else { None }
    }

    /// The member at `slot`, if it takes part in the session.
    #[inline]
    pub(crate) fn present_member(&self, slot: PeerSlot) -> Option<&Member> {
        self.member(slot).filter(|member| member.closing.is_none())
    }

    /// Takes a member out of the session; its place stays until [`Self::remove`].
    pub(crate) fn start_closing(&mut self, slot: PeerSlot, reason: CloseReason) {
        if let Some(member) = self.member_mut(slot)
            && member.closing.is_none()
        {
            member.closing = Some(reason);
            self.present -= 1;
        }
    }

    /// Frees a place, so that `slot` means nobody any more.
    pub(crate) fn remove(&mut self, slot: PeerSlot) {
        let Some(place) = self.places.get_mut(slot.index as usize).filter(|place| place.tenant == slot.tenant) else {
            return;
        };
        if let Some(member) = place.member.take() {
            place.tenant = place.tenant.wrapping_add(1);
            self.free.push(slot.index);
            if member.closing.is_none() {
                self.present -= 1;
            }
        }
    }

    /// All members, those that are closing included.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (PeerSlot, &Member)> {
        self.places.iter().enumerate().filter_map(|(index, place)| {
            let slot = PeerSlot { index: index as u32, tenant: place.tenant };
            place.member.as_ref().map(|member| (slot, member))
        })
    }

    /// All that take part in the session, to be changed.
    pub(crate) fn present_mut(&mut self) -> impl Iterator<Item = (PeerSlot, &mut Member)> {
        self.places.iter_mut().enumerate().filter_map(|(index, place)| {
            let slot = PeerSlot { index: index as u32, tenant: place.tenant };
            place.member.as_mut().filter(|member| member.closing.is_none()).map(|member| (slot, member))
        })
    }

    /// The one of these that matches.
    pub(crate) fn find(&self, matches: impl Fn(&Member) -> bool) -> Option<PeerSlot> {
        self.iter().find(|(_, member)| matches(member)).map(|(slot, _)| slot)
    }

    /// The member with this id, as bytes of a stranger, if it takes part in the session.
    pub(crate) fn by_id(&self, id: &[u8]) -> Option<PeerSlot> {
        self.find(|member| member.closing.is_none() && member.id.as_str().as_bytes() == id)
    }
}

/// Puts `message` into the outbox of `member` and says what follows from it.
#[inline]
pub(crate) fn deliver(member: &mut Member, message: Bytes) -> Delivery {
    if !member.outbox.push(message) {
        return Delivery::Full;
    }
    if member.wake_waits {
        Delivery::Delivered
    } else {
        member.wake_waits = true;
        Delivery::Wake
    }
}

/// What follows from putting a message into an outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// Nothing: somebody has been told already.
    Delivered,
    /// The peer's transport is to be woken.
    Wake,
    /// It did not fit.
    Full,
}

//! What is worth counting, and why it happened.

use crate::action::LetGoReason;
use crate::drain::HandoffReason;
use crate::record::LeaseEnd;

/// Something that happened to a session or a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Event {
    /// A session was created.
    Created,
    /// A session was taken over: the owner's lease was over.
    TakenOver(LeaseEnd),
    /// A session was taken over that its owner had parked or handed to a node that died before it took it up.
    EstateTakenOver(LeaseEnd),
    /// A session that was handed to this node was taken up; `None` where its former owner did not say why it gave it.
    EstateAdopted(Option<HandoffReason>),
    /// A session was handed to another node.
    HandedOff(HandoffReason),
    /// A session was parked: no node was ready to take it.
    Parked(HandoffReason),
    /// A session that was ready to be handed off went on here: no other node was ready to take it.
    TakenBack(HandoffReason),
    /// A request was sent to the owner.
    Redirected(RedirectReason),
    /// A session was let go.
    Fenced(LetGoReason),
    /// Another node has fallen silent and is probed.
    LeaseSilent,
    /// A silent node did not answer a probe and its lease was ended by this node.
    EndedSilentLease,
    /// The lease of a process that had this node's address before it was ended by this node.
    EndedFormerLease,
    /// This node's own lease was found ended.
    LeaseLost,
    /// This node could not reach the store for so long that it is cut off.
    CutOff,
    /// This node's listener does not answer: it gives its sessions up and ends.
    Deaf,
    /// A handoff was answered by the store with something else than success, and was tried again.
    HandoffRetried,
}

/// Why a request is sent to another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RedirectReason {
    /// The store says that the session lives there: whoever sent the request did not know.
    Elsewhere,
    /// This node had the session and has just given it there.
    HandedOff,
    /// This node was about to take the session over, and the other one was faster.
    Outrun,
}

impl RedirectReason {
    /// All reasons.
    pub const ALL: [Self; 3] = [Self::Elsewhere, Self::HandedOff, Self::Outrun];

    /// The word of logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Elsewhere => "elsewhere",
            Self::HandedOff => "handed_off",
            Self::Outrun => "outrun",
        }
    }
}

impl Event {
    /// Every event for every reason that it can have.
    pub fn all() -> impl Iterator<Item = Self> {
        let plain = [
            Self::Created,
            Self::EstateAdopted(None),
            Self::LeaseSilent,
            Self::EndedSilentLease,
            Self::EndedFormerLease,
            Self::LeaseLost,
            Self::CutOff,
            Self::Deaf,
            Self::HandoffRetried,
        ];
        let handoffs = HandoffReason::ALL.into_iter();
        plain
            .into_iter()
            .chain(LeaseEnd::ALL.into_iter().flat_map(|end| [Self::TakenOver(end), Self::EstateTakenOver(end)]))
            .chain(handoffs.flat_map(|why| {
                [Self::HandedOff(why), Self::Parked(why), Self::TakenBack(why), Self::EstateAdopted(Some(why))]
            }))
            .chain(RedirectReason::ALL.into_iter().map(Self::Redirected))
            .chain(LetGoReason::ALL.into_iter().map(Self::Fenced))
    }

    /// The word of logs and metrics, without the reason.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::TakenOver(_) => "taken_over",
            Self::EstateTakenOver(_) => "estate_taken_over",
            Self::EstateAdopted(_) => "estate_adopted",
            Self::HandedOff(_) => "handed_off",
            Self::Parked(_) => "parked",
            Self::TakenBack(_) => "taken_back",
            Self::Redirected(_) => "redirected",
            Self::Fenced(_) => "fenced",
            Self::LeaseSilent => "lease_silent",
            Self::EndedSilentLease => "ended_silent_lease",
            Self::EndedFormerLease => "ended_former_lease",
            Self::LeaseLost => "lease_lost",
            Self::CutOff => "cut_off",
            Self::Deaf => "deaf",
            Self::HandoffRetried => "handoff_retried",
        }
    }

    /// The word for why it happened; empty where the event itself says all.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::TakenOver(end) | Self::EstateTakenOver(end) => end.as_str(),
            Self::HandedOff(why) | Self::Parked(why) | Self::TakenBack(why) | Self::EstateAdopted(Some(why)) => {
                why.as_str()
            }
            Self::EstateAdopted(None) => LeaseEnd::Unknown.as_str(),
            Self::Redirected(why) => why.as_str(),
            Self::Fenced(why) => why.as_str(),
            _ => "",
        }
    }
}

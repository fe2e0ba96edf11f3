//! What is written into the store behind the messages: in order, in groups, and late when the store is away.

use std::fmt;

use bytes::Bytes;
use ctedge_ownership::{Epoch, LeaseId, NodeId, StoredPeer};
use ctedge_wire::Key;

/// A point of time: milliseconds since 1970, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub u64);

/// A day in the time zone that the operator counts days in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day {
    /// The year, four digits.
    pub year: u16,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
}

impl Day {
    /// Reads `2026-11-24`. `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let mut number = |digits: usize| parts.next().filter(|part| part.len() == digits)?.parse::<u16>().ok();
        let (year, month, day) = (number(4)?, number(2)?, number(2)?);
        let whole = parts.next().is_none() && (1..=12).contains(&month) && (1..=31).contains(&day);
        whole.then_some(Self { year, month: month as u8, day: day as u8 })
    }

    /// The day of `at` in UTC. After "days to civil" of Howard Hinnant's `chrono`-compatible date algorithms.
    #[must_use]
    pub fn of_utc(at: UnixMillis) -> Self {
        // Days since 0000-03-01: years that begin in March have their leap day at their end.
        let days = at.0 / 86_400_000 + 719_468;
        let (era, of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        Self { year: u16::try_from(year).unwrap_or(u16::MAX), month: month as u8, day: day as u8 }
    }
}

impl fmt::Display for Day {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

/// One thing to write.
///
/// The first four say what a next owner of a session would start from. Each is written only if `by` owns the key at
/// `epoch` and its lease has not ended, so that one that comes late harms nobody. The others are written once, whatever
/// happens on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A peer joined the session, or joined it again with something else to say of itself.
    PeerJoined {
        /// The session.
        key: Key,
        /// Since when `by` owns it.
        epoch: Epoch,
        /// Its owner.
        by: LeaseId,
        /// The peer.
        peer: StoredPeer,
    },
    /// A peer left the session for good.
    PeerLeft {
        /// The session.
        key: Key,
        /// Since when `by` owns it.
        epoch: Epoch,
        /// Its owner.
        by: LeaseId,
        /// The room clock of the peer.
        clock: u64,
    },
    /// The requests between peers that are not answered yet. Of several that wait to be written only the last is.
    InFlight {
        /// The session.
        key: Key,
        /// Since when `by` owns it.
        epoch: Epoch,
        /// Its owner.
        by: LeaseId,
        /// The requests. `None` when there are none.
        bytes: Option<Bytes>,
    },
    /// A request between peers that is in flight beside those that were written last. It is noted, and never queued: the
    /// next [`Self::InFlight`] has it.
    Requested {
        /// The session.
        key: Key,
        /// Since when `by` owns it.
        epoch: Epoch,
        /// Its owner.
        by: LeaseId,
        /// What follows on the bytes of those.
        bytes: Bytes,
    },
    /// What somebody did, for the operator.
    Audit(Audit),
    /// How much a node was used at one time.
    Usage(UsageSample),
    /// A client was downloaded, completely.
    Download(Download),
}

/// Who wrote an entry about a session, and under which ownership.
pub(crate) type Fence<'e> = (&'e Key, Epoch, &'e LeaseId);

impl Entry {
    /// The ownership under which it counts. `None` of a record for the operator.
    pub(crate) fn fence(&self) -> Option<Fence<'_>> {
        match self {
            Self::PeerJoined { key, epoch, by, .. }
            | Self::PeerLeft { key, epoch, by, .. }
            | Self::InFlight { key, epoch, by, .. }
            | Self::Requested { key, epoch, by, .. } => Some((key, *epoch, by)),
            Self::Audit(_) | Self::Usage(_) | Self::Download(_) => None,
        }
    }
}

/// What somebody did, for the operator. The figures of the day and its users follow from these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// When.
    pub at: UnixMillis,
    /// The day that it counts for.
    pub day: Day,
    /// What happened.
    pub event: AuditEvent,
    /// The session.
    pub key: Key,
    /// On which node.
    pub node: NodeId,
    /// The peer, by its id.
    pub peer: Option<String>,
    /// The user.
    pub user: Option<AuditUser>,
    /// The program that the user came with, like `IntelliJ 2026.2`.
    pub client: Option<String>,
    /// Why, where that is not plain.
    pub reason: Option<String>,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AuditEvent {
    /// A host began a session.
    Created,
    /// A guest came.
    Joined,
    /// A peer went.
    Left,
    /// The session is over.
    Ended,
}

impl AuditEvent {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Created, Self::Joined, Self::Left, Self::Ended];

    /// The word of the store and of exports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Joined => "joined",
            Self::Left => "left",
            Self::Ended => "ended",
        }
    }

    /// The event of that word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.as_str() == word)
    }
}

/// A user as an audit entry names it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditUser {
    /// Of the sign-on provider.
    pub id: Option<String>,
    /// As others see it.
    pub name: String,
    /// Where it is known.
    pub email: Option<String>,
    /// Who vouches for the user.
    pub provider: Option<String>,
}

impl AuditUser {
    /// The provider of users who say who they are, and nobody vouches for it. The word is the protocol's.
    pub const UNVERIFIED: &'static str = "Unverified";

    /// What tells this user from others when users are counted: the email, else the id, else the name. An unverified user
    /// has another id after each login, so that the name tells more than that.
    #[must_use]
    pub fn identity(&self) -> String {
        let id = self.id.as_ref().filter(|_| self.provider.as_deref() != Some(Self::UNVERIFIED));
        match (&self.email, id) {
            (Some(email), _) if !email.is_empty() => email.to_lowercase(),
            (_, Some(id)) if !id.is_empty() => id.clone(),
            _ => self.name.to_lowercase(),
        }
    }
}

/// How much all nodes were used at one time, or one node that knew nothing of the others.
///
/// Within a slot of [`UsageSample::SLOT_MILLIS`] the largest of each figure counts, be it one of all nodes or the sum of
/// those that spoke for themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageSample {
    /// When.
    pub at: UnixMillis,
    /// The day that it counts for.
    pub day: Day,
    /// Of which node. `None` is of all.
    pub node: Option<NodeId>,
    /// Different users that were online.
    pub users_online: u64,
    /// Different users in sessions.
    pub users_in_sessions: u64,
    /// Sessions at the same time, the largest number since the sample before.
    pub sessions: u64,
    /// Connections of sessions.
    pub connections: u64,
}

impl UsageSample {
    /// The slots in which samples of several nodes count as taken at the same time: the five minutes of `usage.log`.
    pub const SLOT_MILLIS: u64 = 5 * 60 * 1000;

    /// The beginning of the sample's slot.
    #[must_use]
    pub fn slot(&self) -> UnixMillis {
        UnixMillis(self.at.0 - self.at.0 % Self::SLOT_MILLIS)
    }
}

/// A client was downloaded, completely.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Download {
    /// The day that it counts for.
    pub day: Day,
    /// For which IDE.
    pub ide: String,
    /// The client's version.
    pub version: String,
    /// The file.
    pub artifact: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_written_as_it_is_read() {
        for text in ["2026-11-24", "0001-01-31"] {
            assert_eq!(Day::parse(text).unwrap().to_string(), text);
        }
        for wrong in ["", "2026-11", "2026-13-01", "2026-00-01", "2026-01-32", "26-01-01", "2026-1-1", "2026-01-01-1"] {
            assert_eq!(Day::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_time_has_a_day() {
        for (seconds, day) in [
            (0, "1970-01-01"),
            (951_782_399, "2000-02-28"),
            (951_782_400, "2000-02-29"),
            (1_709_251_199, "2024-02-29"),
            (1_795_478_400, "2026-11-24"),
            (4_107_542_399, "2100-02-28"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(Day::of_utc(UnixMillis(seconds * 1000)).to_string(), day);
        }
    }

    #[test]
    fn a_user_is_counted_by_what_is_surest_to_be_one_persons_own() {
        let check = |email: &str, id: &str, provider: &str, expected: &str| {
            let (email, id, provider) = (Some(email.into()), Some(id.into()), Some(provider.into()));
            let user = AuditUser { name: "Ada".into(), email, id, provider };
            assert_eq!(user.identity(), expected, "{user:?}");
        };
        check("Ada@Example.org", "7", "Unverified", "ada@example.org");
        check("Ada@Example.org", "7", "sso", "ada@example.org");
        check("", "7", "sso", "7");
        check("", "7", "", "7");
        check("", "7", "Unverified", "ada");
        check("", "", "sso", "ada");
    }
}

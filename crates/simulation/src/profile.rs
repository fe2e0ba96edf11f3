//! How much goes wrong in a world, and what may be lost by it.

use std::time::Duration;

use crate::random::Random;

/// How much goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Only what operators and people do: nodes added, removed, drained, restarted; balancers restarted and killed; guests
    /// that come, go and lose their connections. And what must do no more harm than that: a store without room, and a dead
    /// listener. No session is lost, and no message except in broken sockets; but a node whose listener is dead while its beats
    /// are lost for so long that its lease is over has died.
    Operated,
    /// Also nodes killed, stopped, cut off from the store, and from each other as well, one after the other has passed. No session
    /// is lost.
    OneFault,
    /// Anything at any time. Nothing is served twice, and in the end everything works again.
    Storm,
    /// Nodes and the store are away for longer than anything waits for them, now and then.
    Long,
}

impl Profile {
    /// Whether a session may be lost, or taken over (`goes_on`) without what was under way in it.
    pub(crate) fn may_lose(self, goes_on: bool) -> bool {
        match self {
            Self::Operated => false,
            Self::OneFault => goes_on,
            Self::Storm | Self::Long => true,
        }
    }

    /// Whether nodes are handled one after the other, and nothing is away for long, so that each drain comes to its end.
    pub(crate) fn is_orderly(self) -> bool {
        !matches!(self, Self::Storm | Self::Long)
    }

    /// The time until the next thing happens.
    pub(crate) fn pause(self, random: &mut Random) -> Duration {
        if self == Self::Storm { random.millis(100, 3_000) } else { random.millis(500, 5_000) }
    }

    /// How long something is away.
    pub(crate) fn outage(self, random: &mut Random) -> Duration {
        // A minute is what the records of the dead are kept for.
        let is_long = self == Self::Long && random.chance(60);
        if is_long { random.millis(62_000, 110_000) } else { random.millis(500, 12_000) }
    }

    /// When everything is mended.
    pub(crate) fn end(self, random: &mut Random) -> Duration {
        if self == Self::Long { random.millis(150_000, 250_000) } else { random.millis(20_000, 90_000) }
    }
}

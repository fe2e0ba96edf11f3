//! `[node.lease]` and `[node.drain]`: how a node holds what it owns, and how it gives it up.

use super::units::{milliseconds, minutes, seconds};
use crate::reader::Reader;
use crate::settled::{DRAIN_DEADLINE_MAX, DrainSettings, LeaseSettings};

pub(super) fn lease(reader: &mut Reader) -> LeaseSettings {
    let mut section =
        reader.section("node.lease", "How nodes tell each other that they live; the same on all of them.");
    LeaseSettings {
        beat: section.within(
            "beat",
            "The pause between two heartbeats in the store.",
            seconds(1),
            milliseconds(50)..=minutes(1),
        ),
        lost_after: section.within(
            "lost_after",
            "How long a node must be silent before others take its sessions.",
            seconds(3),
            milliseconds(200)..=minutes(10),
        ),
    }
}

pub(super) fn drain(reader: &mut Reader) -> DrainSettings {
    let mut section = reader.section("node.drain", "How a node gives its sessions up to be stopped.");
    DrainSettings {
        deadline: section.within(
            "deadline",
            "How long sessions may go on there before they are handed off to other nodes.",
            minutes(10),
            seconds(0)..=DRAIN_DEADLINE_MAX,
        ),
        handoffs_per_second: section.within(
            "handoffs_per_second",
            "How many sessions begin to be handed off in a second.",
            50,
            1..=10_000,
        ),
        close: section.within(
            "close",
            "How long the connections of a session that is handed off may take to bring what their clients had under way. \
             One that brings nothing for 5 s is cut before.",
            minutes(1),
            seconds(1)..=minutes(10),
        ),
    }
}

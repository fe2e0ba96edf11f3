//! `[store]`.

use std::path::PathBuf;

use super::units::{milliseconds, minutes, seconds};
use crate::reader::Reader;
use crate::settled::StoreSettings;
use crate::store_url::StoreUrl;
use crate::value::{Value, Written, quoted};

/// A store, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place(Option<StoreUrl>);

/// What stands for no store at all.
const NONE: &str = "none";

impl Written for Place {
    fn read(value: &Value) -> Result<Self, String> {
        if *value == Value::Text(NONE.to_owned()) { Ok(Self(None)) } else { StoreUrl::read(value).map(Some).map(Self) }
    }

    fn write(&self) -> String {
        self.0.as_ref().map_or_else(|| quoted(NONE), StoreUrl::write)
    }
}

/// The store, `None` where the nodes share nothing.
pub(super) fn store(reader: &mut Reader) -> Option<StoreSettings> {
    let mut section = reader.section("store", "Who owns which session, audit and usage: what the nodes share.");
    let Place(url) = section.any(
        "url",
        "Where it is: \"sqlite:PATH\" for the nodes of one machine, \"postgres://USER:PASSWORD@HOST:PORT/DATABASE\" \
         for those of several. With \"none\" nodes share nothing, and a session ends with its node.",
        Place(Some(StoreUrl::Sqlite(PathBuf::from("ctedge.db")))),
    );
    let timeout = section.within(
        "timeout",
        "How long one call may take. Above it the store counts as slow.",
        seconds(2),
        milliseconds(100)..=minutes(1),
    );
    let connections = section.within(
        "connections",
        "Connections of each node to PostgreSQL that carry out commands; three more write the journal and read.",
        4,
        1..=64,
    );
    let journal_entries_max = section.within(
        "journal_entries_max",
        "Entries of each node that wait while the store is away. Above it audit and usage are lost first.",
        100_000,
        1_000..=10_000_000,
    );
    let audit_days = section.within("audit_days", "Days for which audit entries are kept.", 365, 1..=36_500);
    let usage_days = section.within(
        "usage_days",
        "Days for which usage samples and the users of a day are kept. The sums of a day are kept for ever.",
        400,
        31..=36_500,
    );
    // Where notes are is known with the data folder.
    let notes = None;
    url.map(|url| StoreSettings { url, timeout, connections, journal_entries_max, notes, audit_days, usage_days })
}

//! What the journal writes for the operator: audit entries, and the figures that follow from them and from samples.
//!
//! Figures are added up before they are written, and written in one order everywhere, so that no two nodes wait for each
//! other.

use std::collections::{BTreeMap, BTreeSet};

use crate::call::{Statement, Tx, parameters, sql, sql_of};
use crate::entry::{Audit, AuditEvent, Day, Download, Entry, UsageSample};
use crate::execute::peers::ROWS_MAX;
use crate::fault::Fault;

/// The longest text of a stranger that is kept, in characters.
const TEXT_CHARS_MAX: usize = 256;

/// What stands for the node in a sample of all nodes. No node has this name.
const ALL_NODES: &str = "*";

/// Writes the records among `entries`.
pub(super) async fn write(tx: &mut Tx<'_>, entries: &[Entry]) -> Result<(), Fault> {
    let mut sums = Sums::default();
    let mut audit = Vec::new();
    for entry in entries {
        match entry {
            Entry::Audit(entry) => {
                sums.add(entry);
                audit.push(entry);
            }
            Entry::Usage(sample) => sample_write(tx, sample).await?,
            Entry::Download(download) => *sums.downloads.entry(cut_download(download)).or_default() += 1,
            Entry::PeerJoined { .. } | Entry::PeerLeft { .. } | Entry::InFlight { .. } | Entry::Requested { .. } => {}
        }
    }
    audit_write(tx, &audit).await?;
    sums.write(tx).await
}

/// The latest time that the records name; 0 without any.
pub(super) fn latest(entries: &[Entry]) -> u64 {
    let at = |entry: &Entry| match entry {
        Entry::Audit(audit) => audit.at.0,
        Entry::Usage(sample) => sample.at.0,
        _ => 0,
    };
    entries.iter().map(at).max().unwrap_or(0)
}

/// Text as it may be stored: PostgreSQL takes no byte 0, and nobody needs more than a line.
fn cut(text: &str) -> String {
    text.chars().filter(|character| *character != '\0').take(TEXT_CHARS_MAX).collect()
}

fn cut_or_none(text: Option<&String>) -> Option<String> {
    text.map(|text| cut(text))
}

fn cut_download(download: &Download) -> (String, String, String, String) {
    (download.day.to_string(), cut(&download.ide), cut(&download.version), cut(&download.artifact))
}

async fn audit_write(tx: &mut Tx<'_>, entries: &[&Audit]) -> Result<(), Fault> {
    for entries in entries.chunks(ROWS_MAX) {
        let text = format!(
            "INSERT INTO audit (at_ms, event, session_key, node, peer, user_id, user_name, user_email, user_provider, \
             client, reason) VALUES {}",
            parameters(entries.len(), 11, 1)
        );
        let statement = entries.iter().fold(sql_of(text), |statement, entry| audit_row(statement, entry));
        tx.execute(statement).await?;
    }
    Ok(())
}

fn audit_row(statement: Statement, entry: &Audit) -> Statement {
    let user = entry.user.as_ref();
    statement
        .bind(entry.at.0.cast_signed())
        .bind(entry.event.as_str())
        .bind(entry.key.as_str().to_owned())
        .bind(entry.node.as_str().to_owned())
        .bind(cut_or_none(entry.peer.as_ref()))
        .bind(user.and_then(|user| cut_or_none(user.id.as_ref())))
        .bind(user.map(|user| cut(&user.name)))
        .bind(user.and_then(|user| cut_or_none(user.email.as_ref())))
        .bind(user.and_then(|user| cut_or_none(user.provider.as_ref())))
        .bind(cut_or_none(entry.client.as_ref()))
        .bind(cut_or_none(entry.reason.as_ref()))
}

/// Writes a sample over a smaller one of its slot, and raises what the day had most of at the same time.
async fn sample_write(tx: &mut Tx<'_>, sample: &UsageSample) -> Result<(), Fault> {
    let greatest = |column: &str| {
        format!(
            "{column} = CASE WHEN excluded.{column} > usage_samples.{column} THEN excluded.{column} \
             ELSE usage_samples.{column} END"
        )
    };
    let text = format!(
        "INSERT INTO usage_samples (slot_ms, node, day, users_online, users_in_sessions, sessions, connections) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (slot_ms, node) DO UPDATE SET {}, {}, {}, {}",
        greatest("users_online"),
        greatest("users_in_sessions"),
        greatest("sessions"),
        greatest("connections"),
    );
    let (slot, day) = (sample.slot().0.cast_signed(), sample.day.to_string());
    let node = sample.node.as_ref().map_or(ALL_NODES, |node| node.as_str());
    let statement = sql_of(text).bind(slot).bind(node.to_owned()).bind(day.clone());
    let statement = statement.bind(sample.users_online.cast_signed()).bind(sample.users_in_sessions.cast_signed());
    let statement = statement.bind(sample.sessions.cast_signed()).bind(sample.connections.cast_signed());
    tx.execute(statement).await?;
    day_raise(tx, slot, day).await
}

/// Raises the day's largest figures to what all nodes had in the slot. They outlive the samples. Samples of all nodes and
/// those of single ones tell of the same users and are not added to each other.
async fn day_raise(tx: &mut Tx<'_>, slot: i64, day: String) -> Result<(), Fault> {
    let greatest = |column: &str| {
        format!(
            "{column} = CASE WHEN excluded.{column} > usage_days.{column} THEN excluded.{column} \
             ELSE usage_days.{column} END"
        )
    };
    // SQLite takes ON CONFLICT for a part of a join unless the SELECT ends in a condition.
    let text = format!(
        "INSERT INTO usage_days (day, sessions, joins, ended, sessions_most, users_online_most, users_in_sessions_most) \
         SELECT CAST($1 AS TEXT), 0, 0, 0, CAST(MAX(sessions) AS BIGINT), CAST(MAX(users_online) AS BIGINT), \
         CAST(MAX(users_in_sessions) AS BIGINT) FROM (SELECT SUM(sessions) AS sessions, \
         SUM(users_online) AS users_online, SUM(users_in_sessions) AS users_in_sessions FROM usage_samples \
         WHERE slot_ms = $2 GROUP BY CASE WHEN node = '{ALL_NODES}' THEN 1 ELSE 0 END) AS sums WHERE 1 = 1 \
         ON CONFLICT (day) DO UPDATE SET {}, {}, {}",
        greatest("sessions_most"),
        greatest("users_online_most"),
        greatest("users_in_sessions_most"),
    );
    tx.execute(sql_of(text).bind(day).bind(slot)).await?;
    Ok(())
}

/// How many clients of one day are told apart. A client names itself, so that there may be any number of names; in truth
/// there are a few editors in some versions each.
const CLIENTS_OF_DAY_MAX: u32 = 200;

/// The name under which all further clients of a day count.
const OTHER_CLIENTS: &str = "other";

/// What the records of one batch add to the figures.
#[derive(Default)]
struct Sums {
    /// Sessions, joins and ends of a day.
    days: BTreeMap<Day, [i64; 3]>,
    users: BTreeSet<(Day, String)>,
    /// How often a client hosted or joined on a day.
    clients: BTreeMap<(Day, &'static str, String), i64>,
    downloads: BTreeMap<(String, String, String, String), i64>,
}

impl Sums {
    fn add(&mut self, entry: &Audit) {
        let figures = self.days.entry(entry.day).or_default();
        let role = match entry.event {
            AuditEvent::Created => {
                figures[0] += 1;
                "host"
            }
            AuditEvent::Joined => {
                figures[1] += 1;
                "guest"
            }
            AuditEvent::Ended => {
                figures[2] += 1;
                return;
            }
            AuditEvent::Left => return,
        };
        if let Some(user) = &entry.user {
            self.users.insert((entry.day, cut(&user.identity())));
        }
        if let Some(client) = &entry.client {
            *self.clients.entry((entry.day, role, cut(client))).or_default() += 1;
        }
    }

    async fn write(&self, tx: &mut Tx<'_>) -> Result<(), Fault> {
        for (day, [sessions, joins, ended]) in &self.days {
            let statement = sql("INSERT INTO usage_days \
                 (day, sessions, joins, ended, sessions_most, users_online_most, users_in_sessions_most) \
                 VALUES ($1, $2, $3, $4, 0, 0, 0) ON CONFLICT (day) DO UPDATE SET \
                 sessions = usage_days.sessions + excluded.sessions, joins = usage_days.joins + excluded.joins, \
                 ended = usage_days.ended + excluded.ended");
            tx.execute(statement.bind(day.to_string()).bind(*sessions).bind(*joins).bind(*ended)).await?;
        }
        for (day, user) in &self.users {
            let statement = sql("INSERT INTO usage_users (day, user_identity) VALUES ($1, $2) ON CONFLICT DO NOTHING");
            tx.execute(statement.bind(day.to_string()).bind(user.clone())).await?;
        }
        for ((day, role, client), uses) in &self.clients {
            let text = format!(
                "INSERT INTO usage_clients (day, role, client, uses) SELECT CAST($1 AS TEXT), CAST($2 AS TEXT), \
                 CASE WHEN EXISTS (SELECT 1 FROM usage_clients WHERE day = $1 AND role = $2 AND client = $3) \
                 OR (SELECT COUNT(*) FROM usage_clients WHERE day = $1) < {CLIENTS_OF_DAY_MAX} \
                 THEN CAST($3 AS TEXT) ELSE '{OTHER_CLIENTS}' END, $4 WHERE 1 = 1 \
                 ON CONFLICT (day, role, client) DO UPDATE SET uses = usage_clients.uses + excluded.uses"
            );
            let statement = sql_of(text).bind(day.to_string()).bind(*role).bind(client.clone());
            tx.execute(statement.bind(*uses)).await?;
        }
        for ((day, ide, version, artifact), downloads) in &self.downloads {
            let statement = sql("INSERT INTO downloads (day, ide, version, artifact, downloads) \
                 VALUES ($1, $2, $3, $4, $5) ON CONFLICT (day, ide, version, artifact) \
                 DO UPDATE SET downloads = downloads.downloads + excluded.downloads");
            let statement = statement.bind(day.clone()).bind(ide.clone()).bind(version.clone());
            tx.execute(statement.bind(artifact.clone()).bind(*downloads)).await?;
        }
        Ok(())
    }
}

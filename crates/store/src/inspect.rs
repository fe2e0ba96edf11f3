//! Looking at a store without changing it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sqlx::{Connection as _, Executor as _};

use crate::call::sql;
use crate::dialect::{Access, Dialect};
use crate::fault::{Fault, FaultKind, OpenError};
use crate::lane::Lent;
use crate::row::Row;
use crate::schema;
use crate::store::Database;
use crate::{StoreSettings, UnixMillis};

/// What a store is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// The number of its schema; 0 where it has no tables yet.
    pub schema: u64,
    /// The newest schema that this program knows.
    pub known: u64,
    /// Whether it takes writes, or what it says instead.
    pub writes: Result<(), String>,
    /// How long an answer takes.
    pub latency: Duration,
    /// What its clock says, where that is another machine's.
    pub clock: Option<UnixMillis>,
    /// Addresses with which several nodes are entered that live, or did when they were last looked at; and these nodes.
    pub shared_addresses: Vec<(String, Vec<String>)>,
}

/// Looks at the store of `settings`, within three times its timeout. A write is tried and taken back. A SQLite file that is not
/// there is made: whoever does not want that looks for the file first.
pub async fn inspect(settings: &StoreSettings) -> Result<Inspection, OpenError> {
    let database = Database::new(settings)?;
    let late = || Fault::new(FaultKind::Slow, "it does not answer in time");
    let looked = tokio::time::timeout(settings.timeout * 3, look(&database)).await;
    looked.unwrap_or_else(|_| Err(late())).map_err(|fault| {
        let failure = fault.failure();
        OpenError::Failed { store: settings.url.to_string(), problem: fault.problem, failure }
    })
}

async fn look(database: &Database) -> Result<Inspection, Fault> {
    let dialect = database.dialect;
    let mut lent = database.commands.lend().await?;
    let asked = Instant::now();
    let tables = number(&mut lent, dialect.count_schema_tables()).await?;
    let latency = asked.elapsed();
    let schema = if tables == 0 { 0 } else { number(&mut lent, "SELECT MAX(version) FROM ctedge_schema").await? };
    let shared_addresses = if schema == 0 { Vec::new() } else { shared_addresses(&mut lent).await? };
    let clock = match dialect {
        Dialect::Sqlite => None,
        Dialect::Postgres => {
            let now = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)";
            Some(UnixMillis(number(&mut lent, now).await?))
        }
    };
    let writes = loop {
        match write(&mut lent, dialect, schema > 0).await {
            // Others write all the time; the timeout ends this.
            Err(fault) if fault.kind == FaultKind::Busy => tokio::time::sleep(Duration::from_millis(5)).await,
            outcome => break outcome.map_err(|fault| fault.problem),
        }
    };
    Ok(Inspection { schema, known: schema::KNOWN, writes, latency, clock, shared_addresses })
}

async fn shared_addresses(lent: &mut Lent<'_>) -> Result<Vec<(String, Vec<String>)>, Fault> {
    let statement = sql("SELECT DISTINCT address, node FROM leases WHERE ended = 0 ORDER BY address, node");
    let mut nodes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in statement.fetch_all(&mut lent.connection).await? {
        let row = Row(row);
        nodes.entry(row.text(0)?).or_default().push(row.text(1)?);
    }
    nodes.retain(|_, nodes| nodes.len() > 1);
    Ok(nodes.into_iter().collect())
}

async fn number(lent: &mut Lent<'_>, text: &'static str) -> Result<u64, Fault> {
    Row(sql(text).fetch_one(&mut lent.connection).await?).sum(0)
}

/// Writes something, and takes it back.
async fn write(lent: &mut Lent<'_>, dialect: Dialect, has_tables: bool) -> Result<(), Fault> {
    let mut tx = lent.connection.begin_with(dialect.begin(Access::Write)).await?;
    let statement = match has_tables {
        true => "INSERT INTO ctedge_schema (version) VALUES (0)",
        false => "CREATE TABLE ctedge_probe (probe BIGINT)",
    };
    tx.execute(sqlx::raw_sql(statement)).await?;
    Ok(tx.rollback().await?)
}

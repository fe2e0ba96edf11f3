//! Figures by day.

use std::collections::BTreeMap;

use ctedge_ownership::StoreFailure;

use crate::call::{Tx, Work, sql};
use crate::dialect::Access;
use crate::entry::Day;
use crate::fault::Fault;
use crate::store::Store;

/// One day's figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayFigures {
    /// The day.
    pub day: Day,
    /// Sessions that began.
    pub sessions: u64,
    /// Guests that joined.
    pub joins: u64,
    /// Sessions that ended.
    pub ended: u64,
    /// Most sessions at the same time, over all nodes.
    pub sessions_most: u64,
    /// Most users online at the same time, over all nodes.
    pub users_online_most: u64,
    /// Most users in sessions at the same time, over all nodes.
    pub users_in_sessions_most: u64,
    /// Different users that hosted or joined. Zero once the users of the day are deleted.
    pub users: u64,
}

/// Downloads of one artifact on one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownloadFigures {
    /// The day.
    pub day: Day,
    /// For which IDE.
    pub ide: String,
    /// The client's version.
    pub version: String,
    /// The file.
    pub artifact: String,
    /// How often.
    pub downloads: u64,
}

/// How often one client was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientFigures {
    /// The client.
    pub client: String,
    /// Sessions that it hosted.
    pub hosted: u64,
    /// Sessions that it joined.
    pub joined: u64,
}

/// Figures of all days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Sessions that began.
    pub sessions: u64,
    /// Guests that joined. Hosts are not counted: a session has (sessions + joins) / sessions peers on average.
    pub joins: u64,
    /// Downloads.
    pub downloads: u64,
}

/// What has been counted ever since there is the store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lifetime {
    /// Sessions that began.
    pub sessions: u64,
    /// Downloads, by IDE.
    pub downloads: BTreeMap<String, u64>,
}

impl Store {
    /// The figures of the days from `from` to `to`, both included, in order; days without any are left out.
    pub async fn days(&self, from: Day, to: Day) -> Result<Vec<DayFigures>, StoreFailure> {
        self.report(&Days { from, to }).await
    }

    /// Downloads of the days from `from` to `to`, both included, in order.
    pub async fn downloads(&self, from: Day, to: Day) -> Result<Vec<DownloadFigures>, StoreFailure> {
        self.report(&Downloads { from, to }).await
    }

    /// Different users that hosted or joined in the days from `from` to `to`, both included.
    pub async fn unique_users(&self, from: Day, to: Day) -> Result<u64, StoreFailure> {
        self.report(&UniqueUsers { from, to }).await
    }

    /// What clients hosted and joined in the days from `from` to `to`, both included, by name.
    pub async fn clients(&self, from: Day, to: Day) -> Result<Vec<ClientFigures>, StoreFailure> {
        self.report(&Clients { from, to }).await
    }

    /// Figures of all days.
    pub async fn totals(&self) -> Result<Totals, StoreFailure> {
        self.report(&AllTotals).await
    }

    /// What has been counted ever since there is the store.
    pub async fn lifetime(&self) -> Result<Lifetime, StoreFailure> {
        self.report(&WholeLifetime).await
    }
}

struct Days {
    from: Day,
    to: Day,
}

impl Work for Days {
    type Output = Vec<DayFigures>;

    fn access(&self) -> Access {
        Access::Read
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Self::Output, Fault> {
        let statement = sql("SELECT d.day, d.sessions, d.joins, d.ended, d.sessions_most, d.users_online_most, \
             d.users_in_sessions_most, (SELECT COUNT(*) FROM usage_users u WHERE u.day = d.day) \
             FROM usage_days d WHERE d.day >= $1 AND d.day <= $2 ORDER BY d.day");
        let rows = tx.rows(statement.bind(self.from.to_string()).bind(self.to.to_string())).await?;
        let days = rows.iter().map(|row| {
            Ok(DayFigures {
                day: row.parsed(0, Day::parse)?,
                sessions: row.number(1)?,
                joins: row.number(2)?,
                ended: row.number(3)?,
                sessions_most: row.number(4)?,
                users_online_most: row.number(5)?,
                users_in_sessions_most: row.number(6)?,
                users: row.number(7)?,
            })
        });
        days.collect()
    }
}

struct Downloads {
    from: Day,
    to: Day,
}

impl Work for Downloads {
    type Output = Vec<DownloadFigures>;

    fn access(&self) -> Access {
        Access::Read
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Self::Output, Fault> {
        let statement = sql("SELECT day, ide, version, artifact, downloads FROM downloads \
             WHERE day >= $1 AND day <= $2 ORDER BY day, ide, version, artifact");
        let rows = tx.rows(statement.bind(self.from.to_string()).bind(self.to.to_string())).await?;
        let downloads = rows.iter().map(|row| {
            Ok(DownloadFigures {
                day: row.parsed(0, Day::parse)?,
                ide: row.text(1)?,
                version: row.text(2)?,
                artifact: row.text(3)?,
                downloads: row.number(4)?,
            })
        });
        downloads.collect()
    }
}

struct UniqueUsers {
    from: Day,
    to: Day,
}

impl Work for UniqueUsers {
    type Output = u64;

    fn access(&self) -> Access {
        Access::Read
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Result<u64, Fault> {
        let statement = sql("SELECT COUNT(DISTINCT user_identity) FROM usage_users WHERE day >= $1 AND day <= $2");
        let row = tx.row(statement.bind(self.from.to_string()).bind(self.to.to_string())).await?;
        row.map_or(Ok(0), |row| row.sum(0))
    }
}

struct Clients {
    from: Day,
    to: Day,
}

impl Work for Clients {
    type Output = Vec<ClientFigures>;

    fn access(&self) -> Access {
        Access::Read
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Self::Output, Fault> {
        let statement = sql("SELECT client, role, CAST(SUM(uses) AS BIGINT) FROM usage_clients \
             WHERE day >= $1 AND day <= $2 GROUP BY client, role");
        let rows = tx.rows(statement.bind(self.from.to_string()).bind(self.to.to_string())).await?;
        let mut clients: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for row in &rows {
            let (hosted, joined) = clients.entry(row.text(0)?).or_default();
            let figure = if row.text(1)? == "host" { hosted } else { joined };
            *figure += row.sum(2)?;
        }
        Ok(clients.into_iter().map(|(client, (hosted, joined))| ClientFigures { client, hosted, joined }).collect())
    }
}

struct AllTotals;

impl Work for AllTotals {
    type Output = Totals;

    fn access(&self) -> Access {
        Access::Read
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Totals, Fault> {
        let statement = sql("SELECT CAST(SUM(sessions) AS BIGINT), CAST(SUM(joins) AS BIGINT), \
                 (SELECT CAST(SUM(downloads) AS BIGINT) FROM downloads) FROM usage_days");
        let row = tx.row(statement).await?;
        row.map_or(Ok(Totals::default()), |row| {
            Ok(Totals { sessions: row.sum(0)?, joins: row.sum(1)?, downloads: row.sum(2)? })
        })
    }
}

struct WholeLifetime;

impl Work for WholeLifetime {
    type Output = Lifetime;

    fn access(&self) -> Access {
        Access::Read
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Lifetime, Fault> {
        let sessions = tx.row(sql("SELECT CAST(SUM(sessions) AS BIGINT) FROM usage_days")).await?;
        let by_ide = tx.rows(sql("SELECT ide, CAST(SUM(downloads) AS BIGINT) FROM downloads GROUP BY ide")).await?;
        Ok(Lifetime {
            sessions: sessions.map_or(Ok(0), |row| row.sum(0))?,
            downloads: by_ide.iter().map(|row| Ok((row.text(0)?, row.sum(1)?))).collect::<Result<_, Fault>>()?,
        })
    }
}

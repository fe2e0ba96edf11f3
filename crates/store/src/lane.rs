//! A bounded number of connections for one kind of calls.
//!
//! A connection comes back only from a call that ended well. After anything else it is dropped, and whatever its
//! transaction had done is undone by the database: nobody has to know what state it was in.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::any::AnyConnectOptions;
use sqlx::{AnyConnection, AssertSqlSafe, ConnectOptions as _, Executor as _};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::dialect::Dialect;
use crate::fault::{Fault, FaultKind};

/// Connections for one kind of calls, used in the order of asking.
pub(crate) struct Lane {
    options: AnyConnectOptions,
    setup: String,
    permits: Semaphore,
    idle: Mutex<Vec<AnyConnection>>,
    /// Rises when all connections are to be given up, those that are lent included.
    generation: AtomicU64,
}

/// A connection while one call has it.
pub(crate) struct Lent<'l> {
    pub(crate) connection: AnyConnection,
    /// Whether it was used before: it may have died meanwhile without anybody noticing.
    pub(crate) used: bool,
    lane: &'l Lane,
    generation: u64,
    _permit: SemaphorePermit<'l>,
}

impl Lane {
    pub(crate) fn new(options: AnyConnectOptions, dialect: Dialect, timeout: Duration, connections: usize) -> Self {
        let setup = dialect.setup(timeout);
        Self {
            options,
            setup,
            permits: Semaphore::new(connections),
            idle: Mutex::default(),
            generation: AtomicU64::new(0),
        }
    }

    /// A connection, as soon as one is free. Bounded in time by whoever calls.
    pub(crate) async fn lend(&self) -> Result<Lent<'_>, Fault> {
        let stopped = |_| Fault::new(FaultKind::Unreachable, "the store is closed");
        let permit = self.permits.acquire().await.map_err(stopped)?;
        let generation = self.generation.load(Ordering::Acquire);
        let idle = self.idle.lock().pop();
        let used = idle.is_some();
        let connection = match idle {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        Ok(Lent { connection, used, lane: self, generation, _permit: permit })
    }

    async fn connect(&self) -> Result<AnyConnection, Fault> {
        let mut connection = self.options.connect().await?;
        // A statement of our own making, without a stranger's word in it.
        connection.execute(sqlx::raw_sql(AssertSqlSafe(self.setup.clone()))).await?;
        Ok(connection)
    }

    /// Gives up every connection: they lead somewhere else than one that is opened from here on.
    pub(crate) fn give_up(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.forget_idle();
    }

    /// Drops the connections that nobody uses: one was found dead, and the others probably are.
    pub(crate) fn forget_idle(&self) {
        let idle = std::mem::take(&mut *self.idle.lock());
        drop(idle);
    }
}

impl Lent<'_> {
    /// Gives the connection to the next call. Only after a transaction that is over.
    pub(crate) fn give_back(self) {
        let mut idle = self.lane.idle.lock();
        if self.generation == self.lane.generation.load(Ordering::Acquire) {
            idle.push(self.connection);
        }
    }
}

//! One transaction within its time.
//!
//! What failed because of another transaction is tried again until the time is over; what failed because an idle
//! connection had died is tried again over another one. A commit whose answer is lost is not tried again: nobody knows
//! what became of it, and the caller has to look.

use std::time::{Duration, Instant};

use sqlx::any::AnyArguments;
use sqlx::query::Query;
use sqlx::{Any, AnyConnection, Connection as _, Transaction};
use tokio::time::{sleep, timeout};

use crate::dialect::{Access, Dialect};
use crate::fault::{Fault, FaultKind};
use crate::lane::Lane;
use crate::row::Row;

/// The longest pause between two tries. SQLite lets nobody wait in a queue: who asks often gets its turn even among
/// others that write without a pause.
const PAUSE_MAX: Duration = Duration::from_millis(5);

/// What one transaction does. It may run several times, and counts once.
pub(crate) trait Work: Sync {
    /// What comes of it.
    type Output: Send;

    /// Whether it changes something.
    fn access(&self) -> Access {
        Access::Write
    }

    /// What it may take beyond the time of any transaction.
    fn allowance(&self) -> Duration {
        Duration::ZERO
    }

    /// Does it, as often as it takes.
    fn run(&self, tx: &mut Tx<'_>) -> impl Future<Output = Result<Self::Output, Fault>> + Send;
}

/// A transaction while its work is done.
pub(crate) struct Tx<'c> {
    inner: Transaction<'c, Any>,
    pub(crate) dialect: Dialect,
}

/// A statement with its arguments.
pub(crate) type Statement = Query<'static, Any, AnyArguments>;

impl Tx<'_> {
    /// Carries out a statement; how many rows it changed.
    pub(crate) async fn execute(&mut self, statement: Statement) -> Result<u64, Fault> {
        Ok(statement.execute(&mut *self.inner).await?.rows_affected())
    }

    /// The first row, if there is one.
    pub(crate) async fn row(&mut self, statement: Statement) -> Result<Option<Row>, Fault> {
        Ok(statement.fetch_optional(&mut *self.inner).await?.map(Row))
    }

    /// All rows.
    pub(crate) async fn rows(&mut self, statement: Statement) -> Result<Vec<Row>, Fault> {
        Ok(statement.fetch_all(&mut *self.inner).await?.into_iter().map(Row).collect())
    }
}

/// Does `work` in one transaction over one of the lane's connections, within `bound`.
pub(crate) async fn transact<W: Work>(
    lane: &Lane,
    dialect: Dialect,
    bound: Duration,
    work: &W,
) -> Result<W::Output, Fault> {
    let deadline = Instant::now() + bound;
    let mut pause = Duration::from_millis(1);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let fault = match timeout(left, attempt(lane, dialect, work)).await {
            Ok(Ok(output)) => return Ok(output),
            Ok(Err(Attempt { fault, again: Again::AtOnce })) if !left.is_zero() => {
                lane.forget_idle();
                tracing::debug!(problem = fault.problem, "an idle connection to the store had died");
                continue;
            }
            Ok(Err(Attempt { fault, again: Again::Later })) => fault,
            Ok(Err(Attempt { fault, .. })) => return Err(fault),
            Err(_) => return Err(Fault::new(FaultKind::Slow, format!("no answer within {bound:?}"))),
        };
        if deadline.saturating_duration_since(Instant::now()) <= pause {
            return Err(fault);
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// A try that failed.
struct Attempt {
    fault: Fault,
    again: Again,
}

/// Whether the same is worth another try.
enum Again {
    No,
    AtOnce,
    Later,
}

async fn attempt<W: Work>(lane: &Lane, dialect: Dialect, work: &W) -> Result<W::Output, Attempt> {
    let mut lent = lane.lend().await.map_err(|fault| again(fault, false))?;
    let used = lent.used;
    match carry_out(&mut lent.connection, dialect, work).await {
        Ok(output) => {
            lent.give_back();
            Ok(output)
        }
        Err(Failed::Begin(fault)) => {
            // Nothing has begun: the connection is as good as before.
            if fault.kind == FaultKind::Busy {
                lent.give_back();
            }
            Err(again(fault, used))
        }
        Err(Failed::Work(fault)) => Err(again(fault, used)),
        // The database itself says that it did not commit; a lost connection says nothing.
        Err(Failed::Commit(fault)) if fault.kind == FaultKind::Busy => Err(again(fault, used)),
        Err(Failed::Commit(fault)) => Err(Attempt { fault, again: Again::No }),
    }
}

/// Where a transaction failed.
enum Failed {
    Begin(Fault),
    Work(Fault),
    Commit(Fault),
}

async fn carry_out<W: Work>(connection: &mut AnyConnection, dialect: Dialect, work: &W) -> Result<W::Output, Failed> {
    let begun = connection.begin_with(dialect.begin(work.access())).await;
    let mut tx = Tx { inner: begun.map_err(|error| Failed::Begin(error.into()))?, dialect };
    let output = work.run(&mut tx).await.map_err(Failed::Work)?;
    tx.inner.commit().await.map_err(|error| Failed::Commit(error.into()))?;
    Ok(output)
}

fn again(fault: Fault, used: bool) -> Attempt {
    let again = match fault.kind {
        FaultKind::Busy => Again::Later,
        FaultKind::Unreachable if used => Again::AtOnce,
        _ => Again::No,
    };
    Attempt { fault, again }
}

/// A statement whose text is known when this program is built.
pub(crate) fn sql(text: &'static str) -> Statement {
    sqlx::query(text)
}

/// A statement whose text is put together from constants and numbers of parameters: no argument is ever a part of it. It
/// is not kept prepared, since the next one will probably have another number of rows.
pub(crate) fn sql_of(text: String) -> Statement {
    sqlx::query(sqlx::AssertSqlSafe(text)).persistent(false)
}

/// `($1, $2), ($3, $4)`: the parameters of `rows` rows of `columns` columns, counted from `first`.
pub(crate) fn parameters(rows: usize, columns: usize, first: usize) -> String {
    let row = |row: usize| {
        let columns = (0..columns).map(|column| format!("${}", first + row * columns + column)).collect::<Vec<_>>();
        format!("({})", columns.join(", "))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(", ")
}

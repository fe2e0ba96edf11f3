//! Who did what, page by page, the latest first.

use ctedge_ownership::{NodeId, StoreFailure};

use crate::call::{Statement, Tx, Work, sql_of};
use crate::dialect::Access;
use crate::entry::{Audit, AuditEvent, AuditUser, Day, UnixMillis};
use crate::fault::Fault;
use crate::report::PAGE_ROWS_MAX;
use crate::row::Row;
use crate::store::Store;

/// Which audit entries are meant. Everything where nothing is set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditFilter {
    /// Those at this time and later.
    pub from: Option<UnixMillis>,
    /// Those before this time.
    pub until: Option<UnixMillis>,
    /// Those of one session.
    pub key: Option<ctedge_wire::Key>,
    /// Those of one kind.
    pub event: Option<AuditEvent>,
}

/// Where a page ended. The next page begins after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditCursor {
    /// When the last entry of the page was.
    pub at: UnixMillis,
    /// Its number.
    pub id: u64,
}

impl Store {
    /// At most `rows` audit entries, the latest first, after `cursor`; with the cursor of the next page if there may be
    /// one. [`Audit::day`] is the day in UTC here: the store does not know in which day it counted.
    pub async fn audit(
        &self,
        filter: &AuditFilter,
        cursor: Option<AuditCursor>,
        rows: u32,
    ) -> Result<(Vec<Audit>, Option<AuditCursor>), StoreFailure> {
        self.report(&Page { filter: filter.clone(), cursor, rows: rows.clamp(1, PAGE_ROWS_MAX) }).await
    }
}

struct Page {
    filter: AuditFilter,
    cursor: Option<AuditCursor>,
    rows: u32,
}

impl Work for Page {
    type Output = (Vec<Audit>, Option<AuditCursor>);

    fn access(&self) -> Access {
        Access::Read
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Self::Output, Fault> {
        let (mut conditions, mut numbers, mut texts) = (Vec::new(), Vec::new(), Vec::new());
        if let Some(from) = self.filter.from {
            numbers.push(from.0);
            conditions.push(format!("at_ms >= ${}", numbers.len()));
        }
        if let Some(until) = self.filter.until {
            numbers.push(until.0);
            conditions.push(format!("at_ms < ${}", numbers.len()));
        }
        if let Some(cursor) = self.cursor {
            numbers.extend([cursor.at.0, cursor.id]);
            conditions.push(format!("(at_ms, id) < (${}, ${})", numbers.len() - 1, numbers.len()));
        }
        if let Some(key) = &self.filter.key {
            texts.push(key.as_str().to_owned());
            conditions.push(format!("session_key = ${}", numbers.len() + texts.len()));
        }
        if let Some(event) = self.filter.event {
            texts.push(event.as_str().to_owned());
            conditions.push(format!("event = ${}", numbers.len() + texts.len()));
        }
        let conditions =
            if conditions.is_empty() { String::new() } else { format!("WHERE {}", conditions.join(" AND ")) };
        let text = format!(
            "SELECT id, at_ms, event, session_key, node, peer, user_id, user_name, user_email, user_provider, client, \
             reason FROM audit {conditions} ORDER BY at_ms DESC, id DESC LIMIT {}",
            self.rows
        );
        let statement =
            numbers.into_iter().fold(sql_of(text), |statement, number| statement.bind(number.cast_signed()));
        let statement = texts.into_iter().fold(statement, Statement::bind);
        let rows = tx.rows(statement).await?;
        let entries = rows.iter().map(entry_of).collect::<Result<Vec<_>, _>>()?;
        let full = rows.len() == self.rows as usize;
        let last = rows.last().filter(|_| full);
        let next = last.map(|row| Ok(AuditCursor { id: row.number(0)?, at: UnixMillis(row.number(1)?) }));
        Ok((entries, next.transpose().map_err(|fault: Fault| fault)?))
    }
}

fn entry_of(row: &Row) -> Result<Audit, Fault> {
    let at = UnixMillis(row.number(1)?);
    let name = row.text_or_none(7)?;
    let user = match name {
        Some(name) => Some(AuditUser {
            id: row.text_or_none(6)?,
            name,
            email: row.text_or_none(8)?,
            provider: row.text_or_none(9)?,
        }),
        None => None,
    };
    Ok(Audit {
        at,
        day: Day::of_utc(at),
        event: row.parsed(2, AuditEvent::parse)?,
        key: row.key(3)?,
        node: NodeId::new(&row.text(4)?),
        peer: row.text_or_none(5)?,
        user,
        client: row.text_or_none(10)?,
        reason: row.text_or_none(11)?,
    })
}

//! Reading what comes back, by position. A value of another kind than the schema says is a fault of the database.

use bytes::Bytes;
use ctedge_ownership::{LeaseId, NodeId};
use ctedge_wire::Key;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use crate::fault::{Fault, FaultKind};

/// One row.
pub(crate) struct Row(pub(crate) AnyRow);

impl Row {
    /// A whole number. Databases have only signed ones; the bits are the same.
    pub(crate) fn number(&self, column: usize) -> Result<u64, Fault> {
        Ok(self.0.try_get::<i64, _>(column)?.cast_unsigned())
    }

    /// A number that is absent where nothing was summed up.
    pub(crate) fn sum(&self, column: usize) -> Result<u64, Fault> {
        Ok(self.0.try_get::<Option<i64>, _>(column)?.unwrap_or(0).cast_unsigned())
    }

    pub(crate) fn flag(&self, column: usize) -> Result<bool, Fault> {
        Ok(self.number(column)? != 0)
    }

    pub(crate) fn text(&self, column: usize) -> Result<String, Fault> {
        Ok(self.0.try_get(column)?)
    }

    pub(crate) fn text_or_none(&self, column: usize) -> Result<Option<String>, Fault> {
        Ok(self.0.try_get(column)?)
    }

    pub(crate) fn bytes_or_none(&self, column: usize) -> Result<Option<Bytes>, Fault> {
        Ok(self.0.try_get::<Option<Vec<u8>>, _>(column)?.map(Bytes::from))
    }

    pub(crate) fn bytes(&self, column: usize) -> Result<Bytes, Fault> {
        Ok(Bytes::from(self.0.try_get::<Vec<u8>, _>(column)?))
    }

    pub(crate) fn key(&self, column: usize) -> Result<Key, Fault> {
        let text = self.text(column)?;
        Key::parse(&text).map_err(|problem| nonsense(&format!("a key {text:?}: {problem}")))
    }

    /// A lease, in two columns from this one on.
    pub(crate) fn lease(&self, column: usize) -> Result<LeaseId, Fault> {
        Ok(LeaseId::new(NodeId::new(&self.text(column)?), self.number(column + 1)?))
    }

    /// Text that `parse` makes something of.
    pub(crate) fn parsed<T>(&self, column: usize, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, Fault> {
        let text = self.text(column)?;
        parse(&text).ok_or_else(|| nonsense(&format!("{text:?} in column {column}")))
    }
}

/// The store holds what this program never wrote.
fn nonsense(what: &str) -> Fault {
    Fault::new(FaultKind::Broken, format!("the store holds {what}"))
}

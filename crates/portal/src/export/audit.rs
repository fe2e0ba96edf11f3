//! The audit as a body that grows while it is read: a page of the store at a time, the latest entries first. Whoever reads
//! slowly keeps no transaction open and no more than two pages in memory.

use std::io;

use axum::body::Body;
use bytes::Bytes;
use ctedge_store::{Audit, AuditCursor, AuditFilter, Store, StoreFailure};
use http_body_util::channel::{Channel, Sender};

use super::tables;

/// Entries that are read at once.
const PAGE_ROWS: u32 = 1_000;

/// The table of all entries that `filter` takes. A store that does not answer at the beginning is told of in place of it; one
/// that ceases to later breaks the answer off, so that nobody takes a part for the whole.
pub(super) async fn body(store: Store, filter: AuditFilter) -> Result<Body, StoreFailure> {
    let first = store.audit(&filter, None, PAGE_ROWS).await?;
    let (sender, channel) = Channel::<Bytes, io::Error>::new(1);
    tokio::spawn(send(store, filter, first, sender));
    Ok(Body::new(channel))
}

async fn send(
    store: Store,
    filter: AuditFilter,
    (first, next): (Vec<Audit>, Option<AuditCursor>),
    mut sender: Sender<Bytes, io::Error>,
) {
    if let Err(Some(problem)) = send_pages(&store, &filter, first, next, &mut sender).await {
        sender.abort(problem);
    }
}

/// Fails with nothing if nobody reads any more.
async fn send_pages(
    store: &Store,
    filter: &AuditFilter,
    mut page: Vec<Audit>,
    mut next: Option<AuditCursor>,
    sender: &mut Sender<Bytes, io::Error>,
) -> Result<(), Option<io::Error>> {
    sender.send_data(tables::audit_head()?.into()).await.map_err(|_| None)?;
    loop {
        if !page.is_empty() {
            sender.send_data(tables::audit(&page)?.into()).await.map_err(|_| None)?;
        }
        let Some(cursor) = next else { return Ok(()) };
        (page, next) = store.audit(filter, Some(cursor), PAGE_ROWS).await.map_err(io::Error::other)?;
    }
}

//! What somebody polls for: a login that waits for its form, a join request that waits for its host.

use std::sync::Arc;
use std::time::Instant;

use axum::http::HeaderMap;
use ctedge_wire::KeyedToken;

use super::extract::{routed_key, unreachable};
use super::problem::Problem;
use crate::app::App;
use crate::pending::{PendingTable, Poll};

/// What came of a poll.
pub(super) enum Decision<T> {
    /// The answer.
    Made(T),
    /// None in the time of one poll.
    Open,
    /// There will be none here.
    Gone,
}

/// Begins a poll of what waits under `token`, here or wherever it is; it may be `missing`.
pub(super) async fn waiting<T: Clone>(
    app: &Arc<App>,
    headers: &HeaderMap,
    table: &PendingTable<T>,
    token: &KeyedToken,
    missing: impl Fn() -> Problem,
) -> Result<Poll<T>, Problem> {
    if let Some(poll) = table.poll(token, Instant::now()) {
        return Ok(poll);
    }
    let (routed, unreachable) = (routed_key(headers), unreachable(headers));
    let located = app.hub.locate(routed.as_ref(), &unreachable, &token.key()).await;
    located.map_err(|not_here| Problem::not_here(&not_here, &missing))?;
    // It may have come here just now.
    table.poll(token, Instant::now()).ok_or_else(missing)
}

/// Waits for the answer for as long as one poll may wait.
pub(super) async fn decision<T: Clone>(app: &App, poll: &mut Poll<T>) -> Decision<T> {
    let _presence = app.hub.connections().come();
    let mut stop = app.polls.signal();
    let decided = tokio::select! {
        decided = tokio::time::timeout(app.settings().timeouts.poll, poll.decided()) => decided,
        () = stop.stopped() => return Decision::Open,
    };
    match decided {
        Err(_) => Decision::Open,
        Ok(None) => Decision::Gone,
        Ok(Some(decision)) => Decision::Made(decision),
    }
}

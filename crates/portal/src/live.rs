//! Pages whose settings change while they are served.
//!
//! Each change makes all pages anew, their guards with them: whoever had to pause for wrong passwords may try again. What is
//! being answered goes on with the pages before.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::any;
use ctedge_wire::headers::DOWNLOADED_PATH;
use parking_lot::RwLock;
use tower::Service;

use crate::portal::{PLACES, Portal, router};

/// The pages of one node, to be mounted beside its interface. Cheap to clone.
#[derive(Clone)]
pub struct LivePages(Arc<RwLock<Router>>);

impl LivePages {
    /// Serves the pages of `portal`, until others take their place.
    #[must_use]
    pub fn new(portal: Portal) -> Self {
        Self(Arc::new(RwLock::new(pages(portal))))
    }

    /// Serves the pages of `portal` from here on.
    pub fn replace(&self, portal: Portal) {
        *self.0.write() = pages(portal);
    }

    /// What a node mounts.
    pub fn router(&self) -> Router {
        // What balancers tell has a path of its own among those of the node's control.
        let mut router = Router::new().route(DOWNLOADED_PATH, any(serve));
        for place in PLACES {
            for path in [place.to_owned(), format!("{place}/"), format!("{place}/{{*path}}")] {
                router = router.route(&path, any(serve));
            }
        }
        router.with_state(self.clone())
    }
}

fn pages(portal: Portal) -> Router {
    router(portal).fallback(async || (StatusCode::NOT_FOUND, "There is no such page.\n"))
}

async fn serve(State(pages): State<LivePages>, request: Request) -> Response {
    let mut pages = pages.0.read().clone();
    // A router is always ready, and never fails.
    match pages.call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

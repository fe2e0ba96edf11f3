//! The dashboard: the state of everything, as a page for people and as JSON for programs.
//!
//! - [`state`]: what is known, one model that both are made of. `gather`: where it comes from.
//! - `problems`: what of it an operator has to do something about. `listing`: the page.

mod gather;
mod listing;
mod problems;
pub mod state;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State as Extracted;
use axum::http::header::{LOCATION, REFRESH, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Json, Router};
use tokio::sync::Mutex;

use crate::export;
use crate::guard::{Guard, guard};
use crate::page::page;
use crate::portal::Portal;
pub use state::State;

/// How long what was gathered holds: many who look cost the store no more than one.
const HOLDS: Duration = Duration::from_secs(1);

/// The page reads itself again after this many seconds.
const REFRESH_SECONDS: u16 = 30;

pub(crate) fn router(portal: Portal) -> Router {
    let behind = Guard::of_dashboard(&portal);
    Router::new()
        .route("/dashboard", any(overview))
        .route("/dashboard/", any(without_slash))
        .route("/dashboard/api/state", any(state))
        .with_state(Dashboard { portal: portal.clone(), last: Arc::default() })
        .merge(export::router(portal))
        .layer(from_fn_with_state(behind, guard))
}

#[derive(Clone)]
struct Dashboard {
    portal: Portal,
    last: Arc<Mutex<Option<Gathered>>>,
}

struct Gathered {
    at: Instant,
    state: Arc<State>,
}

impl Dashboard {
    /// Who comes while it is being gathered waits for the same.
    async fn state(&self) -> Arc<State> {
        let mut last = self.last.lock().await;
        if let Some(gathered) = last.as_ref().filter(|gathered| gathered.at.elapsed() < HOLDS) {
            return Arc::clone(&gathered.state);
        }
        let state = Arc::new(gather::gather(&self.portal).await);
        *last = Some(Gathered { at: Instant::now(), state: Arc::clone(&state) });
        state
    }
}

async fn overview(Extracted(dashboard): Extracted<Dashboard>) -> Response {
    let state = dashboard.state().await;
    let body = listing::body(&state, REFRESH_SECONDS, dashboard.portal.settings().clients);
    let mut response = page(StatusCode::OK, &listing::title(&state), &body);
    response.headers_mut().insert(REFRESH, HeaderValue::from(REFRESH_SECONDS));
    response
}

/// Relative links of the page have no slash before them.
async fn without_slash() -> Response {
    (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, HeaderValue::from_static("../dashboard"))]).into_response()
}

async fn state(Extracted(dashboard): Extracted<Dashboard>) -> Response {
    let mut response = Json(dashboard.state().await.as_ref()).into_response();
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

//! What the store keeps for operators, as files for spreadsheets.
//!
//! - `metrics.tar.gz` of the notes: the figures of each day in `session-metrics.csv` and `download-metrics.csv`.
//! - `audit.csv`: who did what, line by line. It is of any length, so it is sent as it is read.
//!
//! Both take `from` and `to`, days like `2026-11-24` in the time zone of the logs, both included; without them they give everything
//! that is kept. The times in `audit.csv` are in UTC, and say so.
//!
//! - `tables`: rows as RFC 4180 writes them. `audit`: the audit, page by page. `days`: from and to.

mod audit;
mod days;
mod tables;

use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use ctedge_store::{Store, StoreFailure, StoreState};
use flate2::Compression;
use flate2::write::GzEncoder;

use self::days::{Asked, NoDay};
use crate::portal::Portal;

/// The files of operators, to be mounted behind the credentials of the dashboard.
pub fn router(portal: Portal) -> Router {
    Router::new()
        .route("/dashboard/metrics.tar.gz", get(metrics))
        .route("/dashboard/audit.csv", get(audit_csv))
        .with_state(portal)
}

async fn metrics(State(portal): State<Portal>, Query(asked): Query<Asked>) -> Result<Response, Refusal> {
    let (days, store) = (asked.days()?, store(&portal)?);
    let (sessions, downloads) = tokio::join!(store.days(days.from, days.to), store.downloads(days.from, days.to));
    let (sessions, downloads) = (sessions?, downloads?);
    // Years of figures keep a thread busy for longer than others should wait.
    let packed = tokio::task::spawn_blocking(move || {
        packed(&[
            ("session-metrics.csv", tables::sessions(&sessions)?),
            ("download-metrics.csv", tables::downloads(&downloads)?),
        ])
    });
    let bytes = packed.await.map_err(io::Error::other)??;
    Ok(file("metrics.tar.gz", "application/gzip", Body::from(bytes)))
}

async fn audit_csv(State(portal): State<Portal>, Query(asked): Query<Asked>) -> Result<Response, Refusal> {
    let (filter, store) = (asked.filter(&portal.settings().time_zone)?, store(&portal)?);
    let body = audit::body(store, filter).await?;
    Ok(file("audit.csv", "text/csv; charset=utf-8; header=present", body))
}

fn store(portal: &Portal) -> Result<Store, Refusal> {
    portal.surroundings().store().ok_or_else(|| match portal.surroundings().health().store {
        StoreState::None => Refusal::NoStore,
        _ => Refusal::Store(StoreFailure::Unreachable),
    })
}

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{0}")]
    Days(#[from] NoDay),
    #[error("Nothing is kept on this server: it has no store (store.url).")]
    NoStore,
    #[error("The store cannot be read: {0}. Try again in a few seconds.")]
    Store(#[from] StoreFailure),
    #[error("The file cannot be made: {0}")]
    Broken(#[from] io::Error),
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::Days(_) => StatusCode::BAD_REQUEST,
            Self::NoStore => StatusCode::NOT_FOUND,
            Self::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Broken(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let mut response = (status, format!("{self}\n")).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}

/// An answer that browsers save under `name`.
fn file(name: &str, content_type: &'static str, body: Body) -> Response {
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(disposition) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
        headers.insert(CONTENT_DISPOSITION, disposition);
    }
    response
}

fn packed(files: &[(&str, Vec<u8>)]) -> io::Result<Vec<u8>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(now);
        archive.append_data(&mut header, name, bytes.as_slice())?;
    }
    archive.into_inner()?.finish()
}

//! What is offered below `/clients`: files that the operator put into the clients folder.
//!
//! - [`catalog`]: what is there. `about`: what a client says of itself; `vscode`, `intellij`, `eclipse`: how those of
//!   each editor say it; `archive`: reading archives.
//! - [`add`]: puts a file in its place; `site`: unpacks an update site.
//! - `listing`, `repository`: the page for people, and the list of plugins for IntelliJ.
//! - `downloads`: which answer is a download, and when it is complete.

mod about;
pub mod add;
mod archive;
pub mod catalog;
mod downloads;
mod eclipse;
mod intellij;
mod listing;
mod repository;
mod site;
mod vscode;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{ALLOW, CONTENT_TYPE, LOCATION, RANGE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, post};
use ctedge_wire::headers::{CLIENTS_PATH, CONTROL_TOKEN, DOWNLOAD, DOWNLOADED_PATH};

use crate::files;
use crate::folder::{self, Found};
use crate::page::{page, public_url, revalidated};
use crate::portal::Portal;
pub use about::About;
pub(crate) use about::by_version;
pub use add::{AddError, Added, KeptDefault, add};
pub use archive::Unfit;
pub use catalog::{Artifact, Catalog};
pub use downloads::Download;

const NO_FILE: &str = "There is no such file among the client downloads.";

pub(crate) fn router(portal: Portal) -> Router {
    Router::new()
        .route("/clients", any(clients))
        .route(CLIENTS_PATH, any(clients))
        .route("/clients/{*path}", any(clients))
        .route(DOWNLOADED_PATH, post(downloaded))
        .with_state(portal)
}

async fn clients(State(portal): State<Portal>, request: Request) -> Response {
    if !portal.settings().clients {
        return not_found("Client downloads are switched off on this server (portal.clients, CT_NOCLIENTS).");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let allow = [(ALLOW, HeaderValue::from_static("GET, HEAD"))];
        return (StatusCode::METHOD_NOT_ALLOWED, allow, "Client downloads are read with GET and HEAD.\n")
            .into_response();
    }
    // Relative links of the page need the slash.
    let Some(path) = request.uri().path().strip_prefix(CLIENTS_PATH) else { return moved("clients/") };
    match path {
        "" => overview(&portal, request.headers()).await,
        repository::UPDATE_PLUGINS => update_plugins(&portal, request.headers()).await,
        path => {
            let path = path.to_owned();
            file(&portal, &path, request).await
        }
    }
}

async fn overview(portal: &Portal, headers: &HeaderMap) -> Response {
    let catalog = portal.shelf().catalog().await;
    let url = public_url(portal.settings().server_url.as_ref(), headers);
    let body = listing::body(&catalog, &url, portal.settings().private_certificate);
    revalidated(headers, page(StatusCode::OK, "Client downloads", &body), &body)
}

async fn update_plugins(portal: &Portal, headers: &HeaderMap) -> Response {
    let catalog = portal.shelf().catalog().await;
    let xml = repository::update_plugins(&catalog, &public_url(portal.settings().server_url.as_ref(), headers));
    let mut response = Body::from(xml.clone()).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    revalidated(headers, response, &xml)
}

async fn file(portal: &Portal, path: &str, request: Request) -> Response {
    let Some(segments) = folder::segments(path) else { return not_found(NO_FILE) };
    match folder::find(&portal.settings().clients_folder, &segments).await {
        Ok(Found::File(file)) => {
            let (method, range) = (request.method().clone(), request.headers().get(RANGE).cloned());
            let is_told = downloads::is_told(request.headers());
            let response = files::serve(&file, request).await;
            if !downloads::completes(&method, range.as_ref(), &response) {
                return response;
            }
            counted(portal, &segments.join("/"), response, is_told).await
        }
        Ok(Found::FolderWithoutSlash) => match path.rsplit('/').next() {
            Some(name) => moved(&format!("{name}/")),
            None => not_found(NO_FILE),
        },
        // The folders of the editors are sections of the page; an update site has no page of its own, as a rule.
        Ok(Found::Folder) if segments.len() == 2 => moved(&format!("../#{}", segments[0])),
        Ok(Found::Folder | Found::Nothing) => not_found(NO_FILE),
        Err(error) => {
            tracing::warn!(%error, "the clients folder cannot be read");
            (StatusCode::INTERNAL_SERVER_ERROR, "The clients folder cannot be read.\n").into_response()
        }
    }
}

/// Counts the download when `response` has arrived whole, if the file is a client at all.
async fn counted(portal: &Portal, path: &str, response: Response, is_told: bool) -> Response {
    let Some(artifact) = portal.shelf().artifact(path).await else { return response };
    let Artifact { ide, path, about, .. } = artifact;
    let artifact = path.rsplit('/').next().unwrap_or_default().to_owned();
    let download = Download { ide, version: about.version, artifact };
    let portal = portal.clone();
    downloads::count_when_complete(response, download, is_told, move |download| {
        portal.surroundings().downloaded(download);
    })
}

/// Counts a download whose client has it all, by the word of the balancer in front of that client.
async fn downloaded(State(portal): State<Portal>, headers: HeaderMap) -> StatusCode {
    let token = headers.get(CONTROL_TOKEN).map(HeaderValue::as_bytes).unwrap_or_default();
    if !portal.surroundings().is_control_token(token) {
        return StatusCode::FORBIDDEN;
    }
    let Some(download) = headers.get(DOWNLOAD).and_then(Download::from_header) else {
        return StatusCode::BAD_REQUEST;
    };
    portal.surroundings().downloaded(&download);
    StatusCode::NO_CONTENT
}

/// Found at an address relative to the request's, so that a path before both of them keeps working.
fn moved(to: &str) -> Response {
    match HeaderValue::from_str(to) {
        Ok(to) => (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, to)]).into_response(),
        Err(_) => not_found(NO_FILE),
    }
}

fn not_found(why: &str) -> Response {
    (StatusCode::NOT_FOUND, format!("{why}\n")).into_response()
}

//! What is offered below `/clients`: files that the operator put into the clients folder.
//!
//! - [`folder`]: from the path of a request to a file of the folder, and to nothing else.
//! - [`files`]: how one file is served.
//! - [`downloads`]: which answer is a download, and when it is complete.

#[expect(dead_code, reason = "what an artifact is decides the catalog")]
mod downloads;
mod files;
mod folder;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{ALLOW, LOCATION};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::any;

pub use downloads::Download;
use folder::Found;

use crate::portal::Portal;

/// Where everything of this module is.
const BELOW: &str = "/clients/";

pub(crate) fn router(portal: Portal) -> Router {
    Router::new()
        .route("/clients", any(clients))
        .route(BELOW, any(clients))
        .route("/clients/{*path}", any(clients))
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
    // Relative links of the page need the slash, and so does whoever types the address.
    let Some(path) = request.uri().path().strip_prefix(BELOW) else { return moved("clients/") };
    let path = path.to_owned();
    file(&portal, &path, request).await
}

async fn file(portal: &Portal, path: &str, request: Request) -> Response {
    let Some(segments) = folder::segments(path) else { return not_found("There is no such file.") };
    match folder::find(&portal.settings().clients_folder, &segments).await {
        Ok(Found::File(file)) => files::serve(&file, request).await,
        Ok(Found::FolderWithoutSlash) => match path.rsplit('/').next() {
            Some(name) => moved(&format!("{name}/")),
            None => not_found("There is no such file."),
        },
        Ok(Found::Folder | Found::Nothing) => not_found("There is no such file."),
        Err(error) => {
            tracing::warn!(%error, "the clients folder cannot be read");
            (StatusCode::INTERNAL_SERVER_ERROR, "The clients folder cannot be read.\n").into_response()
        }
    }
}

/// Moved for good, to an address relative to the request's, so that a path before both of them keeps working.
fn moved(to: &str) -> Response {
    match HeaderValue::from_str(to) {
        Ok(to) => (StatusCode::PERMANENT_REDIRECT, [(LOCATION, to)]).into_response(),
        Err(_) => not_found("There is no such file."),
    }
}

fn not_found(why: &str) -> Response {
    (StatusCode::NOT_FOUND, format!("{why}\n")).into_response()
}

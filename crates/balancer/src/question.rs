//! Asks a node whether a request is its own, before a body goes there that could not be sent a second time.

use ctedge_wire::headers;
use http::HeaderValue;

use crate::client;
use crate::shared::{Shared, Target};
use crate::tunnel::dial::{DialError, Dialed};

/// What nodes are asked about one request.
pub(crate) struct Question {
    /// The query of the request: it may name a transport that the node knows.
    query: Box<str>,
    /// The one id of the request.
    request_id: HeaderValue,
}

impl Question {
    pub(crate) fn new(query: Option<&str>, request_id: HeaderValue) -> Self {
        Self { query: query.unwrap_or_default().into(), request_id }
    }

    /// Asks `target` over a connection of its own. `key` is the request's as far as is known by now.
    pub(crate) async fn ask(
        &self,
        shared: &Shared,
        target: &Target,
        key: &str,
        unreachable: Option<&HeaderValue>,
    ) -> Result<Dialed, DialError> {
        let live = shared.live.load_full();
        let (timeouts, token) = (&live.settings.timeouts, live.settings.secret.control_token());
        let text = |value: &HeaderValue| value.to_str().map(str::to_owned).unwrap_or_default();
        let mut headers = vec![
            (headers::CONTROL_TOKEN, token),
            (headers::KEY, key.to_owned()),
            (headers::REQUEST_ID, text(&self.request_id)),
        ];
        headers.extend(unreachable.map(|names| (headers::UNREACHABLE, text(names))));
        let node = target.node.address();
        let path = format!("{}?{}", headers::OWNER_PATH, self.query);
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let head = client::head(node, "GET", &path, &headers);
        target.ask(head.as_bytes(), timeouts.connect, timeouts.response).await
    }
}

//! What happens to a request before anybody sends it on.

use ctedge_wire::headers::{CONTROL_PATH, HEALTH_PATH};
use http::Method;
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use crate::answer::Refusal;
use crate::context::RequestContext;
use crate::forwarded::tell_origin;
use crate::leaving::Transport;
use crate::question::Question;
use crate::request::{REQUEST_ID, below_prefix, find_key, identify, join_cookies, remove_foreign, wants_websocket};
use crate::route::Route;
use crate::shared::Shared;
use crate::stop::Phase;

/// How much of a request's body Pingora keeps for sending it again.
const REPLAY_BYTES_MAX: u64 = 64 * 1024;

/// What a request is.
pub(crate) enum Prepared {
    /// The question whether the balancer is well.
    Health,
    /// The opening of a WebSocket.
    Tunnel,
    /// Anything else.
    Plain,
}

/// Checks the request's limits, takes out what is foreign, tells its origin, and chooses its node.
pub(crate) fn prepare(
    shared: &Shared,
    session: &mut Session,
    context: &mut RequestContext,
) -> Result<Prepared, Refusal> {
    let live = context.live.clone();
    let limits = &live.settings.limits;
    let is_utf8 = session.req_header().raw_path_is_utf8();
    let head_bytes = session.as_downstream().as_http1().map_or(0, |http1| http1.get_headers_raw_bytes().len());
    let has_body = !session.is_body_empty();
    // The map of the headers' original case is not needed and costs a clone per try.
    let mut parts = take_parts(session.req_header_mut());
    let result = (|| {
        let (peer, secure) = match &context.connection {
            Some(connection) => (connection.peer, connection.secure),
            None => of_http2(session).ok_or(Refusal::Internal)?,
        };
        remove_foreign(&mut parts.headers);
        let authority = parts.uri.authority().map(|authority| authority.as_str().to_owned());
        let is_trusted = live.trusted.contains(peer.ip());
        let origin = tell_origin(&mut parts.headers, peer, secure, authority.as_deref(), &live.trusted);
        context.origin = Some(origin);
        identify(&mut parts.headers, is_trusted);
        if !is_utf8 {
            return Err(Refusal::Malformed);
        }
        if parts.method == Method::CONNECT {
            return Err(Refusal::MethodNotAllowed);
        }
        if head_bytes > limits.header_bytes_max {
            return Err(Refusal::HeadTooLarge);
        }
        if content_length(&parts).is_some_and(|length| length > limits.body_bytes_max) {
            return Err(Refusal::BodyTooLarge);
        }
        let path = parts.uri.path();
        let below = below_prefix(path, &live.settings.path_prefix);
        if path == HEALTH_PATH
            || below.is_some_and(|path| path == HEALTH_PATH || path == HEALTH_PATH.trim_end_matches('/'))
        {
            return Ok(Prepared::Health);
        }
        let path = below.filter(|path| !path.starts_with(CONTROL_PATH)).ok_or(Refusal::NotFound)?;
        let is_tunnel = !has_body && wants_websocket(&parts);
        match Transport::of(parts.uri.query(), is_tunnel) {
            Some(Transport::GoesOn) => context.poll = Some(shared.polls.begin()),
            // Where there is a successor, what follows comes to that.
            Some(Transport::Begins) if shared.stop.phase() == Phase::Leaving && !shared.has_successor() => {
                return Err(Refusal::Stopping);
            }
            Some(Transport::Begins) | None => {}
        }
        let finding = find_key(&live.finder, &parts, path);
        join_cookies(&mut parts.headers);
        let route = Route::begin(shared, finding)?;
        let can_replay = !has_body || content_length(&parts).is_some_and(|length| length <= REPLAY_BYTES_MAX);
        context.route = Some(if can_replay {
            route
        } else {
            let request_id = parts.headers.get(REQUEST_ID).cloned();
            let request_id = request_id.unwrap_or_else(|| HeaderValue::from_static("-"));
            route.ask_first(Question::new(parts.uri.query(), request_id))
        });
        Ok(if is_tunnel { Prepared::Tunnel } else { Prepared::Plain })
    })();
    *session.req_header_mut() = RequestHeader::from(parts);
    result
}

/// The cookie that the answer must set, if it must.
pub(crate) fn cookie_due(context: &RequestContext) -> Option<String> {
    let route = context.route.as_ref()?;
    let secure = context.origin.is_some_and(|origin| origin.secure);
    context.live.finder.cookie_to_set(route.finding(), route.key(), secure, &context.live.settings.path_prefix)
}

/// Whether a cache that many share may keep the answer (RFC 9111, section 5.2.2.9): a cookie in it would give one key to all
/// of them.
pub(crate) fn may_be_shared(answer: &HeaderMap) -> bool {
    let directives = answer.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    directives.flat_map(|value| value.split(',')).any(|directive| directive.trim().eq_ignore_ascii_case("public"))
}

fn take_parts(header: &mut RequestHeader) -> Parts {
    let (placeholder, ()) = http::Request::new(()).into_parts();
    std::mem::replace(header, RequestHeader::from(placeholder)).into()
}

/// HTTP/2 requests come without a connection of ours, but with what Pingora noted of it.
fn of_http2(session: &Session) -> Option<(std::net::SocketAddr, bool)> {
    let peer = session.client_addr().and_then(|address| address.as_inet()).copied()?;
    Some((peer, session.digest().is_some_and(|digest| digest.ssl_digest.is_some())))
}

fn content_length(parts: &Parts) -> Option<u64> {
    parts.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

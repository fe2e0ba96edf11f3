//! A request through Pingora: Pingora's filters, filled with our decisions.
//!
//! The node is chosen in `request_filter` and kept in the context; a try that fails chooses again before the next one.
//! What a node did not do may be done by another: every request whose connect failed, every request that a node
//! answered with a redirect, and, of those that a node took and never answered, the ones that may be repeated.

use std::any::Any;
use std::os::fd::RawFd;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use ctedge_wire::headers;
use http::header;
use http::{HeaderName, HeaderValue, Method};
use pingora::protocols::Digest;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, Session};

use crate::answer::{Refusal, refuse, respond};
use crate::context::{RequestContext, text};
use crate::download::Download;
use crate::request::{KEY, REQUEST_ID, internal_headers, may_be_repeated, target_below_prefix};
use crate::shared::Shared;
use crate::stop::Phase;
use crate::stream::Connection;
use crate::wait::Wait;
use crate::{prepare, tunnel};

const NODE: HeaderName = HeaderName::from_static(headers::NODE);
const DOWNLOAD: HeaderName = HeaderName::from_static(headers::DOWNLOAD);
const LEAVING: HeaderName = HeaderName::from_static(headers::LEAVING);
const UNREACHABLE: HeaderName = HeaderName::from_static(headers::UNREACHABLE);

/// The balancer, as Pingora calls it.
pub(crate) struct Edge(pub(crate) Arc<Shared>);

#[async_trait]
impl ProxyHttp for Edge {
    type CTX = RequestContext;

    fn new_ctx(&self) -> RequestContext {
        RequestContext::new(&self.0)
    }

    fn init_downstream_modules(&self, _: &mut pingora::modules::http::HttpModules) {
        // Pingora's default compresses answers, which is the nodes' business.
    }

    fn on_connection_reuse(
        &self,
        _: &mut Session,
        context: &mut RequestContext,
        connection: Box<dyn Any + Send + Sync>,
    ) {
        // The listener hands every HTTP/1 request its connection this way.
        context.connection = connection.downcast::<Arc<Connection>>().ok().map(|connection| *connection);
        if let Some(connection) = &context.connection {
            connection.head_ended();
        }
    }

    async fn request_filter(&self, session: &mut Session, context: &mut RequestContext) -> Result<bool> {
        if self.0.stop.phase() > Phase::Serving {
            session.set_keepalive(None);
        }
        let prepared = match prepare::prepare(&self.0, session, context) {
            Ok(prepared) => prepared,
            Err(refusal) => {
                self.0.metrics.refused.with_label_values(&[refusal.code()]).inc();
                refuse(session, refusal).await?;
                return Ok(true);
            }
        };
        match prepared {
            prepare::Prepared::Health => {
                self.answer_health(session).await?;
                Ok(true)
            }
            prepare::Prepared::Tunnel => tunnel::open(&self.0, session, context).await,
            prepare::Prepared::Plain => Ok(false),
        }
    }

    async fn upstream_peer(&self, _: &mut Session, context: &mut RequestContext) -> Result<Box<HttpPeer>> {
        context.is_replaying = false;
        let target = match &mut context.route {
            Some(route) => route.next_target(&self.0).await,
            None => Err(Refusal::Internal),
        };
        match target {
            Ok(target) => {
                let mut peer = Box::new(target.peer.clone());
                // Another group finds none of the pooled connections, of which more may be dead.
                peer.group_key = u64::from(context.wants_new_connection);
                Ok(peer)
            }
            Err(refusal) => {
                context.refusal = Some(refusal);
                Err(Error::new_in(ErrorType::HTTPStatus(refusal.status())))
            }
        }
    }

    async fn connected_to_upstream(
        &self,
        _: &mut Session,
        _: bool,
        _: &HttpPeer,
        fd: RawFd,
        digest: Option<&Digest>,
        context: &mut RequestContext,
    ) -> Result<()> {
        let target = context.route.as_ref().and_then(|route| route.target.as_ref());
        context.wait = target.zip(digest).and_then(|(target, digest)| Wait::begin(target, fd, digest));
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        _: &mut Session,
        request: &mut RequestHeader,
        context: &mut RequestContext,
    ) -> Result<()> {
        if let Some(route) = &context.route {
            request.insert_header(KEY, route.key_value())?;
            if let Some(unreachable) = route.unreachable_value(&self.0) {
                request.insert_header(UNREACHABLE, unreachable)?;
            }
        }
        if let (Some(poll), Some(target)) =
            (&context.poll, context.route.as_ref().and_then(|route| route.target.as_ref()))
        {
            poll.goes_to(target, request.uri.query().unwrap_or_default());
        }
        if self.0.stop.phase() == Phase::Leaving {
            request.insert_header(LEAVING, HeaderValue::from_static("1"))?;
        }
        let prefix = &context.live.settings.path_prefix;
        if !prefix.is_empty()
            && let Some(target) = target_below_prefix(&request.uri, prefix)
        {
            request.set_uri(target);
        }
        if request.method == Method::GET && request.uri.path().starts_with(headers::CLIENTS_PATH) {
            request.insert_header(DOWNLOAD, HeaderValue::from_static("told"))?;
        }
        Ok(())
    }

    async fn request_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        _: bool,
        context: &mut RequestContext,
    ) -> Result<()> {
        context.body_bytes += body.as_ref().map_or(0, |body| body.len() as u64);
        if context.body_bytes > context.live.settings.limits.body_bytes_max {
            context.refusal = Some(Refusal::BodyTooLarge);
            return Err(Error::new_down(ErrorType::HTTPStatus(Refusal::BodyTooLarge.status())));
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        answer: &mut ResponseHeader,
        context: &mut RequestContext,
    ) -> Result<()> {
        if answer.status.is_informational() {
            return Ok(());
        }
        context.wait = None;
        let Some(route) = &mut context.route else { return Ok(()) };
        let (can_replay, is_safe) = (!session.retry_buffer_truncated(), session.req_header().method.is_safe());
        let heard = route.heard(&self.0, answer.status, &answer.headers, can_replay, is_safe);
        if heard != Ok(false) {
            context.is_replaying = true;
            context.body_bytes = 0;
            let mut again = Error::new_up(ErrorType::HTTPStatus(answer.status.as_u16()));
            again.set_retry(heard.is_ok());
            context.refusal = heard.err();
            return Err(again);
        }
        context.is_answered = true;
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        answer: &mut ResponseHeader,
        context: &mut RequestContext,
    ) -> Result<()> {
        if answer.status.is_informational() {
            return Ok(());
        }
        context.download = answer.remove_header(&DOWNLOAD).map(|value| Download::begin(value, session));
        for name in internal_headers(&answer.headers) {
            answer.remove_header(&name);
        }
        if !prepare::may_be_shared(&answer.headers)
            && let Some(cookie) = prepare::cookie_due(context)
        {
            answer.append_header(header::SET_COOKIE, cookie)?;
        }
        if context.live.settings.expose_node
            && let Some(target) = context.route.as_ref().and_then(|route| route.target.as_ref())
        {
            answer.insert_header(NODE, target.name.clone())?;
        }
        Ok(())
    }

    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        context: &mut RequestContext,
        mut error: Box<Error>,
    ) -> Box<Error> {
        if let Some(route) = &mut context.route {
            route.could_not_connect(&self.0, *error.etype() == ErrorType::ConnectRefused);
            error.set_retry(true);
        }
        error
    }

    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        context: &mut RequestContext,
        is_reused: bool,
    ) -> Box<Error> {
        context.wait = None;
        if context.is_replaying {
            return error;
        }
        // Pingora asks for an answer to this, whatever becomes of it.
        error.retry.decide_reuse(is_reused);
        let has_died = *error.esource() == ErrorSource::Upstream && *error.etype() != ErrorType::ReadTimedout;
        let can_repeat = may_be_repeated(&session.req_header().method) && !session.retry_buffer_truncated();
        let may_go_on = has_died
            && !context.is_answered
            && context.refusal.is_none()
            && context.route.as_mut().is_some_and(|route| route.died(&self.0, can_repeat));
        error.set_retry(may_go_on);
        if may_go_on {
            context.wants_new_connection = true;
            context.body_bytes = 0;
        }
        error
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, context: &mut RequestContext) -> FailToProxy {
        let refusal = context.refusal.or_else(|| refusal_for(error, context.is_answered));
        let has_answer = session.response_written().is_some_and(|answer| !answer.status.is_informational());
        let error_code = match refusal {
            Some(refusal) if !has_answer => {
                self.0.metrics.refused.with_label_values(&[refusal.code()]).inc();
                context.is_answered = false;
                session.set_keepalive(None);
                // A client that is gone cannot be told anything.
                if refuse(session, refusal).await.is_ok() { refusal.status() } else { 0 }
            }
            _ => 0,
        };
        FailToProxy { error_code, can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, context: &mut RequestContext) {
        if !context.is_tunnel {
            context.finish(&self.0, session);
        }
        if let (None, Some(download), Some(route)) = (error, context.download.take(), &context.route) {
            download.finish(&self.0, session, route, context.live.settings.timeouts.body).await;
        }
    }

    fn suppress_error_log(&self, _: &Session, _: &RequestContext, _: &Error) -> bool {
        // Pingora would log the request target, tokens included.
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _: &Session,
        _: &RequestContext,
        _: &Error,
        _: pingora_proxy::ProxyWarnLogContext,
    ) -> bool {
        true
    }

    fn request_summary(&self, session: &Session, _: &RequestContext) -> String {
        summary(session.req_header())
    }
}

impl Edge {
    /// `/ct-health/` of the balancer itself.
    async fn answer_health(&self, session: &mut Session) -> Result<()> {
        let (status, body) = crate::health::own_report(&self.0);
        respond(session, status, "application/json", Bytes::from(body), Vec::new()).await
    }
}

/// What Pingora's own log lines say of a request: its method and id. The path may hold a token, and so may the query.
fn summary(request: &RequestHeader) -> String {
    format!("{} {}", request.method, text(&request.headers, &REQUEST_ID).unwrap_or("-"))
}

/// What a client is told of an error, if it can be told anything.
fn refusal_for(error: &Error, is_answered: bool) -> Option<Refusal> {
    match (error.esource(), error.etype()) {
        _ if is_answered => None,
        (ErrorSource::Upstream, ErrorType::ReadTimedout | ErrorType::WriteTimedout) => Some(Refusal::NodeTimeout),
        (ErrorSource::Upstream, kind) if is_connect_failure(kind) => Some(Refusal::NoNode),
        (ErrorSource::Upstream, _) => Some(Refusal::NodeFailed),
        (ErrorSource::Downstream, ErrorType::ReadTimedout) => Some(Refusal::BodyTimeout),
        (ErrorSource::Downstream, ErrorType::WriteError | ErrorType::ReadError | ErrorType::ConnectionClosed) => None,
        (ErrorSource::Downstream, _) => Some(Refusal::Malformed),
        (ErrorSource::Internal | ErrorSource::Unset, _) => Some(Refusal::Internal),
    }
}

fn is_connect_failure(kind: &ErrorType) -> bool {
    matches!(
        kind,
        ErrorType::ConnectTimedout
            | ErrorType::ConnectRefused
            | ErrorType::ConnectNoRoute
            | ErrorType::ConnectError
            | ErrorType::ConnectProxyFailure
            | ErrorType::BindError
            | ErrorType::SocketError
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_holds_neither_path_nor_query() {
        let mut request = RequestHeader::build("POST", b"/api/login/poll/token?x-oct-jwt=secret", None).unwrap();
        assert_eq!(summary(&request), "POST -");
        request.insert_header(REQUEST_ID, "1f").unwrap();
        assert_eq!(summary(&request), "POST 1f");
    }
}

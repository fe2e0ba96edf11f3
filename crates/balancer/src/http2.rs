//! One HTTP/2 connection of a client, with the limits that are in force when it begins: Pingora's proxy takes them once.

use std::sync::Arc;

use async_trait::async_trait;
use ctedge_settings::BalancerSettings;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora::server::ShutdownWatch;
use pingora_proxy::HttpProxy;

use crate::proxy::Edge;

/// Requests that one HTTP/2 connection may have open.
const STREAMS_MAX: u32 = 128;

/// The proxy, as one connection sees it.
pub(crate) struct Http2 {
    proxy: Arc<HttpProxy<Edge>>,
    h2: H2Options,
    server: HttpServerOptions,
}

impl Http2 {
    pub(crate) fn new(proxy: Arc<HttpProxy<Edge>>, settings: &BalancerSettings) -> Self {
        let mut h2 = default_h2_options();
        h2.max_header_list_size(u32::try_from(settings.limits.header_bytes_max).unwrap_or(u32::MAX));
        h2.max_concurrent_streams(STREAMS_MAX);
        let mut server = HttpServerOptions::default();
        server.h2_idle_timeout = Some(settings.timeouts.keep_alive);
        Self { proxy, h2, server }
    }
}

#[async_trait]
impl HttpServerApp for Http2 {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        self.proxy.process_new_http(session, shutdown).await
    }

    fn h2_options(&self) -> Option<H2Options> {
        Some(self.h2.clone())
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.server)
    }
}

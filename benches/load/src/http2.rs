//! One HTTP/2 connection that carries several requests at a time.

use std::rc::Rc;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use h2::client::SendRequest;

use crate::http::Shared;

/// Runs a connection until the scenario is over.
pub(crate) async fn connection(shared: Rc<Shared>) {
    let result = async {
        let stream = shared.endpoint.connect().await?;
        let (requests, connection) = h2::client::handshake(stream).await.context("the HTTP/2 handshake failed")?;
        anyhow::Ok((requests, tokio::task::spawn_local(connection)))
    };
    let (requests, driver) = match result.await {
        Ok(connected) => connected,
        Err(error) => return shared.failed(0, &error),
    };
    let streams: Vec<_> = (0..shared.arguments.h2_streams.max(1))
        .map(|_| tokio::task::spawn_local(stream(shared.clone(), requests.clone())))
        .collect();
    for stream in streams {
        let _ = stream.await;
    }
    driver.abort();
}

/// One request after the other.
async fn stream(shared: Rc<Shared>, mut requests: SendRequest<Bytes>) {
    while let Some((key, due)) = shared.next().await {
        match exchange(&shared, &mut requests, key).await {
            Ok((status, body_bytes, node)) => shared.answered(key, due, status, body_bytes, &node),
            // The connection is gone, and with it every stream on it.
            Err(error) => return shared.failed(key, &error),
        }
    }
}

async fn exchange(shared: &Shared, requests: &mut SendRequest<Bytes>, key: usize) -> Result<(u16, u64, String)> {
    let request = shared.h2_request(key)?;
    std::future::poll_fn(|context| requests.poll_ready(context)).await?;
    let (response, _) = requests.send_request(request, true)?;
    let response = response.await?;
    let status = response.status().as_u16();
    let node = response.headers().get(&shared.arguments.common.node_header);
    let node = node.and_then(|node| node.to_str().ok()).unwrap_or_default().to_owned();
    let mut body = response.into_body();
    let mut body_bytes = 0;
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body_bytes += chunk.len() as u64;
        body.flow_control().release_capacity(chunk.len())?;
    }
    Ok((status, body_bytes, node))
}

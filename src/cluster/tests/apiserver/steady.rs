//! A client whose requests are sent again when the connection breaks under them, as happens when a
//! server that is busy starting, or restarted, closes connections that were kept open.

use std::time::Duration;

use http::{Request, Response};
use kube::Client;
use kube::client::Body;

/// Attempts at one request; a server that refuses connections for longer is down.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(100);

/// The client with new attempts.
pub(super) fn steady(client: Client) -> Client {
    let namespace = client.default_namespace().to_owned();
    let service = tower::service_fn(move |request| send(client.clone(), request));
    Client::new(service, namespace)
}

async fn send(
    client: Client,
    request: Request<Body>,
) -> Result<Response<Body>, Box<dyn std::error::Error + Send + Sync>> {
    let (parts, body) = request.into_parts();
    let body = body.collect_bytes().await?;
    let mut attempt = 1;
    loop {
        let request = Request::from_parts(parts.clone(), Body::from(body.clone()));
        match client.send(request).await {
            Err(_) if attempt < ATTEMPTS => tokio::time::sleep(PAUSE).await,
            outcome => return Ok(outcome?),
        }
        attempt += 1;
    }
}

//! What `deploy/` has: an API server accepts it, the controller's account may do what it must and
//! no more, the policies refuse and warn as meant, and the chart renders what kustomize does.

mod admission;
#[path = "../apiserver/mod.rs"]
mod apiserver;
mod manifests;
mod parity;
mod pod;
mod request;
mod rights;

use apiserver::ApiServer;
use kube::Client;
use manifests::Manifests;

type Failure = Box<dyn std::error::Error>;

/// Namespace of the controller, as deployed.
const NAMESPACE: &str = "smartnat-system";

#[tokio::test(flavor = "multi_thread")]
async fn the_deployment_holds_on_a_real_api_server() -> Result<(), Failure> {
    let Some(manifests) = manifests::kustomize("deploy/kustomize")? else { return Ok(()) };
    let Some(outside) = manifests::kustomize("deploy/systemd")? else { return Ok(()) };
    let Some(server) = ApiServer::find()? else { return Ok(()) };
    let client = server.client().await?;
    let outcome = deployed(&client, &manifests, &outside).await;
    outside.delete(&client).await?;
    // Of use where the server is not this test's own.
    let removed = manifests.delete(&client).await;
    outcome?;
    removed
}

async fn deployed(
    client: &Client,
    manifests: &Manifests,
    outside: &Manifests,
) -> Result<(), Failure> {
    manifests.apply(client).await?;
    outside.apply(client).await?;
    let mut wrong = manifests.with_typing_errors(client).await?;
    wrong.extend(rights::wrong(client).await?);
    wrong.extend(admission::wrong_warnings(client).await?);
    wrong.extend(admission::wrong_verdicts_on_the_controller(client).await?);
    manifests.clean_up(client).await?;
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n").into()) }
}

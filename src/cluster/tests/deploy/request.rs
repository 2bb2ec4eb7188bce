//! Single requests of which the warnings and the user matter.

use std::fmt;

use kube::Client;
use kube::client::Body;
use serde_json::Value;

use crate::Failure;

/// The controller's account, as the API server knows it.
pub(crate) const CONTROLLER: &str = "system:serviceaccount:smartnat-system:smartnat";

/// An account of the same name that has nothing to do with the controller.
pub(crate) const NAMESAKE: &str = "system:serviceaccount:default:smartnat";

/// What the server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) warnings: Vec<String>,
    /// What it said of an error.
    pub(crate) message: Option<String>,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = self.message.as_deref().unwrap_or_default();
        write!(f, "{} {message} {:?}", self.code, self.warnings)
    }
}

/// Sends a request, on behalf of `user` if one is named.
pub(crate) async fn send(
    client: &Client,
    request: kube::core::Request,
    build: impl FnOnce(kube::core::Request) -> Result<http::Request<Vec<u8>>, Failure>,
    user: Option<&str>,
) -> Result<Answer, Failure> {
    let mut request = build(request)?.map(Body::from);
    if let Some(user) = user {
        request.headers_mut().insert("Impersonate-User", user.parse()?);
    }
    let response = client.send(request).await?;
    let code = response.status().as_u16();
    let warnings = response.headers().get_all("warning").iter();
    let warnings = warnings.filter_map(|w| w.to_str().ok().map(str::to_owned)).collect();
    let body = response.into_body().collect_bytes().await?;
    let body: Value = serde_json::from_slice(&body)?;
    Ok(Answer { code, warnings, message: body["message"].as_str().map(str::to_owned) })
}

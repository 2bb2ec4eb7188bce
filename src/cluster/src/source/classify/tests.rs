use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use http::{Request, Response};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use kube::api::{Api, ListParams};
use kube::client::Body;
use serde_json::json;
use tokio::net::TcpListener;

use super::*;
use crate::source::trouble::{Verb, WatchedResource};

fn attempt(namespace: Option<&str>) -> Attempt {
    Attempt {
        verb: Verb::List,
        resource: WatchedResource::EndpointSlices,
        namespace: namespace.map(str::to_owned),
    }
}

async fn failure_of(client: Client) -> WatchTrouble {
    let api: Api<EndpointSlice> = Api::all(client);
    let error = api.list(&ListParams::default()).await.unwrap_err();
    Failure::of(&error, &attempt(None)).trouble(&attempt(None), 1)
}

/// A client whose every request is answered so.
fn answering(code: u16, body: &str) -> Client {
    let body = body.to_owned();
    let service = tower::service_fn(move |_: Request<Body>| {
        let response = Response::builder().status(code).body(Body::from(body.clone().into_bytes()));
        async move { response }
    });
    Client::new(service, "default")
}

fn status(code: u16, message: &str) -> String {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
        "message": message, "reason": "Whatever",
    });
    status.to_string()
}

#[tokio::test]
async fn answers_are_classified_by_their_code() {
    let forbidden = TroubleClass::Forbidden {
        verb: Verb::List,
        resource: "endpointslices.discovery.k8s.io".to_owned(),
        namespace: None,
    };
    for (code, class, mend) in [
        (401, TroubleClass::Unauthorized, "renew the token"),
        (
            403,
            forbidden,
            r#"{apiGroups: ["discovery.k8s.io"], resources: ["endpointslices"], verbs: ["get", "list", "watch"]}"#,
        ),
        (404, TroubleClass::NotInstalled, "install the definition"),
        (410, TroubleClass::Gone, "listing anew"),
        (500, TroubleClass::Other { code: Some(500) }, "cannot list endpointslices"),
        (503, TroubleClass::Other { code: Some(503) }, "cannot list endpointslices"),
    ] {
        // A message that would mislead whoever goes by text.
        let trouble = failure_of(answering(code, &status(code, "forbidden: not found"))).await;
        assert_eq!(trouble.class, class, "{code}");
        assert!(trouble.message.contains(mend), "{code}: {}", trouble.message);
        // A proxy between us and the server says it in its own words.
        let trouble = failure_of(answering(code, "<html>no</html>")).await;
        assert_eq!(trouble.class, class, "{code} without a Status");
    }
}

#[tokio::test]
async fn an_answer_that_is_no_list_is_something_else() {
    let trouble = failure_of(answering(200, "<html>Sign in</html>")).await;
    assert_eq!(trouble.class, TroubleClass::Other { code: None });
}

#[test]
fn a_role_of_a_namespace_is_named_as_such() {
    let attempt = attempt(Some("gateways"));
    let message = attempt.describe(&attempt.forbidden(), "403");
    assert!(message.contains("namespace gateways"), "{message}");
    assert!(message.contains("Role of that namespace"), "{message}");
}

#[tokio::test]
async fn a_server_may_ask_to_be_left_alone() {
    let status = json!({
        "kind": "Status", "status": "Failure", "code": 429, "message": "busy",
        "details": { "retryAfterSeconds": 7 },
    });
    let api: Api<EndpointSlice> = Api::all(answering(429, &status.to_string()));
    let error = api.list(&ListParams::default()).await.unwrap_err();
    assert_eq!(Failure::of(&error, &attempt(None)).retry_after, Some(7));
}

fn client_of(address: SocketAddr) -> Client {
    let mut config = kube::Config::new(format!("https://{address}").parse().unwrap());
    config.connect_timeout = Some(std::time::Duration::from_millis(500));
    config.read_timeout = Some(std::time::Duration::from_millis(500));
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

#[tokio::test]
async fn a_closed_port_a_hang_up_and_silence_are_unreachable() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    assert_eq!(failure_of(client_of(address)).await.class, TroubleClass::Unreachable);

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        drop(stream);
        let (silent, _) = listener.accept().await.unwrap();
        std::future::pending::<()>().await;
        drop(silent);
    });
    assert_eq!(failure_of(client_of(address)).await.class, TroubleClass::Unreachable);
    assert_eq!(failure_of(client_of(address)).await.class, TroubleClass::Unreachable);
    server.abort();
}

#[test]
fn errors_of_tls_are_told_apart() {
    let bad = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
    let refused = rustls::Error::AlertReceived(AlertDescription::UnknownCA);
    let broken = rustls::Error::AlertReceived(AlertDescription::InternalError);
    for (error, class) in [
        (bad, TroubleClass::Certificate),
        (refused, TroubleClass::Certificate),
        (broken, TroubleClass::Unreachable),
    ] {
        // As it arrives: wrapped by what reads from the connection, twice.
        let inner = io::Error::new(io::ErrorKind::InvalidData, error.clone());
        let outer = kube::Error::Service(Box::new(io::Error::other(inner)));
        assert_eq!(Failure::of(&outer, &attempt(None)).class, class, "{error}");
    }
}

#[test]
fn a_chain_of_causes_is_not_followed_for_ever() {
    let mut error = Arc::new(io::Error::other("innermost"));
    for _ in 0..100 {
        error = Arc::new(io::Error::other(error));
    }
    let error = kube::Error::Service(Box::new(error));
    assert_eq!(Failure::of(&error, &attempt(None)).class, TroubleClass::Unreachable);
}

#[test]
fn what_a_command_for_credentials_printed_is_not_told() {
    use std::os::unix::process::ExitStatusExt;
    let secret = "S3CR3T-of-this-test";
    let out = std::process::Output {
        status: std::process::ExitStatus::from_raw(3 << 8),
        stdout: secret.into(),
        stderr: secret.into(),
    };
    let error = AuthError::AuthExecRun { cmd: format!("plugin {secret}"), out: Box::new(out) };
    let failure = Failure::of(&kube::Error::Service(error.into()), &attempt(None));
    assert_eq!(failure.class, TroubleClass::Unauthorized);
    let message = failure.trouble(&attempt(None), 1).message;
    assert!(message.contains("exit status: 3") && !message.contains(secret), "{message}");
}

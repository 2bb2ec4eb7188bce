//! A client of the API server.

use std::env;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::client::AuthError;
use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use secrecy::ExposeSecret;
use thiserror::Error;

use super::secrets::{self, Place as At};

/// A server that does not take a connection in this time is down, for all we care.
const CONNECT: Duration = Duration::from_secs(5);
/// A connection that says nothing for this long is dead. Longer than a watch lasts, since one may
/// be silent to its end.
const READ: Duration = Duration::from_mins(5);
/// The server takes what is sent in no time, or the connection is dead.
const WRITE: Duration = Duration::from_secs(15);

/// The namespace that the kubeconfig or the service account names; `default` otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultNamespace(pub String);

/// Why there is no client. Neither what it says nor its `Debug` has any of the secrets that were
/// read.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// Nothing says where the API server is.
    #[error(
        "no kubeconfig: looked for {}; name one with KUBECONFIG or the setting for it, or run in \
         a pod with a service account", tried.join(", then ")
    )]
    NoKubeconfig {
        /// Where it was looked for, in this order.
        tried: Vec<String>,
    },
    /// The kubeconfig cannot be read.
    #[error("kubeconfig {}: {source}; check the path and its permissions", path.display())]
    Unreadable {
        /// Its path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The kubeconfig cannot be parsed. What is there may be secret and is not told.
    #[error(
        "kubeconfig {}{}: this is not the YAML of a kubeconfig; check it with: kubectl config view",
        path.display(), at.map(|at| format!(", {at}")).unwrap_or_default()
    )]
    Syntax {
        /// Its path.
        path: PathBuf,
        /// Where in it.
        at: Option<At>,
    },
    /// The kubeconfig makes no sense.
    #[error("kubeconfig {}: {source}; check it with: kubectl config view", path.display())]
    Invalid {
        /// Its path, or several.
        path: PathBuf,
        /// What is wrong.
        source: Box<KubeconfigError>,
    },
    /// A certificate or key that the kubeconfig holds or names cannot be used.
    #[error(
        "kubeconfig {}: {problem}; check certificate-authority(-data), client-certificate(-data) \
         and client-key(-data): PEM, in *-data encoded as base64", path.display()
    )]
    Certificates {
        /// Its path, or several.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A token cannot be sent.
    #[error(
        "kubeconfig {}: {field} has characters that no token has, for example a line break or a \
         space; check that it is the token alone, without a line break at its end", path.display()
    )]
    Token {
        /// Path of the kubeconfig, or several.
        path: PathBuf,
        /// The field that has it or names its file.
        field: String,
    },
    /// The kubeconfig says how to get credentials, and that does not work.
    #[error("kubeconfig {}: {problem}; check the user's entry, and try the command", path.display())]
    Credentials {
        /// Its path, or several.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The service account of the pod cannot be used.
    #[error(
        "in a pod, but its service account cannot be used: {source}; check \
         automountServiceAccountToken, or name a kubeconfig"
    )]
    InCluster {
        /// What is wrong.
        source: Box<InClusterError>,
    },
    /// The kubeconfig wants a proxy of a kind that is not supported.
    #[error("kubeconfig {}: proxy-url (or HTTPS_PROXY) names a proxy, which is not supported; \
             remove it", path.display())]
    Proxy {
        /// Its path, or several.
        path: PathBuf,
    },
    /// The client cannot be set up.
    #[error("client for {server}: {source}")]
    Client {
        /// Host and port of the server.
        server: String,
        /// What is wrong.
        source: Box<kube::Error>,
    },
}

/// Where to look.
#[derive(Debug, Default)]
struct Surroundings {
    kubeconfig: Option<OsString>,
    in_cluster: bool,
    home: Option<PathBuf>,
}

impl Surroundings {
    fn of_process() -> Self {
        Self {
            kubeconfig: env::var_os("KUBECONFIG").filter(|value| !value.is_empty()),
            in_cluster: env::var_os("KUBERNETES_SERVICE_HOST").is_some(),
            home: env::var_os("HOME").filter(|value| !value.is_empty()).map(PathBuf::from),
        }
    }
}

/// What says where the API server is.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Files(Vec<PathBuf>),
    InCluster,
}

/// Makes a client for the API server of `kubeconfig`, else of the environment variable
/// `KUBECONFIG`, else of the cluster that this process runs in, else of `~/.kube/config`. Nothing
/// is sent yet: whether the server can be reached is for [`super::follow`] to tell.
///
/// Requests are not repeated by the client; who sends them does that. A response that is no watch
/// should be given a time limit by who waits for it.
pub async fn connect(
    kubeconfig: Option<&Path>,
) -> Result<(Client, DefaultNamespace), ConnectError> {
    connect_from(kubeconfig, &Surroundings::of_process()).await
}

async fn connect_from(
    kubeconfig: Option<&Path>,
    surroundings: &Surroundings,
) -> Result<(Client, DefaultNamespace), ConnectError> {
    let (mut config, path) = match locate(kubeconfig, surroundings)? {
        Place::Files(paths) => from_files(&paths).await?,
        Place::InCluster => {
            let config = Config::incluster()
                .map_err(|source| ConnectError::InCluster { source: Box::new(source) })?;
            (config, PathBuf::from("of the service account"))
        }
    };
    if config.root_cert.as_ref().is_some_and(Vec::is_empty) {
        // Taken for "trust nobody", which would be found out at the first request only.
        return Err(ConnectError::Certificates { path, problem: "no CERTIFICATE in it".into() });
    }
    if let Err(field) = check_token(&mut config) {
        return Err(ConnectError::Token { path, field });
    }
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(READ);
    config.reset_reader_on_write = true;
    config.write_timeout = Some(WRITE);
    config.default_retry = false;
    let namespace = DefaultNamespace(config.default_namespace.clone());
    // Without a user and a password.
    let host = config.cluster_url.host().unwrap_or_default();
    let port = config.cluster_url.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
    let server = format!("{host}{port}");
    let command = config.auth_info.exec.as_ref().and_then(|exec| exec.command.clone());
    let client = Client::try_from(config).map_err(|error| match error {
        kube::Error::RustlsTls(source) => {
            ConnectError::Certificates { path, problem: secrets::of_tls(&source) }
        }
        // The client's certificate and key are looked into here only.
        kube::Error::InferKubeconfig(source) => of_file(source, &path),
        kube::Error::Auth(source) => of_auth(&source, path, command.as_deref()),
        // They have the user and the password of the proxy.
        kube::Error::ProxyProtocolUnsupported { .. }
        | kube::Error::ProxyProtocolDisabled { .. } => ConnectError::Proxy { path },
        other => ConnectError::Client { server, source: Box::new(other) },
    })?;
    Ok((client, namespace))
}

fn of_auth(error: &AuthError, path: PathBuf, command: Option<&str>) -> ConnectError {
    ConnectError::Credentials { path, problem: secrets::of_credentials(error, command) }
}

/// Makes the token one that can be sent: kube panics on any other. Fails with the field that has
/// it. A file is read again and again as it is, so in it a line break counts.
fn check_token(config: &mut Config) -> Result<(), String> {
    if let Some(token) = &config.auth_info.token {
        let trimmed = token.expose_secret().trim();
        if !can_be_sent(trimmed) {
            return Err("token".to_owned());
        }
        // An empty one is none.
        let trimmed = trimmed.to_owned();
        config.auth_info.token = (!trimmed.is_empty()).then(|| trimmed.into());
    }
    if config.auth_info.token.is_none()
        && let Some(file) = &config.auth_info.token_file
        // One that cannot be read is found by who uses it.
        && std::fs::read_to_string(file).is_ok_and(|token| !can_be_sent(&token))
    {
        return Err("the file of tokenFile".to_owned());
    }
    Ok(())
}

/// Whether a header may have this text as a token.
fn can_be_sent(token: &str) -> bool {
    token.bytes().all(|byte| byte.is_ascii_graphic())
}

fn locate(explicit: Option<&Path>, surroundings: &Surroundings) -> Result<Place, ConnectError> {
    if let Some(path) = explicit {
        return Ok(Place::Files(vec![path.to_owned()]));
    }
    if let Some(value) = &surroundings.kubeconfig {
        let paths = env::split_paths(value).filter(|path| !path.as_os_str().is_empty());
        return Ok(Place::Files(paths.collect()));
    }
    if surroundings.in_cluster {
        return Ok(Place::InCluster);
    }
    let mut tried =
        vec!["KUBECONFIG (not set)".to_owned(), "a service account (not in a pod)".to_owned()];
    match &surroundings.home {
        Some(home) => {
            let path = home.join(".kube/config");
            if path.exists() {
                return Ok(Place::Files(vec![path]));
            }
            tried.push(format!("{} (not there)", path.display()));
        }
        None => tried.push("~/.kube/config (HOME is not set)".to_owned()),
    }
    Err(ConnectError::NoKubeconfig { tried })
}

/// Reads kubeconfig files; of several, what an earlier one says holds.
async fn from_files(paths: &[PathBuf]) -> Result<(Config, PathBuf), ConnectError> {
    let mut merged = Kubeconfig::default();
    for path in paths {
        merged = Kubeconfig::read_from(path)
            .and_then(|next| merged.merge(next))
            .map_err(|error| of_file(error, path))?;
    }
    let path = match paths {
        [one] => one.clone(),
        several => env::join_paths(several).map_or_else(|_| PathBuf::new(), PathBuf::from),
    };
    let config = Config::from_custom_kubeconfig(merged, &KubeConfigOptions::default())
        .await
        .map_err(|error| of_file(error, &path))?;
    Ok((config, path))
}

fn of_file(error: KubeconfigError, path: &Path) -> ConnectError {
    let path = path.to_owned();
    if let Some(problem) = secrets::of_certificates(&error) {
        return ConnectError::Certificates { path, problem };
    }
    match error {
        KubeconfigError::Parse(error) => {
            let at = error.location().map(|at| At { line: at.line(), column: at.column() });
            ConnectError::Syntax { path, at }
        }
        KubeconfigError::ReadConfig(source, path) => ConnectError::Unreadable { path, source },
        other => ConnectError::Invalid { path, source: Box::new(other) },
    }
}

#[cfg(test)]
mod tests;

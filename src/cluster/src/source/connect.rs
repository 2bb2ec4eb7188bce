//! A client of the API server.

use std::env;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use thiserror::Error;

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

/// Why there is no client.
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
        "kubeconfig {}: {source}; check certificate-authority(-data), client-certificate(-data) \
         and client-key(-data): PEM, in *-data encoded as base64", path.display()
    )]
    Certificates {
        /// Its path, or several.
        path: PathBuf,
        /// What is wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
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
    /// The client cannot be set up.
    #[error("client for {server}: {source}")]
    Client {
        /// The server's address.
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
        return Err(ConnectError::Certificates { path, source: "no CERTIFICATE in it".into() });
    }
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(READ);
    config.reset_reader_on_write = true;
    config.write_timeout = Some(WRITE);
    config.default_retry = false;
    let namespace = DefaultNamespace(config.default_namespace.clone());
    let server = config.cluster_url.to_string();
    let client = Client::try_from(config).map_err(|error| match error {
        kube::Error::RustlsTls(source) => {
            ConnectError::Certificates { path, source: Box::new(source) }
        }
        other => ConnectError::Client { server, source: Box::new(other) },
    })?;
    Ok((client, namespace))
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
    match error {
        KubeconfigError::ReadConfig(source, path) => ConnectError::Unreadable { path, source },
        error @ (KubeconfigError::LoadCertificateAuthority(_)
        | KubeconfigError::LoadClientCertificate(_)
        | KubeconfigError::LoadClientKey(_)
        | KubeconfigError::ParseCertificates(_)) => {
            ConnectError::Certificates { path: path.to_owned(), source: Box::new(error) }
        }
        other => ConnectError::Invalid { path: path.to_owned(), source: Box::new(other) },
    }
}

#[cfg(test)]
mod tests;

//! What may be said of the errors of kubeconfigs and credentials: what is wrong and where, but never
//! what was read. The errors of kube quote the lines around a mistake and all that a command
//! printed, tokens and keys included.

use std::fmt::{self, Display};
use std::path::Path;

use kube::client::{AuthError, RustlsTlsError};
use kube::config::{KubeconfigError, LoadDataError};

/// A place in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// From 1.
    pub line: u64,
    /// From 1.
    pub column: u64,
}

impl Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// What is wrong with the certificates or the key of a kubeconfig; `None`: something else is.
pub(super) fn of_certificates(error: &KubeconfigError) -> Option<String> {
    Some(match error {
        KubeconfigError::LoadCertificateAuthority(error) => load("certificate-authority", error),
        KubeconfigError::LoadClientCertificate(error) => load("client-certificate", error),
        KubeconfigError::LoadClientKey(error) => load("client-key", error),
        KubeconfigError::ParseCertificates(_) => "certificate-authority is not PEM".to_owned(),
        _ => return None,
    })
}

fn load(field: &str, error: &LoadDataError) -> String {
    match error {
        LoadDataError::DecodeBase64(_) => format!("{field}-data is not base64"),
        LoadDataError::ReadFile(error, path) => format!("{field}: {}: {error}", shown(path)),
        LoadDataError::NoBase64DataOrFile => format!("{field}: {error}"),
    }
}

/// A path, unless it is the content that belongs in the file.
fn shown(path: &Path) -> String {
    let text = path.display().to_string();
    if text.contains(char::is_control) || text.contains("-----BEGIN") {
        return "(no path)".to_owned();
    }
    text
}

/// Likewise of an error of TLS.
pub(super) fn of_tls(error: &RustlsTlsError) -> String {
    match error {
        RustlsTlsError::InvalidIdentityPem(_) => {
            "the client certificate or its key is not PEM".to_owned()
        }
        other => other.to_string(),
    }
}

/// What is wrong with credentials. `command` is the one that makes them, where it is known; its
/// arguments, its environment and what it printed may be secret.
pub(super) fn of_credentials(error: &AuthError, command: Option<&str>) -> String {
    let command = match command {
        Some(command) => format!("the command {command}"),
        None => "the command".to_owned(),
    };
    match error {
        AuthError::AuthExecRun { out, .. } => {
            format!("{command} for credentials failed: {}", out.status)
        }
        AuthError::AuthExecStart(error) => {
            format!("{command} for credentials cannot be run: {error}")
        }
        AuthError::AuthExecParse(error) => match error.location() {
            Some(at) => format!(
                "{command} for credentials printed no ExecCredential: {}",
                Place { line: at.line(), column: at.column() }
            ),
            None => format!("{command} for credentials printed no ExecCredential"),
        },
        AuthError::MalformedTokenExpirationDate(_) => {
            "the time at which the credentials expire cannot be read".to_owned()
        }
        AuthError::ParseTokenKey(_) => format!("{command} for credentials printed no JSON"),
        AuthError::ReadTokenFile(error, path) => format!("tokenFile: {}: {error}", shown(path)),
        AuthError::InvalidBearerToken(_) => {
            "the token has characters that no header may have, for example a line break".to_owned()
        }
        other => other.to_string(),
    }
}

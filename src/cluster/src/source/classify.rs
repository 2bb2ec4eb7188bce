//! An error of a request → a class of trouble, by codes and types.

use std::error::Error;
use std::io;

use kube::client::AuthError;
use kube::core::Status;
use rustls::AlertDescription;

use super::secrets;
use super::trouble::{Attempt, TroubleClass, WatchTrouble};

/// No chain of causes is followed any deeper.
const DEEPEST: usize = 16;

/// A request that failed.
pub(super) struct Failure {
    pub(super) class: TroubleClass,
    detail: String,
    /// How long the server asks to be left alone.
    pub(super) retry_after: Option<u32>,
}

impl Failure {
    pub(super) fn of(error: &kube::Error, attempt: &Attempt) -> Self {
        if let kube::Error::Api(status) = error {
            return Self::of_status(status, attempt);
        }
        let class = match error {
            kube::Error::Auth(_) => TroubleClass::Unauthorized,
            kube::Error::SerdeError(_)
            | kube::Error::FromUtf8(_)
            | kube::Error::BuildRequest(_)
            | kube::Error::HttpError(_)
            | kube::Error::LinesCodecMaxLineLengthExceeded => TroubleClass::Other { code: None },
            other => of_connection(other),
        };
        Self { class, detail: text(error), retry_after: None }
    }

    pub(super) fn of_status(status: &Status, attempt: &Attempt) -> Self {
        let class = match status.code {
            401 => TroubleClass::Unauthorized,
            403 => attempt.forbidden(),
            404 => TroubleClass::NotInstalled,
            410 => TroubleClass::Gone,
            code => TroubleClass::Other { code: Some(code) },
        };
        let after = status.details.as_ref().map(|d| d.retry_after_seconds);
        let detail = format!("{}: {}", status.code, status.message.trim());
        Self { class, detail, retry_after: after.filter(|seconds| *seconds > 0) }
    }

    /// No answer in time.
    pub(super) fn timeout(after: std::time::Duration) -> Self {
        let detail = format!("no answer within {} s", after.as_secs());
        Self { class: TroubleClass::Unreachable, detail, retry_after: None }
    }

    /// Something that no error stands for.
    pub(super) fn of_class(class: TroubleClass, detail: String) -> Self {
        Self { class, detail, retry_after: None }
    }

    pub(super) fn trouble(self, attempt: &Attempt, failures: u32) -> WatchTrouble {
        let message = attempt.describe(&self.class, &self.detail);
        WatchTrouble { resource: attempt.resource, class: self.class, message, failures }
    }
}

/// The class of an error below HTTP.
fn of_connection(error: &(dyn Error + 'static)) -> TroubleClass {
    let mut class = TroubleClass::Unreachable;
    each_cause(error, &mut |cause| {
        if cause.is::<AuthError>() {
            class = TroubleClass::Unauthorized;
        } else if cause.downcast_ref::<rustls::Error>().is_some_and(is_about_certificates) {
            class = TroubleClass::Certificate;
        }
    });
    class
}

/// Visits an error and its causes. An [`io::Error`] tells the cause of what it wraps, not what it
/// wraps: that is looked into, too.
fn each_cause<'a>(
    error: &'a (dyn Error + 'static),
    visit: &mut impl FnMut(&'a (dyn Error + 'static)),
) {
    let mut next = Some(error);
    for _ in 0..DEEPEST {
        let Some(cause) = next else { return };
        visit(cause);
        let wrapped = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => cause.source(),
        };
    }
}

fn is_about_certificates(error: &rustls::Error) -> bool {
    match error {
        rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => true,
        rustls::Error::AlertReceived(alert) => matches!(
            alert,
            AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::CertificateRequired
                | AlertDescription::UnknownCA
                | AlertDescription::UnrecognisedName
        ),
        _ => false,
    }
}

/// The innermost cause says what happened; what wraps it says only where. What is below an error of
/// credentials may quote them, so whoever tells of an error of kube should tell this.
pub(crate) fn text(error: &(dyn Error + 'static)) -> String {
    let mut innermost = String::new();
    let mut of_credentials = None;
    each_cause(error, &mut |cause| {
        innermost = cause.to_string();
        if let Some(error) = cause.downcast_ref::<AuthError>() {
            of_credentials = Some(secrets::of_credentials(error, None));
        }
    });
    of_credentials.unwrap_or(innermost)
}

#[cfg(test)]
mod tests;

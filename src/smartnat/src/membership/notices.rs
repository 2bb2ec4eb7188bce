//! What coordination and the watches tell the operator of this host, without repeating it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use smartnat_cluster::source::{WatchTrouble, WatchedResource};
use smartnat_core::coordination::{LeaseName, Notice, Write, WriteError, Written};

use crate::monitor::Monitor;

/// The same trouble is told again after this time.
const REPEAT: Duration = Duration::from_mins(5);
/// Different troubles that are remembered; when there are more, they are told more often.
const MAX_REMEMBERED: usize = 100;

/// Remembers what was told.
#[derive(Debug)]
pub(super) struct Notices {
    told: BTreeMap<String, Instant>,
    monitor: Monitor,
}

impl Notices {
    pub(super) fn new(monitor: Monitor) -> Self {
        Self { told: BTreeMap::new(), monitor }
    }

    /// Something was written, or not.
    pub(super) fn written(&self, write: &Write, result: &Result<Written, WriteError>) {
        let metrics = self.monitor.metrics();
        let kind = match write {
            Write::Lease { .. } => "lease",
            Write::Entries { .. } | Write::Summary { .. } => "status",
            Write::Finalizers { .. } => "finalizer",
        };
        match result {
            Ok(_) => {
                metrics.api_write(kind, "ok");
                if matches!(write, Write::Lease { name: LeaseName::Instance(_), .. }) {
                    metrics.lease_renewed(SystemTime::now());
                }
            }
            Err(error) => {
                metrics.api_write(kind, class_of(error));
                metrics.api_error(class_of(error));
            }
        }
    }

    pub(super) fn relisted(&self, resource: WatchedResource) {
        self.monitor.metrics().watch_restarted(resource.plural());
        tracing::debug!(%resource, "listed anew");
    }

    pub(super) fn notice(&mut self, notice: &Notice) {
        if let Notice::Leading(leads) = notice {
            self.monitor.metrics().leader(*leads);
        }
        match notice {
            Notice::Joined => tracing::info!("this instance has its Lease"),
            Notice::Leading(true) => tracing::info!("this instance leads now"),
            Notice::Leading(false) => tracing::info!("this instance leads no more"),
            Notice::NameTaken { holder } => tracing::error!(
                holder,
                "another process renews the Lease of this instance's name, so nothing new is \
                 served here until it has ended for the time of a Lease; if both are to run, give \
                 one another name with --instance"
            ),
            Notice::TooManyAddresses(held) => tracing::error!(
                held,
                "this host holds more addresses than a Lease can tell; the last ones are not served"
            ),
            Notice::WriteFailed(write, error) => {
                let what = describe(write);
                let text = match error {
                    WriteError::Refused(text) | WriteError::Transient(text) => text.clone(),
                    WriteError::Conflict | WriteError::NotFound => return,
                };
                if self.is_news(format!("{what} {text}")) {
                    tracing::warn!("{what} can't be written, trying again: {text}");
                }
            }
        }
    }

    pub(super) fn event_failed(&mut self, error: &WriteError) {
        self.monitor.metrics().api_error(class_of(error));
        let text = match error {
            WriteError::Refused(text) | WriteError::Transient(text) => text.as_str(),
            WriteError::Conflict => "it was changed by others",
            WriteError::NotFound => "its namespace is gone",
        };
        if self.is_news(format!("event {text}")) {
            tracing::warn!("an event can't be written: {text}");
        }
    }

    pub(super) fn trouble(&mut self, trouble: &WatchTrouble) {
        let class = trouble.class.label();
        self.monitor.metrics().api_error(class);
        if self.is_news(format!("watch {} {class}", trouble.resource)) {
            tracing::warn!(resource = %trouble.resource, class, "{trouble}; trying again");
        }
    }

    pub(super) fn recovered(&mut self, resource: WatchedResource) {
        let prefix = format!("watch {resource} ");
        let before = self.told.len();
        self.told.retain(|key, _| !key.starts_with(&prefix));
        if self.told.len() < before {
            tracing::info!(%resource, "{resource}: followed again");
        }
    }

    fn is_news(&mut self, key: String) -> bool {
        let now = Instant::now();
        self.told.retain(|_, at| now.duration_since(*at) < REPEAT);
        if self.told.len() >= MAX_REMEMBERED {
            self.told.clear();
        }
        self.told.insert(key, now).is_none()
    }
}

fn class_of(error: &WriteError) -> &'static str {
    match error {
        WriteError::Conflict => "conflict",
        WriteError::NotFound => "not-found",
        WriteError::Refused(_) => "refused",
        WriteError::Transient(_) => "transient",
    }
}

fn describe(write: &Write) -> String {
    match write {
        Write::Lease { name: LeaseName::Leader, .. } => "the leader's Lease".into(),
        Write::Lease { .. } => "this instance's Lease".into(),
        Write::Entries { .. } => "entries in the status of Mappings".into(),
        Write::Summary { .. } => "the status of Mappings".into(),
        Write::Finalizers { .. } => "finalizers of Mappings".into(),
    }
}

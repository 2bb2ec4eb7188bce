//! What coordination and the watches tell the operator of this host, without repeating it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use smartnat_cluster::source::{WatchTrouble, WatchedResource};
use smartnat_cluster::write::{LEASE_LABEL, lease_name};
use smartnat_core::coordination::{LeaseName, Notice, Write, WriteError, Written};

use crate::monitor::Monitor;

/// The same trouble is told again after this time.
const REPEAT: Duration = Duration::from_mins(5);
/// Different troubles that are remembered; when there are more, they are told more often.
const MAX_REMEMBERED: usize = 100;

/// Who holds back readiness.
const LEASE: &str = "the Lease of this instance";

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

    /// A member is not ready before it has its Lease.
    pub(super) fn of_member(monitor: Monitor) -> Self {
        monitor.health().hold_back(LEASE, Some("it is not written yet".into()));
        Self::new(monitor)
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
        self.monitor_of(notice);
        match notice {
            Notice::Joined => tracing::info!("this instance has its Lease"),
            Notice::WatchBlind => tracing::warn!(
                "renewals of this instance's Lease are written, and its watch does not show them: \
                 opening all watches anew"
            ),
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
                    WriteError::Conflict => lasting_conflict(write),
                    WriteError::NotFound => lasting_absence(write).into(),
                };
                if self.is_news(format!("{what} {text}")) {
                    tracing::warn!("{what} can't be written, trying again: {text}");
                }
            }
        }
    }

    /// Leadership as a metric, and the own Lease as a condition of readiness.
    fn monitor_of(&self, notice: &Notice) {
        let hold_back = |why| self.monitor.health().hold_back(LEASE, why);
        match notice {
            Notice::Leading(leads) => self.monitor.metrics().leader(*leads),
            Notice::Joined => hold_back(None),
            Notice::NameTaken { holder } => {
                hold_back(Some(format!("{holder} has the Lease of this instance's name")));
            }
            _ => {}
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

fn lasting_conflict(write: &Write) -> String {
    match write {
        Write::Lease { name, .. } => {
            let lease = lease_name(name);
            format!(
                "Lease {lease} is there, but is changed by others or lacks the label {LEASE_LABEL}; \
                 look at it, and delete it if it is a leftover: kubectl delete lease {lease}"
            )
        }
        _ => "others change it again and again".into(),
    }
}

fn lasting_absence(write: &Write) -> &'static str {
    match write {
        Write::Entries { .. } | Write::Summary { .. } => {
            "the API server does not know a status of Mappings: the definition is an old one, apply \
             that of this version (smartnat crd)"
        }
        _ => "it is not there",
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

//! Status and events, told only when they change.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Event, EventKind, Output};
use crate::admit::{AdmittedMapping, Rejection};
use crate::compile::{Compiled, Outcome};
use crate::dataplane::Dataplane;
use crate::lint::Violation;
use crate::model::{ClusterState, Family, GatewayConfig, ObjectKey};
use crate::ops::OpError;
use crate::resolve::ResolvedPort;
use crate::status::{Condition, MappingStatus, PortStatus, StatusReport, UplinkStatus, reason};

/// Remembers what was told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Reporter {
    /// Of the latest compilation, as if it were in the kernel.
    draft: StatusReport,
    /// Why the latest compilation does not go to the kernel (T21: then it is not programmed).
    held_back: Option<String>,
    published: Option<StatusReport>,
    /// What of the draft may differ from what was published.
    news: News,
}

/// Mappings that there is something new to tell of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum News {
    /// All of them.
    #[default]
    Everything,
    /// These.
    Of(BTreeSet<ObjectKey>),
}

impl News {
    fn add(&mut self, key: ObjectKey) {
        if let Self::Of(keys) = self {
            keys.insert(key);
        }
    }

    fn take(&mut self) -> Self {
        std::mem::replace(self, Self::Of(BTreeSet::new()))
    }
}

impl Reporter {
    pub(super) fn latest(&self) -> Option<&StatusReport> {
        self.published.as_ref()
    }

    /// Takes note of a compilation; tells verdicts that are new.
    pub(super) fn compiled(
        &mut self,
        cluster: &ClusterState,
        compiled: Compiled,
        violations: &BTreeSet<Violation>,
    ) -> Vec<Event> {
        let Compiled { dataplane, admission, resolved, remarks, warnings } = compiled;
        let mut mappings = BTreeMap::new();
        let held = |key| dataplane.mappings.get(key).map(|plane| &plane.addresses);
        for (key, rejection) in &admission.rejected {
            let status = status(cluster, key, Err(rejection), None, &[]);
            mappings.insert(key.clone(), Arc::new(status));
        }
        for (key, mapping) in &admission.accepted {
            let notes = remarks.get(key).map_or(&[][..], Vec::as_slice);
            let verdict = Ok((mapping, &*resolved[key]));
            let status = status(cluster, key, verdict, held(key), notes);
            mappings.insert(key.clone(), Arc::new(status));
        }
        let before = |key| self.draft.mappings.get(key).map(|status| &**status);
        let events = mappings.iter().filter_map(|(key, s)| verdict(key, before(key), s));
        let events = events.collect();
        self.news = News::Everything;
        self.held_back = violations.first().map(ToString::to_string);
        self.draft = StatusReport {
            instance: String::new(),
            in_sync: true,
            read_back: true,
            degraded: warnings
                .into_iter()
                .chain(violations.iter().map(ToString::to_string))
                .collect(),
            unpublished: unpublished(&dataplane, cluster),
            uplinks: uplinks(&dataplane),
            mappings,
        };
        events
    }

    /// Takes note of Mappings that were compiled anew and of those that are gone, nothing held
    /// back; tells verdicts that are new.
    pub(super) fn recompiled(
        &mut self,
        cluster: &ClusterState,
        outcomes: BTreeMap<ObjectKey, Option<Outcome>>,
    ) -> Vec<Event> {
        let mut events = Vec::new();
        for (key, outcome) in outcomes {
            let Some(Outcome { verdict: outcome, held, remarks }) = outcome else {
                self.draft.mappings.remove(&key);
                self.news.add(key);
                continue;
            };
            let outcome = outcome.as_ref().map(|(mapping, resolved)| (mapping, &**resolved));
            let status = status(cluster, &key, outcome, Some(&held), &remarks);
            let before = self.draft.mappings.get(&key).map(|status| &**status);
            events.extend(verdict(&key, before, &status));
            self.draft.mappings.insert(key.clone(), Arc::new(status));
            self.news.add(key);
        }
        events
    }

    /// The status after a round, if it differs from the last.
    pub(super) fn publish(
        &mut self,
        config: &GatewayConfig,
        in_sync: bool,
        failures: &[OpError],
    ) -> Vec<Output> {
        let unprogrammed_since = match (&self.held_back, failures.first()) {
            (Some(violation), _) => Some((reason::PENDING, violation.clone())),
            (None, _) if in_sync => None,
            (None, Some(failure)) => Some((reason::KERNEL_ERROR, failure.to_string())),
            (None, None) => Some((reason::PENDING, "not read back yet".into())),
        };
        let mut head = StatusReport {
            instance: config.instance.clone(),
            in_sync: in_sync && self.draft.degraded.is_empty(),
            read_back: unprogrammed_since.is_none(),
            degraded: self.draft.degraded.clone(),
            uplinks: self.draft.uplinks.clone(),
            unpublished: self.draft.unpublished.clone(),
            mappings: BTreeMap::new(),
        };
        head.degraded.extend(failures.iter().map(ToString::to_string));
        match (self.news.take(), &unprogrammed_since, &mut self.published) {
            (News::Of(keys), None, Some(published)) if published.read_back => {
                update(published, head, &self.draft.mappings, keys)
            }
            _ => self.publish_everything(head, unprogrammed_since),
        }
    }

    fn publish_everything(
        &mut self,
        head: StatusReport,
        unprogrammed_since: Option<(&str, String)>,
    ) -> Vec<Output> {
        let mut report = StatusReport { mappings: self.draft.mappings.clone(), ..head };
        if let Some((why, detail)) = unprogrammed_since {
            for status in report.mappings.values_mut() {
                unprogrammed(Arc::make_mut(status), why, &detail);
            }
        }
        if self.published.as_ref() == Some(&report) {
            return Vec::new();
        }
        let before = self.published.take().map(|report| report.mappings).unwrap_or_default();
        let newly_programmed: Vec<Output> = report
            .mappings
            .iter()
            .filter(|(key, status)| {
                is_programmed(status) && !before.get(*key).is_some_and(is_programmed)
            })
            .map(|(key, _)| programmed(key))
            .collect();
        self.published = Some(report.clone());
        std::iter::once(Output::Status(Box::new(report))).chain(newly_programmed).collect()
    }
}

/// Updates what was published, of which these Mappings may have changed.
fn update(
    published: &mut StatusReport,
    head: StatusReport,
    now: &BTreeMap<ObjectKey, Arc<MappingStatus>>,
    keys: BTreeSet<ObjectKey>,
) -> Vec<Output> {
    let mappings = std::mem::take(&mut published.mappings);
    let mut changed = *published != head;
    *published = StatusReport { mappings, ..head };
    let mut newly_programmed = Vec::new();
    for key in keys {
        let (before, now) = (published.mappings.get(&key), now.get(&key));
        if before == now {
            continue;
        }
        changed = true;
        if now.is_some_and(is_programmed) && !before.is_some_and(is_programmed) {
            newly_programmed.push(programmed(&key));
        }
        match now {
            Some(status) => published.mappings.insert(key, Arc::clone(status)),
            None => published.mappings.remove(&key),
        };
    }
    if !changed {
        return Vec::new();
    }
    std::iter::once(Output::Status(Box::new(published.clone()))).chain(newly_programmed).collect()
}

fn is_programmed(status: &Arc<MappingStatus>) -> bool {
    status.conditions.iter().any(|c| c.kind == reason::PROGRAMMED && c.status)
}

fn programmed(key: &ObjectKey) -> Output {
    Output::Event(Event {
        kind: EventKind::Programmed,
        mapping: Some(key.clone()),
        message: "the dataplane was read back and serves it".into(),
    })
}

fn condition(kind: &str, status: bool, reason: &str, message: impl Into<String>) -> Condition {
    Condition { kind: kind.into(), status, reason: reason.into(), message: message.into() }
}

fn unprogrammed(status: &mut MappingStatus, why: &str, detail: &str) {
    status.released = false;
    for condition in &mut status.conditions {
        let told = condition.status || condition.reason == reason::REMOVED;
        if condition.kind == reason::PROGRAMMED && told {
            condition.status = false;
            condition.reason = why.into();
            condition.message = detail.into();
        }
    }
}

/// An event, if the verdict on a Mapping is new.
fn verdict(key: &ObjectKey, before: Option<&MappingStatus>, now: &MappingStatus) -> Option<Event> {
    if before.is_some_and(|before| before.invalid == now.invalid) {
        return None;
    }
    let valid = now.invalid == "no";
    Some(Event {
        kind: if valid { EventKind::Accepted } else { EventKind::Rejected },
        mapping: Some(key.clone()),
        message: if valid { "accepted".into() } else { now.invalid.clone() },
    })
}

/// Of a Mapping that is in the cluster, as if it were in the kernel. `held`: its addresses here.
fn status(
    cluster: &ClusterState,
    key: &ObjectKey,
    verdict: Result<(&AdmittedMapping, &[ResolvedPort]), &Rejection>,
    held: Option<&BTreeSet<IpAddr>>,
    remarks: &[String],
) -> MappingStatus {
    let written = cluster.mappings.get(key);
    let held: Vec<IpAddr> = held.into_iter().flatten().copied().collect();
    let status = match verdict {
        Err(rejection) => rejected(rejection, written.map_or(0, |m| m.generation)),
        Ok((mapping, resolved)) => {
            let service = cluster.services.get(&mapping.service);
            MappingStatus {
                service_vip: service.and_then(|s| s.cluster_ips.first().copied()),
                ..accepted(mapping, resolved, &held, remarks.to_vec())
            }
        }
    };
    MappingStatus {
        uid: written.map(|m| m.uid.clone()).unwrap_or_default(),
        released: held.is_empty(),
        ..status
    }
}

fn rejected(rejection: &Rejection, generation: i64) -> MappingStatus {
    let text = rejection.to_string();
    let why = match rejection {
        Rejection::Invalid(_) => reason::INVALID,
        Rejection::Conflict(_) => reason::CONFLICT,
    };
    MappingStatus {
        uid: String::new(),
        observed_generation: generation,
        invalid: text.clone(),
        service_vip: None,
        configured_addresses: BTreeMap::new(),
        conditions: vec![
            condition(reason::ACCEPTED, false, why, text),
            condition(
                reason::PROGRAMMED,
                false,
                reason::NOT_ACCEPTED,
                "the Mapping was not accepted",
            ),
        ],
        ports: Vec::new(),
        pods: Vec::new(),
        released: false,
        remarks: Vec::new(),
    }
}

fn accepted(
    mapping: &AdmittedMapping,
    resolved: &[ResolvedPort],
    held: &[IpAddr],
    remarks: Vec<String>,
) -> MappingStatus {
    let ports: Vec<PortStatus> =
        mapping.ports.iter().zip(resolved).map(|(p, r)| port_status(p, r, held)).collect();
    let programmed = if mapping.deleting {
        let text = "it is being deleted and the kernel holds nothing of it";
        condition(reason::PROGRAMMED, false, reason::REMOVED, text)
    } else if held.is_empty() {
        condition(
            reason::PROGRAMMED,
            false,
            reason::NO_INSTANCE,
            "no address of it is on an uplink of this host",
        )
    } else {
        let waiting: Vec<String> = ports
            .iter()
            .filter_map(|p| p.waiting.as_ref().map(|w| format!("{}: {w}", p.port)))
            .collect();
        if waiting.is_empty() {
            condition(reason::PROGRAMMED, true, reason::SERVING, "served")
        } else {
            condition(reason::PROGRAMMED, true, reason::WAITING, waiting.join("; "))
        }
    };
    let families: BTreeSet<Family> = mapping.addresses.iter().map(Family::of).collect();
    let pods: BTreeSet<IpAddr> = families
        .into_iter()
        .flat_map(|family| resolved.iter().flat_map(move |r| &r.families.of(family).active))
        .map(|endpoint| endpoint.address)
        .collect();
    let of_family =
        |a: &IpAddr| pods.iter().copied().filter(|p| Family::of(p) == Family::of(a)).collect();
    MappingStatus {
        uid: String::new(),
        observed_generation: mapping.generation,
        invalid: "no".into(),
        service_vip: None,
        configured_addresses: held.iter().map(|a| (*a, of_family(a))).collect(),
        conditions: vec![condition(reason::ACCEPTED, true, reason::VALID, "valid"), programmed],
        ports,
        pods: pods.into_iter().collect(),
        released: false,
        remarks,
    }
}

fn port_status(
    port: &crate::admit::AdmittedPort,
    resolved: &ResolvedPort,
    held: &[IpAddr],
) -> PortStatus {
    let endpoints = held
        .iter()
        .map(|a| {
            let active = &resolved.families.of(Family::of(a)).active;
            (*a, active.iter().map(ToString::to_string).collect())
        })
        .collect();
    PortStatus {
        port: format!("{}/{}", port.protocol, port.ports),
        endpoints,
        waiting: resolved.waiting.as_ref().map(ToString::to_string),
    }
}

fn unpublished(dataplane: &Dataplane, cluster: &ClusterState) -> Vec<IpAddr> {
    let held = dataplane.uplinks.values().flat_map(|uplink| &uplink.addresses);
    held.copied().filter(|address| !cluster.may_serve(*address)).collect()
}

fn uplinks(dataplane: &Dataplane) -> BTreeMap<String, UplinkStatus> {
    dataplane
        .uplinks
        .iter()
        .map(|(name, uplink)| {
            let status = UplinkStatus {
                number: uplink.number,
                addresses: uplink.addresses.clone(),
                gateways: uplink.gateways.values().copied().collect(),
                guarded: uplink.guarded,
            };
            (name.clone(), status)
        })
        .collect()
}

#[cfg(test)]
mod tests;

//! Status and events, told only when they change.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Event, EventKind, Output};
use crate::admit::{AdmittedMapping, Rejection};
use crate::compile::Compiled;
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
        for (key, rejection) in &admission.rejected {
            let generation = cluster.mappings.get(key).map_or(0, |m| m.generation);
            mappings.insert(key.clone(), rejected(rejection, generation));
        }
        for (key, mapping) in &admission.accepted {
            let notes = remarks.get(key).cloned().unwrap_or_default();
            let mut status = accepted(mapping, &resolved[key], &dataplane, notes);
            let service = cluster.services.get(&mapping.service);
            status.service_vip = service.and_then(|s| s.cluster_ips.first().copied());
            mappings.insert(key.clone(), status);
        }
        for (key, status) in &mut mappings {
            status.uid = cluster.mappings.get(key).map(|m| m.uid.clone()).unwrap_or_default();
            status.released = !dataplane.mappings.contains_key(key);
        }
        let events = verdicts(&self.draft.mappings, &mappings);
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

    /// The status after a round, if it differs from the last.
    pub(super) fn publish(
        &mut self,
        config: &GatewayConfig,
        in_sync: bool,
        failures: &[OpError],
    ) -> Vec<Output> {
        let mut report = self.draft.clone();
        report.instance.clone_from(&config.instance);
        report.in_sync = in_sync && report.degraded.is_empty();
        report.degraded.extend(failures.iter().map(ToString::to_string));
        let unprogrammed_since = match (&self.held_back, failures.first()) {
            (Some(violation), _) => Some((reason::PENDING, violation.clone())),
            (None, _) if in_sync => None,
            (None, Some(failure)) => Some((reason::KERNEL_ERROR, failure.to_string())),
            (None, None) => Some((reason::PENDING, "not read back yet".into())),
        };
        report.read_back = unprogrammed_since.is_none();
        if let Some((why, detail)) = unprogrammed_since {
            for status in report.mappings.values_mut() {
                unprogrammed(status, why, &detail);
            }
        }
        if self.published.as_ref() == Some(&report) {
            return Vec::new();
        }
        let newly_programmed = programmed(&report)
            .difference(&self.published.as_ref().map(programmed).unwrap_or_default())
            .map(|key| {
                Output::Event(Event {
                    kind: EventKind::Programmed,
                    mapping: Some(key.clone()),
                    message: "the dataplane was read back and serves it".into(),
                })
            })
            .collect::<Vec<_>>();
        self.published = Some(report.clone());
        std::iter::once(Output::Status(Box::new(report))).chain(newly_programmed).collect()
    }
}

fn programmed(report: &StatusReport) -> BTreeSet<ObjectKey> {
    let is_programmed =
        |s: &MappingStatus| s.conditions.iter().any(|c| c.kind == reason::PROGRAMMED && c.status);
    report.mappings.iter().filter(|(_, s)| is_programmed(s)).map(|(k, _)| k.clone()).collect()
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

fn verdicts(
    before: &BTreeMap<ObjectKey, MappingStatus>,
    now: &BTreeMap<ObjectKey, MappingStatus>,
) -> Vec<Event> {
    now.iter()
        .filter(|(key, status)| before.get(*key).is_none_or(|b| b.invalid != status.invalid))
        .map(|(key, status)| {
            let valid = status.invalid == "no";
            Event {
                kind: if valid { EventKind::Accepted } else { EventKind::Rejected },
                mapping: Some(key.clone()),
                message: if valid { "accepted".into() } else { status.invalid.clone() },
            }
        })
        .collect()
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
    dataplane: &Dataplane,
    remarks: Vec<String>,
) -> MappingStatus {
    let held: Vec<IpAddr> = dataplane
        .mappings
        .get(&mapping.key)
        .map(|plane| plane.addresses.iter().copied().collect())
        .unwrap_or_default();
    let ports: Vec<PortStatus> =
        mapping.ports.iter().zip(resolved).map(|(p, r)| port_status(p, r, &held)).collect();
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

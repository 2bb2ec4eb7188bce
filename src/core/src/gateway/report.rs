//! Status and events, told only when they change.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use litemap::LiteMap;
use serde::{Deserialize, Serialize};

use super::{Event, EventKind, Output};
use crate::admit::{AdmittedMapping, Rejection};
use crate::compile::{Compiled, Outcome};
use crate::dataplane::Dataplane;
use crate::lint::Violation;
use crate::model::{ClusterState, Family, GatewayConfig, ObjectKey};
use crate::ops::OpError;
use crate::packed::flat_map;
use crate::resolve::ResolvedPort;
use crate::status::{
    Condition, MappingStatus, MappingStatuses, PortStatus, StatusReport, UplinkStatus, reason,
};

/// Remembers what was told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Reporter {
    /// Of the latest compilation, as if it were in the kernel.
    draft: StatusReport,
    /// Why the latest compilation does not go to the kernel (T21: then it is not programmed).
    held_back: Option<String>,
    /// Shares with the draft what is in the kernel: a change costs what it changes.
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
        compiled: &Compiled,
        violations: &BTreeSet<Violation>,
    ) -> Vec<Event> {
        let Compiled { dataplane, admission, resolved, remarks, warnings } = compiled;
        let mut mappings = MappingStatuses::new();
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
        self.held_back = violations.first().map(ToString::to_string);
        self.draft = StatusReport {
            instance: String::new(),
            in_sync: true,
            read_back: true,
            degraded: warnings
                .iter()
                .cloned()
                .chain(violations.iter().map(ToString::to_string))
                .collect(),
            unpublished: unpublished(dataplane, cluster),
            uplinks: uplinks(dataplane),
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
                continue;
            };
            let outcome = outcome.as_ref().map(|(mapping, resolved)| (mapping, &**resolved));
            let status = status(cluster, &key, outcome, Some(&held), &remarks);
            let before = self.draft.mappings.get(&key).map(|status| &**status);
            events.extend(verdict(&key, before, &status));
            self.draft.mappings.insert(key, Arc::new(status));
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
        let mut report = StatusReport {
            instance: config.instance.clone(),
            in_sync: in_sync && self.draft.degraded.is_empty(),
            read_back: unprogrammed_since.is_none(),
            ..self.draft.clone()
        };
        report.degraded.extend(failures.iter().map(ToString::to_string));
        if let Some((why, detail)) = unprogrammed_since {
            let of = |status: &Arc<MappingStatus>| unprogrammed(status, why, &detail);
            report.mappings = report.mappings.iter().map(|(k, s)| (k.clone(), of(s))).collect();
        }
        let before = self.published.replace(report.clone());
        if before.as_ref() == Some(&report) {
            return Vec::new();
        }
        let before = before.unwrap_or_default();
        let newly_programmed: Vec<Output> = report
            .changes_since(&before)
            .filter(|(_, old, now)| {
                now.is_some_and(is_programmed) && !old.is_some_and(is_programmed)
            })
            .map(|(key, ..)| programmed(key))
            .collect();
        std::iter::once(Output::Status(Box::new(report))).chain(newly_programmed).collect()
    }
}

fn is_programmed(status: &MappingStatus) -> bool {
    status.conditions.iter().any(|c| c.kind == reason::PROGRAMMED && c.status)
}

fn programmed(key: &ObjectKey) -> Output {
    Output::Event(Event {
        kind: EventKind::Programmed,
        mapping: Some(key.clone()),
        message: "the dataplane was read back and serves it".into(),
    })
}

fn condition(
    kind: &'static str,
    status: bool,
    reason: &'static str,
    message: impl Into<Cow<'static, str>>,
) -> Condition {
    Condition { kind: kind.into(), status, reason: reason.into(), message: message.into() }
}

fn unprogrammed(status: &MappingStatus, why: &'static str, detail: &str) -> Arc<MappingStatus> {
    let mut status = MappingStatus { released: false, ..status.clone() };
    for condition in &mut status.conditions {
        let told = condition.status || condition.reason == reason::REMOVED;
        if condition.kind == reason::PROGRAMMED && told {
            condition.status = false;
            condition.reason = why.into();
            condition.message = detail.to_owned().into();
        }
    }
    Arc::new(status)
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
        configured_addresses: LiteMap::new(),
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
    let of_family = |a: &IpAddr| {
        let own = pods.iter().copied().filter(|p| Family::of(p) == Family::of(a));
        let mut own: Vec<IpAddr> = own.collect();
        own.shrink_to_fit();
        own
    };
    MappingStatus {
        uid: String::new(),
        observed_generation: mapping.generation,
        invalid: "no".into(),
        service_vip: None,
        configured_addresses: flat_map(held.iter().map(|a| (*a, of_family(a)))),
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
    let endpoints = flat_map(held.iter().map(|a| {
        let active = &resolved.families.of(Family::of(a)).active;
        (*a, active.iter().map(ToString::to_string).collect())
    }));
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

//! Why no Mapping has an external endpoint: what comes nearest.

use super::outcome::{Cause, Stage};
use super::route::holder;
use super::walk::{NAMED, Walk, listed};
use crate::admit::{AdmittedMapping, Rejection};
use crate::model::{Mapping, ObjectKey, PortRange, Protocol};

/// What comes nearest.
pub(super) struct Near {
    pub(super) cause: Cause,
    pub(super) text: String,
    pub(super) mend: String,
}

impl Walk<'_> {
    /// Rejected Mappings that want the external endpoint, with the first reason.
    pub(super) fn rejected_claims(&self) -> Vec<(ObjectKey, String)> {
        let rejected = self.compiled.admission.rejected.iter();
        let claims = rejected.filter(|(key, _)| {
            self.scene.cluster.mappings.get(*key).is_some_and(|m| self.claimed_port(m).is_some())
        });
        claims.map(|(key, why)| (key.clone(), reason(why).1)).take(NAMED).collect()
    }

    /// `; not to …`, for the headline.
    pub(super) fn losers_of_it(&self) -> String {
        let lost: Vec<ObjectKey> = self.rejected_claims().into_iter().map(|(key, _)| key).collect();
        if lost.is_empty() { String::new() } else { format!(", not as {} wants", listed(lost)) }
    }

    /// The position of the port of a raw Mapping that means the asked endpoint.
    fn claimed_port(&self, mapping: &Mapping) -> Option<usize> {
        let question = &self.question;
        if !self.has_address(mapping) {
            return None;
        }
        mapping.spec.ports.iter().position(|port| {
            let protocol = port.protocol.as_deref().filter(|p| !p.is_empty()).unwrap_or("tcp");
            let first = port.port.unwrap_or(0);
            let asked = i64::from(question.port);
            protocol.parse() == Ok(question.protocol)
                && (first..=port.end_port.unwrap_or(first)).contains(&asked)
        })
    }

    fn has_address(&self, mapping: &Mapping) -> bool {
        self.address_position(mapping).is_some()
    }

    fn address_position(&self, mapping: &Mapping) -> Option<usize> {
        let asked = self.question.destination;
        mapping.spec.addresses.iter().position(|a| a.parse() == Ok(asked))
    }

    /// What comes nearest, noted as responsible; `None`: nothing does.
    pub(super) fn nearest(&mut self) -> Option<Near> {
        let near = self
            .near_by_rejection()
            .or_else(|| self.near_by_deletion())
            .or_else(|| self.near_by_absence())
            .or_else(|| self.near_by_port())
            .or_else(|| self.near_by_address())?;
        self.stop(Stage::Mapping, near.text.clone());
        Some(near)
    }

    fn near_by_rejection(&mut self) -> Option<Near> {
        let scene = self.scene;
        let compiled = self.compiled;
        let (key, why, position) = compiled.admission.rejected.iter().find_map(|(key, why)| {
            let position = self.claimed_port(scene.cluster.mappings.get(key)?)?;
            Some((key, why, position))
        })?;
        let (field, text) = reason(why);
        self.mapping = Some(key.clone());
        self.field = Some(field.unwrap_or_else(|| format!("spec.ports[{position}]")));
        let near = match why {
            Rejection::Conflict(_) => Near {
                cause: Cause::Conflict,
                text: format!("{key}, which has {}, is rejected whole: {text}", self.asked()),
                mend: format!("choose another port or address in {key}, or delete one of the two"),
            },
            Rejection::Invalid(_) => Near {
                cause: Cause::InvalidMapping,
                text: format!("{key}, which has {}, is rejected: {text}", self.asked()),
                mend: format!("correct {key} (all its problems: `smartnat validate`)"),
            },
        };
        Some(near)
    }

    fn near_by_deletion(&mut self) -> Option<Near> {
        let scene = self.scene;
        let mut deleting = self.compiled.admission.accepted.iter().filter(|(_, m)| m.deleting);
        let (key, _) = deleting.find(|(key, _)| {
            scene.cluster.mappings.get(*key).is_some_and(|m| self.claimed_port(m).is_some())
        })?;
        self.mapping = Some(key.clone());
        Some(Near {
            cause: Cause::MappingDeleted,
            text: format!("{key}, which has {}, is being deleted", self.asked()),
            mend: "apply it again once it is gone".to_owned(),
        })
    }

    /// A Mapping lists the address, and no uplink of this host has it.
    fn near_by_absence(&mut self) -> Option<Near> {
        let address = self.question.destination;
        if self.is_external() {
            return None;
        }
        let scene = self.scene;
        let mappings = scene.cluster.mappings.values();
        let listing = mappings.filter_map(|m| Some((m, self.address_position(m)?)));
        let (mapping, position) =
            listing.min_by_key(|(m, _)| (self.claimed_port(m).is_none(), &m.key))?;
        self.mapping = Some(mapping.key.clone());
        self.field = Some(format!("spec.addresses[{position}]"));
        let uplinks = self.uplink_names();
        let (text, mend) = match holder(&scene.host, address) {
            Some(name) => (
                format!(
                    "{address} of {} is on {name}, which is no uplink ({uplinks})",
                    mapping.key
                ),
                format!("make {name} an uplink (--uplink {name}), or move the address to one"),
            ),
            None => (
                format!("{address} of {} is on no uplink of this host ({uplinks})", mapping.key),
                format!(
                    "ip address add {address}/PREFIX dev UPLINK, ask another instance's host, or correct spec.addresses"
                ),
            ),
        };
        Some(Near { cause: Cause::AddressNotHere, text, mend })
    }

    /// Mappings with the address on this host, by how near their ports are.
    fn near_by_port(&mut self) -> Option<Near> {
        let question = self.question.clone();
        let on_it = self.compiled.admission.accepted.values().filter(|m| {
            m.addresses.contains(&question.destination)
                && self.dataplane().mappings.contains_key(&m.key)
        });
        let mut ports: Vec<(u32, &AdmittedMapping, usize, Protocol, PortRange)> = on_it
            .flat_map(|m| m.ports.iter().enumerate().map(move |(i, p)| (m, i, p.protocol, p.ports)))
            .map(|(m, i, protocol, range)| {
                let away = if protocol == question.protocol { 0 } else { 1 << 16 };
                (away + distance(range, question.port), m, i, protocol, range)
            })
            .collect();
        ports.sort_by_key(|(distance, m, i, ..)| (*distance, &m.key, *i));
        let (_, nearest, position, ..) = ports.first()?;
        self.mapping = Some(nearest.key.clone());
        self.field = Some(format!("spec.ports[{position}]"));
        let near = listed(
            ports
                .iter()
                .map(|(_, m, _, protocol, range)| format!("{protocol}/{range} of {}", m.key)),
        );
        Some(Near {
            cause: Cause::PortNotMapped,
            text: format!("no Mapping has {} (nearest: {near})", self.asked()),
            mend: format!(
                "if {} is what you mean, add {} to spec.ports of a Mapping of the address, or correct the port",
                self.asked(),
                port_entry(question.port, question.protocol)
            ),
        })
    }

    fn near_by_address(&self) -> Option<Near> {
        let address = self.question.destination;
        self.is_external().then(|| Near {
            cause: Cause::AddressNotMapped,
            text: format!("no Mapping has the address {address}"),
            mend: format!("list {address} in spec.addresses of a Mapping"),
        })
    }

    fn is_external(&self) -> bool {
        let address = self.question.destination;
        self.dataplane().uplinks.values().any(|uplink| uplink.addresses.contains(&address))
    }
}

fn port_entry(port: u16, protocol: Protocol) -> String {
    format!("{{port: {port}, protocol: {protocol}}}")
}

fn distance(range: PortRange, port: u16) -> u32 {
    if range.contains(port) {
        0
    } else {
        u32::from(range.first().abs_diff(port).min(range.last().abs_diff(port)))
    }
}

/// The first reason of a rejection with its field.
fn reason(why: &Rejection) -> (Option<String>, String) {
    match why {
        Rejection::Invalid(problems) => problems
            .first()
            .map_or((None, String::new()), |p| (Some(p.field.clone()), p.to_string())),
        Rejection::Conflict(conflicts) => conflicts.first().map_or((None, String::new()), |c| {
            (None, format!("{} belongs to the older {}", c.endpoint(), c.winner))
        }),
    }
}

//! What a compilation knew, kept so that a change recompiles the Mappings that it touches and
//! no other. [`super::compile`] compiles all of them and is the reference.

mod egress;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use self::egress::EgressClaims;
use super::{Compiled, Places, mapping_plane};
use crate::admit::{AdmittedMapping, Claims, Problem, Rejection, check};
use crate::dataplane::{Change, Exit, MappingPlane, Moved};
use crate::model::{ClusterState, GatewayConfig, ObjectKey, References, Touched};
use crate::resolve::{ResolvedPort, ServiceIndex, resolve};

/// What later compilations on the same host need of earlier ones.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Kept {
    places: Places,
    claims: Claims,
    egress: EgressClaims,
}

/// What became of one Mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Admitted with its resolved ports, or why not.
    pub(crate) verdict: Result<(AdmittedMapping, Vec<ResolvedPort>), Rejection>,
    /// Its addresses on this host.
    pub(crate) held: BTreeSet<IpAddr>,
    /// Remarks that are no failure.
    pub(crate) remarks: Vec<String>,
}

/// What a change leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Update {
    /// What is to become of the dataplane.
    pub(crate) change: Change,
    /// Mappings of which there is something to tell; `None`: it is gone.
    pub(crate) outcomes: BTreeMap<ObjectKey, Option<Outcome>>,
}

type Checked = Result<AdmittedMapping, Vec<Problem>>;

/// What Mappings are compiled from.
#[derive(Clone, Copy)]
struct Sources<'a> {
    cluster: &'a ClusterState,
    references: &'a References,
    config: &'a GatewayConfig,
}

impl Kept {
    /// After a compilation of everything.
    pub(crate) fn new(cluster: &ClusterState, config: &GatewayConfig, compiled: &Compiled) -> Self {
        let mut claims = Claims::default();
        for mapping in compiled.admission.accepted.values() {
            claims.adopt(mapping, true);
        }
        for (key, rejection) in &compiled.admission.rejected {
            // They claim in vain, until the winner goes.
            if matches!(rejection, Rejection::Conflict(_))
                && let Some(mapping) = cluster.mappings.get(key)
                && let Ok(valid) = check(mapping, cluster.service(&mapping.service()), config)
            {
                claims.adopt(&valid, false);
            }
        }
        claims.pack();
        let places = Places::of(cluster, &compiled.dataplane.uplinks);
        let mut egress = EgressClaims::default();
        for (key, mapping) in &compiled.admission.accepted {
            egress.replace(key, Some((mapping, &compiled.resolved[key], &places)));
        }
        egress.take_moves();
        Self { places, claims, egress }
    }

    /// Recompiles what is touched.
    pub(crate) fn update(
        &mut self,
        cluster: &ClusterState,
        references: &References,
        config: &GatewayConfig,
        touched: &Touched,
    ) -> Update {
        let from = Sources { cluster, references, config };
        let of_services = touched.services.iter().flat_map(|service| references.mappings(service));
        let mut affected: BTreeSet<ObjectKey> =
            touched.mappings.iter().chain(of_services).cloned().collect();
        let mut checked = BTreeMap::new();
        for key in &affected {
            let verdict = from.check(key);
            self.claims.replace(key, verdict.as_ref().and_then(|v| v.as_ref().ok()));
            checked.insert(key.clone(), verdict);
        }
        affected.extend(self.claims.settle());

        let mut update = Update::default();
        for key in affected {
            let verdict = checked.remove(&key).unwrap_or_else(|| from.check(&key));
            let outcome = verdict.map(|verdict| self.outcome(from, &key, verdict));
            let accepted = outcome.as_ref().and_then(|outcome| outcome.verdict.as_ref().ok());
            self.egress.replace(&key, accepted.map(|(m, resolved)| (m, &**resolved, &self.places)));
            let plane = accepted.and_then(|(m, resolved)| self.plane(m, resolved));
            update.change.mappings.insert(key.clone(), plane);
            update.outcomes.insert(key, outcome);
        }
        self.move_pods(from, &mut update);
        for (key, outcome) in &mut update.outcomes {
            let Some(outcome) = outcome else { continue };
            let served = outcome.verdict.as_ref().ok().filter(|(m, _)| !m.deleting);
            let unserved = served.map(|(m, _)| self.places.remarks(m)).unwrap_or_default();
            outcome.remarks = unserved.into_iter().chain(self.egress.remarks(key)).collect();
            if served.is_some() {
                outcome.held = self.held(outcome);
            }
        }
        update
    }

    /// Where another Mapping came to own a pod's egress, all that want it have something to tell.
    fn move_pods(&mut self, from: Sources<'_>, update: &mut Update) {
        for (pod, before) in self.egress.take_moves() {
            let now = self.egress.owner(pod);
            if before == now {
                continue;
            }
            for key in self.egress.wanting(pod) {
                if !update.outcomes.contains_key(key) {
                    let outcome = from.check(key).map(|v| self.outcome(from, key, v));
                    update.outcomes.insert(key.clone(), outcome);
                }
            }
            let exit = |owner: Option<(ObjectKey, IpAddr)>| {
                let (_, address) = owner?;
                let uplink = self.places.held.get(&address)?.clone();
                Some(Exit { address, uplink })
            };
            update.change.pods.insert(pod, Moved { from: exit(before), to: exit(now) });
        }
    }

    fn outcome(&self, from: Sources<'_>, key: &ObjectKey, verdict: Checked) -> Outcome {
        let verdict = match verdict {
            Err(problems) => Err(Rejection::Invalid(problems)),
            Ok(mapping) if self.claims.owns(key) => {
                let resolved = from.resolve(&mapping);
                Ok((mapping, resolved))
            }
            Ok(_) => Err(Rejection::Conflict(self.claims.conflicts(key))),
        };
        Outcome { verdict, held: BTreeSet::new(), remarks: Vec::new() }
    }

    fn held(&self, outcome: &Outcome) -> BTreeSet<IpAddr> {
        let addresses = outcome.verdict.iter().flat_map(|(mapping, _)| &mapping.addresses);
        addresses.copied().filter(|address| self.places.held.contains_key(address)).collect()
    }

    fn plane(&self, mapping: &AdmittedMapping, resolved: &[ResolvedPort]) -> Option<MappingPlane> {
        if mapping.deleting { None } else { mapping_plane(mapping, resolved, &self.places) }
    }
}

impl Sources<'_> {
    /// `None`: there is no such Mapping.
    fn check(self, key: &ObjectKey) -> Option<Checked> {
        let mapping = self.cluster.mappings.get(key)?;
        Some(check(mapping, self.cluster.service(&mapping.service()), self.config))
    }

    fn resolve(self, mapping: &AdmittedMapping) -> Vec<ResolvedPort> {
        let slices = self.references.slices(&mapping.service);
        let slices = slices.filter_map(|key| self.cluster.slices.get(key).map(|slice| &**slice));
        let index = ServiceIndex::of(self.cluster, slices);
        mapping.ports.iter().map(|port| resolve(&index, mapping, port)).collect()
    }
}

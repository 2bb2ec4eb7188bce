//! Admission, compilation and lowering of any cluster.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use smartnat_core::admit::{Admission, AdmittedMapping, Rejection, admit, check};
use smartnat_core::compile::{UplinkNumbers, compile};
use smartnat_core::lint::lint;
use smartnat_core::lower::lower;
use smartnat_core::model::{ClusterState, GatewayConfig, PortRange, Protocol};
use smartnat_core::objects::KernelState;

use super::choices::Choices;
use super::{host, objects};

/// Admits whatever Mappings there are: each is accepted or rejected, an external endpoint has one
/// owner and that is the oldest (T19, P3), and what is compiled from it has no violation.
pub fn admission(data: &[u8]) {
    let c = &mut Choices::new(data);
    let config = host::config(c);
    let kernel = host::kernel(c);
    let mut cluster = objects::cluster(c, 12);
    for _ in 0..c.below(4) {
        let mapping = objects::wild_mapping(c);
        cluster.mappings.insert(mapping.key.clone(), Arc::new(mapping));
    }
    let admission = admit(&cluster, &config);
    assert_complete(&cluster, &admission);
    assert_oldest_own(&cluster, &config, &admission);

    let host = kernel.host();
    let compiled =
        compile(&cluster, &host, &config, &UplinkNumbers::new(), &KernelState::default());
    assert_eq!(compiled.admission, admission, "two admissions of one cluster agree");
    let violations = lint(&compiled.dataplane);
    assert!(violations.is_empty(), "what is compiled keeps the invariants: {violations:?}");
    let _ = lower(&compiled.dataplane, config.backend);
}

/// Each Mapping has one verdict, and a rejection says why.
fn assert_complete(cluster: &ClusterState, admission: &Admission) {
    for key in cluster.mappings.keys() {
        let accepted = admission.accepted.contains_key(key);
        let rejected = admission.rejected.contains_key(key);
        assert!(accepted != rejected, "{key} is accepted: {accepted}, rejected: {rejected}");
    }
    let verdicts = admission.accepted.len() + admission.rejected.len();
    assert_eq!(verdicts, cluster.mappings.len(), "no verdict without a Mapping");
    for (key, rejection) in &admission.rejected {
        let reasons = match rejection {
            Rejection::Invalid(problems) => problems.len(),
            Rejection::Conflict(problems) => problems.len(),
        };
        assert!(reasons > 0 && !rejection.to_string().is_empty(), "{key} is told why");
    }
}

/// By age, each Mapping gets all its endpoints if none of them is taken.
fn assert_oldest_own(cluster: &ClusterState, config: &GatewayConfig, admission: &Admission) {
    let mut valid: Vec<AdmittedMapping> = cluster
        .mappings
        .values()
        .filter_map(|mapping| {
            let service = mapping.service();
            check(mapping, cluster.service(&service), config).ok()
        })
        .collect();
    valid.sort_by_key(|m| (m.created.map_or(u64::MAX, |t| t.0), m.key.clone()));
    let mut taken: BTreeMap<(IpAddr, Protocol), Vec<PortRange>> = BTreeMap::new();
    for mapping in valid {
        let mut endpoints = Vec::new();
        for address in &mapping.addresses {
            endpoints.extend(mapping.ports.iter().map(|p| ((*address, p.protocol), p.ports)));
        }
        let free = endpoints.iter().all(|(key, ports)| {
            taken.get(key).is_none_or(|ranges| ranges.iter().all(|r| !r.overlaps(*ports)))
        });
        assert_eq!(free, admission.accepted.contains_key(&mapping.key), "{}", mapping.key);
        if free {
            for (key, ports) in endpoints {
                taken.entry(key).or_default().push(ports);
            }
        }
    }
}

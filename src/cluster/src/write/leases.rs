//! Leases as objects.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff;
use smartnat_core::coordination::{LeaseName, Write};

use super::names::lease_name;

/// Label of our Leases; its value tells what for.
pub const LEASE_LABEL: &str = "smartnat.aureacentral.com/lease";
/// Annotation with the name of the instance.
pub(super) const INSTANCE: &str = "smartnat.aureacentral.com/instance";
/// Annotation with the external addresses that the instance holds, separated by commas.
pub(super) const ADDRESSES: &str = "smartnat.aureacentral.com/addresses";
pub(super) const OF_INSTANCE: &str = "instance";
pub(super) const OF_LEADER: &str = "leader";

/// Selects our Leases.
pub fn lease_selector() -> String {
    LEASE_LABEL.into()
}

/// The Lease of a write.
pub(super) fn lease(write: &Write) -> Option<Lease> {
    let Write::Lease { name, replaces, holder, duration_millis, addresses } = write else {
        return None;
    };
    let (kind, annotations) = match name {
        LeaseName::Leader => (OF_LEADER, None),
        LeaseName::Instance(instance) => (OF_INSTANCE, Some(annotations(instance, addresses))),
    };
    Some(Lease {
        metadata: ObjectMeta {
            name: Some(lease_name(name)),
            resource_version: replaces.clone(),
            labels: Some([(LEASE_LABEL.to_owned(), kind.to_owned())].into()),
            annotations,
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: (!holder.is_empty()).then(|| holder.clone()),
            lease_duration_seconds: Some(seconds(*duration_millis)),
            renew_time: Some(MicroTime(jiff::Timestamp::now())),
            ..LeaseSpec::default()
        }),
    })
}

/// Whole seconds, at least one.
fn seconds(millis: u64) -> i32 {
    i32::try_from(millis.div_ceil(1_000).max(1)).unwrap_or(i32::MAX)
}

fn annotations(instance: &str, addresses: &BTreeSet<IpAddr>) -> BTreeMap<String, String> {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    [(INSTANCE.to_owned(), instance.to_owned()), (ADDRESSES.to_owned(), addresses.join(","))].into()
}

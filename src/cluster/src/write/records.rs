//! Objects of the API server → what coordination reads of them.

use std::net::IpAddr;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use smartnat_core::coordination::{
    AddressEntry, LeaseName, LeaseRecord, MappingRecord, StatusCondition, Summary, Truth,
};

use super::leases::{ADDRESSES, INSTANCE, LEASE_LABEL, OF_INSTANCE, OF_LEADER};
use crate::api::{Mapping, MappingStatus};
use crate::convert::{ConversionError, object_key, timestamp};

/// A Lease of ours; `None` for any other. An address that can't be read is left out.
pub fn lease_record(lease: &Lease) -> Option<(LeaseName, LeaseRecord)> {
    let metadata = &lease.metadata;
    let label = metadata.labels.as_ref()?.get(LEASE_LABEL)?;
    let annotation = |name: &str| metadata.annotations.as_ref().and_then(|a| a.get(name));
    let name = match label.as_str() {
        OF_LEADER => LeaseName::Leader,
        OF_INSTANCE => LeaseName::Instance(annotation(INSTANCE)?.clone()),
        _ => return None,
    };
    let spec = lease.spec.clone().unwrap_or_default();
    let addresses = annotation(ADDRESSES).map(String::as_str).unwrap_or_default();
    let seconds = spec.lease_duration_seconds.unwrap_or_default();
    let record = LeaseRecord {
        holder: spec.holder_identity.unwrap_or_default(),
        renewed: spec.renew_time.map(|t| t.0.to_string()).unwrap_or_default(),
        duration_millis: u64::try_from(seconds).unwrap_or_default() * 1_000,
        addresses: addresses.split(',').filter_map(|a| a.trim().parse().ok()).collect(),
        version: metadata.resource_version.clone().unwrap_or_default(),
    };
    Some((name, record))
}

/// What coordination reads of a Mapping.
pub fn mapping_record(mapping: &Mapping) -> Result<MappingRecord, ConversionError> {
    let metadata = &mapping.metadata;
    object_key(metadata)?;
    let status = mapping.status.clone().unwrap_or_default();
    let entries = status.addresses.iter().filter_map(|entry| {
        Some(AddressEntry {
            address: entry.address.parse().ok()?,
            instance: entry.instance.clone(),
            conditions: entry.conditions.iter().map(condition).collect(),
        })
    });
    Ok(MappingRecord {
        uid: metadata.uid.clone().unwrap_or_default(),
        version: metadata.resource_version.clone().unwrap_or_default(),
        generation: metadata.generation.unwrap_or_default(),
        deleting: metadata.deletion_timestamp.is_some(),
        finalizers: metadata.finalizers.clone().unwrap_or_default(),
        addresses: mapping.spec.addresses.iter().filter_map(|a| a.trim().parse().ok()).collect(),
        entries: entries.collect(),
        summary: summary(&status),
    })
}

fn summary(status: &MappingStatus) -> Summary {
    let parse = |text: &String| text.parse::<IpAddr>().ok();
    Summary {
        invalid: status.invalid.clone(),
        service_vip: status.service_vip.as_ref().and_then(parse),
        configured_addresses: status
            .configured_addresses
            .iter()
            .filter_map(|(address, c)| {
                Some((address.parse().ok()?, c.pod_ips.iter().filter_map(parse).collect()))
            })
            .collect(),
        observed_generation: status.observed_generation,
        endpoints: status.endpoints,
        conditions: status.conditions.iter().map(condition).collect(),
    }
}

fn condition(condition: &Condition) -> StatusCondition {
    StatusCondition {
        kind: condition.type_.clone(),
        truth: match condition.status.as_str() {
            "True" => Truth::True,
            "False" => Truth::False,
            _ => Truth::Unknown,
        },
        reason: condition.reason.clone(),
        message: condition.message.clone(),
        generation: condition.observed_generation.unwrap_or_default(),
        since: timestamp(&condition.last_transition_time),
    }
}

//! `status` of a Mapping.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the gateways made of the Mapping. The entries of addresses belong to the gateways
/// that they name, everything else to the elected leader.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct MappingStatus {
    /// "no", or why the Mapping was rejected. Kept for manifests and scripts of the Go version;
    /// the condition Accepted says the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invalid: Option<String>,

    /// First cluster address of the Service. Absent for a headless or missing Service.
    #[serde(rename = "serviceVIP", default, skip_serializing_if = "Option::is_none")]
    pub service_vip: Option<String>,

    /// Pods behind each external address that a gateway holds, by external address.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub configured_addresses: BTreeMap<String, ConfiguredAddress>,

    /// Generation of the Mapping that invalid, serviceVIP, configuredAddresses, endpoints and
    /// conditions are about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Number of endpoints that get new connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<i64>,

    /// Accepted: the Mapping is valid and owns its external endpoints. Programmed: some gateway
    /// was read back and serves this generation, and none fails.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// One entry for each external address and each gateway instance that holds it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["address".into(), "instance".into()]))]
    pub addresses: Vec<AddressStatus>,
}

/// Pods behind one external address.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfiguredAddress {
    /// Addresses of the pods that get new connections.
    #[serde(rename = "podIPs", default, skip_serializing_if = "Vec::is_empty")]
    pub pod_ips: Vec<String>,
}

/// What one gateway instance says of one external address that it holds.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AddressStatus {
    /// The external address.
    pub address: String,

    /// Name of the gateway instance that holds it.
    pub instance: String,

    /// Programmed: the dataplane of this instance was read back and serves observedGeneration
    /// of the condition.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

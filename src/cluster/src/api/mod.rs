//! The `Mapping` API: `smartnat.aureacentral.com/v1alpha1`.

#![allow(unreachable_pub, reason = "the derive of the schema makes public copies of the types")]
#![allow(clippy::duplicated_attributes, reason = "columns of the definition have equal types")]
#![allow(clippy::doc_markdown, reason = "these comments are what kubectl explain prints")]

mod crd;
mod lenient;
mod schema;
mod status;

pub use crd::{CRD_FILE, crd, crd_yaml};
pub use status::{AddressStatus, ConfiguredAddress, MappingStatus};

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};
use smartnat_core::model::PortReference;

/// API group.
pub const GROUP: &str = "smartnat.aureacentral.com";
/// The only version.
pub const VERSION: &str = "v1alpha1";
/// Kind.
pub const KIND: &str = "Mapping";
/// `apiVersion` of a Mapping.
pub const API_VERSION: &str = "smartnat.aureacentral.com/v1alpha1";
pub use smartnat_core::coordination::FINALIZER;

/// What is exposed: external addresses and ports, to whom, and which Service answers.
// Fields that the API server requires have a default here: the core's admission names all
// that is missing in a manifest at once, where a parser would stop at the first.
#[derive(
    CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq,
)]
#[kube(
    group = "smartnat.aureacentral.com",
    version = "v1alpha1",
    kind = "Mapping",
    plural = "mappings",
    namespaced,
    shortname = "map",
    category = "all",
    category = "smartnat",
    status = "MappingStatus",
    derive = "PartialEq",
    doc = "Mapping exposes ports of a Service on external addresses of SmartNat gateways: traffic to these addresses on these ports, from these sources, goes to the endpoints of this Service.",
    printcolumn(
        name = "Service",
        type_ = "string",
        json_path = ".spec.serviceName",
        description = "Service that answers."
    ),
    printcolumn(
        name = "Addresses",
        type_ = "string",
        json_path = ".spec.addresses",
        description = "External addresses."
    ),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Accepted\")].status",
        description = "Whether the Mapping is valid and owns its external endpoints."
    ),
    printcolumn(
        name = "Programmed",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Programmed\")].status",
        description = "Whether a gateway was read back and serves it."
    ),
    printcolumn(
        name = "Endpoints",
        type_ = "integer",
        json_path = ".status.endpoints",
        description = "Number of endpoints that get new connections."
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::mapping_spec)]
pub struct MappingSpec {
    /// External addresses, IPv4 and IPv6, on which the ports are served. Each gateway serves
    /// those that it holds on one of its uplinks; an address that no gateway holds waits for
    /// one that does. Several Mappings can share an address as long as their ports differ.
    #[serde(default, deserialize_with = "lenient::null_as_default")]
    #[schemars(length(min = 1, max = 64), inner(length(max = 45)))]
    pub addresses: Vec<String>,

    /// Who may connect: networks such as 192.0.2.0/24 or 2001:db8::/32, or single addresses.
    /// Connections from anywhere else are dropped silently. Empty or absent: everyone, over
    /// IPv4 and IPv6. Sources of only one family admit nobody of the other.
    #[serde(
        default,
        deserialize_with = "lenient::null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(length(max = 1024), inner(length(max = 49)))]
    pub allowed_sources: Vec<String>,

    /// Name of a Service in the namespace of the Mapping. It need not exist yet: until it does,
    /// TCP connections are reset and datagrams are answered with "port unreachable".
    #[serde(default, deserialize_with = "lenient::null_as_default")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("serviceName: must be the name of a Service of the same namespace: lower-case letters, digits and '-', beginning and ending with a letter or digit"))]
    pub service_name: String,

    /// How the Service is reached. "service", the only mode, sends connections straight to the
    /// ready endpoints of the Service; absent means the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    #[x_kube(validation = Rule::new("self in ['', 'service']")
        .message("mode: \"service\" is the only mode; write it or leave the field out"))]
    pub mode: Option<String>,

    /// External ports and where they lead. A gateway accepts 50 entries unless it is configured
    /// otherwise; for many ports in a row use one entry with endPort.
    #[serde(default, deserialize_with = "lenient::null_as_default")]
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub ports: Vec<MappingPort>,

    /// Whether pods see the address of the gateway (true), so that replies find their way back
    /// through it wherever the pods run, or the address of the client (false). Absent: the
    /// setting of the gateway, which is true by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masquerade: Option<bool>,

    /// Whether connections that the pods of the Service open through the gateway to
    /// destinations beyond the cluster leave with the first address of this Mapping that the
    /// gateway holds. Absent: the setting of the gateway, which is false by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<bool>,
}

/// One external port, or a range of them, and the Service port that it leads to.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::mapping_port)]
#[x_kube(validation = Rule::new("!has(self.endPort) || !has(self.port) || self.endPort >= self.port")
    .message("endPort: must not be less than port; swap the two, or leave endPort out for a single port"))]
pub struct MappingPort {
    /// External port, 1 to 65535; with endPort the first port of the range.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(required, range(min = 1, max = 65535))]
    pub port: Option<i64>,

    /// Last port of a range, inclusive. The Service port is looked up for the first port of the
    /// range; every further port leads to the target port that lies as far beyond it, whether
    /// or not the Service lists it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub end_port: Option<i64>,

    /// tcp, udp or sctp, in any case. Absent: tcp.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4))]
    #[x_kube(validation = Rule::new("self.lowerAscii() in ['', 'tcp', 'udp', 'sctp']")
        .message("protocol: must be tcp, udp or sctp, in any case"))]
    pub protocol: Option<String>,

    /// Port of the Service, by number or by name. Absent: the same number as port.
    #[serde(
        default,
        deserialize_with = "lenient::service_port",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(schema_with = "schema::service_port")]
    pub service_port: Option<PortReference>,
}

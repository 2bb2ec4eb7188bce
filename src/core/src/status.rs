//! What the gateway tells of each Mapping and of itself.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use litemap::LiteMap;
use serde::{Deserialize, Serialize};

use crate::model::ObjectKey;

/// Condition types and reasons: the only place where they are spelled.
pub mod reason {
    /// Condition type of an entry: other live instances hold the address too.
    pub const SHARED: &str = "Shared";
    /// Condition type: the Mapping passed admission.
    pub const ACCEPTED: &str = "Accepted";
    /// Condition type: the dataplane was read back and serves this generation (T21).
    pub const PROGRAMMED: &str = "Programmed";

    /// Accepted: all is well.
    pub const VALID: &str = "Valid";
    /// Not accepted: the object is wrong in itself.
    pub const INVALID: &str = "Invalid";
    /// Not accepted: another Mapping owns an external endpoint.
    pub const CONFLICT: &str = "Conflict";

    /// Programmed: the dataplane was read back and serves it.
    pub const SERVING: &str = "Serving";
    /// Programmed, but a port waits for a Service or for endpoints.
    pub const WAITING: &str = "Waiting";
    /// Not programmed: no instance holds an address of it.
    pub const NO_INSTANCE: &str = "NoInstance";
    /// Not programmed: it is being deleted, and the kernel was read back and holds nothing of it.
    pub const REMOVED: &str = "Removed";
    /// Not programmed: it was not accepted.
    pub const NOT_ACCEPTED: &str = "NotAccepted";
    /// Not programmed yet.
    pub const PENDING: &str = "Pending";
    /// Programmed is unknown: the instance has not renewed its Lease.
    pub const INSTANCE_LOST: &str = "InstanceLost";
    /// Shared: other live instances publish the address.
    pub const HELD_BY_OTHERS: &str = "HeldByOthers";
    /// Not programmed: the kernel refused an operation.
    pub const KERNEL_ERROR: &str = "KernelError";
}

/// A condition in the sense of `metav1.Condition`, without its times.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// One of the condition types in [`reason`].
    #[serde(rename = "type")]
    pub kind: Cow<'static, str>,
    /// True or False.
    pub status: bool,
    /// One of the reasons in [`reason`].
    pub reason: Cow<'static, str>,
    /// For people.
    pub message: Cow<'static, str>,
}

/// What one port of a Mapping does on one address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortStatus {
    /// `tcp/8080`, `udp/5060-5080`.
    pub port: String,
    /// Endpoints that get new connections, by external address.
    pub endpoints: LiteMap<IpAddr, Vec<String>>,
    /// Why it has none, where that is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<String>,
}

/// Status of one Mapping.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MappingStatus {
    /// `metadata.uid` of the Mapping that this is about.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Generation that this is about.
    pub observed_generation: i64,
    /// `no`, or why not (for manifests and scripts of the Go version).
    pub invalid: String,
    /// First cluster address of the Service.
    #[serde(rename = "serviceVIP", skip_serializing_if = "Option::is_none")]
    pub service_vip: Option<IpAddr>,
    /// Addresses of pods by external address that this instance holds.
    pub configured_addresses: LiteMap<IpAddr, Vec<IpAddr>>,
    /// Accepted, Programmed.
    pub conditions: Vec<Condition>,
    /// Ports in the order of the specification; empty when not accepted.
    pub ports: Vec<PortStatus>,
    /// Addresses of the pods that get new connections, of the families that the Mapping's own
    /// addresses have, wherever these are held.
    #[serde(default)]
    pub pods: Vec<IpAddr>,
    /// The kernel was read back and holds nothing of it (T20).
    #[serde(default)]
    pub released: bool,
    /// Remarks that are no failure: an address held nowhere, egress that an older Mapping won.
    pub remarks: Vec<String>,
}

/// Status of one uplink.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UplinkStatus {
    /// Number in marks and tables.
    pub number: u32,
    /// External addresses on it.
    pub addresses: Vec<IpAddr>,
    /// Gateways, one a family at most.
    pub gateways: Vec<IpAddr>,
    /// Whether the guard (T3) is on.
    pub guarded: bool,
}

/// Status of this instance with all Mappings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StatusReport {
    /// Name of this instance.
    pub instance: String,
    /// Whether the kernel was read back and holds what is wanted.
    pub in_sync: bool,
    /// Whether the kernel was read back and holds what `mappings` says, whatever is degraded.
    pub read_back: bool,
    /// What keeps it from that: violations, refused operations, settings that match nothing.
    pub degraded: Vec<String>,
    /// Uplinks by name.
    pub uplinks: BTreeMap<String, UplinkStatus>,
    /// Addresses of uplinks that are not served, since this instance's Lease does not tell of
    /// them yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unpublished: Vec<IpAddr>,
    /// Mappings, admitted or not. Reports share what did not change, so that a copy costs nothing
    /// and a comparison what changed.
    #[serde(with = "shared")]
    pub mappings: MappingStatuses,
}

impl StatusReport {
    /// Mappings whose status is another than `before`, with what it was and what it is; `None`
    /// where there is none. The cost is that of what the two do not share.
    pub fn changes_since<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = Changed<'a>> {
        before.mappings.diff(&self.mappings).map(|item| match item {
            DiffItem::Add(key, now) => (key, None, Some(&**now)),
            DiffItem::Update { old: (_, old), new: (key, now) } => {
                (key, Some(&**old), Some(&**now))
            }
            DiffItem::Remove(key, old) => (key, Some(&**old), None),
        })
    }
}

/// A Mapping with its status before and now.
pub type Changed<'a> = (&'a ObjectKey, Option<&'a MappingStatus>, Option<&'a MappingStatus>);

/// Status of each Mapping.
pub type MappingStatuses = OrdMap<ObjectKey, Arc<MappingStatus>>;

/// Shared values, written out as what they are.
mod shared {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::{MappingStatus, MappingStatuses};
    use crate::model::ObjectKey;

    pub(super) fn serialize<S: Serializer>(
        map: &MappingStatuses,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(map.iter().map(|(key, value)| (key, &**value)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<MappingStatuses, D::Error> {
        let map = BTreeMap::<ObjectKey, MappingStatus>::deserialize(deserializer)?;
        Ok(map.into_iter().map(|(key, value)| (key, Arc::new(value))).collect())
    }
}

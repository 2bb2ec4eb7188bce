//! From the dataplane to typed kernel objects.

mod iptables;
mod kept;
mod nftables;
mod routing;
mod sets;

pub use iptables::mark_chain_uplinks;
pub(crate) use kept::{Shares, TouchedObjects};
pub use nftables::counted;
pub(crate) use nftables::{quarantine_set, rank, uplink_numbers};
pub(crate) use routing::{routes as routing_routes, rules as routing_rules};

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::dataplane::Dataplane;
use crate::model::Backend;
use crate::objects::nft::NftTable;
use crate::objects::{
    IpSet, Route, RoutingRule, SetName, SysctlKey, XtTableId, XtTableState, pairs,
};

/// The kernel objects that carry a dataplane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DesiredObjects {
    /// iptables chains and jumps.
    #[serde(with = "pairs")]
    pub xtables: BTreeMap<XtTableId, XtTableState>,
    /// The same in iptables' other flavour.
    #[serde(default, with = "pairs")]
    pub other_xtables: BTreeMap<XtTableId, XtTableState>,
    /// Sets; those with a timeout are desired without elements.
    pub sets: BTreeMap<SetName, IpSet>,
    /// Our table of nftables; absent where iptables carries the dataplane.
    pub nft: Option<NftTable>,
    /// Policy rules.
    pub rules: BTreeSet<RoutingRule>,
    /// Routes of our tables.
    pub routes: BTreeSet<Route>,
    /// Sysctls.
    #[serde(with = "pairs")]
    pub sysctls: BTreeMap<SysctlKey, String>,
}

/// Lowers a dataplane to the objects of a backend, rules and routes. Without uplinks there is
/// nothing.
pub fn lower(dataplane: &Dataplane, backend: Backend) -> DesiredObjects {
    lower_with_shares(dataplane, backend).0
}

/// The same, with what is needed to follow changes.
pub(crate) fn lower_with_shares(
    dataplane: &Dataplane,
    backend: Backend,
) -> (DesiredObjects, Shares) {
    if dataplane.uplinks.is_empty() {
        return <(DesiredObjects, Shares)>::default();
    }
    let (netfilter, shares) = match backend {
        Backend::Nftables => {
            let (table, shares) = nftables::table(dataplane);
            let objects = DesiredObjects {
                nft: Some(table),
                xtables: iptables::acceptance(dataplane, &dataplane.contested),
                other_xtables: iptables::acceptance(dataplane, &dataplane.other_contested),
                ..DesiredObjects::default()
            };
            (objects, Shares::of_nftables(shares))
        }
        Backend::Iptables | Backend::Simulated => {
            let objects = DesiredObjects {
                xtables: iptables::tables(dataplane),
                sets: sets::sets(dataplane),
                ..DesiredObjects::default()
            };
            (objects, Shares::of_iptables(dataplane))
        }
    };
    let objects = DesiredObjects {
        rules: routing::rules(dataplane),
        routes: routing::routes(dataplane),
        sysctls: dataplane.sysctls.clone(),
        ..netfilter
    };
    (objects, shares)
}

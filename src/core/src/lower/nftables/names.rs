//! Names in our table.

use crate::model::Family;
use crate::names;
use crate::objects::nft::{NftName, fields};

/// Sets and maps without a family.
pub(super) const MARKS: &str = "marks";
pub(super) const ANSWERS: &str = "answers";
pub(super) const UPLINKS: &str = "uplinks";
pub(super) const GUARDS: &str = "guards";
pub(super) const ALL_UPLINKS: &str = "all-uplinks";
pub(super) const DEDICATED_UPLINKS: &str = "dedicated-uplinks";
/// Chains by their names, for what comes from a map of services.
pub(super) const TARGETS: &str = "targets";
/// Likewise, for sources that are allowed where not all are.
pub(super) const RESTRICTED_TARGETS: &str = "restricted-targets";
/// Chains of pods that leave by an uplink.
pub(super) const EXITS: &str = "exits";

/// Chains.
pub(super) const SERVICES: &str = "services";
pub(super) const NOBODY_HOME: &str = "nobody-home";
/// No chain, but where packets go that nobody may send.
pub(super) const NOBODY_MAY: &str = "nobody-may";
pub(super) const HAIRPIN: &str = "hairpin";
pub(super) const UNMARKED: &str = "unmarked";

/// Begins the chain that marks what comes in by an uplink, by its number.
const UPLINK: &str = "uplink-";

/// Name with the number of its family, such as `services4`.
pub(super) fn of_family(name: &str, family: Family) -> String {
    match family {
        Family::V4 => format!("{name}4"),
        Family::V6 => format!("{name}6"),
    }
}

/// Name of a chain as maps have it that lead there: nft knows no type of longer names.
pub(super) fn target(chain: &str) -> Box<[u8]> {
    fields::interface(&names::fitted(chain)).into()
}

pub(super) fn uplink_chain(number: u32) -> NftName {
    format!("{UPLINK}{number}").into()
}

/// The uplink's number in the name of its chain.
pub(super) fn number_of_uplink_chain(chain: &NftName) -> Option<u32> {
    chain.as_str().strip_prefix(UPLINK)?.parse().ok()
}

pub(super) fn egress_chain(number: u32) -> NftName {
    format!("egress-{number}").into()
}

/// The chain that marks packets of a connection of an uplink.
pub(super) fn mark_chain(number: u32, egress: bool) -> NftName {
    let suffix = if egress { "-egress" } else { "" };
    format!("mark-{number}{suffix}").into()
}

//! Sets and maps: those of the host, and those that Mappings and pods fill.

use std::net::IpAddr;

use super::TableBuilder;
use super::frame::{guard_verdict, mark_verdict};
use super::names::{
    ALL_UPLINKS, ANSWERS, DEDICATED_UPLINKS, EXITS, GUARDS, MARKS, NOBODY_HOME, NOBODY_MAY,
    RESTRICTED_TARGETS, TARGETS, UNMARKED, UPLINKS, egress_chain, of_family, target, uplink_chain,
};
use crate::dataplane::Dataplane;
use crate::model::Family;
use crate::objects::nft::NftType::{InterfaceName, Ipv4, Ipv6, Mark, Port, Protocol};
use crate::objects::nft::{
    NftData, NftElement, NftKey, NftName, NftSetSpec, NftType, NftValue, NftVerdict, fields,
};

/// First packets to an external endpoint: where they go.
pub(super) const SERVICES: &str = "services";
/// Likewise, of a source that is allowed where not all are.
pub(super) const RESTRICTED: &str = "restricted";
/// Endpoints by position and external endpoint.
pub(super) const ENDPOINTS: &str = "endpoints";
/// First ports of the ranges of external ports.
pub(super) const RANGES: &str = "ranges";
/// Addresses of endpoints by position and first port of a range.
pub(super) const RANGE_ENDPOINTS: &str = "range-endpoints";
/// Numbers of the endpoints that session affinity holds clients to, by external endpoint and client.
pub(super) const AFFINITY: &str = "affinity";
/// Numbers of endpoints by position and external endpoint, with session affinity.
pub(super) const POSITIONS: &str = "positions";
/// Endpoints by their numbers and external endpoint.
pub(super) const MEMBERS: &str = "members";
/// Addresses of endpoints by their numbers and first port of a range.
pub(super) const RANGE_MEMBERS: &str = "range-members";
/// Pods that leave with an external address.
pub(super) const LEAVING: &str = "leaving";
/// The address that they leave with, by pod and uplink.
pub(super) const EGRESS: &str = "egress";
/// External addresses of this host.
pub(super) const EXTERNAL: &str = "external";
/// Ended connections whose packets must not escape untranslated (T10).
pub(super) const QUARANTINE: &str = "quarantine";

/// Clients held to endpoints; each takes about 200 bytes of kernel memory.
const MAX_AFFINE: u32 = 1 << 18;
/// Ended connections held back at a time; each takes about 100 bytes of kernel memory.
const MAX_QUARANTINED: u32 = 1 << 16;
/// A peer gives up on a silent connection well before (RFC 9293, R2: at least 100 s).
const QUARANTINE_SECONDS: u32 = 600;

pub(super) fn fixed(table: &mut TableBuilder, dataplane: &Dataplane) {
    let verdicts = |key| NftSetSpec::exact([key], NftData::Verdict);
    let members = |key| NftSetSpec::exact([key], NftData::Nothing);
    table.set(MARKS, verdicts(Mark));
    table.set(ANSWERS, verdicts(Mark));
    table.set(UPLINKS, verdicts(InterfaceName));
    table.set(GUARDS, verdicts(InterfaceName));
    table.set(ALL_UPLINKS, members(InterfaceName));
    table.set(DEDICATED_UPLINKS, members(InterfaceName));
    table.set(EXITS, verdicts(InterfaceName));
    table.set(TARGETS, verdicts(InterfaceName));
    table.set(RESTRICTED_TARGETS, verdicts(InterfaceName));
    let nobody_home = NftValue::Verdict(NftVerdict::Goto(NOBODY_HOME.into()));
    let nobody_may = NftValue::Verdict(NftVerdict::Drop);
    for (map, name, verdict) in [
        (TARGETS, NOBODY_HOME, nobody_home.clone()),
        (TARGETS, NOBODY_MAY, nobody_may),
        (RESTRICTED_TARGETS, NOBODY_HOME, nobody_home),
    ] {
        table.element(&map.into(), NftKey::exact(target(name)), verdict);
    }
    for family in dataplane.families.iter().copied() {
        of_mappings(table, family);
        let address = NftType::address(family);
        table.set(of_family(EXTERNAL, family), members(address));
        let uplinks = NftSetSpec::exact([address], values([Mark, InterfaceName]));
        table.set(of_family(LEAVING, family), uplinks);
        let exits = NftSetSpec::exact([address, InterfaceName], values([address]));
        table.set(of_family(EGRESS, family), exits);
        let ended = NftSetSpec {
            timeout: Some(QUARANTINE_SECONDS),
            size: Some(MAX_QUARANTINED),
            ..NftSetSpec::exact([address, Protocol, Port, address], NftData::Nothing)
        };
        table.set(of_family(QUARANTINE, family), ended);
        for address in dataplane.external_addresses(family) {
            let key = NftKey::exact(fields::address(address));
            table.element(&of_family(EXTERNAL, family).into(), key, NftValue::Nothing);
        }
    }
    uplinks(table, dataplane);
}

fn values(types: impl Into<Vec<NftType>>) -> NftData {
    NftData::Values(types.into())
}

fn of_mappings(table: &mut TableBuilder, family: Family) {
    let address = NftType::address(family);
    let external = [address, Protocol, Port];
    let numbered = [Mark, address, Protocol, Port];
    let mut set = |name: &str, spec: NftSetSpec| table.set(of_family(name, family), spec);
    // Names and not verdicts: for each verdict that is added the kernel walks through all elements
    // (`nft_table_validate`).
    let named = || NftSetSpec::exact(external, values([Mark, InterfaceName]));
    set(SERVICES, NftSetSpec { counter: true, ..named() });
    set(RESTRICTED, NftSetSpec { counter: true, ..named() });
    // The external endpoint by which the range is known, after padding.
    let base = values([Mark, address, Protocol, Port]);
    set(RANGES, NftSetSpec { interval: true, ..NftSetSpec::exact(external, base) });
    let endpoints = || NftSetSpec::exact(numbered, values([address, Port]));
    let addresses = || NftSetSpec::exact(numbered, values([address]));
    set(ENDPOINTS, endpoints());
    set(RANGE_ENDPOINTS, addresses());
    set(POSITIONS, NftSetSpec::exact(numbered, values([Mark])));
    set(MEMBERS, endpoints());
    set(RANGE_MEMBERS, addresses());
    let affinity = NftSetSpec {
        dynamic: true,
        timeout: Some(0),
        size: Some(MAX_AFFINE),
        ..NftSetSpec::exact([address, Protocol, Port, address], values([Mark]))
    };
    set(AFFINITY, affinity);
}

fn uplinks(table: &mut TableBuilder, dataplane: &Dataplane) {
    let marks = dataplane.marks;
    let by_mark = |value: u32| NftKey::exact(value.to_ne_bytes());
    let goto = |chain: NftName| NftValue::Verdict(NftVerdict::Goto(chain));
    table.element(&MARKS.into(), by_mark(0), goto(UNMARKED.into()));
    for (name, uplink) in &dataplane.uplinks {
        let by_name = || NftKey::exact(fields::interface(name));
        let value = marks.uplink_mark(uplink.number);
        for (value, egress) in [(value, false), (value | marks.egress, true)] {
            let verdict = NftValue::Verdict(mark_verdict(uplink.number, egress));
            if !egress {
                table.element(&ANSWERS.into(), by_mark(value), verdict.clone());
            }
            table.element(&MARKS.into(), by_mark(value), verdict);
        }
        table.element(&UPLINKS.into(), by_name(), goto(uplink_chain(uplink.number)));
        table.element(&EXITS.into(), by_name(), goto(egress_chain(uplink.number)));
        let guard = NftValue::Verdict(guard_verdict(uplink.guarded));
        table.element(&GUARDS.into(), by_name(), guard);
        table.element(&ALL_UPLINKS.into(), by_name(), NftValue::Nothing);
        if uplink.dedicated {
            table.element(&DEDICATED_UPLINKS.into(), by_name(), NftValue::Nothing);
        }
    }
}

/// The elements of a pod that leaves with an external address by an uplink.
pub(super) fn pod(
    pod: IpAddr,
    address: IpAddr,
    uplink: &str,
) -> [(NftName, NftKey, NftElement); 2] {
    let family = Family::of(&pod);
    let bytes = fields::address(pod);
    let name = fields::interface(uplink);
    let exit = fields::join([&bytes, &name]);
    let leaving = after_padding(&name);
    let external = NftValue::Bytes(fields::address(address).into());
    [
        (of_family(EGRESS, family).into(), NftKey::exact(exit), element(external)),
        (of_family(LEAVING, family).into(), NftKey::exact(bytes), element(leaving)),
    ]
}

/// A value that [`super::assemble`] finds the rest of after one register.
pub(super) fn after_padding(value: &[u8]) -> NftValue {
    NftValue::Bytes(fields::join([&[0; 4], value]))
}

pub(super) fn element(value: NftValue) -> NftElement {
    NftElement { value, comment: None }
}

/// Sources that may connect.
pub(super) fn sources(family: Family) -> NftSetSpec {
    let address = match family {
        Family::V4 => Ipv4,
        Family::V6 => Ipv6,
    };
    NftSetSpec { interval: true, ..NftSetSpec::exact([address], NftData::Nothing) }
}

/// Ports of a range that is shifted.
pub(super) fn shift() -> NftSetSpec {
    NftSetSpec::exact([Port], values([Port]))
}

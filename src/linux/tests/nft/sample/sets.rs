//! Sets and maps of all kinds, with elements.

use smartnat_core::objects::nft::{
    NftData, NftElement, NftKey, NftSetSpec, NftType, NftValue, NftVerdict, fields,
};
use smartnat_core::ops::NftOp;

use super::{ENDPOINT, SERVICE, add, address, create, exact, goto, name, service};

pub(super) fn all() -> Vec<NftOp> {
    [verdict_maps(), value_maps(), intervals(), at_run_time()].concat()
}

fn values(types: &[NftType]) -> NftData {
    NftData::Values(types.to_vec())
}

fn port(port: u16) -> Box<[u8]> {
    fields::join([&port.to_be_bytes()])
}

fn verdict_maps() -> Vec<NftOp> {
    let mark = |mark: u32| NftKey::exact(mark.to_ne_bytes());
    let counted = NftSetSpec { counter: true, ..exact(&SERVICE, NftData::Verdict) };
    let drop = NftValue::Verdict(NftVerdict::Drop);
    vec![
        create("services4", counted),
        NftOp::AddElement {
            set: name("services4"),
            key: NftKey::exact(service("203.0.113.10", 8080)),
            element: NftElement { value: goto("translate"), comment: Some("default/echo".into()) },
        },
        add("services4", NftKey::exact(service("203.0.113.10", 53)), drop),
        create("marks", exact(&[NftType::Mark], NftData::Verdict)),
        add("marks", mark(0x100), goto("translate")),
        add("marks", mark(0x1100), NftValue::Verdict(NftVerdict::Jump(name("translate")))),
        add("marks", mark(0), NftValue::Verdict(NftVerdict::Accept)),
        add("marks", mark(0x200), NftValue::Verdict(NftVerdict::Return)),
        add("marks", mark(0x300), NftValue::Verdict(NftVerdict::Continue)),
        create("uplinks", exact(&[NftType::InterfaceName], NftData::Verdict)),
        add("uplinks", NftKey::exact(fields::interface("eth1")), goto("translate")),
    ]
}

fn value_maps() -> Vec<NftOp> {
    let endpoint = fields::join([&address("10.1.0.7"), &8080_u16.to_be_bytes()]);
    let numbered = [&SERVICE[..], &[NftType::Mark]].concat();
    let service6 = [NftType::Ipv6, NftType::Protocol, NftType::Port];
    vec![
        create("mark-of-address", exact(&[NftType::Ipv4], values(&[NftType::Mark]))),
        add(
            "mark-of-address",
            NftKey::exact(address("10.1.0.7")),
            NftValue::Bytes(0x200_u32.to_ne_bytes().into()),
        ),
        create(
            "egress4",
            exact(&[NftType::Ipv4, NftType::InterfaceName], values(&[NftType::Ipv4])),
        ),
        add(
            "egress4",
            NftKey::exact(fields::join([&address("10.1.0.7"), &fields::interface("eth1")])),
            NftValue::Bytes(address("203.0.113.10").into()),
        ),
        create("endpoints4", exact(&numbered, values(&ENDPOINT))),
        add(
            "endpoints4",
            NftKey::exact([&service("203.0.113.10", 8080)[..], &1_u32.to_ne_bytes()].concat()),
            NftValue::Bytes(endpoint),
        ),
        create("shift", exact(&[NftType::Port], values(&[NftType::Port]))),
        add("shift", NftKey::exact(port(5060)), NftValue::Bytes(port(6060))),
        create("members6", exact(&service6, NftData::Nothing)),
        add(
            "members6",
            NftKey::exact(fields::join([&address("2001:db8::7"), &[17], &53_u16.to_be_bytes()])),
            NftValue::Nothing,
        ),
    ]
}

fn intervals() -> Vec<NftOp> {
    let intervals = |key: &[NftType], data| NftSetSpec { interval: true, ..exact(key, data) };
    vec![
        create("ranges4", intervals(&SERVICE, values(&[NftType::Port]))),
        add(
            "ranges4",
            NftKey::interval(service("203.0.113.10", 5060), service("203.0.113.10", 5080)),
            NftValue::Bytes(port(5060)),
        ),
        create("sources4", intervals(&[NftType::Ipv4], NftData::Nothing)),
        NftOp::AddElement {
            set: name("sources4"),
            key: NftKey::interval(address("10.0.0.0"), address("10.255.255.255")),
            element: NftElement { value: NftValue::Nothing, comment: Some("default/echo".into()) },
        },
    ]
}

/// What rules or we fill while packets flow, and what may hold so much.
fn at_run_time() -> Vec<NftOp> {
    let connection = [&[NftType::Ipv4], &SERVICE[..]].concat();
    let timed = |data, timeout| NftSetSpec {
        timeout: Some(timeout),
        size: Some(65_536),
        ..exact(&connection, data)
    };
    let small = NftSetSpec { size: Some(128), ..exact(&[NftType::Ipv6], NftData::Nothing) };
    vec![
        create("affinity4", NftSetSpec { dynamic: true, ..timed(values(&ENDPOINT), 10_800) }),
        create("quarantine4", timed(NftData::Nothing, 30)),
        create("by-us", timed(NftData::Nothing, 0)),
        create("small", small),
        add("small", NftKey::exact(address("2001:db8::1")), NftValue::Nothing),
    ]
}

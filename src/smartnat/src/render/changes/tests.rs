use std::collections::BTreeMap;

use smartnat_core::model::Family;
use smartnat_core::objects::nft::{
    NftChain, NftData, NftElement, NftExpr, NftKey, NftRule, NftSet, NftSetSpec, NftTable, NftType,
    NftValue,
};
use smartnat_core::objects::{
    BuiltinHook, ChainName, IpSet, Route, RoutingRule, RuleAction, SetElement, SetKind, SetName,
    SetSpec, SysctlKey, SysctlState, XtRule, XtTable, XtTableId, XtTableState, XtTarget,
};

use super::*;

const NAT: XtTableId = XtTableId { family: Family::V4, table: XtTable::Nat };

fn chain(name: &str) -> ChainName {
    ChainName(name.into())
}

fn source_nat(address: &str) -> XtRule {
    XtRule::new(XtTarget::SourceNat { address: address.parse().expect("an address") })
}

fn state(rules: Vec<XtRule>, elements: &[&str], forwarding: &str) -> KernelState {
    let jump = XtRule::new(XtTarget::Jump(chain("SMARTNAT-A")));
    let table = XtTableState {
        chains: BTreeMap::from([(chain("SMARTNAT-A"), rules)]),
        jumps: BTreeMap::from([(BuiltinHook::Prerouting, vec![jump])]),
        ..XtTableState::default()
    };
    let spec =
        SetSpec { kind: SetKind::HashIp, family: Family::V4, timeout: None, max_elements: 10 };
    let elements =
        elements.iter().map(|ip| SetElement::Ip(ip.parse().expect("an address"))).collect();
    let sysctl = SysctlState { value: forwarding.into(), original: None };
    KernelState {
        xtables: BTreeMap::from([(NAT, table)]),
        sets: BTreeMap::from([(SetName("smartnat-x4".into()), IpSet { spec, elements })]),
        sysctls: BTreeMap::from([(SysctlKey::Forwarding(Family::V4), sysctl)]),
        ..KernelState::default()
    }
}

#[test]
fn equal_states_say_that_nothing_would_change() {
    let same = state(vec![XtRule::new(XtTarget::Accept)], &["10.0.0.1"], "1");
    let found = changes(&same, &same.clone());
    assert!(found.0.is_empty());
    assert_eq!(found.to_string(), "Nothing would change.\n");
}

#[test]
fn a_changed_line_is_shown_alone() {
    let (accept, drop) = (XtRule::new(XtTarget::Accept), XtRule::new(XtTarget::Return));
    let before = state(
        vec![accept.clone(), source_nat("10.0.0.1"), drop.clone()],
        &["10.0.0.1", "10.0.0.2"],
        "0",
    );
    let after = state(vec![accept, source_nat("10.0.0.9"), drop], &["10.0.0.2", "10.0.0.3"], "1");
    assert_eq!(
        changes(&before, &after).to_string(),
        "ipset\n\
         ~ set smartnat-x4 hash:ip IPv4\n\
         -     10.0.0.1\n\
         +     10.0.0.3\n\
         iptables nat\n\
         ~ chain SMARTNAT-A\n\
         -     -j SNAT --to-source 10.0.0.1\n\
         +     -j SNAT --to-source 10.0.0.9\n\
         sysctl\n\
         ~ net/ipv4/ip_forward\n\
         -     = 0\n\
         +     = 1\n\
         0 objects would be added, 3 changed, 0 removed.\n"
    );
}

#[test]
fn objects_that_come_and_go_are_shown_with_their_lines() {
    let mut before = KernelState::default();
    let mut after = state(vec![XtRule::new(XtTarget::Accept)], &[], "1");
    after.sysctls.clear();
    before.rules.insert(RoutingRule {
        family: Family::V6,
        priority: 20_003,
        in_interface: None,
        mark: Some((0x1_0000, 0x1f_0000)),
        destination: None,
        action: RuleAction::Lookup { table: 7001, suppress_prefix: Some(0) },
    });
    before.routes.insert(Route {
        table: 7001,
        destination: "::/0".parse().expect("a network"),
        gateway: "fe80::1".parse().ok(),
        interface: "eth1".into(),
        onlink: true,
    });
    let found = changes(&before, &after);
    assert_eq!(
        found.to_string(),
        "ip -6 route\n\
         - table 7001\n\
         -     ::/0 via fe80::1 dev eth1 onlink\n\
         ip -6 rule\n\
         - 20003: fwmark 0x10000/0x1f0000 lookup 7001 suppress_prefixlength 0\n\
         ipset\n\
         + set smartnat-x4 hash:ip IPv4\n\
         iptables nat\n\
         + chain SMARTNAT-A\n\
         +     -j ACCEPT\n\
         + jump from PREROUTING\n\
         +     -j SMARTNAT-A\n\
         3 objects would be added, 0 changed, 2 removed.\n"
    );
    let json = serde_json::to_value(&found).expect("JSON");
    assert_eq!(json[0]["change"], "remove");
    assert_eq!(json[0]["lines"][0]["remove"], "::/0 via fe80::1 dev eth1 onlink");
}

/// A table with a chain and a set of so many ports.
fn nft_state(ports: u16) -> KernelState {
    let elements = (1..=ports)
        .map(|port| {
            let element = NftElement { value: NftValue::Nothing, comment: None };
            (NftKey::exact(port.to_be_bytes()), element)
        })
        .collect();
    let spec = NftSetSpec::exact([NftType::Port], NftData::Nothing);
    let rule = NftRule { expressions: vec![NftExpr::Masquerade], comment: None };
    let mut table = NftTable::default();
    table.sets.insert("ports".into(), NftSet { spec, elements });
    table.chains.insert("source".into(), NftChain { base: None, rules: vec![rule] });
    KernelState { nft: Some(table), ..KernelState::default() }
}

#[test]
fn objects_of_nftables_are_shown_as_nft_does() {
    let made = changes(&KernelState::default(), &nft_state(1)).to_string();
    assert_eq!(
        made,
        "nftables\n\
         + chain source\n\
         +     masquerade\n\
         + set ports\n\
         +     type inet_service\n\
         +     1\n\
         + table inet smartnat\n\
         3 objects would be added, 0 changed, 0 removed.\n"
    );
    let changed = changes(&nft_state(2), &nft_state(1)).to_string();
    assert!(changed.starts_with("nftables\n~ set ports\n-     2\n0 objects"), "{changed}");
}

#[test]
fn many_lines_of_one_object_are_cut_and_counted() {
    let found = changes(&nft_state(1), &nft_state(5_001));
    assert_eq!(found.0[0].lines.len(), 5_000, "the JSON has all");
    let text = found.to_string();
    assert!(text.contains("… and 4900 more lines (-o json has them)\n"), "{text}");
    assert!(text.lines().count() < 110, "{text}");
}

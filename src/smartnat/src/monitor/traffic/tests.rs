use std::net::IpAddr;
use std::sync::Arc;

use smartnat_core::compile::{UplinkNumbers, compile};
use smartnat_core::lower::{DesiredObjects, counted, lower};
use smartnat_core::model::{
    Backend, ClusterState, Family, GatewayConfig, HostState, InterfaceAddress, Link, Mapping,
    MappingPort, MappingSpec,
};
use smartnat_core::objects::nft::NftName;
use smartnat_core::objects::{Flow, FlowKey, FlowTuple, KernelState, Layer4, XtTable, XtTableId};
use smartnat_core::status::{MappingStatus, PortStatus};
use smartnat_core::xtables_text::render_rule;
use smartnat_linux::ElementCounter;

use super::endpoints::joined;
use super::*;

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("default", name)
}

fn status(addresses: &[&str], ports: &[&str]) -> MappingStatus {
    let port = |text: &&str| PortStatus {
        port: (*text).into(),
        endpoints: std::iter::empty().collect(),
        waiting: None,
    };
    MappingStatus {
        observed_generation: 1,
        uid: String::new(),
        invalid: "no".into(),
        service_vip: None,
        configured_addresses: addresses.iter().map(|a| (address(a), Vec::new())).collect(),
        conditions: Vec::new(),
        ports: ports.iter().map(port).collect(),
        pods: Vec::new(),
        released: false,
        remarks: Vec::new(),
    }
}

fn report(mappings: &[(&str, MappingStatus)]) -> StatusReport {
    let mappings = mappings.iter().map(|(name, status)| (key(name), Arc::new(status.clone())));
    StatusReport { mappings: mappings.collect(), ..StatusReport::default() }
}

fn one_mapping() -> StatusReport {
    report(&[("echo", status(&["203.0.113.10"], &["tcp/8080", "udp/5060-5080"]))])
}

fn rule(name: &str, rule: &str, packets: u64) -> RuleCounter {
    let chain = mapping_chain(&key(name)).0;
    RuleCounter { family: Family::V4, chain, rule: rule.into(), packets, bytes: 0 }
}

fn rules(rules: Vec<RuleCounter>) -> RuleCounts {
    RuleCounts { rules, ..RuleCounts::default() }
}

fn carried(traffic: &Traffic, name: &str) -> Carried {
    lock(&traffic.0).mappings.get(&key(name)).copied().expect("it is counted")
}

/// What a Mapping is lowered to whose Service is not there.
fn lowered(backend: Backend, name: &str, sources: &[&str]) -> DesiredObjects {
    let link = Link {
        index: 2,
        up: true,
        addresses: vec![InterfaceAddress {
            address: "203.0.113.10/24".parse().expect("a network"),
            link_local: false,
        }],
    };
    let host = HostState {
        links: [("eth1".to_owned(), link)].into(),
        routes: Vec::new(),
        families: Family::ALL.to_vec(),
    };
    let config = GatewayConfig { uplink_names: vec!["eth1".into()], ..GatewayConfig::default() };
    let mapping = Mapping {
        key: key(name),
        uid: String::new(),
        generation: 1,
        created: None,
        deleting: false,
        spec: MappingSpec {
            addresses: vec!["203.0.113.10".into()],
            allowed_sources: sources.iter().map(|source| (*source).to_owned()).collect(),
            service_name: "nobody".into(),
            ports: vec![MappingPort { port: Some(8080), ..MappingPort::default() }],
            ..MappingSpec::default()
        },
    };
    let cluster =
        ClusterState { mappings: [(key(name), mapping.shared())].into(), ..<_>::default() };
    let compiled =
        compile(&cluster, &host, &config, &UplinkNumbers::new(), &KernelState::default());
    lower(&compiled.dataplane, backend)
}

/// The lowering decides where a first packet is counted; this fails when that changes.
#[test]
fn the_rules_of_a_lowered_mapping_are_told_apart_by_their_targets() {
    let objects = lowered(Backend::Iptables, "echo", &["192.0.2.0/24"]);
    assert!(mapping_chain(&key("echo")).0.starts_with(kernel::MAPPING_CHAINS));
    let nat = &objects.xtables[&XtTableId { family: Family::V4, table: XtTable::Nat }];
    let texts = nat.chains[&mapping_chain(&key("echo"))].iter().map(|rule| {
        let text = render_rule(Family::V4, rule);
        RuleCounter { packets: 5, ..self::rule("echo", &text, 5) }
    });
    let verdicts: Vec<Option<Verdict>> =
        texts.map(|rule| rule.target().and_then(Verdict::of)).collect();
    assert_eq!(verdicts.first(), Some(&Some(Verdict::Refused)), "{verdicts:?}");
    assert_eq!(verdicts.last(), Some(&Some(Verdict::NobodyHome)), "{verdicts:?}");
    assert_eq!(verdicts.iter().flatten().count(), 2, "{verdicts:?}");
    let port = smartnat_core::model::PortRange::single(1).expect("a port");
    let chain =
        smartnat_core::names::port_chain(&key("echo"), smartnat_core::model::Protocol::Tcp, port);
    assert_eq!(Verdict::of(&chain.0), Some(Verdict::Translated));
}

/// Likewise.
#[test]
fn the_elements_of_a_lowered_mapping_are_told_apart_by_what_they_carry() {
    for (sources, permitted, refused) in [
        (&[][..], None, false),
        (&["192.0.2.0/24"], Some(7), false),
        // Nobody of the address's family.
        (&["2001:db8::/32"], None, true),
    ] {
        let objects = lowered(Backend::Nftables, "echo", sources);
        let table = objects.nft.expect("a table");
        let counted = |map: &NftName, packets| {
            let map = &table.sets[map];
            assert!(map.spec.counter, "{sources:?}");
            let elements = map.elements.iter().map(move |(key, element)| ElementCounter {
                key: key.first.clone(),
                value: element.value.clone(),
                packets,
                bytes: 0,
            });
            elements.collect()
        };
        let arrivals = counted(&counted::arrivals(Family::V4), 9);
        let of_sources = counted(&counted::permitted(Family::V4), 7);
        let joined: Vec<_> = joined(Family::V4, arrivals, of_sources).collect();
        let endpoint = (address("203.0.113.10"), 6, 8080);
        let lot = if refused { Lot::Refused } else { Lot::NobodyHome };
        assert_eq!(joined, [EndpointCounter { endpoint, lot, arrived: 9, permitted }]);
    }
}

fn endpoint(port: u16, lot: Lot, arrived: u64, permitted: Option<u64>) -> EndpointCounter {
    let protocol = if port < 6000 { 17 } else { 6 };
    EndpointCounter { endpoint: (address("203.0.113.10"), protocol, port), lot, arrived, permitted }
}

#[test]
fn first_packets_to_external_endpoints_are_their_mappings() {
    let traffic = Traffic::default();
    let count = |counters: Vec<EndpointCounter>| {
        let counts = RuleCounts { endpoints: counters, ..RuleCounts::default() };
        traffic.add(&counts, &one_mapping());
        carried(&traffic, "echo").first_packets
    };
    // A range is known by its first port; of other ports there is no Mapping.
    let others = endpoint(9090, Lot::GoesOn, 50, None);
    let range = |arrived| endpoint(5060, Lot::GoesOn, arrived, None);
    assert_eq!(
        count(vec![endpoint(8080, Lot::GoesOn, 10, None), range(1), others.clone()]),
        [11, 0, 0]
    );
    // The element was made anew, and has seen 3 since.
    assert_eq!(count(vec![endpoint(8080, Lot::GoesOn, 3, None), range(2)]), [15, 0, 0]);
    assert_eq!(count(vec![endpoint(8080, Lot::NobodyHome, 5, None), range(2)]), [15, 0, 2]);
    assert_eq!(count(vec![endpoint(8080, Lot::Refused, 6, None), range(2)]), [15, 1, 2]);
    // A list of sources: what it lets pass is counted, too.
    let listed = |arrived, permitted| vec![endpoint(8080, Lot::GoesOn, arrived, Some(permitted))];
    assert_eq!(count(listed(16, 4)), [19, 7, 2]);
    assert_eq!(count(listed(20, 7)), [22, 8, 2]);
    // That counter was made anew, so it does not say who was refused.
    assert_eq!(count(listed(25, 1)), [27, 8, 2]);
    assert_eq!(lock(&traffic.0).mappings.len(), 1);
}

#[test]
fn sums_grow_over_a_rule_that_is_written_anew() {
    let traffic = Traffic::default();
    let (http, dns) = ("-p tcp -j SMARTNAT-P-A", "-p udp -j SMARTNAT-P-B");
    traffic.add(&rules(vec![rule("echo", http, 10), rule("echo", dns, 1)]), &one_mapping());
    assert_eq!(carried(&traffic, "echo").first_packets, [11, 0, 0]);
    // One was rewritten and has seen 3 since, the other went on.
    traffic.add(&rules(vec![rule("echo", http, 3), rule("echo", dns, 2)]), &one_mapping());
    assert_eq!(carried(&traffic, "echo").first_packets, [15, 0, 0]);
    traffic.add(
        &rules(vec![
            rule("echo", http, 3),
            rule("echo", "-m set -j SMARTNAT-REFUSE", 4),
            rule("echo", "-p udp -j SMARTNAT-NOBODY-HOME", 5),
            rule("echo", "-m connmark -j SMARTNAT-HAIRPIN", 6),
            rule("other", http, 7),
        ]),
        &one_mapping(),
    );
    assert_eq!(carried(&traffic, "echo").first_packets, [15, 4, 5]);
    assert_eq!(lock(&traffic.0).mappings.len(), 1, "nothing is counted for unknown chains");
}

#[test]
fn a_mapping_that_is_gone_is_no_longer_told() {
    let traffic = Traffic::default();
    traffic.add(&rules(vec![rule("echo", "-j SMARTNAT-P-A", 10)]), &one_mapping());
    traffic.add(&rules(Vec::new()), &StatusReport::default());
    assert!(lock(&traffic.0).mappings.is_empty());
}

fn flow(id: u32, to: &str, port: u16, protocol: u8, packets: u64) -> FlowCounters {
    let layer4 = Layer4::Ports { source: 1000, destination: port };
    let original =
        FlowTuple { source: address("192.0.2.1"), destination: address(to), protocol, layer4 };
    let count = FlowCount { packets, bytes: packets * 100 };
    let reply = FlowCount { packets: packets * 2, bytes: packets * 1000 };
    let flow = Flow { key: FlowKey { original, id }, reply: original, mark: 0 };
    FlowCounters { flow, original: count, reply }
}

fn flows(flows: Vec<FlowCounters>) -> RuleCounts {
    RuleCounts { flows: Some(flows), ..RuleCounts::default() }
}

#[test]
fn connections_count_from_the_first_reading_on_for_the_mapping_of_their_port() {
    let traffic = Traffic::default();
    let both = report(&[
        ("echo", status(&["203.0.113.10"], &["tcp/8080", "udp/5060-5080"])),
        ("web", status(&["203.0.113.10", "203.0.113.11"], &["tcp/80"])),
    ]);
    let old = flow(1, "203.0.113.10", 8080, 6, 50);
    traffic.add(&flows(vec![old]), &both);
    assert_eq!(carried(&traffic, "echo").from_clients, FlowCount::default());
    traffic.add(
        &flows(vec![
            flow(1, "203.0.113.10", 8080, 6, 53),
            flow(2, "203.0.113.10", 5070, 17, 4),
            flow(3, "203.0.113.11", 80, 6, 1),
            flow(4, "203.0.113.10", 8080, 17, 1),
            flow(5, "203.0.113.10", 5081, 17, 1),
            flow(6, "198.51.100.1", 80, 6, 1),
        ]),
        &both,
    );
    let echo = carried(&traffic, "echo");
    assert_eq!(echo.from_clients, FlowCount { packets: 7, bytes: 700 });
    assert_eq!(echo.to_clients, FlowCount { packets: 14, bytes: 7000 });
    assert_eq!(carried(&traffic, "web").from_clients.packets, 1);
    // Accounting is switched off and on again: nothing is counted twice, nothing is lost.
    traffic.add(&rules(Vec::new()), &both);
    traffic.add(&flows(vec![flow(1, "203.0.113.10", 8080, 6, 60)]), &both);
    assert_eq!(carried(&traffic, "echo").from_clients.packets, 7);
}

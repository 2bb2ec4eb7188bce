//! Sets on a running kernel, with the `ipset` program as witness.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use common::{in_namespace, sh};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use smartnat_core::model::{Family, Protocol};
use smartnat_core::objects::{
    IpSet, RoutingRule, RuleAction, SET_PREFIX, SetElement, SetKind, SetName, SetSpec,
};
use smartnat_core::ops::{NetworkOp, OpErrorClass};
use smartnat_linux::ipset::IpsetClient;

/// Takes `CAP_NET_ADMIN` from the calling thread.
fn drop_net_admin() {
    let mut sets = capabilities(None).expect("read");
    sets.effective.remove(CapabilitySet::NET_ADMIN);
    set_capabilities(None, sets).expect("dropped");
}

fn name(suffix: &str) -> SetName {
    SetName(format!("{SET_PREFIX}{suffix}"))
}

fn spec(kind: SetKind, family: Family) -> SetSpec {
    SetSpec { kind, family, timeout: None, max_elements: 200_000 }
}

fn create(suffix: &str, spec: SetSpec) -> NetworkOp {
    NetworkOp::CreateSet { name: name(suffix), spec }
}

fn destroy(suffix: &str) -> NetworkOp {
    NetworkOp::DestroySet { name: name(suffix) }
}

fn add(suffix: &str, element: SetElement) -> NetworkOp {
    NetworkOp::AddElement { set: name(suffix), element }
}

fn delete(suffix: &str, element: SetElement) -> NetworkOp {
    NetworkOp::DeleteElement { set: name(suffix), element }
}

fn ip(text: &str) -> SetElement {
    SetElement::Ip(text.parse().expect("an address"))
}

fn net(text: &str) -> SetElement {
    SetElement::Net(text.parse().expect("a network"))
}

fn ip_port_ip(ip: &str, protocol: Protocol, port: u16, other: &str) -> SetElement {
    let parse = |text: &str| text.parse::<IpAddr>().expect("an address");
    SetElement::IpPortIp { ip: parse(ip), protocol, port, other: parse(other) }
}

/// One set of each type and family, each with what it may hold.
fn samples() -> Vec<(&'static str, SetSpec, Vec<SetElement>)> {
    use Family::{V4, V6};
    use SetKind::{HashIp, HashIpPortIp, HashNet};
    vec![
        ("ip4", spec(HashIp, V4), vec![ip("10.0.0.1"), ip("255.255.255.255")]),
        ("ip6", spec(HashIp, V6), vec![ip("fd00::1"), ip("2001:db8::ffff")]),
        ("net4", spec(HashNet, V4), vec![net("0.0.0.0/1"), net("10.0.0.0/8"), net("192.0.2.7/32")]),
        ("net6", spec(HashNet, V6), vec![net("8000::/1"), net("fd00::/8"), net("fd00::7/128")]),
        (
            "ipi4",
            spec(HashIpPortIp, V4),
            vec![
                ip_port_ip("203.0.113.1", Protocol::Tcp, 80, "10.0.0.1"),
                ip_port_ip("203.0.113.1", Protocol::Udp, 65535, "10.0.0.1"),
                ip_port_ip("203.0.113.1", Protocol::Sctp, 1, "10.0.0.2"),
            ],
        ),
        (
            "ipi6",
            spec(HashIpPortIp, V6),
            vec![
                ip_port_ip("2001:db8::1", Protocol::Tcp, 443, "fd00::1"),
                ip_port_ip("2001:db8::1", Protocol::Sctp, 443, "fd00::1"),
            ],
        ),
    ]
}

/// `ipset save`, as a map from a set to its elements; the header under its own key.
fn saved() -> BTreeMap<String, BTreeSet<String>> {
    let mut sets: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in sh("ipset save").lines() {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["create", set, ..] => {
                sets.entry(set.to_owned()).or_default();
            }
            ["add", set, element, ..] => {
                sets.entry(set.to_owned()).or_default().insert(element.to_owned());
            }
            _ => panic!("unexpected line: {line}"),
        }
    }
    sets
}

#[test]
fn sets_of_every_type_and_family_are_read_back_and_the_ipset_program_sees_the_same() {
    in_namespace(|| {
        let mut client = IpsetClient::open().expect("opened");
        for (suffix, spec, elements) in samples() {
            let ops: Vec<_> = std::iter::once(create(suffix, spec))
                .chain(elements.iter().map(|element| add(suffix, *element)))
                .collect();
            client.apply(&ops).expect("applied");
        }
        let observed = client.observe(SET_PREFIX).expect("observed");
        let mut witnessed = saved();
        for (suffix, spec, elements) in samples() {
            let wanted = IpSet { spec, elements: elements.iter().copied().collect() };
            assert_eq!(observed[&name(suffix)], wanted, "{suffix}");
            let text: BTreeSet<String> = elements.iter().map(ToString::to_string).collect();
            assert_eq!(witnessed.remove(&name(suffix).0), Some(text), "{suffix}");
        }
        assert_eq!(observed.len(), samples().len());
        assert!(witnessed.is_empty(), "{witnessed:?}");

        for (suffix, _, elements) in samples() {
            let ops: Vec<_> = elements.iter().map(|element| delete(suffix, *element)).collect();
            client.apply(&ops).expect("deleted");
        }
        assert!(
            client.observe(SET_PREFIX).expect("observed").values().all(|s| s.elements.is_empty())
        );
        for (suffix, ..) in samples() {
            client.apply(&[destroy(suffix)]).expect("destroyed");
        }
        assert!(client.observe(SET_PREFIX).expect("observed").is_empty());
        assert_eq!(sh("ipset save"), "");
    });
}

#[test]
fn what_the_ipset_program_made_is_read_as_what_it_is() {
    in_namespace(|| {
        sh("ipset create smartnat-a hash:net family inet6 maxelem 4096
            ipset add smartnat-a fd00::/8
            ipset create smartnat-b hash:ip,port,ip maxelem 77
            ipset add smartnat-b 10.0.0.1,udp:53,10.0.0.2");
        let mut client = IpsetClient::open().expect("opened");
        let observed = client.observe(SET_PREFIX).expect("observed");
        let a = SetSpec { max_elements: 4096, ..spec(SetKind::HashNet, Family::V6) };
        assert_eq!(observed[&name("a")], IpSet { spec: a, elements: [net("fd00::/8")].into() });
        let b = SetSpec { max_elements: 77, ..spec(SetKind::HashIpPortIp, Family::V4) };
        let element = ip_port_ip("10.0.0.1", Protocol::Udp, 53, "10.0.0.2");
        assert_eq!(observed[&name("b")], IpSet { spec: b, elements: [element].into() });
        assert_eq!(client.writes(), 0);
    });
}

#[test]
fn a_set_of_our_name_but_no_shape_of_ours_is_told_as_one_that_nobody_wants() {
    in_namespace(|| {
        sh("ipset create smartnat-type hash:net,port
            ipset create smartnat-bits bitmap:port range 1-100
            ipset create smartnat-counters hash:ip counters
            ipset create smartnat-mask hash:ip netmask 24
            ipset create smartnat-except hash:net
            ipset add smartnat-except 10.0.0.0/8 nomatch
            ipset create smartnat-icmp hash:ip,port,ip
            ipset add smartnat-icmp 10.0.0.1,icmp:8/0,10.0.0.2");
        let mut client = IpsetClient::open().expect("opened");
        let observed = client.observe(SET_PREFIX).expect("observed");
        assert_eq!(observed.len(), 6);
        for (name, set) in &observed {
            assert_eq!(set.spec.max_elements, 0, "{name}");
            assert!(set.elements.is_empty(), "{name}");
        }
        let ops: Vec<_> = observed.into_keys().map(|name| NetworkOp::DestroySet { name }).collect();
        client.apply(&ops).expect("they can be destroyed");
        assert_eq!(sh("ipset save"), "");
    });
}

#[test]
fn elements_of_a_set_with_a_timeout_are_no_part_of_an_observation() {
    in_namespace(|| {
        for family in Family::ALL {
            let mut client = IpsetClient::open().expect("opened");
            let timed = SetSpec { timeout: Some(10_800), ..spec(SetKind::HashIp, family) };
            let address = if family == Family::V4 { "10.0.0.1" } else { "fd00::1" };
            client.apply(&[create("t", timed), add("t", ip(address))]).expect("applied");
            let observed = client.observe(SET_PREFIX).expect("observed");
            assert_eq!(observed[&name("t")], IpSet { spec: timed, elements: BTreeSet::new() });
            let saved = sh("ipset save smartnat-t");
            assert!(saved.contains("timeout 10800"), "{saved}");
            assert!(saved.contains(&format!("add smartnat-t {address} timeout")), "{saved}");
            client.apply(&[delete("t", ip(address)), destroy("t")]).expect("applied");
        }
    });
}

#[test]
fn t14_foreign_sets_are_named_but_never_observed() {
    in_namespace(|| {
        sh("ipset create SNM-1 hash:ip
            ipset create smartna hash:ip
            ipset create smartnat-x hash:ip
            ipset create blocklist list:set");
        let mut client = IpsetClient::open().expect("opened");
        let names = client.foreign_names(SET_PREFIX).expect("listed");
        assert_eq!(names, ["SNM-1", "blocklist", "smartna"].map(String::from).into());
        let observed = client.observe(SET_PREFIX).expect("observed");
        assert_eq!(observed.into_keys().collect::<Vec<_>>(), [name("x")]);
    });
}

#[test]
fn adding_twice_and_deleting_what_is_missing_is_no_error() {
    in_namespace(|| {
        let mut client = IpsetClient::open().expect("opened");
        for (suffix, spec, elements) in samples() {
            let mut ops = vec![create(suffix, spec)];
            for _ in 0..2 {
                ops.extend(elements.iter().map(|element| add(suffix, *element)));
            }
            client.apply(&ops).expect("added twice");
            let ops: Vec<_> = std::iter::repeat_n(delete(suffix, elements[0]), 2).collect();
            client.apply(&ops).expect("deleted twice");
            let observed = client.observe(SET_PREFIX).expect("observed");
            assert_eq!(observed[&name(suffix)].elements.len(), elements.len() - 1, "{suffix}");
        }
    });
}

#[test]
fn nothing_after_the_failing_operation_is_executed_and_the_failing_one_is_named() {
    in_namespace(|| {
        let mut client = IpsetClient::open().expect("opened");
        let v4 = spec(SetKind::HashNet, Family::V4);
        let error = client
            .apply(&[
                create("a", v4),
                add("a", net("10.0.0.0/8")),
                add("a", net("0.0.0.0/0")),
                add("a", net("11.0.0.0/8")),
                create("b", v4),
            ])
            .expect_err("hash:net refuses /0");
        assert_eq!(error.class, OpErrorClass::Invalid);
        assert_eq!(error.object, "set smartnat-a element 0.0.0.0/0");
        let observed = client.observe(SET_PREFIX).expect("observed");
        assert_eq!(observed.keys().collect::<Vec<_>>(), [&name("a")]);
        assert_eq!(observed[&name("a")].elements, [net("10.0.0.0/8")].into());
    });
}

#[test]
fn a_failing_element_far_into_many_messages_is_named() {
    in_namespace(|| {
        let mut client = IpsetClient::open().expect("opened");
        let small = SetSpec { max_elements: 1024, ..spec(SetKind::HashIp, Family::V4) };
        let elements =
            (1..=2000_u32).map(|n| SetElement::Ip(Ipv4Addr::from(0x0a00_0000 + n).into()));
        let mut ops = vec![create("a", small)];
        ops.extend(elements.map(|element| add("a", element)));
        let error = client.apply(&ops).expect_err("the set is full");
        assert_eq!(error.class, OpErrorClass::Invalid);
        assert_eq!(error.detail, "the set is full");
        let count = client.observe(SET_PREFIX).expect("observed")[&name("a")].elements.len();
        let next = Ipv4Addr::from(0x0a00_0001 + u32::try_from(count).expect("small"));
        assert_eq!(error.object, format!("set smartnat-a element {next}"));
    });
}

#[test]
fn refusals_have_their_class_and_name_the_set() {
    in_namespace(|| {
        let mut client = IpsetClient::open().expect("opened");
        let v4 = spec(SetKind::HashIp, Family::V4);
        client.apply(&[create("a", v4)]).expect("created");
        sh("iptables -A INPUT -m set --match-set smartnat-a src -j DROP");
        let cases = [
            (create("a", v4), OpErrorClass::Exists),
            (destroy("a"), OpErrorClass::Busy),
            (destroy("none"), OpErrorClass::NotFound),
            (add("none", ip("10.0.0.1")), OpErrorClass::NotFound),
            (delete("none", ip("10.0.0.1")), OpErrorClass::NotFound),
            (create("a-name-that-is-longer-than-31-bytes", v4), OpErrorClass::Invalid),
        ];
        for (op, class) in cases {
            let result = client.apply(std::slice::from_ref(&op));
            let Err(error) = result else { panic!("not refused: {op:?}") };
            assert_eq!(error.class, class, "{op:?}: {error}");
            assert!(error.object.starts_with("set smartnat-"), "{error}");
            assert!(!error.object.contains("element"), "{error}");
        }
        let error = client.apply(&[add("a", ip("fd00::1"))]).expect_err("of the other family");
        assert_eq!(error.class, OpErrorClass::Invalid);
        assert_eq!(error.object, "set smartnat-a element fd00::1");
        sh("iptables -D INPUT -m set --match-set smartnat-a src -j DROP");
    });
}

#[test]
fn without_privileges_a_client_is_denied() {
    in_namespace(|| {
        drop_net_admin();
        let error = IpsetClient::open().expect_err("refused");
        assert_eq!(error.class, OpErrorClass::Denied, "{error}");
    });
}

#[test]
fn an_operation_of_another_domain_is_refused() {
    in_namespace(|| {
        let mut client = IpsetClient::open().expect("opened");
        let rule = NetworkOp::DeleteRule(RoutingRule {
            family: Family::V4,
            priority: 20_000,
            in_interface: None,
            mark: None,
            destination: None,
            action: RuleAction::Lookup { table: 254, suppress_prefix: None },
        });
        let error = client.apply(&[rule]).expect_err("no operation of sets");
        assert_eq!(error.class, OpErrorClass::Invalid);
        assert_eq!(client.writes(), 0);
    });
}

#[test]
fn a_hundred_thousand_elements_go_in_messages_of_800_and_come_back() {
    in_namespace(|| {
        let mut client = IpsetClient::open().expect("opened");
        let base = u128::from("fd00::1".parse::<Ipv6Addr>().expect("an address"));
        let v6: Vec<_> = (0..100_000_u32)
            .map(|n| SetElement::IpPortIp {
                ip: Ipv6Addr::from(base + u128::from(n / 1000)).into(),
                protocol: Protocol::Udp,
                port: u16::try_from(n % 1000 + 1).expect("a port"),
                other: Ipv6Addr::from(base).into(),
            })
            .collect();
        let mut ops = vec![create("big", spec(SetKind::HashIpPortIp, Family::V6))];
        ops.extend(v6.iter().map(|element| add("big", *element)));
        client.apply(&ops).expect("applied");
        assert_eq!(client.writes(), 1 + 125);
        let observed = client.observe(SET_PREFIX).expect("observed");
        assert_eq!(observed[&name("big")].elements, v6.into_iter().collect());
        let save = sh("ipset save smartnat-big | grep -c ^add");
        assert_eq!(save.trim(), "100000");
    });
}

#[test]
fn a_client_stays_in_the_namespace_where_it_was_opened() {
    in_namespace(|| {
        let mut outer = IpsetClient::open().expect("opened");
        outer.apply(&[create("outer", spec(SetKind::HashIp, Family::V4))]).expect("created");
        in_namespace(|| {
            let observed = outer.observe(SET_PREFIX).expect("observed");
            assert!(observed.contains_key(&name("outer")));
            let mut inner = IpsetClient::open().expect("opened");
            assert!(inner.observe(SET_PREFIX).expect("observed").is_empty());
        });
    });
}

#[test]
fn reading_while_others_write_gives_a_whole_set_or_a_transient_error() {
    in_namespace(|| {
        let mut script = String::from("create smartnat-busy hash:ip maxelem 100000\n");
        for n in 0..20_000_u32 {
            let _ = writeln!(script, "add smartnat-busy {}", Ipv4Addr::from(0x0a00_0000 + n));
        }
        let path = std::env::temp_dir().join(format!("smartnat-busy-{}", std::process::id()));
        std::fs::write(&path, script).expect("written");
        let mut client = IpsetClient::open().expect("opened");
        let mut writer = std::process::Command::new("ipset")
            .args(["restore", "-f"])
            .arg(&path)
            .spawn()
            .expect("ipset");
        while writer.try_wait().expect("a child").is_none() {
            match client.observe(SET_PREFIX) {
                Ok(sets) => assert!(sets.values().all(|set| set.spec.max_elements == 100_000)),
                Err(error) => assert_eq!(error.class, OpErrorClass::Transient, "{error}"),
            }
        }
        std::fs::remove_file(path).expect("removed");
        let observed = client.observe(SET_PREFIX).expect("observed");
        assert_eq!(observed[&name("busy")].elements.len(), 20_000);
    });
}

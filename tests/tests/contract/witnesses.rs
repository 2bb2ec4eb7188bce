//! Two crates that production code does not use see what it wrote (`docs/adr/0001`): `iptables` our
//! chains and jumps beside those of others, `ipset` the elements that went in by netlink.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::process::Command;

use ipset::Session;
use ipset::types::{HashIp, HashNet, NetDataType};
use smartnat_core::model::{ClusterObject, Family, ObjectKey};
use smartnat_core::names;
use smartnat_sim::scenario::mapping;
use smartnat_sim::topology::{StandardOptions, standard};
use smartnat_tests::{Rig, RigOptions, Ruleset};

use super::common::{SIDES, echo_on, ip, pod};

/// Source sets hold one network a family; the second half of everything is there as two halves.
const SOURCES: [&str; 3] = ["192.0.2.0/24", "128.0.0.0/1", "2001:db8:2::/48"];

fn objects() -> Vec<ClusterObject> {
    let m = SIDES.iter().fold(mapping("echo"), |m, s| m.address(s.external));
    let m = SOURCES.iter().fold(m, |m, source| m.source(source));
    [echo_on(&[1, 2]), vec![m.tcp(8080).udp(5353).egress(true).build()]].concat()
}

/// What the program `iptables` of this machine is.
fn usual_ruleset() -> Option<Ruleset> {
    let output = Command::new("iptables").arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if text.contains("legacy") {
        Some(Ruleset::IptablesLegacy)
    } else {
        text.contains("nf_tables").then_some(Ruleset::IptablesNft)
    }
}

#[test]
fn iptables_sees_our_chains_and_jumps() {
    let (true, Some(ruleset)) = (smartnat::lab::available(), usual_ruleset()) else { return };
    let topology = standard(StandardOptions::default());
    let (mut rig, first) = Rig::start(&topology, RigOptions::new(ruleset), objects());
    assert!(first.status.in_sync, "{:?}", first.events);
    for v6 in [false, true] {
        let told = rig.lab.run("gateway", || look(v6)).expect("the lab");
        assert_eq!(told, Vec::<String>::new(), "missing");
    }
    rig.clean_up();
    for v6 in [false, true] {
        let missing = rig.lab.run("gateway", || look(v6)).expect("the lab");
        assert_eq!(missing.len(), EXPECTED.len() + 3, "{missing:?}");
    }
}

/// Jumps of built-in chains.
const EXPECTED: [(&str, &str, &str); 10] = [
    ("nat", "PREROUTING", "SMARTNAT-DNAT"),
    ("nat", "OUTPUT", "SMARTNAT-DNAT"),
    ("nat", "POSTROUTING", "SMARTNAT-SNAT"),
    ("mangle", "PREROUTING", "SMARTNAT-MARK"),
    ("mangle", "OUTPUT", "SMARTNAT-OUT"),
    ("mangle", "INPUT", "SMARTNAT-GUARD"),
    ("mangle", "FORWARD", "SMARTNAT-TRANSIT"),
    ("mangle", "POSTROUTING", "SMARTNAT-LEAVE"),
    ("filter", "FORWARD", "SMARTNAT-FORWARD"),
    ("filter", "INPUT", "SMARTNAT-INPUT"),
];

/// What the crate `iptables` does not find in the namespace of the calling thread.
fn look(v6: bool) -> Vec<String> {
    let iptables = iptables::new(v6).expect("the program iptables");
    let exists = |table, chain, rule: &str| iptables.exists(table, chain, rule).unwrap_or(false);
    let mut missing: Vec<String> = EXPECTED
        .iter()
        .filter(|(table, chain, target)| {
            !exists(table, chain, &format!("-m comment --comment SmartNat -j {target}"))
        })
        .map(|jump| format!("{jump:?}"))
        .collect();
    let (family, address) =
        if v6 { (Family::V6, SIDES[2].external) } else { (Family::V4, SIDES[0].external) };
    let chain = names::address_chain(ip(address)).to_string();
    let of_mapping = names::mapping_chain(&ObjectKey::new("default", "echo")).to_string();
    let dispatch = format!("-d {address} -j {chain}");
    if !exists("nat", "SMARTNAT-DNAT", &dispatch) {
        missing.push(dispatch);
    }
    let rules = iptables.list("nat", &chain).unwrap_or_default();
    if !rules.iter().any(|r| r.contains("--dport 8080") && r.contains(&of_mapping)) {
        missing.push(format!("{chain}: {rules:?}"));
    }
    let table = iptables.list_table("nat").unwrap_or_default();
    if !table.iter().any(|r| r.contains("DNAT") && r.contains(&pod(2, family))) {
        missing.push(format!("{family}: {table:?}"));
    }
    missing
}

/// The crate `ipset` breaks when sessions start in several threads at once: all of it is one test.
#[test]
fn ipset_sees_the_elements_that_netlink_wrote() {
    if !smartnat::lab::available() {
        return;
    }
    for ruleset in [Ruleset::IptablesNft, Ruleset::IptablesLegacy] {
        let topology = standard(StandardOptions::default());
        let (mut rig, first) = Rig::start(&topology, RigOptions::new(ruleset), objects());
        assert!(first.status.in_sync, "{:?}", first.events);
        rig.lab.run("gateway", membership).expect("the lab");

        let saved = rig.lab.command("gateway", &["ipset", "save"]).expect("ipset");
        let sets = |word: &str| -> BTreeSet<String> {
            let of_kind = saved.lines().filter_map(|l| l.strip_prefix(word)?.split(' ').next());
            of_kind.map(str::to_owned).collect()
        };
        let listed = rig.lab.command("gateway", &["ipset", "list", "-n"]).expect("ipset");
        assert_eq!(sets("create "), listed.lines().map(str::to_owned).collect());
        // All but the two for ended connections hold something.
        assert_eq!(sets("add ").len() + 2, sets("create ").len(), "{saved}");

        rig.sync(echo_on(&[2]));
        rig.lab.run("gateway", || assert!(!egress_holds(1) && egress_holds(2))).expect("the lab");
        rig.clean_up();
    }
}

fn holds_address(set: &str, address: &str) -> bool {
    let mut session = Session::<HashIp>::new(set.to_owned());
    session.test(ip(address)).unwrap_or_else(|e| panic!("{address} in {set}: {e:?}"))
}

fn holds_network(set: &str, address: IpAddr, length: u8) -> bool {
    let mut session = Session::<HashNet>::new(set.to_owned());
    let network = NetDataType::new(address, length);
    session.test(network).unwrap_or_else(|e| panic!("{address}/{length} in {set}: {e:?}"))
}

fn egress_holds(number: usize) -> bool {
    let set = names::egress_set(ip(SIDES[0].external)).to_string();
    holds_address(&set, &pod(number, Family::V4))
}

fn membership() {
    for side in SIDES {
        let family = Family::of(&ip(side.external));
        let external = names::external_set(family).to_string();
        assert!(holds_address(&external, side.external), "{side:?}");
        assert!(!holds_address(&external, side.source), "{side:?}");
    }
    // The first local address of each family is the pods' own.
    for side in [SIDES[0], SIDES[2]] {
        let family = Family::of(&ip(side.external));
        let egress = names::egress_set(ip(side.external)).to_string();
        for number in [1, 2] {
            assert!(holds_address(&egress, &pod(number, family)), "{side:?}");
        }
        assert!(!holds_address(&egress, &pod(3, family)), "{side:?}");
    }
    for family in Family::ALL {
        let networks: Vec<ipnet::IpNet> = SOURCES
            .iter()
            .map(|s| s.parse().expect("a network"))
            .filter(|n: &ipnet::IpNet| Family::of(&n.addr()) == family)
            .collect();
        let mut sorted = networks.clone();
        sorted.sort();
        let covering: Vec<_> = ipnet::IpNet::aggregate(&sorted);
        let set = names::source_set(family, &covering).to_string();
        for network in covering {
            assert!(holds_network(&set, network.addr(), network.prefix_len()), "{network}");
        }
        let beyond = if family == Family::V4 { "10.0.0.0" } else { "2001:db8:3::" };
        assert!(!holds_network(&set, ip(beyond), 24), "{beyond}");
    }
}

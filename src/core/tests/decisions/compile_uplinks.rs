//! Which interfaces are uplinks, with which number, gateway and sysctls.

use std::collections::BTreeMap;

use smartnat_core::compile::{UplinkNumbers, adopt_numbers, compile, sysctl_scope};
use smartnat_core::lower::lower;
use smartnat_core::marks::MarkLayout;
use smartnat_core::model::{Family, GatewayConfig, HostState, UplinkGateway};
use smartnat_core::objects::{KernelState, SysctlKey, SysctlState};

use super::{Compiled, compiled_on, config, forwarding, host, host_of, ip, net, observed, route};

fn names(compiled: &Compiled) -> Vec<&str> {
    compiled.dataplane.uplinks.keys().map(String::as_str).collect()
}

fn with_numbers(host: &HostState, numbers: &UplinkNumbers) -> BTreeMap<String, u32> {
    let kernel = observed(host, &config(), "0");
    let compiled = compile(&super::cluster([]), host, &config(), numbers, &kernel);
    compiled.dataplane.uplinks.into_iter().map(|(name, u)| (name, u.number)).collect()
}

#[test]
fn uplinks_are_named_and_the_default_interface_only_outright() {
    let default_on = |interface: &str| HostState {
        routes: vec![route("0.0.0.0/0", Some("203.0.113.1"), interface)],
        ..host()
    };
    let named = |names: &[&str]| GatewayConfig {
        uplink_names: names.iter().map(ToString::to_string).collect(),
        ..config()
    };
    let v6_only =
        HostState { routes: vec![route("::/0", Some("2001:db8:1::1"), "ext1")], ..host() };
    let administered = GatewayConfig { default_interface: Some("ext2".into()), ..config() };
    let nothing = GatewayConfig { uplink_pattern: String::new(), ..config() };
    let part = GatewayConfig { uplink_pattern: "xt[0-9]".into(), ..config() };
    let lo = GatewayConfig { uplink_pattern: ".*".into(), ..config() };
    let cases: Vec<(&str, HostState, GatewayConfig, &[&str])> = vec![
        ("by pattern", host(), config(), &["ext1", "ext2"]),
        ("not the default route's", default_on("ext1"), config(), &["ext2"]),
        ("nor that of IPv6", v6_only, config(), &["ext2"]),
        ("unless named", default_on("ext1"), named(&["ext1"]), &["ext1", "ext2"]),
        ("the configured default interface counts", default_on("ext1"), administered, &["ext1"]),
        ("a name beside the pattern", host(), named(&["int0"]), &["ext1", "ext2", "int0"]),
        ("no pattern matches nothing", host(), nothing, &[]),
        ("the whole name", host(), part, &[]),
        ("loopback never", default_on("ext1"), lo, &["ext2", "int0"]),
    ];
    for (what, host, config, expected) in cases {
        assert_eq!(names(&compiled_on(&host, &config, [])), expected, "{what}");
    }
}

/// T3: nobody loses the way in by which they administer the host.
#[test]
fn the_guard_is_off_on_the_default_interface_unless_asked_for() {
    let host =
        HostState { routes: vec![route("0.0.0.0/0", Some("203.0.113.1"), "ext1")], ..host() };
    let named = GatewayConfig { uplink_names: vec!["ext1".into()], ..config() };
    let asked = GatewayConfig { guard_default_interface: true, ..named.clone() };
    let off = GatewayConfig { guard: false, ..asked.clone() };
    let unguarded = GatewayConfig { guard: false, ..named.clone() };
    // (guarded, dedicated) of ext1 and ext2.
    for (what, config, expected) in [
        ("by default", named, [(false, false), (true, true)]),
        ("asked for", asked, [(true, true), (true, true)]),
        ("no guard, asked for", off, [(false, true), (false, true)]),
        ("no guard", unguarded, [(false, false), (false, true)]),
    ] {
        let uplinks = compiled_on(&host, &config, []).dataplane.uplinks;
        let found = ["ext1", "ext2"].map(|n| (uplinks[n].guarded, uplinks[n].dedicated));
        assert_eq!(found, expected, "{what}");
    }
}

#[test]
fn a_host_without_uplinks_says_what_matches_and_how_to_mend_it() {
    let default_on =
        HostState { routes: vec![route("0.0.0.0/0", Some("203.0.113.1"), "ext1")], ..host() };
    let only = GatewayConfig { uplink_pattern: "ext1".into(), ..config() };
    let warnings = compiled_on(&default_on, &only, []).warnings;
    assert_eq!(warnings.len(), 1);
    for part in ["ext1", "ext2", "int0", "default route", "--uplink ext1"] {
        assert!(warnings[0].contains(part), "{part}: {warnings:?}");
    }
    assert!(
        lower(
            &compiled_on(&default_on, &only, []).dataplane,
            smartnat_core::model::Backend::Iptables
        )
        .xtables
        .is_empty()
    );
}

#[test]
fn a_gateway_is_configured_or_routed_or_counted() {
    let routed = HostState {
        routes: vec![
            super::HostRoute { metric: 100, ..route("0.0.0.0/0", Some("203.0.113.50"), "ext1") },
            super::HostRoute { metric: 10, ..route("0.0.0.0/0", Some("203.0.113.51"), "ext1") },
            route("0.0.0.0/0", Some("10.0.0.1"), "int0"),
            route("::/0", Some("fe80::9"), "ext1"),
        ],
        ..host()
    };
    let administered = GatewayConfig { default_interface: Some("int0".into()), ..config() };
    let gateways = |host: &HostState, config: &GatewayConfig| {
        let uplink = compiled_on(host, config, []).dataplane.uplinks["ext1"].clone();
        [Family::V4, Family::V6]
            .map(|f| uplink.gateways.get(&f).map(ToString::to_string).unwrap_or_default())
    };
    let configured = GatewayConfig {
        gateways: [(
            "ext1".to_owned(),
            UplinkGateway { ipv4: Some(ip("203.0.113.77")), ipv6: None },
        )]
        .into(),
        ..administered.clone()
    };
    let offset = |gateway_offset| GatewayConfig { gateway_offset, ..administered.clone() };
    assert_eq!(gateways(&routed, &configured), ["203.0.113.77", "fe80::9"]);
    assert_eq!(gateways(&routed, &administered), ["203.0.113.51", "fe80::9"]);
    assert_eq!(gateways(&host(), &administered), ["203.0.113.1", "2001:db8:1::1"]);
    assert_eq!(gateways(&host(), &offset(-1)), ["203.0.113.254", ""]);
    // An address of its own is no gateway: then there is none.
    assert_eq!(gateways(&host(), &offset(10)), ["", "2001:db8:1::a"]);
    // Without a subnet there is nothing to count from.
    let single = host_of(&[("ext1", &["203.0.113.10/32", "2001:db8:1::10/128"])]);
    assert_eq!(gateways(&single, &administered), ["", ""]);
    let no_v6 = host_of(&[("ext1", &["203.0.113.10/24"])]);
    assert_eq!(gateways(&no_v6, &configured), ["203.0.113.77", ""]);
}

/// A gateway on no subnet of the uplink is on link all the same; a link-local one needs no word.
#[test]
fn routes_lead_to_gateways_that_no_subnet_covers() {
    let far = UplinkGateway { ipv4: Some(ip("192.0.2.1")), ipv6: Some(ip("fe80::9")) };
    let config = GatewayConfig { gateways: [("ext1".to_owned(), far)].into(), ..config() };
    let host = host_of(&[("ext1", &["203.0.113.10/32", "2001:db8:1::10/64"])]);
    let routes =
        lower(&compiled_on(&host, &config, []).dataplane, smartnat_core::model::Backend::Iptables)
            .routes;
    let via: Vec<(String, bool)> =
        routes.iter().filter_map(|r| Some((r.gateway?.to_string(), r.onlink))).collect();
    assert_eq!(via, [("192.0.2.1".into(), true), ("fe80::9".into(), false)]);
}

/// T11: routes exist while the link is up; the uplink keeps its number and rules.
#[test]
fn a_link_that_is_down_has_rules_but_no_routes() {
    let mut host = host();
    host.links.get_mut("ext1").expect("it").up = false;
    let objects = lower(
        &compiled_on(&host, &config(), []).dataplane,
        smartnat_core::model::Backend::Iptables,
    );
    assert!(objects.routes.iter().all(|r| r.interface == "ext2"));
    assert!(objects.rules.iter().any(|r| r.in_interface.as_deref() == Some("ext1")));
}

type Numbers = &'static [(&'static str, u32)];

#[test]
fn numbers_stay_with_their_uplinks() {
    let links = |names: &[&str]| {
        host_of(&names.iter().map(|n| (*n, &["203.0.113.10/24"][..])).collect::<Vec<_>>())
    };
    let numbers = |pairs: &[(&str, u32)]| -> BTreeMap<String, u32> {
        pairs.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect()
    };
    let cases: [(&str, &[&str], Numbers, Numbers); 5] = [
        ("in order", &["ext1", "ext2"], &[], &[("ext1", 1), ("ext2", 2)]),
        ("kept", &["ext1", "ext2"], &[("ext2", 1)], &[("ext1", 2), ("ext2", 1)]),
        (
            "a vanished one keeps its own",
            &["ext0", "ext2"],
            &[("ext1", 1), ("ext2", 2)],
            &[("ext0", 3), ("ext2", 2)],
        ),
        (
            "and gets it back",
            &["ext0", "ext1"],
            &[("ext1", 1), ("ext2", 2), ("ext0", 3)],
            &[("ext0", 3), ("ext1", 1)],
        ),
        (
            "gaps are filled",
            &["ext1", "ext2", "ext3"],
            &[("ext3", 2)],
            &[("ext1", 1), ("ext2", 3), ("ext3", 2)],
        ),
    ];
    for (what, present, so_far, expected) in cases {
        assert_eq!(with_numbers(&links(present), &numbers(so_far)), numbers(expected), "{what}");
    }
}

/// A mask of 5 bits has room for 3 uplinks. Numbers of vanished links go before a link is left out.
#[test]
fn what_has_no_number_is_left_out_with_a_warning() {
    let names: Vec<String> = (0..5).map(|n| format!("ext{n}")).collect();
    let links: Vec<(&str, &[&str])> =
        names.iter().map(|n| (n.as_str(), &["203.0.113.10/24"][..])).collect();
    let narrow = GatewayConfig { mark_mask: 0x1f, ..config() };
    let compiled = compiled_on(&host_of(&links), &narrow, []);
    assert_eq!(compiled.dataplane.uplinks.len(), 3);
    assert_eq!(compiled.warnings.len(), 2, "{:?}", compiled.warnings);
    assert!(compiled.warnings[0].contains("ext3") && compiled.warnings[0].contains("markMask"));

    let vanished = [("gone".to_owned(), 1), ("ext0".to_owned(), 2)].into();
    let host = host_of(&links[..3]);
    let kernel = observed(&host, &narrow, "0");
    let compiled = compile(&super::cluster([]), &host, &narrow, &vanished, &kernel);
    let numbers: Vec<u32> = compiled.dataplane.uplinks.values().map(|u| u.number).collect();
    assert_eq!(numbers, [2, 3, 1]);
}

/// P9: what the kernel's objects speak of is taken over; what contradicts itself is not.
#[test]
fn numbers_are_adopted_from_the_kernel() {
    let so_far = [("ext1".to_owned(), 7), ("ext2".to_owned(), 3)].into();
    let kernel = observed(&host(), &config(), "0");
    let dataplane = compile(&super::cluster([]), &host(), &config(), &so_far, &kernel).dataplane;
    let objects = lower(&dataplane, smartnat_core::model::Backend::Iptables);
    let mut state =
        KernelState { xtables: objects.xtables, routes: objects.routes, ..KernelState::default() };
    assert_eq!(adopt_numbers(&state, &config()), so_far);
    // Each alone suffices: a crash may have left one without the other.
    let routes = std::mem::take(&mut state.routes);
    assert_eq!(adopt_numbers(&state, &config()), so_far);
    state.xtables.clear();
    state.routes = routes;
    assert_eq!(adopt_numbers(&state, &config()), so_far);
    // Routes of others in our tables, and tables beyond ours.
    let mut stray = state.routes.first().expect("a route").clone();
    stray.interface = "int0".into();
    let used = stray.table;
    state.routes.insert(stray.clone());
    stray.table = 7000 + MarkLayout::new(config().mark_mask).max_uplinks() + 1;
    stray.interface = "int1".into();
    state.routes.insert(stray);
    let adopted = adopt_numbers(&state, &config());
    assert!(!adopted.contains_key("int1"), "{adopted:?}");
    assert_eq!(adopted.values().filter(|n| **n == used - 7000).count(), 1, "{adopted:?}");
}

/// Section 5: only where it must be, and only on uplinks.
#[test]
fn arp_settings_are_for_shared_subnets() {
    let arp = |host: &HostState, config: &GatewayConfig| -> Vec<String> {
        let sysctls = compiled_on(host, config, []).dataplane.sysctls;
        let mut names: Vec<String> = sysctls
            .keys()
            .filter_map(|key| match key {
                SysctlKey::ArpIgnore(name) | SysctlKey::ArpAnnounce(name) => Some(name.clone()),
                _ => None,
            })
            .collect();
        names.sort();
        names.dedup();
        names
    };
    let default = |mut host: HostState| {
        host.routes = vec![route("0.0.0.0/0", Some("10.0.0.1"), "int0")];
        host
    };
    let apart = default(host_of(&[
        ("ext1", &["203.0.113.10/24"]),
        ("ext2", &["198.51.100.10/24"]),
        ("int0", &["10.0.0.2/24"]),
    ]));
    let together = default(host_of(&[
        ("ext1", &["203.0.113.10/24"]),
        ("ext2", &["203.0.113.11/25"]),
        ("int0", &["10.0.0.2/24"]),
    ]));
    let with_default = default(host_of(&[
        ("ext1", &["10.0.0.10/24"]),
        ("ext2", &["198.51.100.10/24"]),
        ("int0", &["10.0.0.2/24"]),
    ]));
    let v6_together = default(host_of(&[
        ("ext1", &["203.0.113.10/24", "2001:db8::1/64"]),
        ("ext2", &["198.51.100.10/24", "2001:db8::2/64"]),
        ("int0", &["10.0.0.2/24"]),
    ]));
    assert_eq!(arp(&apart, &config()), [""; 0]);
    assert_eq!(arp(&together, &config()), ["ext1", "ext2"]);
    assert_eq!(arp(&with_default, &config()), ["ext1"]);
    assert_eq!(arp(&v6_together, &config()), [""; 0], "IPv6 has no ARP");
    let configured = GatewayConfig { default_interface: Some("int0".into()), ..config() };
    assert_eq!(arp(&HostState { routes: vec![], ..with_default }, &configured), ["ext1"]);
}

/// With IPv6 forwarding on, 1 means no: those that listen to router advertisements get 2.
#[test]
fn router_advertisements_are_kept_where_we_switch_forwarding_on() {
    let accept = |name: &str| SysctlKey::AcceptRouterAdvertisements(name.into());
    let state = |value: &str, original: Option<&str>| SysctlState {
        value: value.into(),
        original: original.map(Into::into),
    };
    let wanted = |forwards: SysctlState, int0: SysctlState| {
        let mut kernel = observed(&host(), &config(), "0");
        kernel.sysctls.insert(forwarding(Family::V6), forwards);
        kernel.sysctls.insert(accept("int0"), int0);
        let compiled =
            compile(&super::cluster([]), &host(), &config(), &UplinkNumbers::new(), &kernel);
        compiled.dataplane.sysctls.get(&accept("int0")).cloned()
    };
    let two = Some("2".to_owned());
    assert_eq!(wanted(state("0", None), state("1", None)), two);
    assert_eq!(wanted(state("1", Some("0")), state("2", Some("1"))), two, "and stays so");
    assert_eq!(wanted(state("0", None), state("0", None)), None, "it did not listen");
    assert_eq!(wanted(state("0", None), state("2", None)), None, "it listens anyway");
    assert_eq!(
        wanted(state("1", None), state("1", None)),
        None,
        "others forward: 1 means no by now"
    );
    assert_eq!(wanted(state("1", Some("0")), state("", Some("1"))), None, "the link is gone");
    assert!(sysctl_scope(&host(), &config()).contains(&accept("int0")));
}

/// T4: what we opened we close for others.
#[test]
fn forwarding_is_closed_only_where_we_opened_it() {
    let state = |value: &str, original: Option<&str>| SysctlState {
        value: value.into(),
        original: original.map(Into::into),
    };
    for (v4, v6, expected) in [
        (state("0", None), state("0", None), vec![Family::V4, Family::V6]),
        (state("1", None), state("1", None), vec![]),
        (state("1", Some("0")), state("1", None), vec![Family::V4]),
        (state("1", None), state("1", Some("0")), vec![Family::V6]),
    ] {
        let mut kernel = observed(&host(), &config(), "0");
        kernel.sysctls.insert(forwarding(Family::V4), v4);
        kernel.sysctls.insert(forwarding(Family::V6), v6);
        let compiled =
            compile(&super::cluster([]), &host(), &config(), &UplinkNumbers::new(), &kernel);
        let closed: Vec<Family> = compiled.dataplane.closed_forwarding.into_iter().collect();
        assert_eq!(closed, expected);
    }
}

/// What is on no uplink is inside, and link-local addresses are never external.
#[test]
fn addresses_are_external_or_inside() {
    let compiled = compiled_on(&host(), &config(), []);
    let external = compiled.dataplane.external_addresses(Family::V6);
    assert_eq!(external, [ip("2001:db8:1::10")].into());
    assert_eq!(compiled.dataplane.inside_addresses, [ip("10.0.0.2"), ip("fd00::2")].into());
    let subnets = &compiled.dataplane.uplinks["ext1"].connected;
    assert_eq!(*subnets, [net("203.0.113.0/24"), net("2001:db8:1::/64")].into());
}

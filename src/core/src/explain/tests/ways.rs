//! Verdict, cause, Mapping and field of every kind of way.

use std::sync::Arc;

use super::*;

const EXT1: &str = "203.0.113.10";
const EXT2: &str = "198.51.100.10";
const CLIENT: &str = "192.0.2.5";

fn field(told: &Explanation) -> &str {
    told.field.as_deref().unwrap_or_default()
}

/// T1, T5, T7, T11.
#[test]
fn a_delivered_packet_names_endpoint_source_and_the_way_of_the_reply() {
    let told = ask(&scene([mapping("echo", &[EXT1])]), CLIENT, EXT1, 83);
    assert_eq!((told.verdict, told.cause), (Verdict::Delivered, None));
    assert_eq!((told.mapping.clone(), field(&told)), (Some(key("echo")), "spec.ports[0]"));
    let [way] = told.endpoints.as_slice() else { panic!("{told:#?}") };
    assert_eq!(way.endpoint.to_string(), "10.1.0.7:8083", "the offset in the range is kept");
    assert_eq!(way.source, Some("10.0.0.2".parse().unwrap()));
    let reply = way.reply.as_ref().expect("a way back");
    assert_eq!(reply.interface.as_deref(), Some("ext1"));
    assert_eq!(reply.gateway, Some("203.0.113.1".parse().unwrap()));
    assert_eq!(reply.source, EXT1.parse::<std::net::IpAddr>().unwrap());
}

/// T7, T12: masquerade as the Mapping says, but always for who comes from inside.
#[test]
fn without_masquerade_the_endpoint_sees_the_client_unless_it_is_inside() {
    let mut plain = mapping("echo", &[EXT1]);
    plain.spec.masquerade = Some(false);
    let scene = scene([plain]);
    for (client, seen) in [(CLIENT, CLIENT), ("10.0.0.77", "10.0.0.2")] {
        let told = ask(&scene, client, EXT1, 80);
        assert_eq!(told.endpoints[0].source, Some(seen.parse().unwrap()), "{client}");
    }
}

/// Where a packet comes from follows from its addresses, and can be said.
#[test]
fn the_arrival_is_derived_or_as_asked() {
    let scene = scene([mapping("echo", &[EXT1])]);
    let interface = |name: &str| Origin::Interface(name.into());
    let cases = [
        (CLIENT, EXT1, interface("ext1")),
        (CLIENT, EXT2, interface("ext2")),
        (CLIENT, "203.0.113.99", interface("ext1")),
        ("198.51.100.77", EXT1, interface("ext2")),
        ("10.0.0.77", EXT1, interface("eth0")),
        ("10.1.0.7", EXT1, interface("eth0")),
        ("10.0.0.2", EXT1, Origin::Local),
    ];
    for (source, destination, origin) in cases {
        let told = ask(&scene, source, destination, 80);
        assert_eq!(told.packet.origin, Some(origin), "{source} {destination}");
    }
    let asked = Question { origin: Some(interface("ext2")), ..question(CLIENT, EXT1, 80) };
    let told = explain(&scene, &asked);
    assert_eq!(told.endpoints[0].reply.as_ref().unwrap().interface.as_deref(), Some("ext2"));
}

/// T2: the nearest entry is the one that shares most bits.
#[test]
fn a_refused_source_is_told_the_nearest_entry() {
    let mut narrow = mapping("echo", &[EXT1, "2001:db8:1::10"]);
    narrow.spec.allowed_sources =
        ["10.9.0.0/16", "192.0.2.128/25", "192.0.0.0/24"].map(str::to_owned).to_vec();
    let scene = scene([narrow]);
    let told = ask(&scene, CLIENT, EXT1, 80);
    assert_eq!((told.verdict, told.cause), (Verdict::Refused, Some(Cause::SourceRefused)));
    assert_eq!(field(&told), "spec.allowedSources[1]");
    let told = ask(&scene, "192.0.2.200", EXT1, 80);
    assert_eq!(told.verdict, Verdict::Delivered);
    let told = ask(&scene, "2001:db8::5", "2001:db8:1::10", 80);
    assert_eq!((told.verdict, field(&told)), (Verdict::Refused, "spec.allowedSources"));
    assert!(told.summary.contains("it has none of IPv6"), "{}", told.summary);
}

/// T3, T19: who has the address with another port, who is rejected, who is being deleted.
#[test]
fn an_endpoint_that_nobody_has_is_told_who_comes_nearest() {
    let mut late = mapping("late", &[EXT1]);
    late.spec.ports.push(MappingPort { port: Some(99), ..Default::default() });
    let mut wrong = mapping("wrong", &[EXT2, "127.0.0.1"]);
    wrong.spec.ports[0].port = Some(70);
    let scene = scene([mapping("echo", &[EXT1, "203.0.113.99", "10.0.0.2"]), late, wrong]);
    let cases = [
        (EXT1, 88, Cause::PortNotMapped, "echo", "spec.ports[0]"),
        (EXT1, 99, Cause::Conflict, "late", "spec.ports[1]"),
        (EXT2, 72, Cause::InvalidMapping, "wrong", "spec.addresses[1]"),
        ("203.0.113.99", 80, Cause::AddressNotHere, "echo", "spec.addresses[1]"),
        ("10.0.0.2", 80, Cause::AddressNotHere, "echo", "spec.addresses[2]"),
    ];
    for (destination, port, cause, name, expected) in cases {
        let told = ask(&scene, CLIENT, destination, port);
        assert_eq!(told.cause, Some(cause), "{destination} {port}: {told:#?}");
        assert_eq!((told.mapping.clone(), field(&told)), (Some(key(name)), expected));
        assert!(!told.mend.is_empty(), "{destination} {port}");
    }
    let told = ask(&scene, CLIENT, EXT2, 22);
    assert_eq!((told.cause, told.mapping), (Some(Cause::AddressNotMapped), None));
    // The winner's packets are delivered, and the headline says who wants them too.
    let told = ask(&scene, CLIENT, EXT1, 80);
    assert_eq!(told.verdict, Verdict::Delivered);
    assert!(told.summary.contains("not as default/late wants"), "{}", told.summary);
}

#[test]
fn a_mapping_that_is_being_deleted_is_named() {
    let deleted = Mapping { deleting: true, ..mapping("echo", &[EXT1]) };
    let told = ask(&scene([deleted]), CLIENT, EXT1, 80);
    assert_eq!((told.cause, told.mapping), (Some(Cause::MappingDeleted), Some(key("echo"))));
}

/// T3: without the guard it reaches the host itself.
#[test]
fn the_guard_decides_on_what_no_mapping_has() {
    let mut scene = scene([mapping("echo", &[EXT1])]);
    assert_eq!(ask(&scene, CLIENT, EXT1, 22).verdict, Verdict::Dropped);
    scene.config.guard = false;
    let told = ask(&scene, CLIENT, EXT1, 22);
    assert_eq!((told.verdict, told.cause), (Verdict::Host, Some(Cause::PortNotMapped)));
}

/// T6, T9: what exists is named beside what is missing.
#[test]
fn nobody_home_says_what_there_is_instead() {
    let change = |spec: fn(&mut MappingSpec)| {
        let mut changed = mapping("echo", &[EXT1, "2001:db8:1::10"]);
        spec(&mut changed.spec);
        scene([changed])
    };
    let to_v6 = ("2001:db8::5", "2001:db8:1::10");
    let cases = [
        (change(|s| s.service_name = "eko".into()), (CLIENT, EXT1), Cause::NoService, "has: echo"),
        (
            change(|s| s.ports[0].service_port = Some(PortReference::Name("web".into()))),
            (CLIENT, EXT1),
            Cause::NoServicePort,
            "http tcp/80",
        ),
        (change(|_| ()), to_v6, Cause::NoEndpoint, "no ready IPv6 endpoint"),
    ];
    for (scene, (source, destination), cause, words) in cases {
        let told = ask(&scene, source, destination, 80);
        assert_eq!((told.verdict, told.cause), (Verdict::Answered, Some(cause)));
        assert!(told.summary.contains(words), "{}", told.summary);
    }
    let mut all_down = scene([mapping("echo", &[EXT1])]);
    for slice in all_down.cluster.slices.values_mut() {
        let slice = Arc::make_mut(slice);
        slice.endpoints.iter_mut().for_each(|e| (e.ready, e.serving) = (false, false));
    }
    let told = ask(&all_down, CLIENT, EXT1, 80);
    assert!(told.summary.contains("not ready: 10.1.0.7:8080, 10.1.0.8:8080"), "{}", told.summary);
}

/// T11.
#[test]
fn a_client_that_nothing_leads_back_to_is_not_served() {
    let mut scene = scene([mapping("echo", &[EXT1])]);
    scene.config.gateway_offset = 300;
    let told = ask(&scene, CLIENT, EXT1, 80);
    assert_eq!((told.verdict, told.cause), (Verdict::Dropped, Some(Cause::NoReturnRoute)));
    let on_link = ask(&scene, "203.0.113.77", EXT1, 80);
    assert_eq!(on_link.verdict, Verdict::Delivered, "a client on the link needs no gateway");
    assert_eq!(on_link.endpoints[0].reply.as_ref().unwrap().gateway, None);
}

/// T13, T4.
#[test]
fn a_pod_leaves_by_egress_or_not_at_all() {
    let mut out = mapping("echo", &[EXT2]);
    out.spec.egress = Some(true);
    let with_egress = scene([out]);
    let told = ask(&with_egress, "10.1.0.7", "9.9.9.9", 443);
    assert_eq!((told.verdict, told.mapping.clone()), (Verdict::Egress, Some(key("echo"))));
    let egress = told.egress.expect("an egress");
    assert_eq!(egress.interface.as_deref(), Some("ext2"));
    assert_eq!(egress.source, EXT2.parse::<std::net::IpAddr>().unwrap());
    let inside = ask(&with_egress, "10.1.0.7", "10.0.0.50", 443);
    assert_eq!(inside.verdict, Verdict::Passes, "a destination inside is no egress");
    let other = ask(&with_egress, "10.1.0.99", "198.51.100.77", 443);
    assert_eq!((other.verdict, other.cause), (Verdict::Dropped, Some(Cause::NoTransit)));
}

#[test]
fn a_host_without_uplinks_says_so_first() {
    let mut scene = scene([mapping("echo", &[EXT1])]);
    scene.config.uplink_pattern = "wan".into();
    let told = ask(&scene, CLIENT, EXT1, 80);
    assert_eq!((told.verdict, told.cause), (Verdict::Dropped, Some(Cause::NoUplink)));
}

#[test]
fn a_scene_survives_a_file() {
    let scene = scene([mapping("echo", &[EXT1])]);
    let text = serde_yaml_ng::to_string(&scene).unwrap();
    assert_eq!(serde_yaml_ng::from_str::<Scene>(&text).unwrap(), scene);
    let told = ask(&scene, CLIENT, EXT1, 80);
    let text = serde_json::to_string(&told).unwrap();
    assert_eq!(serde_json::from_str::<Explanation>(&text).unwrap(), told);
}

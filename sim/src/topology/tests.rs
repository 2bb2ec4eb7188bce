//! Tests of the descriptions themselves.

use super::*;

#[test]
fn standard_topologies_have_no_problems() {
    for office in [false, true] {
        assert_eq!(standard(StandardOptions { office }).problems(), []);
    }
    assert_eq!(single().problems(), []);
    assert_eq!(shared_subnet().problems(), []);
}

#[test]
fn published_addresses_are_those_of_the_hosts() {
    let topology = standard(StandardOptions { office: true });
    let of =
        |host: &str| -> Vec<String> { topology.addresses(host).map(|a| a.to_string()).collect() };
    for (host, address) in [
        ("client1", addresses::CLIENT1_V4),
        ("client1", addresses::CLIENT1_V6),
        ("client1", addresses::CLIENT1_REFUSED_V4),
        ("client1", addresses::CLIENT1_REFUSED_V6),
        ("client2", addresses::CLIENT2_V4),
        ("client2", addresses::CLIENT2_V6),
        ("client2", addresses::CLIENT2_REFUSED_V4),
        ("client2", addresses::CLIENT2_REFUSED_V6),
        ("neighbour", addresses::NEIGHBOUR_V4),
        ("neighbour", addresses::NEIGHBOUR_V6),
        ("gateway", addresses::EXT1_V4[1]),
        ("gateway", addresses::EXT1_V6[1]),
        ("gateway", addresses::EXT2_V4[0]),
        ("gateway", addresses::EXT2_V6[0]),
        ("gateway", addresses::GATEWAY_V4),
        ("gateway", addresses::GATEWAY_V6),
        ("pod3", addresses::PODS_V4[2]),
        ("pod3", addresses::PODS_V6[2]),
        ("office", addresses::OFFICE_V4),
        ("office", addresses::OFFICE_V6),
    ] {
        assert!(of(host).contains(&address.to_owned()), "{address} on {host}: {:?}", of(host));
    }
}

#[test]
fn the_gateway_has_a_default_route_only_with_an_office() {
    let has_default = |office| {
        standard(StandardOptions { office })
            .routes
            .iter()
            .any(|r| r.host == "gateway" && r.destination.prefix_len() == 0)
    };
    assert!(!has_default(false));
    assert!(has_default(true));
}

#[test]
fn every_problem_is_reported_at_once() {
    let mut topology = Topology::default();
    topology.add_host(Host::new("a"));
    topology.add_host(Host::new("a"));
    topology.attach("wire", "a", "eth0", &[]);
    topology.attach("wire", "a", "eth0", &[]);
    topology.attach("end", "b", "an-interface-too-long", &[]);
    topology.route("c", "0.0.0.0/0".parse().unwrap(), "::1".parse().unwrap());
    let expected = [
        "host a is described twice",
        "host a has two interfaces eth0",
        "segment end connects fewer than two interfaces",
        "\"an-interface-too-long\" is no usable interface name: lower-case letters, digits and '-', at most 15",
        "segment end names host b, which is not described",
        "the route to 0.0.0.0/0 names host c, which is not described",
        "the route of c to 0.0.0.0/0 has a next hop of the other family",
    ];
    let found: Vec<String> = topology.problems().iter().map(ToString::to_string).collect();
    assert_eq!(found, expected);
}

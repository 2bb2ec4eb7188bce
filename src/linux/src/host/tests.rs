use super::*;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{RouteAddress, RouteNextHop};

fn address(ip: &str, flags: AddressFlags, scope: AddressScope) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.prefix_len = 24;
    message.header.scope = scope;
    message.attributes.push(AddressAttribute::Address(ip.parse().expect("an address")));
    message.attributes.push(AddressAttribute::Flags(flags));
    message
}

fn main_route(destination: &str) -> RouteMessage {
    let mut message = RouteMessage::default();
    let net: IpNet = destination.parse().expect("a prefix");
    message.header.address_family = AddressFamily::Inet;
    message.header.destination_prefix_length = net.prefix_len();
    message.header.table = 254;
    message.header.kind = RouteType::Unicast;
    message.attributes.push(RouteAttribute::Destination(RouteAddress::from(net.addr())));
    message
}

fn hop(index: u32, gateway: [u8; 4]) -> RouteNextHop {
    let mut hop = RouteNextHop::default();
    hop.interface_index = index;
    hop.attributes = vec![RouteAttribute::Gateway(RouteAddress::Inet(gateway.into()))];
    hop
}

#[test]
fn an_address_that_may_not_be_used_yet_is_left_out() {
    let usable =
        |flags| decode_address(&address("192.0.2.1", flags, AddressScope::Universe)).is_some();
    assert!(usable(AddressFlags::Permanent));
    assert!(!usable(AddressFlags::Permanent | AddressFlags::Tentative));
    assert!(!usable(AddressFlags::Permanent | AddressFlags::Dadfailed));
    assert!(usable(AddressFlags::Tentative | AddressFlags::Optimistic));
}

#[test]
fn scopes_link_and_host_are_no_external_addresses() {
    let cases = [
        (AddressScope::Universe, false),
        (AddressScope::Site, false),
        (AddressScope::Link, true),
        (AddressScope::Host, true),
    ];
    for (scope, link_local) in cases {
        let message = address("192.0.2.1", AddressFlags::Permanent, scope);
        let decoded = decode_address(&message).expect("usable");
        assert_eq!(decoded.link_local, link_local, "{scope:?}");
    }
}

#[test]
fn the_own_end_of_a_point_to_point_link_counts() {
    let mut message = address("192.0.2.2", AddressFlags::Permanent, AddressScope::Universe);
    message.attributes.push(AddressAttribute::Local("192.0.2.1".parse().expect("an address")));
    let decoded = decode_address(&message).expect("usable");
    assert_eq!(decoded.address.addr().to_string(), "192.0.2.1");
}

#[test]
fn a_multipath_route_is_one_route_for_each_way() {
    let names = [(2, "eth0".to_owned()), (3, "eth1".to_owned())].into();
    let mut message = main_route("10.0.0.0/8");
    message
        .attributes
        .push(RouteAttribute::MultiPath(vec![hop(2, [192, 0, 2, 1]), hop(3, [198, 51, 100, 1])]));
    message.attributes.push(RouteAttribute::Priority(50));
    let routes = decode_routes(Family::V4, &message, &names);
    let found: Vec<_> =
        routes.iter().map(|r| (r.interface.as_str(), r.gateway.map(|g| g.to_string()))).collect();
    let expected = [("eth0", Some("192.0.2.1".into())), ("eth1", Some("198.51.100.1".into()))];
    assert_eq!(found, expected);
    assert!(routes.iter().all(|r| r.metric == 50));
}

#[test]
fn routes_of_ours_of_other_tables_and_blackholes_are_left_out() {
    let names = [(2, "eth0".to_owned())].into();
    let mut plain = main_route("10.0.0.0/8");
    plain.attributes.push(RouteAttribute::Oif(2));
    assert_eq!(decode_routes(Family::V4, &plain, &names).len(), 1);

    let mut ours = plain.clone();
    ours.header.protocol = ROUTE_PROTOCOL.into();
    let mut elsewhere = plain.clone();
    elsewhere.attributes.push(RouteAttribute::Table(7001));
    let mut blackhole = plain;
    blackhole.header.kind = RouteType::BlackHole;
    for message in [ours, elsewhere, blackhole] {
        assert_eq!(decode_routes(Family::V4, &message, &names), []);
    }
}

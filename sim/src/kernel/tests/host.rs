//! The host's own links, addresses and routes.

use smartnat_core::model::HostRoute;

use super::*;

fn route(destination: &str, gateway: Option<&str>, interface: &str, metric: u32) -> HostRoute {
    HostRoute {
        destination: destination.parse().expect("a network"),
        gateway: gateway.map(|g| g.parse().expect("an address")),
        interface: interface.into(),
        metric,
    }
}

#[test]
fn connected_and_configured_routes_are_reported() {
    let mut kernel = host();
    kernel.add_host_route("0.0.0.0/0", Some("192.0.2.1"), "ext1");
    kernel.learn_default_route("fe80::1", "ext1");
    assert_eq!(
        kernel.host().routes,
        [
            route("0.0.0.0/0", Some("192.0.2.1"), "ext1", 0),
            route("192.0.2.0/24", None, "ext1", 0),
            route("::/0", Some("fe80::1"), "ext1", 1024),
            route("2001:db8::/64", None, "ext1", 256),
        ]
    );
    kernel.remove_host_route("0.0.0.0/0");
    assert_eq!(kernel.host().default_interface(Family::V4), None);
}

#[test]
fn a_link_that_goes_down_keeps_ipv4_addresses_alone() {
    let mut kernel = host();
    kernel.add_host_route("0.0.0.0/0", Some("192.0.2.1"), "ext1");
    kernel.set_link_up("ext1", false);
    let down = kernel.host();
    assert!(!down.links["ext1"].up && down.routes.is_empty());
    kernel.set_link_up("ext1", true);
    let addresses: Vec<_> =
        kernel.host().links["ext1"].addresses.iter().map(|a| a.address.to_string()).collect();
    assert_eq!(addresses, ["192.0.2.10/24"]);
    assert_eq!(kernel.host().routes, [route("192.0.2.0/24", None, "ext1", 0)]);
}

#[test]
fn a_link_without_carrier_is_not_up_and_keeps_its_routes() {
    let mut kernel = host();
    let routes = kernel.host().routes;
    kernel.set_carrier("ext1", false);
    assert!(!kernel.host().links["ext1"].up);
    assert_eq!(kernel.host().routes, routes);
}

#[test]
fn loopback_and_link_local_addresses_are_no_external_ones() {
    let mut kernel = host();
    kernel.add_address("ext1", "fe80::10/64");
    kernel.add_address("ext1", "169.254.0.1/16");
    let host = kernel.host();
    let external: Vec<_> = host
        .links
        .values()
        .flat_map(|l| &l.addresses)
        .filter(|a| !a.link_local)
        .map(|a| a.address.addr().to_string())
        .collect();
    assert_eq!(external, ["192.0.2.10", "2001:db8::10"]);
    assert_eq!(host.links["lo"].index, 1);
}

#[test]
fn a_removed_link_comes_back_as_another() {
    let mut kernel = host();
    let index = kernel.host().links["ext1"].index;
    kernel.remove_link("ext1");
    assert!(!kernel.host().links.contains_key("ext1"));
    kernel.add_link("ext1");
    assert_ne!(kernel.host().links["ext1"].index, index);
    assert!(kernel.host().links["ext1"].addresses.is_empty());
}

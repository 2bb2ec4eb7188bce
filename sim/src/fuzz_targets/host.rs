//! Hosts, settings and what happens to a host, from choices.

use smartnat_core::model::{Backend, Family, GatewayConfig, UplinkGateway};
use smartnat_core::objects::{
    ChainName, RoutingRule, RuleAction, SetElement, SetKind, SetSpec, SysctlKey, XtRule, XtTable,
    XtTableId, XtTarget,
};
use smartnat_core::ops::{Domain, NetworkOp, Transaction};

use super::choices::Choices;
use crate::SimKernel;
use crate::kernel::{Policy, XtFlavour};

/// Links that may come and go, with the addresses that they may have.
const LINKS: [(&str, &[&str]); 3] = [
    ("ext1", &["203.0.113.10/24", "203.0.113.11/24", "2001:db8:1::10/64"]),
    ("ext2", &["198.51.100.10/24", "2001:db8:2::10/64", "203.0.113.12/24"]),
    ("int0", &["10.0.0.2/24", "fd00::2/64"]),
];
/// Default routes that others may configure.
const DEFAULT_ROUTES: [(&str, &str, &str); 4] = [
    ("0.0.0.0/0", "10.0.0.1", "int0"),
    ("::/0", "fd00::1", "int0"),
    ("0.0.0.0/0", "203.0.113.1", "ext1"),
    ("::/0", "2001:db8:1::1", "ext1"),
];

/// Settings that pass their own check.
pub(super) fn config(c: &mut Choices<'_>) -> GatewayConfig {
    let choice = c.below(256);
    let backend = if choice < 128 { Backend::Iptables } else { Backend::Nftables };
    let uplink_pattern = "ext[0-9]+".into();
    let mut config = GatewayConfig { uplink_pattern, backend, ..GatewayConfig::default() };
    match choice % 8 {
        1 => config.mark_mask = c.pick(&[0xffff_ffff, 0x1f, 0x8421_1248]),
        2 => config.egress = true,
        3 => config.masquerade = false,
        4 => config.guard = false,
        5 => {
            config.uplink_names = vec!["ext1".into()];
            config.guard_default_interface = c.flag();
        }
        6 => config.gateway_offset = c.pick(&[-1, 2, i32::MAX, i32::MIN]),
        7 => {
            let gateway = UplinkGateway {
                ipv4: "203.0.113.254".parse().ok(),
                ipv6: c.flag().then(|| "2001:db8:9::1".parse().ok()).flatten(),
            };
            config.gateways.insert("ext1".into(), gateway);
        }
        _ => {}
    }
    config
}

/// A host with up to two uplinks and a cluster side, that others use too.
pub(super) fn kernel(c: &mut Choices<'_>) -> SimKernel {
    let flavour = if c.flag() { XtFlavour::Legacy } else { XtFlavour::Nft };
    let mut kernel = SimKernel::new(flavour);
    for (name, addresses) in LINKS {
        kernel.add_link(name);
        addresses.iter().take(2).for_each(|address| kernel.add_address(name, address));
    }
    kernel.add_address("ext1", "2001:db8:1::10/64");
    kernel.add_host_route("0.0.0.0/0", Some("10.0.0.1"), "int0");
    for _ in 0..c.below(4) {
        happens(c, &mut kernel);
    }
    if c.flag() {
        others_are_here(&mut kernel);
    }
    if c.rarely(8) {
        kernel.set_families([c.pick(&Family::ALL)]);
    }
    kernel
}

/// Chains, rules, sets, routing rules, routes and settings of others.
fn others_are_here(kernel: &mut SimKernel) {
    let nat = XtTableId { family: Family::V4, table: XtTable::Nat };
    let services = ChainName("KUBE-SERVICES".into());
    let put = NetworkOp::PutChain { chain: services.clone(), rules: Vec::new() };
    let _ = kernel.interfere(&Transaction { domain: Domain::Xtables(nat), ops: vec![put] });
    kernel.foreign_append(nat, "PREROUTING", &XtRule::new(XtTarget::Jump(services)));
    let filter = XtTableId { family: Family::V4, table: XtTable::Filter };
    kernel.foreign_policy(filter, "FORWARD", Policy::Drop);
    let spec =
        SetSpec { kind: SetKind::HashNet, family: Family::V4, timeout: None, max_elements: 8 };
    if let Ok(net) = "192.0.2.0/24".parse() {
        kernel.foreign_set("others", spec, &[SetElement::Net(net)]);
    }
    for priority in [100, 20_001] {
        let action = RuleAction::Lookup { table: 100, suppress_prefix: None };
        let rule = RoutingRule {
            family: Family::V4,
            priority,
            in_interface: None,
            mark: None,
            destination: None,
            action,
        };
        kernel.foreign_rule(rule, 4);
    }
    let _ = kernel.write_sysctl(&SysctlKey::Forwarding(Family::V4), "1");
}

/// Something happens to links, addresses or routes.
pub(super) fn happens(c: &mut Choices<'_>, kernel: &mut SimKernel) -> String {
    let (name, addresses) = c.pick(&LINKS);
    let there = kernel.links().get(name).cloned();
    match (c.below(6), there) {
        (0, Some(link)) => {
            kernel.set_carrier(name, !link.carrier);
            format!("carrier of {name}: {}", !link.carrier)
        }
        (1, Some(link)) => {
            kernel.set_link_up(name, !link.up);
            format!("{name} up: {}", !link.up)
        }
        (2, Some(_)) => {
            kernel.remove_link(name);
            format!("{name} goes")
        }
        (_, None) => {
            kernel.add_link(name);
            for address in addresses {
                kernel.add_address(name, address);
            }
            format!("{name} comes")
        }
        (3 | 4, Some(link)) => {
            let text = c.pick(addresses);
            let Ok(address) = text.parse::<ipnet::IpNet>() else { return String::new() };
            if link.addresses.iter().any(|a| a.address == address) {
                kernel.remove_address(name, address.addr());
                format!("{name} loses {text}")
            } else {
                kernel.add_address(name, text);
                format!("{name} gets {text}")
            }
        }
        _ => default_route(c, kernel),
    }
}

/// A default route comes or goes.
fn default_route(c: &mut Choices<'_>, kernel: &mut SimKernel) -> String {
    let (destination, gateway, interface) = c.pick(&DEFAULT_ROUTES);
    let there = kernel.host().routes.iter().any(|r| {
        r.destination.to_string() == destination && r.interface == interface && r.gateway.is_some()
    });
    if there {
        kernel.remove_host_route(destination);
        return format!("no default route {destination}");
    }
    if !kernel.links().get(interface).is_some_and(|link| link.up) {
        return "nothing".into();
    }
    kernel.add_host_route(destination, Some(gateway), interface);
    format!("default route {destination} by {interface}")
}

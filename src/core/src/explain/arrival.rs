//! Where a packet comes from, and what keeps it out at once.

use std::net::IpAddr;

use super::Scene;
use super::outcome::{Cause, Origin, Question, Verdict};
use super::route::{LOOPBACK, Way, holder};
use super::walk::{End, Walk, listed};
use crate::compile::Compiled;
use crate::model::{Family, HostState};

/// Where it comes from as asked, else as its addresses tell, in a sentence.
pub(super) fn origin(scene: &Scene, compiled: &Compiled, question: &Question) -> (Origin, String) {
    let Question { source, destination, .. } = question;
    let on = |name: &str| {
        let kind =
            if compiled.dataplane.uplinks.contains_key(name) { "uplink" } else { "interface" };
        format!("{kind} {name}")
    };
    match &question.origin {
        Some(Origin::Local) => (Origin::Local, "a process of this host sends it (as asked)".into()),
        Some(Origin::Interface(name)) => {
            (Origin::Interface(name.clone()), format!("it arrives on {} (as asked)", on(name)))
        }
        None => match derived(scene, compiled, *source, *destination) {
            None => {
                (Origin::Local, format!("a process of this host sends it: {source} is its address"))
            }
            Some((name, why)) => {
                let text = format!("it arrives on {} ({why}; else say --interface)", on(&name));
                (Origin::Interface(name), text)
            }
        },
    }
}

/// The interface, and why this one; `None`: the host itself.
fn derived(
    scene: &Scene,
    compiled: &Compiled,
    source: IpAddr,
    destination: IpAddr,
) -> Option<(String, String)> {
    let host = &scene.host;
    if super::route::is_own(host, source) {
        return None;
    }
    let held_by = holder(host, destination);
    if let Some(name) = on_link(host, source, held_by) {
        return Some((name.to_owned(), format!("{source} is on its link")));
    }
    let route = host.route_to(source);
    if let Some(route) = route.filter(|r| r.destination.prefix_len() > 0) {
        return Some((route.interface.clone(), format!("the route to {source} leads there")));
    }
    if let Some(route) = route.filter(|_| is_endpoint(compiled, source)) {
        return Some((
            route.interface.clone(),
            format!("{source} is an endpoint, and the route to it leads there"),
        ));
    }
    let uplinks = &compiled.dataplane.uplinks;
    if let Some(name) = held_by.filter(|name| uplinks.contains_key(*name)) {
        return Some((name.to_owned(), format!("it has {destination}")));
    }
    let near = uplinks.iter().find(|(_, u)| u.connected.iter().any(|n| n.contains(&destination)));
    if let Some((name, _)) = near {
        return Some((name.clone(), format!("{destination} is of its subnet")));
    }
    let default = route.map(|r| (r.interface.clone(), "the default route leads there".to_owned()));
    let first = || uplinks.keys().next().map(|name| (name.clone(), "the first uplink".to_owned()));
    default.or_else(first).or_else(|| Some(("?".to_owned(), "nothing tells where".to_owned())))
}

/// The interface on whose link an address is; of several the preferred one.
fn on_link<'a>(host: &'a HostState, address: IpAddr, preferred: Option<&str>) -> Option<&'a str> {
    let mut found = host
        .links
        .iter()
        .filter(|(_, link)| link.addresses.iter().any(|a| a.address.contains(&address)))
        .map(|(name, _)| name.as_str())
        .peekable();
    let first = found.peek().copied();
    found.find(|name| Some(*name) == preferred).or(first)
}

fn is_endpoint(compiled: &Compiled, address: IpAddr) -> bool {
    let family = Family::of(&address);
    let ports = compiled.resolved.values().flatten();
    ports.flat_map(|p| p.families.of(family).listed.keys()).any(|e| e.address == address)
}

/// What keeps a packet out before anything of ours sees it.
pub(super) fn obstacle(walk: &Walk<'_>) -> Option<End> {
    let host = &walk.scene.host;
    let dropped = |cause, text: String| End::because(Verdict::Dropped, cause, text);
    if walk.dataplane().uplinks.is_empty() {
        let why = walk.compiled.warnings.first().cloned().unwrap_or_default();
        let mend = "name the external interfaces with --uplink NAME or --uplink-pattern REGEX";
        return Some(dropped(Cause::NoUplink, why).mend(mend));
    }
    if !host.has_family(walk.family()) {
        let text = format!("this host does not have {}", walk.family());
        return Some(dropped(Cause::FamilyOff, text));
    }
    let Some(name) = walk.input() else { return unsendable(walk) };
    let Some(link) = host.links.get(name) else {
        let known = listed(host.links.keys());
        let text = format!("this host has no interface {name} (it has {known})");
        return Some(dropped(Cause::InterfaceDown, text).mend("correct --interface"));
    };
    if !link.up {
        let text = format!("interface {name} is down or has no carrier");
        let mend = format!("ip link set {name} up, and look at its cable or peer");
        return Some(dropped(Cause::InterfaceDown, text).mend(mend));
    }
    let source = walk.question.source;
    let own = walk.router.look_up(source, walk.uplink_mark(), LOOPBACK) == Some(Way::Local);
    (own && source.is_ipv4()).then(|| {
        let text = format!("{source} is an address of this host: from elsewhere it is forged");
        dropped(Cause::Martian, text)
    })
}

/// A process must have a route before anything of ours sees its packet.
fn unsendable(walk: &Walk<'_>) -> Option<End> {
    let to = walk.question.destination;
    walk.router.look_up(to, 0, LOOPBACK).is_none().then(|| {
        let text = format!("no route of this host leads to {to}");
        End::because(Verdict::Dropped, Cause::NoRoute, text)
            .mend(format!("ip route add {to} via GATEWAY"))
    })
}

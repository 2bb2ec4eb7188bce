//! Table mangle: marks for the return path (T11), guard (T3), no transit (T4), the silent drop (T2).
//!
//! These drops are here and not in filter, where an earlier ACCEPT of somebody else would undo them.

use super::TableBuilder;
use super::rules::{
    Narrow, back, comment, destination_port, drop, invalid, known, new, new_without_syn, original,
    packet_mark, reply, rule, source_in, unknown,
};
use crate::dataplane::Dataplane;
use crate::marks::{MarkLayout, connmark};
use crate::model::{Family, Protocol};
use crate::names::{self, fixed_chain};
use crate::objects::{
    BuiltinHook, KernelState, SetDirection, XtMatch, XtRule, XtTable, XtTableState, XtTarget,
};

const MARK: &str = "MARK";
const OUT: &str = "OUT";
const GUARD: &str = "GUARD";
const GUARD_UPLINK: &str = "GUARD-UPLINK";
const TRANSIT: &str = "TRANSIT";
const FROM_UPLINK: &str = "FROM-UPLINK";
const TO_UPLINK: &str = "TO-UPLINK";
const LEAVE: &str = "LEAVE";
const LEAVE_UPLINK: &str = "LEAVE-UPLINK";

pub(in crate::lower) fn table(dataplane: &Dataplane, family: Family) -> XtTableState {
    let mut table = TableBuilder::default();
    let marks = dataplane.marks;
    table.hooked_chain(&[BuiltinHook::Prerouting], fixed_chain(MARK), mark(dataplane, family));
    table.hooked_chain(&[BuiltinHook::Output], fixed_chain(OUT), out(marks, family));
    table.hooked_chain(&[BuiltinHook::Input], fixed_chain(GUARD), guard(dataplane));
    table.hooked_chain(&[BuiltinHook::Forward], fixed_chain(TRANSIT), transit(dataplane, family));
    table.hooked_chain(&[BuiltinHook::Postrouting], fixed_chain(LEAVE), leave(dataplane));
    if dataplane.uplinks.values().any(|u| u.guarded) {
        table.chain(fixed_chain(GUARD_UPLINK), guard_uplink(marks, family));
    }
    if dataplane.uplinks.values().any(|u| u.dedicated) {
        table.chain(fixed_chain(FROM_UPLINK), from_uplink(marks));
        table.chain(fixed_chain(TO_UPLINK), to_uplink(dataplane, family));
        table.chain(fixed_chain(LEAVE_UPLINK), leave_uplink(marks, family));
    }
    table.0
}

fn jump(name: &str) -> XtRule {
    rule(XtTarget::Jump(fixed_chain(name)))
}

fn dedicated(dataplane: &Dataplane) -> impl Iterator<Item = &String> {
    dataplane.uplinks.iter().filter(|(_, u)| u.dedicated).map(|(name, _)| name)
}

/// Egress addresses of a family with the routing mark of their connections.
fn egress_marks(
    dataplane: &Dataplane,
    family: Family,
) -> impl Iterator<Item = (std::net::IpAddr, &str, u32)> {
    let marks = dataplane.marks;
    dataplane.egress.iter().filter(move |(a, _)| Family::of(a) == family).filter_map(
        move |(address, plane)| {
            let uplink = dataplane.uplinks.get(&plane.uplink)?;
            let value = marks.uplink_mark(uplink.number) | marks.egress;
            Some((*address, plane.uplink.as_str(), value))
        },
    )
}

/// PREROUTING: a new connection is marked with its uplink, a known one's packets get its mark.
fn mark(dataplane: &Dataplane, family: Family) -> Vec<XtRule> {
    let marks = dataplane.marks;
    let unmarked = || [new(), connmark(0, marks.routing())];
    let mut rules: Vec<XtRule> = dataplane
        .uplinks
        .iter()
        .map(|(name, uplink)| {
            let value = marks.uplink_mark(uplink.number);
            rule(XtTarget::SetConnMark { value, mask: marks.routing() })
                .from_interface(name)
                .all(unmarked())
        })
        .collect();
    rules.extend(egress_marks(dataplane, family).map(|(address, _, value)| {
        let mask = marks.routing() | marks.ours;
        rule(XtTarget::SetConnMark { value: value | marks.ours, mask }).all(unmarked()).all([
            XtMatch::Unconfirmed,
            source_in(names::egress_set(address)),
            comment(&format!("egress {address}")),
        ])
    }));
    rules.push(restore(marks));
    rules
}

fn restore(marks: MarkLayout) -> XtRule {
    rule(XtTarget::RestoreMark { mask: marks.routing() }).with(XtMatch::ConnMark {
        value: 0,
        mask: marks.routing(),
        negated: true,
    })
}

/// The uplinks' numbers that a kernel's mark chains hold.
pub fn mark_chain_uplinks(observed: &KernelState, marks: MarkLayout) -> Vec<(String, u32)> {
    let name = fixed_chain(MARK);
    observed
        .xtables
        .iter()
        .filter(|(id, _)| id.table == XtTable::Mangle)
        .filter_map(|(_, table)| table.chains.get(&name))
        .flatten()
        .filter_map(|rule| match (&rule.target, &rule.in_interface) {
            (XtTarget::SetConnMark { value, .. }, Some(interface)) => {
                Some((interface.name.clone(), marks.uplink_number(*value)))
            }
            _ => None,
        })
        .collect()
}

/// OUTPUT: what the host answers leaves by the connection's uplink; an error that it sends
/// towards an endpoint carries the reflected mark and must lose it, and so must what it answers
/// to a pod with egress. An endpoint on the host itself is an endpoint like any other (T10).
fn out(marks: MarkLayout, family: Family) -> Vec<XtRule> {
    let marked = || XtMatch::Mark { value: 0, mask: marks.routing(), negated: true };
    let clear = || rule(XtTarget::SetMark { value: 0, mask: marks.routing() });
    vec![
        quarantined(family),
        rule(XtTarget::RestoreMark { mask: marks.routing() }).all([
            reply(),
            connmark(0, marks.egress),
            XtMatch::ConnMark { value: 0, mask: marks.uplink, negated: true },
        ]),
        clear().all([original(), marked()]),
        clear().all([marks.egress_connection(), marked()]),
    ]
}

/// Drops what belongs to an ended connection and to none that is known (T10).
fn quarantined(family: Family) -> XtRule {
    let ended = XtMatch::Set {
        name: names::quarantine_set(family),
        directions: vec![SetDirection::Source, SetDirection::Source, SetDirection::Destination],
        negated: false,
    };
    drop().all([unknown(), ended])
}

/// INPUT: refused clients anywhere, the guard on uplinks.
fn guard(dataplane: &Dataplane) -> Vec<XtRule> {
    let marks = dataplane.marks;
    let mut rules = vec![
        drop().with(packet_mark(marks.masquerade)),
        new_without_syn(XtTarget::Drop).with(marks.translated()),
    ];
    for (name, uplink) in &dataplane.uplinks {
        if uplink.guarded {
            rules.push(jump(GUARD_UPLINK).from_interface(name));
        } else {
            rules.push(drop().from_interface(name).protocol(Protocol::Tcp).with(invalid()));
        }
    }
    rules
}

fn guard_uplink(marks: MarkLayout, family: Family) -> Vec<XtRule> {
    let mut rules = vec![
        back().with(marks.translated()),
        back().all([known(), reply()]),
        back().with(packet_mark(marks.ours)),
    ];
    match family {
        Family::V4 => {
            rules.push(back().icmp(8, None));
            rules.push(back().icmp(3, Some(4)));
            rules.push(dhcp(67, 68));
            rules.push(drop().with(XtMatch::DestinationLocal));
        }
        Family::V6 => {
            // Echo request, packet too big, router and neighbour discovery (RFC 4890, section 4.4).
            rules.extend([128, 2, 133, 134, 135, 136, 137].map(|kind| back().icmp(kind, None)));
            rules.push(dhcp(547, 546));
            // The kernel counts anycast addresses, a router's own among them, not as local.
            rules.push(to_multicast_v6());
            rules.push(drop());
        }
    }
    rules
}

fn to_multicast_v6() -> XtRule {
    let mut multicast = back();
    multicast.destination = "ff00::/8".parse().ok();
    assert!(multicast.destination.is_some(), "a prefix");
    multicast
}

fn dhcp(server: u16, client: u16) -> XtRule {
    back().protocol(Protocol::Udp).all([XtMatch::SourcePort(server), destination_port(client)])
}

/// FORWARD: nothing passes between uplinks and the rest that is no connection of ours or of
/// the cluster side; nothing at all if forwarding was off before us.
fn transit(dataplane: &Dataplane, family: Family) -> Vec<XtRule> {
    let marks = dataplane.marks;
    let mut rules = vec![quarantined(family), drop().with(packet_mark(marks.masquerade))];
    rules.extend(dedicated(dataplane).map(|name| jump(FROM_UPLINK).from_interface(name)));
    rules.extend(dedicated(dataplane).map(|name| jump(TO_UPLINK).to_interface(name)));
    if dataplane.closed_forwarding.contains(&family) {
        rules.push(back().with(marks.translated()));
        rules.push(back().all([reply(), marks.egress_connection()]));
        rules.extend(
            dataplane
                .uplinks
                .keys()
                .map(|name| back().to_interface(name).with(marks.egress_connection())),
        );
        rules.push(drop());
    }
    rules
}

fn from_uplink(marks: MarkLayout) -> Vec<XtRule> {
    let opened_by_the_cluster = connmark(0, marks.uplink | marks.ours);
    vec![
        new_without_syn(XtTarget::Drop),
        back().with(marks.translated()),
        back().all([known(), reply(), marks.egress_connection()]),
        back().all([known(), reply(), opened_by_the_cluster]),
        drop(),
    ]
}

fn to_uplink(dataplane: &Dataplane, family: Family) -> Vec<XtRule> {
    let marks = dataplane.marks;
    let mut rules = vec![
        new_without_syn(XtTarget::Drop),
        back().all([reply(), marks.translated()]),
        back().with(marks.translated_masquerade()),
        back().all([original(), connmark(marks.egress_translated(), marks.egress_translated())]),
    ];
    // The first packet leaves only where the nat table is certain to give it its address. A second
    // one may be NEW as well, and without translation if the first stayed inside.
    rules.extend(egress_marks(dataplane, family).map(|(address, uplink, value)| {
        back().to_interface(uplink).all([
            XtMatch::Unconfirmed,
            connmark(value, marks.routing()),
            source_in(names::egress_set(address)),
        ])
    }));
    rules.push(drop());
    rules
}

/// POSTROUTING: the same for what the host itself sends out an uplink.
fn leave(dataplane: &Dataplane) -> Vec<XtRule> {
    dedicated(dataplane).map(|name| jump(LEAVE_UPLINK).to_interface(name)).collect()
}

fn leave_uplink(marks: MarkLayout, family: Family) -> Vec<XtRule> {
    let mut rules = vec![
        back().with(source_in(names::external_set(family))),
        back().all([reply(), marks.translated()]),
        back().with(marks.translated_masquerade()),
        back().all([original(), marks.egress_connection()]),
    ];
    if family == Family::V6 {
        // Neighbour discovery speaks from link-local addresses, and from none at all (RFC 4862, 5.4).
        for source in ["fe80::/10", "::/128"] {
            let mut link_local = back();
            link_local.source = source.parse().ok();
            assert!(link_local.source.is_some(), "{source} is a prefix");
            rules.push(link_local);
        }
    }
    rules.push(drop());
    rules
}

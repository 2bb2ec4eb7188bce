//! What does not depend on Mappings: marks for the return path (T11), guard (T3), no transit
//! (T4), what leaves. The number of its rules is constant, whatever the number of uplinks.

use std::net::{IpAddr, Ipv6Addr};

use super::TableBuilder;
use super::assemble::{ESTABLISHED, INVALID, Key, NEW, RELATED, Rule, rule};
use super::names::{
    ALL_UPLINKS, ANSWERS, DEDICATED_UPLINKS, EXITS, GUARDS, HAIRPIN, MARKS, NOBODY_HOME, SERVICES,
    TARGETS, UNMARKED, UPLINKS, egress_chain, mark_chain, of_family, uplink_chain,
};
use super::sets;
use crate::dataplane::Dataplane;
use crate::marks::MarkLayout;
use crate::model::{Family, Protocol};
use crate::objects::nft::{NatKind, NftChainKind, NftName, NftVerdict};
use crate::objects::{BuiltinHook, RejectWith};

/// `NF_IP_PRI_MANGLE`: before translation, and where iptables has its table mangle.
const BEFORE_TRANSLATION: i32 = -150;
/// Just before `NF_IP_PRI_NAT_DST` and `NF_IP_PRI_NAT_SRC`: the first chain that translates a
/// connection wins, and nobody else's rule may hide a client or take an endpoint of ours.
const TRANSLATE_DESTINATION: i32 = -101;
const TRANSLATE_SOURCE: i32 = 99;
/// After the translation of sources.
const AFTER_TRANSLATION: i32 = 110;

const KNOWN: u32 = ESTABLISHED | RELATED;

/// The table without Mappings.
pub(super) fn build(table: &mut TableBuilder, dataplane: &Dataplane) {
    let marks = dataplane.marks;
    sets::fixed(table, dataplane);
    prerouting(table, dataplane);
    translation(table, marks);
    source(table, dataplane);
    forward(table, dataplane);
    input(table, dataplane);
    output(table, dataplane);
    leave(table, dataplane);
}

fn translated(marks: MarkLayout, rule: Rule) -> Rule {
    rule.ct_mark(marks.ours, marks.ours | marks.egress)
}

fn egress(marks: MarkLayout, rule: Rule) -> Rule {
    rule.ct_mark(marks.egress, marks.egress)
}

/// A connection's packets get its mark; a new one is marked with its uplink, or as egress of a
/// pod.
fn prerouting(table: &mut TableBuilder, dataplane: &Dataplane) {
    let marks = dataplane.marks;
    let routing = marks.routing();
    let hook = (NftChainKind::Filter, BuiltinHook::Prerouting, BEFORE_TRANSLATION);
    table.base("prerouting", hook, [rule().by_ct_mark(routing, MARKS)]);
    let mut unmarked = vec![rule().state(NEW).by_input(UPLINKS)];
    for family in &dataplane.families {
        let mut pod = Key::of(*family).source();
        let map = of_family(sets::LEAVING, *family);
        let first = rule().family(*family).state(NEW).unconfirmed();
        let pods = first.key(&mut pod);
        unmarked.push(pods.by_name(&map, EXITS, &pod));
    }
    table.chain(UNMARKED, unmarked);
    for uplink in dataplane.uplinks.values() {
        let value = marks.uplink_mark(uplink.number);
        let number = uplink.number;
        let of_uplink = [rule().set_ct_mark(value, routing), rule().set_mark(value, routing)];
        table.chain(uplink_chain(number), of_uplink);
        let leaving = value | marks.egress;
        let ours = rule().set_ct_mark(leaving | marks.ours, routing | marks.ours);
        table.chain(egress_chain(number), [ours, rule().set_mark(leaving, routing)]);
        for (value, egress) in [(value, false), (value | marks.egress, true)] {
            table.chain(mark_chain(number, egress), [rule().set_mark(value, routing)]);
        }
    }
}

/// The first packet of a connection finds its endpoint, or its end (T1, T2, T6).
fn translation(table: &mut TableBuilder, marks: MarkLayout) {
    for (name, hook) in
        [("translate", BuiltinHook::Prerouting), ("translate-local", BuiltinHook::Output)]
    {
        let hook = (NftChainKind::Nat, hook, TRANSLATE_DESTINATION);
        table.base(name, hook, [rule().jump(SERVICES)]);
    }
    let services = table.families.clone().into_iter().flat_map(|family| {
        [false, true].map(|range| {
            let mut key = super::services::external_endpoint(Key::of(family), range);
            let services = of_family(sets::SERVICES, family);
            rule().key(&mut key).by_name(&services, TARGETS, &key)
        })
    });
    table.chain(SERVICES, services.collect::<Vec<_>>());
    // Before routing the kernel answers only those that it has a route to without any mark, so the
    // answer is left to chain `input`.
    table.chain(NOBODY_HOME, [rule().set_mark(marks.ours, marks.ours), rule().accept()]);
    // A pod with egress that connects to an external endpoint is a client like any other (T12).
    let routing = marks.routing();
    table.chain(
        HAIRPIN,
        [
            rule().set_ct_mark(marks.masquerade, routing | marks.masquerade | marks.ours),
            rule().set_mark(0, routing),
        ],
    );
}

/// The gateway's address towards endpoints (T7), an external one for egress (T13).
fn source(table: &mut TableBuilder, dataplane: &Dataplane) {
    let marks = dataplane.marks;
    let all = marks.ours | marks.masquerade | marks.egress;
    let mut rules = vec![rule().ct_mark(marks.ours | marks.masquerade, all).masquerade()];
    for family in dataplane.families.iter().copied() {
        // Without masquerade nobody else's rule may hide the client either: it stays what it is.
        let mut client = Key::of(family).source();
        let address = client.first();
        let kept = translated(marks, rule().family(family)).key(&mut client);
        rules.push(kept.translate(NatKind::Source, family, address, None));
    }
    for family in dataplane.families.iter().copied() {
        let mut exit = Key::of(family).source().output();
        let map = of_family(sets::EGRESS, family);
        let found = egress(marks, rule().family(family)).key(&mut exit);
        let address = exit.end();
        let found = found.value_of(&map, exit.first(), address);
        let settled = found.set_ct_mark(marks.masquerade, marks.masquerade);
        rules.push(settled.translate(NatKind::Source, family, address, None));
    }
    let hook = (NftChainKind::Nat, BuiltinHook::Postrouting, TRANSLATE_SOURCE);
    table.base("source", hook, rules);
}

/// Drops what belongs to an ended connection and to none that is known (T10).
fn quarantine(family: Family) -> Rule {
    let mut key = Key::of(family).source().protocol().source_port().destination();
    let set = of_family(sets::QUARANTINE, family);
    rule().family(family).no_state(KNOWN).key(&mut key).is_in(&set, key.first()).drop()
}

fn new_without_syn() -> Rule {
    rule().tcp_without_syn().state(NEW)
}

/// Nothing passes between uplinks and the rest that is no connection of ours or of the cluster
/// side; nothing at all if forwarding was off before us.
fn forward(table: &mut TableBuilder, dataplane: &Dataplane) {
    let marks = dataplane.marks;
    let mut rules = vec![translated(marks, rule().state(KNOWN)).accept()];
    rules.extend(dataplane.families.iter().map(|family| quarantine(*family)));
    rules.push(rule().arrives_by(DEDICATED_UPLINKS).jump("from-uplink"));
    rules.push(rule().leaves_by(DEDICATED_UPLINKS).jump("to-uplink"));
    for family in &dataplane.closed_forwarding {
        rules.push(rule().family(*family).goto("closed"));
    }
    let hook = (NftChainKind::Filter, BuiltinHook::Forward, BEFORE_TRANSLATION);
    table.base("forward", hook, rules);

    let opened_by_the_cluster = |rule: Rule| rule.ct_mark(0, marks.uplink | marks.ours);
    table.chain(
        "from-uplink",
        [
            new_without_syn().drop(),
            translated(marks, rule()).back(),
            egress(marks, rule().state(KNOWN).reply()).back(),
            opened_by_the_cluster(rule().state(KNOWN).reply()).back(),
            rule().drop(),
        ],
    );
    let masqueraded = marks.ours | marks.masquerade;
    let settled = marks.egress_translated();
    table.chain(
        "to-uplink",
        [
            new_without_syn().drop(),
            translated(marks, rule().reply()).back(),
            rule().ct_mark(masqueraded, masqueraded | marks.egress).back(),
            rule().original().ct_mark(settled, settled).back(),
            // Chain `leave` drops it where its source is not replaced.
            egress(marks, rule().unconfirmed()).back(),
            rule().drop(),
        ],
    );
    if !dataplane.closed_forwarding.is_empty() {
        table.chain(
            "closed",
            [
                translated(marks, rule()).back(),
                egress(marks, rule().reply()).back(),
                egress(marks, rule()).leaves_by(ALL_UPLINKS).back(),
                rule().drop(),
            ],
        );
    }
}

/// Who finds nobody home is told so at once (T6); the guard on uplinks.
fn input(table: &mut TableBuilder, dataplane: &Dataplane) {
    let marks = dataplane.marks;
    let hook = (NftChainKind::Filter, BuiltinHook::Input, BEFORE_TRANSLATION);
    let rules = [
        translated(marks, new_without_syn()).drop(),
        // Only new connections: the answer itself carries the reflected mark.
        rule().state(NEW).marked(marks.ours).goto("tell-nobody-home"),
        rule().by_input(GUARDS),
    ];
    table.base("input", hook, rules);
    table.chain(
        "tell-nobody-home",
        [
            rule().protocol(Protocol::Tcp).reject(RejectWith::TcpReset),
            rule().reject(RejectWith::PortUnreachable),
        ],
    );
    let mut guard = vec![translated(marks, rule()).back(), rule().state(KNOWN).reply().back()];
    for family in dataplane.families.iter().copied() {
        match family {
            Family::V4 => {
                guard.push(rule().icmp(family, 8, None).back());
                guard.push(rule().icmp(family, 3, Some(4)).back());
                guard.push(rule().family(family).udp(67, 68).back());
                guard.push(rule().family(family).to_this_host().drop());
            }
            Family::V6 => {
                // Echo request, packet too big, router and neighbour discovery (RFC 4890, 4.4).
                let kinds = [128, 2, 133, 134, 135, 136, 137];
                guard.extend(kinds.map(|kind| rule().icmp(family, kind, None).back()));
                guard.push(rule().family(family).udp(547, 546).back());
                // The kernel counts anycast addresses, a router's own among them, not as local.
                guard.push(rule().to_first_byte(family, 0xff).back());
                guard.push(rule().family(family).drop());
            }
        }
    }
    table.chain("guard", guard);
    table.chain("no-guard", [rule().protocol(Protocol::Tcp).state(INVALID).drop()]);
}

/// What the host answers leaves by the connection's uplink; an error that it sends towards an
/// endpoint carries the reflected mark and must lose it, and so must what it answers to a pod
/// with egress. An endpoint on the host itself is an endpoint like any other (T10).
fn output(table: &mut TableBuilder, dataplane: &Dataplane) {
    let marks = dataplane.marks;
    let routing = marks.routing();
    let mut rules: Vec<Rule> = dataplane.families.iter().map(|f| quarantine(*f)).collect();
    rules.push(rule().reply().by_ct_mark(routing, ANSWERS));
    rules.push(rule().original().marked(routing).set_mark(0, routing));
    rules.push(egress(marks, rule()).marked(routing).set_mark(0, routing));
    let hook = (NftChainKind::Route, BuiltinHook::Output, BEFORE_TRANSLATION);
    table.base("output", hook, rules);
}

/// Nothing leaves an uplink with a source that is no external address of this host.
fn leave(table: &mut TableBuilder, dataplane: &Dataplane) {
    let hook = (NftChainKind::Filter, BuiltinHook::Postrouting, AFTER_TRANSLATION);
    let rules = [rule().leaves_by(DEDICATED_UPLINKS).jump("leave-uplink")];
    table.base("leave", hook, rules);
    let mut rules = Vec::new();
    for family in dataplane.families.iter().copied() {
        let mut source = Key::of(family).source();
        let set = of_family(sets::EXTERNAL, family);
        rules.push(rule().key(&mut source).is_in(&set, source.first()).back());
        if family == Family::V6 {
            // Neighbour discovery speaks from link-local addresses, and from none at all (RFC 4862, 5.4).
            rules.push(rule().from_prefix(family, [0xfe, 0x80], [0xff, 0xc0]).back());
            rules.push(rule().from_address(IpAddr::V6(Ipv6Addr::UNSPECIFIED)).back());
        }
    }
    rules.push(rule().drop());
    table.chain("leave-uplink", rules);
}

/// Where packets of an uplink's connection are marked.
pub(super) fn mark_verdict(number: u32, egress: bool) -> NftVerdict {
    NftVerdict::Goto(mark_chain(number, egress))
}

/// Where packets of an interface are guarded.
pub(super) fn guard_verdict(guarded: bool) -> NftVerdict {
    NftVerdict::Goto(NftName::from(if guarded { "guard" } else { "no-guard" }))
}

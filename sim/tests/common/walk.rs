//! Where table nat sends the first packet of a connection: a walk through the chains that the
//! kernel holds, along every branch that chance may take.

use std::collections::BTreeSet;
use std::net::IpAddr;

use smartnat_core::marks::MarkLayout;
use smartnat_core::model::{Family, Protocol, ServiceEndpoint};
use smartnat_core::objects::{
    BuiltinHook, InterfaceMatch, L4Match, PortMapping, SetDirection, SetElement, SetName, XtMatch,
    XtRule, XtTable, XtTableId, XtTarget,
};
use smartnat_sim::kernel::XtTableRules;
use smartnat_sim::walk::{DropCause, Outcome, Step};
use smartnat_sim::{SimHost, SimKernel};

use super::config;

/// The first packet of a connection from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packet<'a> {
    /// The uplink that it arrives on, with its number.
    pub(crate) uplink: (&'a str, u32),
    /// Client.
    pub(crate) source: IpAddr,
    /// External address.
    pub(crate) destination: IpAddr,
    /// Protocol.
    pub(crate) protocol: Protocol,
    /// External port.
    pub(crate) port: u16,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fate {
    /// It goes to an endpoint.
    Endpoint(ServiceEndpoint),
    /// It is dropped silently (T2).
    Refused,
    /// It is answered that nobody is home (T6).
    NobodyHome,
    /// It is none of a Mapping's.
    Untouched,
}

/// How far a chain led.
enum Verdict {
    Done(Fate),
    Returned,
}

struct Walk<'a> {
    kernel: &'a SimKernel,
    table: &'a XtTableRules,
    packet: Packet<'a>,
    marks: MarkLayout,
}

/// Chance decides among few endpoints: in so many attempts each has its turn.
const ATTEMPTS: u64 = 12;

/// What becomes of the packet in our table of nftables, whatever chance decides.
fn fates_by_packets(kernel: &SimKernel, packet: Packet<'_>) -> BTreeSet<Fate> {
    let Packet { uplink: (uplink, _), source, destination, protocol, port } = packet;
    let first =
        smartnat_sim::walk::Packet::opening(protocol, (source, 40_000), (destination, port));
    let fate = |seed| {
        let mut host = SimHost::new(kernel.clone(), seed);
        let trace = host.receive(uplink, first).expect("all is understood");
        let translated = trace.steps.iter().find_map(|step| match step {
            Step::DestinationTranslated { to, .. } => Some(*to),
            _ => None,
        });
        match (translated, trace.outcome) {
            (Some(endpoint), _) => Fate::Endpoint(endpoint),
            (None, Outcome::Dropped { cause: DropCause::Rejected(_), .. }) => Fate::NobodyHome,
            (None, Outcome::Dropped { cause: DropCause::Rule(place), .. })
                if place.hook == BuiltinHook::Prerouting =>
            {
                Fate::Refused
            }
            _ => Fate::Untouched,
        }
    };
    (0..ATTEMPTS).map(fate).collect()
}

/// Everything that may become of `packet`.
pub(crate) fn fates(kernel: &SimKernel, packet: Packet<'_>) -> BTreeSet<Fate> {
    if kernel.nft().ours().is_some() {
        return fates_by_packets(kernel, packet);
    }
    let family = Family::of(&packet.destination);
    let Some(table) = kernel.xtables().table(XtTableId { family, table: XtTable::Nat }) else {
        return BTreeSet::from([Fate::Untouched]);
    };
    let marks = MarkLayout::new(config().mark_mask);
    let rules =
        table.builtin(BuiltinHook::Prerouting).map_or(&[][..], |chain| chain.rules.as_slice());
    Walk { kernel, table, packet, marks }
        .chain(rules, 0)
        .into_iter()
        .map(|verdict| match verdict {
            (Verdict::Done(fate), _) => fate,
            (Verdict::Returned, mark) => Walk::untranslated(marks, mark),
        })
        .collect()
}

impl Walk<'_> {
    /// Every way through `rules`, with the packet mark that it leaves.
    fn chain(&self, rules: &[XtRule], mark: u32) -> Vec<(Verdict, u32)> {
        let mut ways = Vec::new();
        let mut alive = vec![mark];
        for rule in rules {
            let mut passed = Vec::new();
            for mark in alive {
                match self.holds(rule) {
                    Some(false) => passed.push(mark),
                    certain => {
                        if certain.is_none() {
                            passed.push(mark);
                        }
                        for (verdict, mark) in self.target(rule, mark) {
                            match verdict {
                                None => passed.push(mark),
                                Some(verdict) => ways.push((verdict, mark)),
                            }
                        }
                    }
                }
            }
            passed.dedup();
            alive = passed;
        }
        ways.extend(alive.into_iter().map(|mark| (Verdict::Returned, mark)));
        ways
    }

    /// `None`: the next rule follows.
    fn target(&self, rule: &XtRule, mark: u32) -> Vec<(Option<Verdict>, u32)> {
        match &rule.target {
            XtTarget::Jump(chain) => {
                let rules = self.table.chain(chain).expect("T18: a jump leads to a chain");
                let inner = self.chain(rules, mark).into_iter();
                inner
                    .map(|(verdict, mark)| match verdict {
                        Verdict::Returned => (None, mark),
                        done @ Verdict::Done(_) => (Some(done), mark),
                    })
                    .collect()
            }
            XtTarget::Accept => {
                vec![(Some(Verdict::Done(Self::untranslated(self.marks, mark))), mark)]
            }
            XtTarget::Return => vec![(Some(Verdict::Returned), mark)],
            XtTarget::SetMark { value, mask } => vec![(None, mark & !mask | value)],
            XtTarget::SetConnMark { .. } | XtTarget::AddSourceToSet { .. } => vec![(None, mark)],
            XtTarget::DestinationNat { address, ports } => {
                let port = match ports {
                    PortMapping::Keep => self.packet.port,
                    PortMapping::To(port) => *port,
                    PortMapping::Shift { first, base, .. } => first + (self.packet.port - base),
                };
                let endpoint = ServiceEndpoint { address: *address, port };
                vec![(Some(Verdict::Done(Fate::Endpoint(endpoint))), mark)]
            }
            other => panic!("table nat of ours does not hold {other:?}"),
        }
    }

    /// The verdict that the packet mark carries to the other tables.
    fn untranslated(marks: MarkLayout, mark: u32) -> Fate {
        if mark & marks.masquerade != 0 {
            Fate::Refused
        } else if mark & marks.ours != 0 {
            Fate::NobodyHome
        } else {
            Fate::Untouched
        }
    }

    /// `None`: chance decides.
    fn holds(&self, rule: &XtRule) -> Option<bool> {
        let packet = &self.packet;
        let header = rule.source.is_none_or(|net| net.contains(&packet.source))
            && rule.destination.is_none_or(|net| net.contains(&packet.destination))
            && rule.in_interface.as_ref().is_none_or(|i| is_interface(i, packet.uplink.0))
            && rule.out_interface.is_none()
            && rule.protocol.is_none_or(|p| p == L4Match::Transport(packet.protocol));
        let mut certain = true;
        for m in &rule.matches {
            match m {
                XtMatch::Random { .. } => certain = false,
                m if !self.matches(m) => return Some(false),
                _ => {}
            }
        }
        if !header {
            return Some(false);
        }
        certain.then_some(true)
    }

    fn matches(&self, m: &XtMatch) -> bool {
        match m {
            XtMatch::DestinationPorts(ranges) => {
                ranges.iter().any(|range| range.contains(self.packet.port))
            }
            XtMatch::ConnMark { value, mask, negated } => {
                let mark = self.marks.uplink_mark(self.packet.uplink.1);
                (mark & mask == *value) != *negated
            }
            XtMatch::Set { name, directions, negated } => {
                assert_eq!(directions, &[SetDirection::Source], "nat asks for sources alone");
                self.is_member(name) != *negated
            }
            XtMatch::Comment(_) => true,
            other => panic!("table nat of ours does not match {other:?}"),
        }
    }

    fn is_member(&self, name: &SetName) -> bool {
        let set = self.kernel.sets().get(name).expect("T18: a rule refers to a set");
        set.elements.keys().any(|element| match element {
            SetElement::Ip(ip) => *ip == self.packet.source,
            SetElement::Net(net) => net.contains(&self.packet.source),
            SetElement::IpPortIp { .. } => false,
        })
    }
}

fn is_interface(wanted: &InterfaceMatch, name: &str) -> bool {
    (wanted.name == name) != wanted.negated
}

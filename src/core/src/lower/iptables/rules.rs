//! Shorthands for matches that several tables use.

use crate::model::{PortRange, Protocol};
use crate::objects::{
    ConnectionStates, InterfaceMatch, L4Match, SetDirection, SetName, XtMatch, XtRule, XtTarget,
};

pub(super) fn rule(target: XtTarget) -> XtRule {
    XtRule::new(target)
}

pub(super) fn drop() -> XtRule {
    XtRule::new(XtTarget::Drop)
}

pub(super) fn accept() -> XtRule {
    XtRule::new(XtTarget::Accept)
}

pub(super) fn back() -> XtRule {
    XtRule::new(XtTarget::Return)
}

/// Builder steps that read like the rule.
#[allow(clippy::wrong_self_convention, reason = "from_interface is a step like to_interface")]
pub(super) trait Narrow {
    fn from_interface(self, name: &str) -> Self;
    fn to_interface(self, name: &str) -> Self;
    fn protocol(self, protocol: Protocol) -> Self;
    fn icmp(self, kind: u8, code: Option<u8>) -> Self;
    fn all(self, matches: impl IntoIterator<Item = XtMatch>) -> Self;
}

impl Narrow for XtRule {
    fn from_interface(mut self, name: &str) -> Self {
        self.in_interface = Some(InterfaceMatch { name: name.to_owned(), negated: false });
        self
    }

    fn to_interface(mut self, name: &str) -> Self {
        self.out_interface = Some(InterfaceMatch { name: name.to_owned(), negated: false });
        self
    }

    fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = Some(L4Match::Transport(protocol));
        self
    }

    fn icmp(mut self, kind: u8, code: Option<u8>) -> Self {
        self.protocol = Some(L4Match::Icmp);
        self.with(XtMatch::IcmpType { kind, code })
    }

    fn all(mut self, matches: impl IntoIterator<Item = XtMatch>) -> Self {
        self.matches.extend(matches);
        self
    }
}

fn states(states: ConnectionStates) -> XtMatch {
    XtMatch::State { states, negated: false }
}

pub(super) fn new() -> XtMatch {
    states(ConnectionStates { new: true, ..Default::default() })
}

pub(super) fn invalid() -> XtMatch {
    states(ConnectionStates { invalid: true, ..Default::default() })
}

pub(super) fn known() -> XtMatch {
    states(ConnectionStates { related: true, established: true, ..Default::default() })
}

pub(super) fn unknown() -> XtMatch {
    XtMatch::State {
        states: ConnectionStates { related: true, established: true, ..Default::default() },
        negated: true,
    }
}

pub(super) fn original() -> XtMatch {
    XtMatch::Direction { reply: false }
}

pub(super) fn reply() -> XtMatch {
    XtMatch::Direction { reply: true }
}

pub(super) fn packet_mark(bit: u32) -> XtMatch {
    XtMatch::Mark { value: bit, mask: bit, negated: false }
}

pub(super) fn source_in(set: SetName) -> XtMatch {
    XtMatch::Set { name: set, directions: vec![SetDirection::Source], negated: false }
}

pub(super) fn source_not_in(set: SetName) -> XtMatch {
    XtMatch::Set { name: set, directions: vec![SetDirection::Source], negated: true }
}

pub(super) fn comment(text: &str) -> XtMatch {
    XtMatch::Comment(text.to_owned())
}

/// A TCP packet that no connection is known for and that opens none.
pub(super) fn new_without_syn(target: XtTarget) -> XtRule {
    rule(target).protocol(Protocol::Tcp).all([XtMatch::TcpSyn { negated: true }, new()])
}

pub(super) fn destination_port(port: u16) -> XtMatch {
    let range = PortRange::single(port).into_iter().collect();
    XtMatch::DestinationPorts(range)
}

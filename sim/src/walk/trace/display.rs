//! Traces as an operator reads them.

use std::fmt;

use smartnat_core::objects::nft::{NatKind, SetUpdate};
use smartnat_core::objects::{PortMapping, RejectWith, XtTarget};

use super::{
    Decision, DropCause, Membership, NftAction, Outcome, Receiver, Relation, RulePlace, RuleTable,
    Step, Trace,
};
use crate::kernel::Direction;

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_indented(f, "")
    }
}

impl Trace {
    fn write_indented(&self, f: &mut fmt::Formatter<'_>, indent: &str) -> fmt::Result {
        match &self.interface {
            Some(interface) => writeln!(f, "{indent}{} comes in by {interface}", self.packet)?,
            None => writeln!(f, "{indent}{} is sent by this host", self.packet)?,
        }
        for step in &self.steps {
            writeln!(f, "{indent}  {step}")?;
        }
        writeln!(f, "{indent}  {}", self.outcome)?;
        let deeper = format!("{indent}  ");
        self.answers.iter().try_for_each(|answer| answer.write_indented(f, &deeper))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tracked(membership) => write!(f, "connection: {membership}"),
            Self::Rule { place, target, comment } => {
                write!(f, "{place}: {}", Action(target))?;
                comment.iter().try_for_each(|text| write!(f, " ({text})"))
            }
            Self::NftRule { place, actions, comment } => {
                write!(f, "{place}: ")?;
                let mut words = actions.iter().map(NftAction::to_string).collect::<Vec<_>>();
                if words.is_empty() {
                    words.push("holds".into());
                }
                f.write_str(&words.join(", "))?;
                comment.iter().try_for_each(|text| write!(f, " ({text})"))
            }
            Self::Policy { table, hook, accepted } => {
                let policy = if *accepted { "accept" } else { "drop" };
                write!(f, "{table} {}: policy {policy}", hook.name())
            }
            Self::SourceTranslated { from, to } => write!(f, "source {from} becomes {to}"),
            Self::DestinationTranslated { from, to } => {
                write!(f, "destination {from} becomes {to}")
            }
            Self::Routed(decision) => write!(f, "route: {decision}"),
            Self::LoopedBack => f.write_str("comes back in by lo"),
            Self::Confirmed => f.write_str("connection: known from now on"),
        }
    }
}

impl fmt::Display for RuleTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Xtables(table) => f.write_str(table.name()),
            Self::Nftables(name) => write!(f, "inet {name}"),
        }
    }
}

impl fmt::Display for NftAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verdict(verdict) => write!(f, "{verdict}"),
            Self::Rejected(with) => write!(f, "{}", Refused(*with)),
            Self::Marked(mark) => write!(f, "mark {mark:#x}"),
            Self::ConnectionMarked(mark) => write!(f, "connection mark {mark:#x}"),
            Self::Translated { kind, address, port } => {
                let end = match kind {
                    NatKind::Source => "source",
                    NatKind::Destination => "destination",
                };
                write!(f, "translate {end} to {address}")?;
                port.iter().try_for_each(|port| write!(f, " port {port}"))
            }
            Self::Masqueraded => f.write_str("masquerade"),
            Self::SetChanged { set, update: SetUpdate::Update } => write!(f, "update {set}"),
            Self::SetChanged { set, update: SetUpdate::Delete } => write!(f, "delete from {set}"),
        }
    }
}

impl fmt::Display for RulePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.table, self.hook.name())?;
        if self.chain != self.hook.name() {
            write!(f, " > {}", self.chain)?;
        }
        write!(f, " rule {}", self.index)
    }
}

impl fmt::Display for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Of { state, direction, mark } => {
                f.write_str(match state {
                    Relation::New => "new",
                    Relation::Established => "established",
                    Relation::Related => "related",
                })?;
                if *direction == Direction::Reply {
                    f.write_str(", reply direction")?;
                }
                if *mark != 0 {
                    write!(f, ", connection mark {mark:#x}")?;
                }
                Ok(())
            }
            Self::Invalid => f.write_str("invalid"),
            Self::Untracked => f.write_str("not tracked"),
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("to this host"),
            Self::Onwards { rule, table, route, interface, gateway } => {
                write!(f, "by {interface}")?;
                match gateway {
                    Some(gateway) => write!(f, " via {gateway}")?,
                    None => f.write_str(" directly")?,
                }
                write!(f, " (rule {rule}, table {table}, route {route})")
            }
            Self::Nowhere => f.write_str("none"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delivered { to: Receiver::Socket { owner }, packet } => {
                write!(f, "delivered to a socket of {owner}: {packet}")
            }
            Self::Delivered { to: Receiver::Kernel, packet } => {
                write!(f, "delivered to the kernel: {packet}")
            }
            Self::Delivered { to: Receiver::Nobody, packet } => {
                write!(f, "delivered, but nobody listens: {packet}")
            }
            Self::Left { interface, next_hop, packet } => {
                write!(f, "leaves by {interface} to {next_hop}: {packet}")
            }
            Self::Dropped { cause, packet } => write!(f, "dropped, {cause}: {packet}"),
        }
    }
}

impl fmt::Display for DropCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(place) => write!(f, "{place}"),
            Self::Rejected(place) => write!(f, "rejected by {place}"),
            Self::Policy(table, hook) => write!(f, "policy of {table} {}", hook.name()),
            Self::NoRoute => f.write_str("no route"),
            Self::NoRouteAfter(table) => write!(f, "no route after table {table}"),
            Self::NotForwarding => f.write_str("this host does not forward"),
            Self::ReversePath => f.write_str("reverse-path filter"),
            Self::Martian => f.write_str("impossible address"),
            Self::TimeExceeded => f.write_str("TTL used up"),
            Self::NoAddress => f.write_str("no address to translate its source to"),
            Self::OtherInterface => f.write_str("masqueraded over another interface before"),
            Self::TupleTaken => f.write_str("another connection has its addresses and ports"),
            Self::NoNeighbour => f.write_str("nobody on the link has the next hop's address"),
            Self::LinkDown => f.write_str("the link is down"),
        }
    }
}

struct Refused(RejectWith);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            RejectWith::TcpReset => "reject with a TCP reset",
            RejectWith::PortUnreachable => "reject with port unreachable",
        })
    }
}

struct Action<'a>(&'a XtTarget);

impl fmt::Display for Action<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            XtTarget::Jump(chain) => write!(f, "go to {chain}"),
            XtTarget::Accept => f.write_str("accept"),
            XtTarget::Drop => f.write_str("drop"),
            XtTarget::Return => f.write_str("return"),
            XtTarget::Reject(with) => write!(f, "{}", Refused(*with)),
            XtTarget::DestinationNat { address, ports } => {
                write!(f, "translate destination to {address}")?;
                match ports {
                    PortMapping::Keep => Ok(()),
                    PortMapping::To(port) => write!(f, " port {port}"),
                    PortMapping::Shift { first, last, base } => {
                        write!(f, " ports {first}-{last} from {base}")
                    }
                }
            }
            XtTarget::SourceNat { address } => write!(f, "translate source to {address}"),
            XtTarget::Masquerade => f.write_str("masquerade"),
            XtTarget::SetMark { value, mask } => write!(f, "mark {value:#x}/{mask:#x}"),
            XtTarget::SetConnMark { value, mask } => {
                write!(f, "connection mark {value:#x}/{mask:#x}")
            }
            XtTarget::RestoreMark { mask } => write!(f, "mark from connection, mask {mask:#x}"),
            XtTarget::AddSourceToSet { set } => write!(f, "add source to {set}"),
            XtTarget::NoTrack => f.write_str("exempt from tracking"),
            XtTarget::Unknown(text) => f.write_str(text),
        }
    }
}

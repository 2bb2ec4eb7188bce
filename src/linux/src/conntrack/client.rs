//! The client: one socket, kept open.

use std::fmt;

use smartnat_core::model::Protocol;
use smartnat_core::objects::{Flow, FlowFilter, FlowKey, FlowTuple, Layer4};
use smartnat_core::ops::{OpError, OpErrorClass};

use super::decode::{self, FlowCounters};
use super::encode;
use crate::netlink::{Message, NetfilterSocket, NetlinkError};

/// What errors that concern no single entry are about.
const SUBSYSTEM: &str = "conntrack";

/// Lists and deletes the conntrack entries of one network namespace.
#[derive(Debug)]
pub struct ConntrackClient {
    socket: NetfilterSocket,
    deletions: u64,
}

impl ConntrackClient {
    /// Opens a client for the calling thread's network namespace.
    pub fn open() -> Result<Self, OpError> {
        match NetfilterSocket::open() {
            Ok(socket) => Ok(Self { socket, deletions: 0 }),
            Err(error) => Err(op_error(SUBSYSTEM, &error)),
        }
    }

    /// How many deletions were asked for.
    pub fn deletions(&self) -> u64 {
        self.deletions
    }

    /// The entries of zone 0 that `filter` selects, of both families, in no
    /// particular order. The kernel filters, so that few entries travel.
    pub fn flows(&mut self, filter: &FlowFilter) -> Result<Vec<Flow>, OpError> {
        let listed = encode::list(*filter).and_then(|message| {
            self.socket.dump(&message, |flows: &mut Vec<Flow>, attributes| {
                // A kernel without marks ignores the filter.
                let selected = |flow: &Flow| flow.mark & filter.mask == filter.mark;
                flows.extend(decode::flow(attributes)?.filter(selected));
                Ok(())
            })
        });
        listed.map_err(|error| list_error(&error))
    }

    /// What the connections that `filter` selects have carried; at most `limit` of them. None
    /// where the kernel does not count (`net.netfilter.nf_conntrack_acct` is 0).
    pub fn counters(
        &mut self,
        filter: &FlowFilter,
        limit: usize,
    ) -> Result<Vec<FlowCounters>, OpError> {
        let listed = encode::list(*filter).and_then(|message| {
            self.socket.dump(&message, |found: &mut Vec<FlowCounters>, attributes| {
                let selected = |c: &FlowCounters| c.flow.mark & filter.mask == filter.mark;
                if found.len() < limit {
                    found.extend(decode::flow_counters(attributes)?.filter(selected));
                }
                Ok(())
            })
        });
        listed.map_err(|error| list_error(&error))
    }

    /// Deletes exactly these entries; one that is gone is no failure. Goes on
    /// past a failure and reports the first.
    pub fn delete(&mut self, keys: &[FlowKey]) -> Result<(), OpError> {
        let messages = keys
            .iter()
            .map(|key| encode::delete(key).map_err(|error| op_error(flow_label(key), &error)))
            .collect::<Result<Vec<Message>, OpError>>()?;
        self.deletions += u64::try_from(messages.len()).unwrap_or(u64::MAX);
        let answers =
            self.socket.request_ack(&messages).map_err(|error| op_error(SUBSYSTEM, &error))?;
        let failures = keys.iter().zip(answers).filter_map(|(key, answer)| {
            let error = op_error(flow_label(key), &NetlinkError::Refused(answer.err()?));
            (error.class != OpErrorClass::NotFound).then_some(error)
        });
        failures.into_iter().next().map_or(Ok(()), Err)
    }
}

fn list_error(error: &NetlinkError) -> OpError {
    match error.class() {
        // nfnetlink's answer for a subsystem that no module serves.
        OpErrorClass::Invalid => OpError::new(
            OpErrorClass::Invalid,
            SUBSYSTEM,
            format_args!("cannot list entries (module nf_conntrack_netlink): {error}"),
        ),
        _ => op_error(SUBSYSTEM, error),
    }
}

fn op_error(object: impl fmt::Display, error: &NetlinkError) -> OpError {
    OpError::new(error.class(), object, error)
}

/// `flow udp 10.0.0.1:4711 -> 10.0.0.2:53`.
fn flow_label(key: &FlowKey) -> String {
    let FlowTuple { source, destination, protocol, layer4 } = key.original;
    let protocol = Protocol::from_number(protocol)
        .map_or_else(|| format!("protocol {protocol}"), |known| known.to_string());
    match layer4 {
        Layer4::Ports { source: from, destination: to } => {
            let from = std::net::SocketAddr::new(source, from);
            let to = std::net::SocketAddr::new(destination, to);
            format!("flow {protocol} {from} -> {to}")
        }
        Layer4::Icmp { id, .. } => format!("flow {protocol} {source} -> {destination} id {id}"),
        Layer4::Other => format!("flow {protocol} {source} -> {destination}"),
    }
}

//! The client: one socket, kept open, one message at a time.

use std::collections::{BTreeMap, BTreeSet};

use smartnat_core::model::Family;
use smartnat_core::objects::{IpSet, SetKind, SetName, SetSpec};
use smartnat_core::ops::{NetworkOp, OpError, OpErrorClass};

use super::decode::{self, Listing};
use super::error::op_error;
use super::{encode, protocol::command};
use crate::netlink::{Message, NetfilterSocket, NetlinkError};

/// Elements per message; 800 of the largest kind stay below the 64 KiB of an attribute.
const MAX_ELEMENTS: usize = 800;

/// What errors that concern no single set are about.
const SUBSYSTEM: &str = "ipset";

/// Reads and changes the sets of one network namespace.
#[derive(Debug)]
pub struct IpsetClient {
    socket: NetfilterSocket,
    /// The revision that sets are created with, asked for once.
    revisions: BTreeMap<(SetKind, Family), u8>,
    writes: u64,
}

impl IpsetClient {
    /// Opens a client for the calling thread's network namespace.
    pub fn open() -> Result<Self, OpError> {
        let mut socket = NetfilterSocket::open().map_err(|error| op_error(SUBSYSTEM, &error))?;
        let probe = encode::protocol().and_then(|message| socket.request(&message, |_| Ok(())));
        match probe {
            Ok(()) => Ok(Self { socket, revisions: BTreeMap::new(), writes: 0 }),
            // nfnetlink's answer for a subsystem that no module serves.
            Err(error) if error.class() == OpErrorClass::Invalid => Err(OpError::new(
                OpErrorClass::Invalid,
                SUBSYSTEM,
                format_args!("the kernel has no usable ipset (module ip_set): {error}"),
            )),
            Err(error) => Err(op_error(SUBSYSTEM, &error)),
        }
    }

    /// How many messages that change something were sent.
    pub fn writes(&self) -> u64 {
        self.writes
    }

    /// All sets whose names begin with `prefix`; without elements where a set has
    /// a timeout. A set that is not of a shape of ours has `max_elements` 0. What
    /// somebody changes in a set while it is read may be missed.
    pub fn observe(&mut self, prefix: &str) -> Result<BTreeMap<SetName, IpSet>, OpError> {
        let mut sets = BTreeMap::new();
        for name in self.names()? {
            if !name.starts_with(prefix) {
                continue;
            }
            let name = SetName(name);
            if let Some(set) = self.list(&name)? {
                sets.insert(name, set);
            }
        }
        Ok(sets)
    }

    /// The names of all sets that do not begin with `prefix`.
    pub fn foreign_names(&mut self, prefix: &str) -> Result<BTreeSet<String>, OpError> {
        let mut names = self.names()?;
        names.retain(|name| !name.starts_with(prefix));
        Ok(names)
    }

    /// Executes operations of sets in order and stops at the first failure:
    /// nothing after the operation that failed was executed.
    pub fn apply(&mut self, ops: &[NetworkOp]) -> Result<(), OpError> {
        // A message is executed whatever became of the one before it, so each
        // is answered before the next is sent. A message of elements stops by itself.
        for run in ops.chunk_by(goes_along) {
            for batch in run.chunks(MAX_ELEMENTS) {
                self.apply_batch(batch)?;
            }
        }
        Ok(())
    }

    fn names(&mut self) -> Result<BTreeSet<String>, OpError> {
        encode::list_names()
            .and_then(|message| {
                self.socket.dump(&message, |names: &mut BTreeSet<String>, attributes| {
                    names.insert(decode::set_name(attributes)?);
                    Ok(())
                })
            })
            .map_err(|error| op_error(SUBSYSTEM, &error))
    }

    /// One set; `None` if it is gone by now.
    fn list(&mut self, name: &SetName) -> Result<Option<IpSet>, OpError> {
        let listed = encode::list(name)
            .and_then(|message| self.socket.dump(&message, Listing::add))
            .map(Listing::finish)
            .map_err(|error| op_error(set_label(name), &error));
        match listed {
            Err(error) if error.class == OpErrorClass::NotFound => Ok(None),
            other => other,
        }
    }

    /// Executes operations that one message carries.
    fn apply_batch(&mut self, batch: &[NetworkOp]) -> Result<(), OpError> {
        let Some(first) = batch.first() else { return Ok(()) };
        match first {
            NetworkOp::CreateSet { name, spec } => {
                let label = set_label(name);
                let revision = self.revision(&label, spec)?;
                self.send(encode::create(name, spec, revision), |_| label.clone())
            }
            NetworkOp::DestroySet { name } => self.send(encode::destroy(name), |_| set_label(name)),
            NetworkOp::AddElement { set, .. } => self.change_elements(command::ADD, set, batch),
            NetworkOp::DeleteElement { set, .. } => {
                self.change_elements(command::DELETE, set, batch)
            }
            other => Err(OpError::new(
                OpErrorClass::Invalid,
                SUBSYSTEM,
                format_args!("not an operation of sets: {other:?}"),
            )),
        }
    }

    fn change_elements(
        &mut self,
        command: u8,
        set: &SetName,
        batch: &[NetworkOp],
    ) -> Result<(), OpError> {
        let elements = || {
            batch.iter().filter_map(|op| match op {
                NetworkOp::AddElement { element, .. }
                | NetworkOp::DeleteElement { element, .. } => Some(element),
                _ => None,
            })
        };
        self.send(encode::elements(command, set, elements()), |echo| match decode::failed_element(
            echo,
        )
        .and_then(|number| elements().nth(number - 1))
        {
            Some(element) => format!("{} element {element}", set_label(set)),
            None => set_label(set),
        })
    }

    /// Sends a change and waits for its answer; `object` names what failed from
    /// the attributes that the kernel echoed.
    fn send(
        &mut self,
        message: Result<Message, NetlinkError>,
        object: impl Fn(&[u8]) -> String,
    ) -> Result<(), OpError> {
        let message = message.map_err(|error| op_error(object(&[]), &error))?;
        self.writes += 1;
        let answers =
            self.socket.request_ack(&[message]).map_err(|error| op_error(object(&[]), &error))?;
        for answer in answers {
            answer.map_err(|refusal| {
                op_error(object(&refusal.echo), &NetlinkError::Refused(refusal))
            })?;
        }
        Ok(())
    }

    /// The revision to create a set with: the kernel's newest that the `ipset`
    /// program also knows, so that `ipset save` can print the set.
    fn revision(&mut self, label: &str, spec: &SetSpec) -> Result<u8, OpError> {
        let key = (spec.kind, spec.family);
        if let Some(revision) = self.revisions.get(&key) {
            return Ok(*revision);
        }
        let range = encode::type_revisions(spec.kind, spec.family)
            .and_then(|message| self.socket.request(&message, decode::revisions))
            .map_err(|error| {
                let OpError { class, detail, .. } = op_error(label, &error);
                let kind = spec.kind.type_name();
                OpError::new(class, label, format_args!("type {kind}, {}: {detail}", spec.family))
            })?;
        let revision = newest_known_revision(spec.kind).min(range.max).max(range.min);
        self.revisions.insert(key, revision);
        Ok(revision)
    }
}

/// The newest revision of a type that ipset 7.17 (Debian 12) prints.
fn newest_known_revision(kind: SetKind) -> u8 {
    match kind {
        SetKind::HashIp | SetKind::HashIpPortIp => 6,
        SetKind::HashNet => 7,
    }
}

/// Whether two consecutive operations go in one message.
fn goes_along(a: &NetworkOp, b: &NetworkOp) -> bool {
    match (a, b) {
        (NetworkOp::AddElement { set: a, .. }, NetworkOp::AddElement { set: b, .. })
        | (NetworkOp::DeleteElement { set: a, .. }, NetworkOp::DeleteElement { set: b, .. }) => {
            a == b
        }
        _ => false,
    }
}

fn set_label(name: &SetName) -> String {
    format!("set {name}")
}

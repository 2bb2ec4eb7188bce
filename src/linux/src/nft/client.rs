//! The client: one socket, kept open. Closing one waits for readers of the tables to end.

use std::borrow::Borrow;
use std::collections::BTreeMap;

use smartnat_core::objects::nft::{
    NFT_TABLE_COMMENT, NftBase, NftChain, NftElement, NftKey, NftName, NftRule, NftSet, NftSetSpec,
    NftTable,
};
use smartnat_core::ops::{NftOp, OpError, OpErrorClass};

use super::ElementCounter;
use super::batch::{self, Batch, Specs};
use super::decode::{self, Elements, TableHead};
use super::encode;
use super::error::{OUR_TABLE, foreign_table, op_error, unavailable};
use crate::netlink::{
    Attributes, BatchError, Message, NetfilterSocket, NetlinkError, ParseError, Subsystem,
};

/// How often a change or an observation is begun anew since others changed nftables meanwhile.
const ATTEMPTS: usize = 5;

/// Reads and changes our table in one network namespace.
#[derive(Debug)]
pub struct NftClient {
    socket: NetfilterSocket,
    batches: u64,
}

impl NftClient {
    /// Opens a client for the calling thread's network namespace. Invalid where the kernel has no
    /// nftables.
    pub fn open() -> Result<Self, OpError> {
        let socket = NetfilterSocket::open().map_err(|error| op_error("nftables", &error))?;
        let mut client = Self { socket, batches: 0 };
        client.generation().map_err(|error| unavailable(&error))?;
        Ok(client)
    }

    /// How many batches were sent, refused ones included.
    pub fn writes(&self) -> u64 {
        self.batches
    }

    /// Bytes sent so far, those of questions included.
    pub fn bytes(&self) -> u64 {
        self.socket.bytes_sent()
    }

    /// By which notifications of what this client changed can be told (`nlmsg_pid`).
    pub fn port(&self) -> u32 {
        self.socket.port()
    }

    /// Our table; `None` where there is none. Sets with a timeout come without elements. What
    /// changes meanwhile is noticed as far as the kernel tells; of a hash that grows between two
    /// parts of a listing it may leave out elements, and the change's notification leads to another
    /// reading. Invalid where a table of that name is somebody else's; transient where
    /// it changed at every attempt to read it.
    pub fn observe(&mut self) -> Result<Option<NftTable>, OpError> {
        let failed = |error: &NetlinkError| op_error(OUR_TABLE, error);
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let before = self.generation().map_err(|error| failed(&error))?;
            let Some(head) = self.head()? else { return Ok(None) };
            let table = match self.read(&head) {
                Ok(table) => table,
                // Something went while the rest was read, or kept changing.
                Err(error)
                    if matches!(
                        error.class(),
                        OpErrorClass::NotFound | OpErrorClass::Transient
                    ) =>
                {
                    continue;
                }
                Err(error) => return Err(failed(&error)),
            };
            let steady = self.generation().map_err(|error| failed(&error))? == before;
            // Others may change tables of their own all the time. What is twice the same was so
            // at the moment between.
            if steady || last.as_ref() == Some(&table) {
                return Ok(Some(table));
            }
            last = Some(table);
        }
        Err(failed(&NetlinkError::Unsteady))
    }

    /// What the elements of a set of ours without intervals have counted, in the order of their
    /// keys; none where there is no such set, or nothing counts. Transient where the set changed at
    /// every attempt to read it.
    pub fn counters(&mut self, set: &NftName) -> Result<Vec<ElementCounter>, OpError> {
        if self.head()?.is_none() {
            return Ok(Vec::new());
        }
        match self.list_elements(set.as_str(), Elements::counters) {
            Err(error) if error.class() == OpErrorClass::NotFound => Ok(Vec::new()),
            listed => {
                listed.map_err(|error| op_error(format_args!("set {set} of {OUR_TABLE}"), &error))
            }
        }
    }

    /// Executes all operations or none. An error is about the first one that the kernel refused.
    /// Invalid where a table of that name is somebody else's.
    pub fn apply<O: Borrow<NftOp>>(&mut self, ops: &[O]) -> Result<(), OpError> {
        let ops: Vec<&NftOp> = ops.iter().map(Borrow::borrow).collect();
        let mut encoded: Option<(Specs, Batch)> = None;
        for _ in 0..ATTEMPTS {
            let generation = self.generation().map_err(|error| op_error(OUR_TABLE, &error))?;
            let head = self.head()?;
            if head.as_ref().is_some_and(|head| head.dormant) {
                self.wake(generation)?;
                continue;
            }
            let specs = match head {
                Some(_) if batch::concern_elements(&ops) => {
                    self.specs().map_err(|error| op_error(OUR_TABLE, &error))?
                }
                _ => Specs::new(),
            };
            let batch = match encoded.take() {
                Some((same, batch)) if same == specs => batch,
                _ => Batch::new(&ops, &specs)?,
            };
            // Of this generation it is known that the table is ours and what its sets are like.
            match self.transact(generation, &batch.messages) {
                Err(failed) if was_overtaken(&failed) => encoded = Some((specs, batch)),
                result => return result.map_err(|failed| batch.failure(&ops, &failed)),
            }
        }
        Err(op_error(OUR_TABLE, &NetlinkError::Unsteady))
    }

    fn transact(&mut self, generation: u32, messages: &[Message]) -> Result<(), BatchError> {
        self.batches += u64::from(!messages.is_empty());
        self.socket.transact(Subsystem::NfTables, generation, messages)
    }

    /// Has packets enter our table again, after somebody made it dormant.
    fn wake(&mut self, generation: u32) -> Result<(), OpError> {
        let woken = encode::wake_table()
            .map_err(BatchError::from)
            .and_then(|message| self.transact(generation, &[message]));
        match woken {
            Err(failed) if !was_overtaken(&failed) => Err(op_error(OUR_TABLE, &failed.error)),
            _ => Ok(()),
        }
    }

    /// A number that every change of nftables in this namespace increases.
    fn generation(&mut self) -> Result<u32, NetlinkError> {
        self.socket.request(&encode::get_generation()?, decode::generation)
    }

    /// Our table's own properties; `None` where there is none, an error where it is not ours.
    fn head(&mut self) -> Result<Option<TableHead>, OpError> {
        let asked = encode::get_table()
            .and_then(|message| self.socket.request(&message, decode::table_head));
        match asked {
            Ok(head) if head.comment.as_deref() == Some(NFT_TABLE_COMMENT) => Ok(Some(head)),
            Ok(head) => Err(foreign_table(head.comment.as_deref())),
            Err(error) if error.class() == OpErrorClass::NotFound => Ok(None),
            Err(error) => Err(op_error(OUR_TABLE, &error)),
        }
    }

    fn read(&mut self, head: &TableHead) -> Result<NftTable, NetlinkError> {
        let mut table = NftTable::default();
        for (name, spec) in self.specs()? {
            let elements = self.elements(&name, &spec)?;
            table.sets.insert(name, NftSet { spec, elements });
        }
        let mut rules: BTreeMap<NftName, Vec<NftRule>> = BTreeMap::new();
        for (chain, rule) in self.list(&encode::list_rules()?, decode::rule)? {
            rules.entry(chain).or_default().push(rule);
        }
        let chains: Vec<(NftName, Option<NftBase>)> =
            self.list(&encode::list_chains()?, decode::chain)?;
        for (name, base) in chains {
            // No packet enters a chain of a dormant table by itself.
            let base = base.filter(|_| !head.dormant);
            let rules = rules.remove(&name).unwrap_or_default();
            table.chains.insert(name, NftChain { base, rules });
        }
        Ok(table)
    }

    fn specs(&mut self) -> Result<Specs, NetlinkError> {
        Ok(self.list(&encode::list_sets()?, decode::set)?.into_iter().collect())
    }

    fn elements(
        &mut self,
        name: &NftName,
        spec: &NftSetSpec,
    ) -> Result<BTreeMap<NftKey, NftElement>, NetlinkError> {
        if spec.timeout.is_some() {
            return Ok(BTreeMap::new());
        }
        self.list_elements(name.as_str(), |listed| listed.finish(spec))
    }

    /// Lists until `finish` has found nothing missing.
    fn list_elements<T>(
        &mut self,
        set: &str,
        finish: impl Fn(Elements) -> Option<T>,
    ) -> Result<T, NetlinkError> {
        let message = encode::list_elements(set)?;
        for _ in 0..ATTEMPTS {
            if let Some(finished) = finish(self.socket.dump(&message, Elements::add)?) {
                return Ok(finished);
            }
        }
        Err(NetlinkError::Unsteady)
    }

    /// What a listing tells of our table.
    fn list<T>(
        &mut self,
        message: &Message,
        decode: impl Fn(Attributes<'_>) -> Result<Option<T>, ParseError>,
    ) -> Result<Vec<T>, NetlinkError> {
        self.socket.dump(message, |listed: &mut Vec<T>, attributes| {
            listed.extend(decode(attributes)?);
            Ok(())
        })
    }
}

/// Whether a batch did not begin, since others changed nftables or memory was short.
fn was_overtaken(failed: &BatchError) -> bool {
    let begun = failed.message.is_some();
    match &failed.error {
        NetlinkError::Refused(_) | NetlinkError::Socket(_) => {
            !begun && failed.class() == OpErrorClass::Transient
        }
        // What became of it is not known.
        _ => false,
    }
}

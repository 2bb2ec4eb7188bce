//! Built-in chains of the nft flavour, which come with their first rule and which iptables 1.8.9
//! neither lists truly (`-save` prints absent ones too) nor deletes. So this speaks to nftables.

use std::collections::{BTreeMap, BTreeSet};

use smartnat_core::model::Family;
use smartnat_core::objects::{BuiltinHook, XtTable, XtTableId};
use smartnat_core::ops::{OpError, OpErrorClass};

use crate::netlink::{
    Attribute, Attributes, MessageBuilder, NetfilterSocket, NetlinkError, ParseError, Subsystem,
    errno_class,
};

/// Commands of nftables (`NFT_MSG_…`).
mod command {
    pub(super) const DELETE_TABLE: u8 = 2;
    pub(super) const GET_CHAIN: u8 = 4;
    pub(super) const DELETE_CHAIN: u8 = 5;
    pub(super) const GET_GENERATION: u8 = 16;
}

/// Attributes of nftables (`NFTA_…`).
mod attribute {
    pub(super) const TABLE_NAME: u16 = 1;
    pub(super) const CHAIN_TABLE: u16 = 1;
    pub(super) const CHAIN_NAME: u16 = 3;
    pub(super) const CHAIN_HOOK: u16 = 4;
    pub(super) const CHAIN_POLICY: u16 = 5;
    pub(super) const CHAIN_USE: u16 = 6;
    pub(super) const GENERATION_ID: u16 = 1;
}

/// Refuse to delete what still holds something (`NLM_F_NONREC`).
const NOT_RECURSIVE: u16 = 0x100;
/// Policy of a chain that accepts (`NF_ACCEPT`).
const ACCEPT: u32 = 1;
/// How often a deletion is begun anew since others changed nftables meanwhile.
const ATTEMPTS: usize = 5;

/// The built-in chains that exist, by table; a table without any is absent.
pub(super) fn list() -> Result<BTreeMap<XtTableId, BTreeSet<BuiltinHook>>, OpError> {
    let failed = |error: NetlinkError| OpError::new(error.class(), "built-in chains", error);
    let mut socket = NetfilterSocket::open().map_err(failed)?;
    let mut builtins: BTreeMap<XtTableId, BTreeSet<BuiltinHook>> = BTreeMap::new();
    for family in Family::ALL {
        for chain in list_chains(&mut socket, family).map_err(failed)? {
            if let (Some(id), Some(hook)) = (chain.id(family), chain.hook()) {
                builtins.entry(id).or_default().insert(hook);
            }
        }
    }
    Ok(builtins)
}

/// Deletes the chain if it is empty and accepts, and the table if that was all it held.
pub(super) fn delete_if_empty(id: XtTableId, hook: BuiltinHook) -> Result<(), OpError> {
    let object = format!("chain {}/{} ({})", id.table.name(), hook.name(), id.family);
    let mut result = try_delete(id, hook);
    for _ in 1..ATTEMPTS {
        if !result.as_ref().is_err_and(|error| error.class() == OpErrorClass::Transient) {
            break;
        }
        result = try_delete(id, hook);
    }
    result.map_err(|error| OpError::new(error.class(), object, error))
}

fn try_delete(id: XtTableId, hook: BuiltinHook) -> Result<(), NetlinkError> {
    let mut socket = NetfilterSocket::open()?;
    let generation = generation(&mut socket)?;
    let chains = list_chains(&mut socket, id.family)?;
    let in_table = |chain: &&Chain| chain.table == id.table.name();
    let empty = |chain: &&Chain| chain.uses == 0 && chain.policy == Some(ACCEPT);
    let ours =
        chains.iter().filter(in_table).filter(|chain| chain.hook() == Some(hook)).find(empty);
    let Some(chain) = ours else { return Ok(()) };
    let mut delete = request(command::DELETE_CHAIN, NOT_RECURSIVE, id.family);
    delete.string(attribute::CHAIN_TABLE, &chain.table).string(attribute::CHAIN_NAME, &chain.name);
    let deleted = socket.transact(Subsystem::NfTables, generation, &[delete.finish()?]);
    unless_in_use(deleted.map_err(NetlinkError::from))?;
    if chains.iter().filter(in_table).count() == 1 {
        delete_table(&mut socket, id)?;
    }
    Ok(())
}

/// The kernel refuses it for a table that holds anything, so the generation needs no look.
fn delete_table(socket: &mut NetfilterSocket, id: XtTableId) -> Result<(), NetlinkError> {
    let mut delete = request(command::DELETE_TABLE, NOT_RECURSIVE, id.family);
    delete.string(attribute::TABLE_NAME, id.table.name());
    let generation = generation(socket)?;
    let deleted = socket.transact(Subsystem::NfTables, generation, &[delete.finish()?]);
    unless_in_use(deleted.map_err(NetlinkError::from))
}

/// Something that is in use again or gone already is none of our business any more.
fn unless_in_use(result: Result<(), NetlinkError>) -> Result<(), NetlinkError> {
    match result {
        Err(NetlinkError::Refused(refusal))
            if matches!(
                errno_class(refusal.errno),
                OpErrorClass::Busy | OpErrorClass::NotFound
            ) =>
        {
            Ok(())
        }
        other => other,
    }
}

fn request(command: u8, modifiers: u16, family: Family) -> MessageBuilder {
    let family = match family {
        Family::V4 => rustix::net::AddressFamily::INET,
        Family::V6 => rustix::net::AddressFamily::INET6,
    };
    let family = u8::try_from(family.as_raw()).unwrap_or_default();
    MessageBuilder::new(Subsystem::NfTables, command, modifiers, family)
}

/// A number that every change of nftables in this namespace increases.
fn generation(socket: &mut NetfilterSocket) -> Result<u32, NetlinkError> {
    let message = request(command::GET_GENERATION, 0, Family::V4).finish()?;
    socket.request(&message, |attributes| {
        find(attributes, attribute::GENERATION_ID)?
            .map_or(Err(ParseError::Missing("the generation of nftables")), |attribute| {
                attribute.be32()
            })
    })
}

fn find(mut attributes: Attributes<'_>, kind: u16) -> Result<Option<Attribute<'_>>, ParseError> {
    attributes.find(|a| a.as_ref().map_or(true, |a| a.kind == kind)).transpose()
}

/// A chain of nftables.
#[derive(Debug, Default)]
struct Chain {
    table: String,
    name: String,
    is_base: bool,
    policy: Option<u32>,
    /// Rules in it and jumps to it.
    uses: u32,
}

impl Chain {
    /// The iptables table that it is in.
    fn id(&self, family: Family) -> Option<XtTableId> {
        let table = XtTable::ALL.into_iter().find(|table| table.name() == self.table)?;
        Some(XtTableId { family, table })
    }

    /// The hook of a built-in chain.
    fn hook(&self) -> Option<BuiltinHook> {
        BuiltinHook::ALL.into_iter().find(|hook| self.is_base && hook.name() == self.name)
    }
}

fn list_chains(socket: &mut NetfilterSocket, family: Family) -> Result<Vec<Chain>, NetlinkError> {
    let message = request(command::GET_CHAIN, 0, family).finish()?;
    socket.dump(&message, |chains: &mut Vec<Chain>, attributes| {
        let mut chain = Chain::default();
        for attribute in attributes {
            let attribute = attribute?;
            match attribute.kind {
                attribute::CHAIN_TABLE => chain.table = attribute.text(),
                attribute::CHAIN_NAME => chain.name = attribute.text(),
                attribute::CHAIN_HOOK => chain.is_base = true,
                attribute::CHAIN_POLICY => chain.policy = Some(attribute.be32()?),
                attribute::CHAIN_USE => chain.uses = attribute.be32()?,
                _ => {}
            }
        }
        chains.push(chain);
        Ok(())
    })
}

//! Requests to `nf_tables` about our table.

mod element;
mod expression;
mod rule;
mod set;

pub(super) use element::{Change, elements};
pub(super) use expression::{ct_number, family_number, meta_number, name as expression_name};
pub(super) use rule::{chain_head, delete_chain, flush, rule};
pub(super) use set::{create as create_set, delete as delete_set};

use netlink_packet_core::NLM_F_CREATE;
use smartnat_core::objects::nft::{NFT_TABLE, NFT_TABLE_COMMENT, NftVerdict};

use super::protocol::{
    NFPROTO_INET, chain, command, data, rule as rule_attribute, set as set_attribute,
};
use super::protocol::{elements as elements_attribute, table, userdata, verdict};
use crate::netlink::{Message, MessageBuilder, NetlinkError, Subsystem};

/// A message without attributes.
fn begin(command: u8, modifiers: u16) -> MessageBuilder {
    MessageBuilder::new(Subsystem::NfTables, command, modifiers, NFPROTO_INET)
}

/// Asks for the generation: a number that every change of nftables in this namespace increases.
pub(super) fn get_generation() -> Result<Message, NetlinkError> {
    begin(command::GET_GENERATION, 0).finish()
}

/// Asks for the table of our name.
pub(super) fn get_table() -> Result<Message, NetlinkError> {
    let mut message = begin(command::GET_TABLE, 0);
    message.string(table::NAME, NFT_TABLE);
    message.finish()
}

/// Lists the sets of our table.
pub(super) fn list_sets() -> Result<Message, NetlinkError> {
    let mut message = begin(command::GET_SET, 0);
    message.string(set_attribute::TABLE, NFT_TABLE);
    message.finish()
}

/// Lists the elements of a set of our table.
pub(super) fn list_elements(set: &str) -> Result<Message, NetlinkError> {
    let mut message = begin(command::GET_ELEMENTS, 0);
    message.string(elements_attribute::TABLE, NFT_TABLE).string(elements_attribute::SET, set);
    message.finish()
}

/// Lists the chains of all tables of the family.
pub(super) fn list_chains() -> Result<Message, NetlinkError> {
    let mut message = begin(command::GET_CHAIN, 0);
    message.string(chain::TABLE, NFT_TABLE);
    message.finish()
}

/// Lists the rules of our table, each chain's in order.
pub(super) fn list_rules() -> Result<Message, NetlinkError> {
    let mut message = begin(command::GET_RULE, 0);
    message.string(rule_attribute::TABLE, NFT_TABLE);
    message.finish()
}

/// Creates our table with its comment, or does nothing where it is.
pub(super) fn create_table() -> Result<Message, NetlinkError> {
    let mut message = begin(command::NEW_TABLE, NLM_F_CREATE);
    let comment = comment(NFT_TABLE_COMMENT);
    message.string(table::NAME, NFT_TABLE).be32(table::FLAGS, 0);
    message.bytes(table::USERDATA, &comment);
    message.finish()
}

/// Has packets enter the chains of our table again, after somebody made it dormant.
pub(super) fn wake_table() -> Result<Message, NetlinkError> {
    let mut message = begin(command::NEW_TABLE, 0);
    message.string(table::NAME, NFT_TABLE).be32(table::FLAGS, 0);
    message.finish()
}

/// Deletes our table with all that is in it.
pub(super) fn delete_table() -> Result<Message, NetlinkError> {
    let mut message = begin(command::DELETE_TABLE, 0);
    message.string(table::NAME, NFT_TABLE);
    message.finish()
}

/// One field of userdata as nft keeps it: kind, length, value. Longer values than the length can
/// say are cut.
fn field(kind: u8, value: &[u8]) -> Vec<u8> {
    let value = &value[..value.len().min(usize::from(u8::MAX))];
    let mut bytes = vec![kind, u8::try_from(value.len()).unwrap_or(u8::MAX)];
    bytes.extend_from_slice(value);
    bytes
}

/// A comment in userdata, of whatever has one.
fn comment(text: &str) -> Vec<u8> {
    let mut value = text.as_bytes().to_vec();
    value.push(0);
    field(userdata::COMMENT, &value)
}

/// Adds a verdict as `kind`.
fn put_verdict(to: &mut MessageBuilder, kind: u16, what: &NftVerdict) {
    let code = match what {
        NftVerdict::Accept => verdict::ACCEPT,
        NftVerdict::Drop => verdict::DROP,
        NftVerdict::Return => verdict::RETURN,
        NftVerdict::Continue => verdict::CONTINUE,
        NftVerdict::Jump(_) => verdict::JUMP,
        NftVerdict::Goto(_) => verdict::GOTO,
    };
    to.nest(kind, |inner| {
        inner.nest(data::VERDICT, |inner| {
            inner.be32(data::VERDICT_CODE, code);
            if let Some(chain) = what.chain() {
                inner.string(data::VERDICT_CHAIN, chain.as_str());
            }
        });
    });
}

/// Adds bytes to compare with as `kind`.
fn put_value(to: &mut MessageBuilder, kind: u16, value: &[u8]) {
    to.nest(kind, |inner| {
        inner.bytes(data::VALUE, value);
    });
}

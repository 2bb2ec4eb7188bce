//! Chains and rules.

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE};
use smartnat_core::objects::BuiltinHook;
use smartnat_core::objects::nft::{NFT_TABLE, NftBase, NftName, NftRule};

use super::{begin, comment, expression};
use crate::netlink::{Message, NetlinkError};
use crate::nft::protocol::{LIST_ITEM, chain as attribute, command, rule as of_rule, verdict};

/// The hook's number (`enum nf_inet_hooks`).
fn hook_number(hook: BuiltinHook) -> u32 {
    match hook {
        BuiltinHook::Prerouting => 0,
        BuiltinHook::Input => 1,
        BuiltinHook::Forward => 2,
        BuiltinHook::Output => 3,
        BuiltinHook::Postrouting => 4,
    }
}

/// Creates a chain where there is none. One that is there has to have the same base.
pub(in crate::nft) fn chain_head(
    name: &NftName,
    base: Option<&NftBase>,
) -> Result<Message, NetlinkError> {
    let mut message = begin(command::NEW_CHAIN, NLM_F_CREATE);
    message.string(attribute::TABLE, NFT_TABLE).string(attribute::NAME, name.as_str());
    if let Some(base) = base {
        let policy = if base.drops { verdict::DROP } else { verdict::ACCEPT };
        message
            .nest(attribute::HOOK, |hook| {
                hook.be32(attribute::HOOK_NUMBER, hook_number(base.hook))
                    .be32(attribute::HOOK_PRIORITY, base.priority.cast_unsigned());
            })
            .string(attribute::KIND, base.kind.name())
            .be32(attribute::POLICY, policy);
    }
    message.finish()
}

/// Deletes the rules of a chain.
pub(in crate::nft) fn flush(chain: &NftName) -> Result<Message, NetlinkError> {
    let mut message = begin(command::DELETE_RULE, 0);
    message.string(of_rule::TABLE, NFT_TABLE).string(of_rule::CHAIN, chain.as_str());
    message.finish()
}

/// Deletes a chain with its rules.
pub(in crate::nft) fn delete_chain(name: &NftName) -> Result<Message, NetlinkError> {
    let mut message = begin(command::DELETE_CHAIN, 0);
    message.string(attribute::TABLE, NFT_TABLE).string(attribute::NAME, name.as_str());
    message.finish()
}

/// Appends a rule to a chain, and tells where in the message each expression begins.
pub(in crate::nft) fn rule(
    chain: &NftName,
    rule: &NftRule,
) -> Result<(Message, Vec<usize>), NetlinkError> {
    let mut message = begin(command::NEW_RULE, NLM_F_CREATE | NLM_F_APPEND);
    message.string(of_rule::TABLE, NFT_TABLE).string(of_rule::CHAIN, chain.as_str());
    let mut starts = Vec::with_capacity(rule.expressions.len());
    message.nest(of_rule::EXPRESSIONS, |list| {
        for what in &rule.expressions {
            starts.push(list.length());
            list.nest(LIST_ITEM, |item| expression::put(item, what));
        }
    });
    if let Some(text) = &rule.comment {
        message.bytes(of_rule::USERDATA, &comment(text));
    }
    message.finish().map(|message| (message, starts))
}

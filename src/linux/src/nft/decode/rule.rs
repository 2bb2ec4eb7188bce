//! Chains and rules.

use smartnat_core::objects::BuiltinHook;
use smartnat_core::objects::nft::{NFT_TABLE, NftBase, NftChainKind, NftName, NftRule};

use super::{comment, expression};
use crate::netlink::{Attribute, Attributes, ParseError};
use crate::nft::protocol::{chain as attribute, rule as of_rule, verdict};

/// Reads a message of a listing of chains: its name, and where packets enter it. `None`: it is of
/// another table, or came with a rule and goes with it.
pub(crate) fn chain(
    attributes: Attributes<'_>,
) -> Result<Option<(NftName, Option<NftBase>)>, ParseError> {
    let (mut table, mut name, mut kind) = (String::new(), String::new(), String::new());
    let (mut hook, mut policy, mut flags) = (None, verdict::ACCEPT, 0);
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            attribute::TABLE => table = attribute.text(),
            attribute::NAME => name = attribute.text(),
            attribute::KIND => kind = attribute.text(),
            attribute::POLICY => policy = attribute.be32()?,
            attribute::FLAGS => flags = attribute.be32()?,
            attribute::HOOK => hook = Some(hook_of(&attribute)?),
            _ => {}
        }
    }
    if table != NFT_TABLE || flags & attribute::BINDING != 0 {
        return Ok(None);
    }
    let base = hook.map(|(number, priority)| base(number, priority, &kind, policy));
    Ok(Some((name.into(), base)))
}

/// Number and priority of a hook.
fn hook_of(attribute: &Attribute<'_>) -> Result<(u32, i32), ParseError> {
    let (mut number, mut priority) = (u32::MAX, 0);
    for inner in attribute.nested() {
        let inner = inner?;
        match inner.kind {
            attribute::HOOK_NUMBER => number = inner.be32()?,
            attribute::HOOK_PRIORITY => priority = inner.be32()?.cast_signed(),
            _ => {}
        }
    }
    Ok((number, priority))
}

fn base(number: u32, priority: i32, kind: &str, policy: u32) -> NftBase {
    let hook = usize::try_from(number).ok().and_then(|n| BuiltinHook::ALL.get(n)).copied();
    let kinds = [NftChainKind::Filter, NftChainKind::Nat, NftChainKind::Route];
    let kind = kinds.into_iter().find(|known| known.name() == kind);
    NftBase {
        // A hook or a type that is none of ours, such as ingress, is told as a policy that is
        // none of ours either, so that nobody takes the chain for what it should be.
        drops: policy != verdict::ACCEPT || hook.is_none() || kind.is_none(),
        kind: kind.unwrap_or(NftChainKind::Filter),
        hook: hook.unwrap_or(BuiltinHook::Prerouting),
        priority,
    }
}

/// Reads a message of a listing of rules: its chain, and the rule. `None`: it is of another table.
pub(crate) fn rule(attributes: Attributes<'_>) -> Result<Option<(NftName, NftRule)>, ParseError> {
    let AnyRule { table, chain, rule } = any_rule(attributes)?;
    Ok((table == NFT_TABLE).then(|| (chain.into(), rule)))
}

/// A rule of any table.
#[derive(Default)]
pub(crate) struct AnyRule {
    pub(crate) table: String,
    pub(crate) chain: String,
    pub(crate) rule: NftRule,
}

/// Reads a message of a listing of rules. An expression that we have no use for is unknown.
pub(crate) fn any_rule(attributes: Attributes<'_>) -> Result<AnyRule, ParseError> {
    let mut found = AnyRule::default();
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            of_rule::TABLE => found.table = attribute.text(),
            of_rule::CHAIN => found.chain = attribute.text(),
            of_rule::EXPRESSIONS => {
                for item in attribute.nested() {
                    found.rule.expressions.push(expression::read(item?.nested())?);
                }
            }
            of_rule::USERDATA => {
                found.rule.comment = comment(attribute.value).map(Into::into);
            }
            _ => {}
        }
    }
    Ok(found)
}

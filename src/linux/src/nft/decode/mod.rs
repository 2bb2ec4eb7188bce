//! What `nf_tables` tells of our table. Nothing here panics on malformed bytes.

mod element;
mod expression;
mod rule;
mod set;

pub(crate) use element::Elements;
pub(crate) use rule::{AnyRule, any_rule, chain, rule};
pub(crate) use set::set;

use smartnat_core::objects::nft::{NftName, NftVerdict};

use super::protocol::{GENERATION_ID, data, table, userdata, verdict};
use crate::netlink::{Attribute, Attributes, ParseError};

/// The table of our name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableHead {
    /// By which it is ours, or not.
    pub(crate) comment: Option<String>,
    /// Somebody has seen to it that no packet enters its chains.
    pub(crate) dormant: bool,
}

/// Reads the answer to a question for a table.
pub(crate) fn table_head(attributes: Attributes<'_>) -> Result<TableHead, ParseError> {
    let mut head = TableHead { comment: None, dormant: false };
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            table::FLAGS => head.dormant = attribute.be32()? & table::DORMANT != 0,
            table::USERDATA => head.comment = comment(attribute.value).map(str::to_owned),
            _ => {}
        }
    }
    Ok(head)
}

/// Reads the answer to a question for the generation.
pub(crate) fn generation(attributes: Attributes<'_>) -> Result<u32, ParseError> {
    find(attributes, GENERATION_ID)?.ok_or(ParseError::Missing("the generation"))?.be32()
}

fn find(mut attributes: Attributes<'_>, kind: u16) -> Result<Option<Attribute<'_>>, ParseError> {
    attributes.find(|a| a.as_ref().map_or(true, |a| a.kind == kind)).transpose()
}

/// The value of one kind in userdata, which is nft's own and may hold anything.
fn user_value(mut userdata: &[u8], wanted: u8) -> Option<&[u8]> {
    loop {
        let (kind, rest) = userdata.split_first()?;
        let (length, rest) = rest.split_first()?;
        let (value, rest) = rest.split_at_checked(usize::from(*length))?;
        if *kind == wanted {
            return Some(value);
        }
        userdata = rest;
    }
}

/// The comment in userdata, of whatever has one.
fn comment(userdata: &[u8]) -> Option<&str> {
    let value = user_value(userdata, userdata::COMMENT)?;
    std::str::from_utf8(value.strip_suffix(&[0])?).ok()
}

/// A verdict, from the attribute that holds it; `None` for one that is none of ours.
fn verdict(attribute: &Attribute<'_>) -> Result<Option<NftVerdict>, ParseError> {
    let Some(inner) = find(attribute.nested(), data::VERDICT)? else { return Ok(None) };
    let (mut code, mut chain) = (None, None);
    for attribute in inner.nested() {
        let attribute = attribute?;
        match attribute.kind {
            data::VERDICT_CODE => code = Some(attribute.be32()?),
            data::VERDICT_CHAIN => chain = Some(NftName::from(attribute.text())),
            _ => {}
        }
    }
    Ok(match (code, chain) {
        (Some(verdict::ACCEPT), None) => Some(NftVerdict::Accept),
        (Some(verdict::DROP), None) => Some(NftVerdict::Drop),
        (Some(verdict::RETURN), None) => Some(NftVerdict::Return),
        (Some(verdict::CONTINUE), None) => Some(NftVerdict::Continue),
        (Some(verdict::JUMP), Some(chain)) => Some(NftVerdict::Jump(chain)),
        (Some(verdict::GOTO), Some(chain)) => Some(NftVerdict::Goto(chain)),
        _ => None,
    })
}

/// Bytes to compare with, from the attribute that holds them; `None` for a verdict.
fn value<'a>(attribute: &Attribute<'a>) -> Result<Option<&'a [u8]>, ParseError> {
    Ok(find(attribute.nested(), data::VALUE)?.map(|inner| inner.value))
}

#[cfg(test)]
mod tests;

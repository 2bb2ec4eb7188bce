//! Elements of sets and maps.

use std::iter::Peekable;

use netlink_packet_core::NLM_F_CREATE;
use smartnat_core::objects::nft::{
    NFT_TABLE, NftData, NftElement, NftKey, NftName, NftSetSpec, NftValue,
};

use super::{begin, comment, field, put_value, put_verdict};
use crate::netlink::{Message, MessageBuilder, NetlinkError};
use crate::nft::protocol::{LIST_ITEM, command, data, element as attribute, elements, userdata};
use crate::nft::types;

/// Elements of one message; more than a few hundred make it no cheaper.
const MAX_ELEMENTS: usize = 400;
/// Where a message of elements is full: a list may have 64 KiB, and one more operation, of two
/// elements with the longest keys, chain and comment, has to fit.
const FULL: usize = (64 << 10) - 4096;

/// One operation on an element: its key, and the rest of it if it is added.
pub(in crate::nft) type Change<'a> = (&'a NftKey, Option<&'a NftElement>);

/// A message of elements.
pub(in crate::nft) struct Elements {
    pub(in crate::nft) message: Message,
    /// Where in it each operation's elements begin.
    pub(in crate::nft) starts: Vec<usize>,
}

/// Adds or deletes as many of the elements as one message takes: at least one. `spec` is the
/// set's, if there is one.
pub(in crate::nft) fn elements<'a>(
    set: &NftName,
    spec: Option<&NftSetSpec>,
    changes: &mut Peekable<impl Iterator<Item = Change<'a>>>,
) -> Result<Elements, NetlinkError> {
    let adds = changes.peek().is_some_and(|(_, element)| element.is_some());
    let mut message = if adds {
        begin(command::NEW_ELEMENTS, NLM_F_CREATE)
    } else {
        begin(command::DELETE_ELEMENTS, 0)
    };
    message.string(elements::TABLE, NFT_TABLE).string(elements::SET, set.as_str());
    let mut starts = Vec::new();
    message.nest(elements::LIST, |items| {
        while starts.len() < MAX_ELEMENTS && items.length() < FULL {
            let Some((key, element)) = changes.next() else { break };
            starts.push(items.length());
            put(items, spec, key, element);
        }
    });
    message.finish().map(|message| Elements { message, starts })
}

/// Puts one operation's elements into the list.
fn put(
    items: &mut MessageBuilder,
    spec: Option<&NftSetSpec>,
    key: &NftKey,
    element: Option<&NftElement>,
) {
    let fields = spec.map_or(&[][..], |spec| &spec.key);
    let first = types::trimmed(&key.first, fields);
    match &key.last {
        // The element for all other keys has none of its own.
        None if key.first.is_empty() => {
            items.nest(LIST_ITEM, |item| {
                item.be32(attribute::FLAGS, attribute::CATCH_ALL);
                put_rest(item, spec, element, false);
            });
        }
        // Intervals of one field are two elements, the second of which is no longer in it.
        Some(last) if fields.len() == 1 => {
            let end = after(types::trimmed(last, fields));
            items.nest(LIST_ITEM, |item| {
                put_value(item, attribute::KEY, first);
                put_rest(item, spec, element, end.is_none());
            });
            if let Some(end) = end {
                items.nest(LIST_ITEM, |item| {
                    put_value(item, attribute::KEY, &end);
                    item.be32(attribute::FLAGS, attribute::INTERVAL_END);
                });
            }
        }
        last => {
            items.nest(LIST_ITEM, |item| {
                put_value(item, attribute::KEY, first);
                if let Some(last) = last {
                    put_value(item, attribute::KEY_END, last);
                }
                put_rest(item, spec, element, false);
            });
        }
    }
}

/// What an element has beside its key. `open`: no element ends its interval.
fn put_rest(
    item: &mut MessageBuilder,
    spec: Option<&NftSetSpec>,
    element: Option<&NftElement>,
    open: bool,
) {
    let Some(element) = element else { return };
    match &element.value {
        NftValue::Nothing => {}
        NftValue::Verdict(verdict) => put_verdict(item, attribute::DATA, verdict),
        NftValue::Bytes(bytes) => {
            let fields = match spec.map(|spec| &spec.data) {
                Some(NftData::Values(fields)) => &fields[..],
                _ => &[],
            };
            item.nest(attribute::DATA, |inner| {
                inner.bytes(data::VALUE, types::trimmed(bytes, fields));
            });
        }
    }
    let mut userdata = element.comment.as_deref().map_or_else(Vec::new, comment);
    if open {
        let flags = userdata::INTERVAL_OPEN.to_ne_bytes();
        userdata.extend(field(userdata::ELEMENT_FLAGS, &flags));
    }
    if !userdata.is_empty() {
        item.bytes(attribute::USERDATA, &userdata);
    }
}

/// The next key; `None` after the last one, whose bytes are all ones.
fn after(key: &[u8]) -> Option<Vec<u8>> {
    let mut next = key.to_vec();
    for byte in next.iter_mut().rev() {
        let (sum, carried) = byte.overflowing_add(1);
        *byte = sum;
        if !carried {
            return Some(next);
        }
    }
    None
}

//! Sets and maps.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use smartnat_core::objects::nft::{NFT_TABLE, NftData, NftName, NftSetSpec, NftType};

use super::{begin, field};
use crate::netlink::{Message, MessageBuilder, NetlinkError};
use crate::nft::protocol::{
    LIST_ITEM, command, data, expression, set as attribute, set_flag, userdata,
};
use crate::nft::types;

/// Creates a set; refused when there is one of the name. `id` tells the sets of one batch apart.
pub(in crate::nft) fn create(
    name: &NftName,
    spec: &NftSetSpec,
    id: u32,
) -> Result<Message, NetlinkError> {
    let mut message = begin(command::NEW_SET, NLM_F_CREATE | NLM_F_EXCL);
    message
        .string(attribute::TABLE, NFT_TABLE)
        .string(attribute::NAME, name.as_str())
        .be32(attribute::FLAGS, flags(spec))
        .be32(attribute::KEY_TYPE, types::number(&spec.key))
        .be32(attribute::KEY_LENGTH, types::length(&spec.key))
        .be32(attribute::ID, id);
    match &spec.data {
        NftData::Nothing => {}
        NftData::Verdict => {
            message.be32(attribute::DATA_TYPE, data::VERDICT_TYPE).be32(attribute::DATA_LENGTH, 0);
        }
        NftData::Values(values) => {
            message
                .be32(attribute::DATA_TYPE, types::number(values))
                .be32(attribute::DATA_LENGTH, types::length(values));
        }
    }
    if let Some(seconds) = spec.timeout.filter(|seconds| *seconds > 0) {
        message.be64(attribute::TIMEOUT, u64::from(seconds) * 1000);
    }
    put_description(&mut message, spec);
    message.bytes(attribute::USERDATA, &byte_orders(spec));
    if spec.counter {
        message.nest(attribute::EXPRESSION, |counter| {
            counter.string(expression::NAME, "counter").nest(expression::DATA, |_| {});
        });
    }
    message.finish()
}

/// Deletes a set with its elements.
pub(in crate::nft) fn delete(name: &NftName) -> Result<Message, NetlinkError> {
    let mut message = begin(command::DELETE_SET, 0);
    message.string(attribute::TABLE, NFT_TABLE).string(attribute::NAME, name.as_str());
    message.finish()
}

fn flags(spec: &NftSetSpec) -> u32 {
    let mut flags = 0;
    for (applies, flag) in [
        (spec.data != NftData::Nothing, set_flag::MAP),
        (spec.interval, set_flag::INTERVAL),
        // The kernel wants it for intervals of several fields alone, and their lengths with it.
        (spec.interval && spec.key.len() > 1, set_flag::CONCATENATION),
        (spec.dynamic, set_flag::EVALUATED),
        (spec.timeout.is_some(), set_flag::TIMEOUT),
        (spec.counter, set_flag::EXPRESSION),
    ] {
        if applies {
            flags |= flag;
        }
    }
    flags
}

fn put_description(message: &mut MessageBuilder, spec: &NftSetSpec) {
    let fields: &[NftType] = if spec.interval && spec.key.len() > 1 { &spec.key } else { &[] };
    if spec.size.is_none() && fields.is_empty() {
        return;
    }
    message.nest(attribute::DESCRIPTION, |description| {
        if let Some(size) = spec.size {
            description.be32(attribute::DESCRIPTION_SIZE, size);
        }
        if fields.is_empty() {
            return;
        }
        description.nest(attribute::DESCRIPTION_FIELDS, |list| {
            for field in fields {
                let bytes = u32::try_from(field.size()).unwrap_or(u32::MAX);
                list.nest(LIST_ITEM, |item| {
                    item.be32(attribute::FIELD_LENGTH, bytes);
                });
            }
        });
    });
}

/// What nft needs to print keys and values, and to add elements, in the right order of bytes.
fn byte_orders(spec: &NftSetSpec) -> Vec<u8> {
    let mut bytes = field(userdata::KEY_ORDER, &types::byte_order(&spec.key).to_ne_bytes());
    let data = match &spec.data {
        NftData::Nothing => return bytes,
        NftData::Verdict => userdata::NO_ORDER,
        NftData::Values(values) => types::byte_order(values),
    };
    bytes.extend(field(userdata::DATA_ORDER, &data.to_ne_bytes()));
    bytes
}

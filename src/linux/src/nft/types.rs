//! Types of keys and values: nft's numbers for them, their lengths, their padding.

use smartnat_core::objects::nft::NftType;

use super::protocol::userdata;

/// Bits of one type's number in that of a concatenation (`TYPE_BITS` of nft).
const TYPE_BITS: u32 = 6;
/// Fields that such a number can tell of.
pub(super) const MAX_FIELDS: usize = 5;

/// The number of one type (`enum datatypes` of nft).
fn number_of(kind: NftType) -> u32 {
    match kind {
        NftType::Ipv4 => 7,
        NftType::Ipv6 => 8,
        NftType::Protocol => 12,
        NftType::Port => 13,
        NftType::Mark => 19,
        NftType::InterfaceName => 41,
        NftType::Unknown(number) => number,
    }
}

/// The type of a number.
fn type_of(number: u32) -> NftType {
    const KNOWN: [NftType; 6] = [
        NftType::Ipv4,
        NftType::Ipv6,
        NftType::Protocol,
        NftType::Port,
        NftType::Mark,
        NftType::InterfaceName,
    ];
    let known = KNOWN.into_iter().find(|kind| number_of(*kind) == number);
    known.unwrap_or(NftType::Unknown(number))
}

/// The number of a concatenation. What does not fit is lost, see [`MAX_FIELDS`].
pub(super) fn number(fields: &[NftType]) -> u32 {
    fields.iter().fold(0, |number, field| number << TYPE_BITS | number_of(*field))
}

/// The fields of a concatenation by its number; at least one.
pub(super) fn fields(mut number: u32) -> Vec<NftType> {
    let mask = (1 << TYPE_BITS) - 1;
    let mut fields = vec![type_of(number & mask)];
    number >>= TYPE_BITS;
    while number > 0 {
        fields.push(type_of(number & mask));
        number >>= TYPE_BITS;
    }
    fields.reverse();
    fields
}

/// Bytes of a key or value in the kernel: a single field is not padded, several are.
pub(super) fn length(fields: &[NftType]) -> u32 {
    let bytes = match fields {
        [one] => one.size(),
        several => several.iter().map(|field| field.size().next_multiple_of(4)).sum(),
    };
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// The bytes as the kernel takes them: without the padding of a single field.
pub(super) fn trimmed<'a>(bytes: &'a [u8], fields: &[NftType]) -> &'a [u8] {
    let [one] = fields else { return bytes };
    let size = one.size();
    let padded = size > 0 && bytes.len() == size.next_multiple_of(4);
    if padded { &bytes[..size] } else { bytes }
}

/// The bytes as we keep them: padded with zeros to four.
pub(super) fn padded(bytes: &[u8]) -> Box<[u8]> {
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len().next_multiple_of(4), 0);
    padded.into()
}

/// In which order nft takes the bytes of a key or value to be (`enum byteorder` of nft).
pub(super) fn byte_order(fields: &[NftType]) -> u32 {
    match fields {
        [NftType::Mark | NftType::InterfaceName] => userdata::HOST_ORDER,
        [_] => userdata::NETWORK_ORDER,
        _ => userdata::NO_ORDER,
    }
}

//! What elements of sets and maps have counted.

use smartnat_core::objects::nft::NftValue;

/// An element with its counter, which begins at 0 whenever the element is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElementCounter {
    /// Its key, field by field.
    pub key: Box<[u8]>,
    /// What it carries.
    pub value: NftValue,
    /// Packets that matched it.
    pub packets: u64,
    /// Their bytes, with their IP headers.
    pub bytes: u64,
}

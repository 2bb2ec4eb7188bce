//! nftables: the objects of one table, as `nf_tables` holds them.
//!
//! Keys and values of sets and maps are the bytes that the kernel compares: each field of a
//! concatenation in its own byte order, padded to four bytes (`nft_set_ext`, `NFT_REG32_SIZE`).

mod chain;
mod expression;
mod set;
mod table;

pub use chain::{NftBase, NftChain, NftChainKind, NftRule};
pub use expression::{
    CtKey, LookupResult, MetaKey, NatKind, NftExpr, NftVerdict, PayloadBase, Register, SetUpdate,
};
pub use set::{NftData, NftElement, NftKey, NftSet, NftSetSpec, NftType, NftValue, fields};
pub use table::NftTable;

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Name of our table, of family `inet`.
pub const NFT_TABLE: &str = "smartnat";
/// Comment of our table: without it a table of that name is somebody else's.
pub const NFT_TABLE_COMMENT: &str = "SmartNat: do not edit, changes are undone";

/// Name of a chain, a set or a map; at most 255 bytes (`NFT_NAME_MAXLEN` less its NUL).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NftName(pub Arc<str>);

impl NftName {
    /// Longest name that the kernel takes.
    pub const MAX_LEN: usize = 255;

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for NftName {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl From<String> for NftName {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

impl Borrow<str> for NftName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NftName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

//! Names of user-defined chains.

use smartnat_core::objects::{BuiltinHook, ChainName, XtTableId};
use smartnat_core::ops::OpError;

use super::chain_object;
use crate::kernel::error::invalid;

/// What `iptables-nft-restore` refuses; the legacy flavour takes some of it.
pub(super) fn check_name(table: XtTableId, name: &ChainName) -> Result<(), OpError> {
    let text = name.0.as_str();
    let problem = if text.is_empty() || text.len() > ChainName::MAX_LEN {
        "a chain name has 1 to 28 bytes"
    } else if !text.bytes().all(|b| b.is_ascii_graphic() && b != b'"') {
        "a chain name is printable ASCII without blanks and quotes"
    } else if text.starts_with(['-', '!']) {
        "a chain name does not start with - or !"
    } else if ["ACCEPT", "DROP", "RETURN", "QUEUE"].contains(&text) {
        "chain name may not clash with target name"
    } else if BuiltinHook::ALL.iter().any(|hook| hook.name() == text) {
        "is the name of a built-in chain"
    } else {
        return Ok(());
    };
    invalid(chain_object(table, text), problem)
}

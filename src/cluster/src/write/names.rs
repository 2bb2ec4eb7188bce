//! Names of Leases and field managers, one for each instance.

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use smartnat_core::coordination::LeaseName;

/// Longest name of an object that is also good for a field manager (128 characters).
const MAX_NAME: usize = 128;
const PREFIX: &str = "smartnat-instance-";
const LEADER: &str = "smartnat-leader";

/// Name of the Lease. Instances may have names that no object can have.
pub fn lease_name(name: &LeaseName) -> String {
    let LeaseName::Instance(instance) = name else { return LEADER.into() };
    let plain = format!("{PREFIX}{instance}");
    if plain.len() <= MAX_NAME && crate::convert::is_dns_name(&plain) {
        return plain;
    }
    // 80 bits: no two instances of a cluster meet by chance.
    let digest = Sha256::digest(instance.as_bytes());
    format!("{PREFIX}x.{}", HEXLOWER.encode(&digest[..10]))
}

/// Field manager of what an instance, or the leader, applies.
pub fn field_manager(name: &LeaseName) -> String {
    lease_name(name)
}

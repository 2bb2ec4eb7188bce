//! ipset's error numbers as classes and words.

use std::fmt::Display;

use smartnat_core::ops::{OpError, OpErrorClass};

use super::protocol::errno;
use crate::netlink::{NetlinkError, errno_class, errno_text};

/// What failed about `object`.
pub(super) fn op_error(object: impl Display, error: &NetlinkError) -> OpError {
    match error {
        NetlinkError::Refused(refusal) => {
            let (class, detail) = classify(refusal.errno);
            OpError::new(class, object, detail)
        }
        other => OpError::new(other.class(), object, other),
    }
}

/// Class and words for an error number of an ipset command.
fn classify(number: i32) -> (OpErrorClass, String) {
    use OpErrorClass::{Busy, Exists, Invalid};
    let (class, words) = match number {
        errno::PROTOCOL => (Invalid, "the kernel does not understand the request"),
        errno::FIND_TYPE => (Invalid, "the kernel has no such set type for this family"),
        errno::MAX_SETS => (Invalid, "the kernel holds as many sets as it can"),
        errno::BUSY | errno::REFERENCED => (Busy, "the set is in use"),
        errno::EXIST_SETNAME2 => (Exists, "a set of that name exists"),
        errno::TYPE_MISMATCH => (Invalid, "the set has another type"),
        errno::EXIST => (Exists, "the element exists"),
        errno::INVALID_CIDR => (Invalid, "the prefix length is not allowed"),
        errno::INVALID_FAMILY => (Invalid, "the set type has no such family"),
        errno::TIMEOUT => (Invalid, "the set has no timeouts"),
        errno::IPADDR_IPV4 => (Invalid, "the set takes IPv4 addresses only"),
        errno::IPADDR_IPV6 => (Invalid, "the set takes IPv6 addresses only"),
        errno::HASH_FULL => (Invalid, "the set is full"),
        errno::HASH_ELEMENT => (Invalid, "the set takes no such element"),
        errno::INVALID_PROTO | errno::MISSING_PROTO => (Invalid, "the protocol has no ports"),
        private @ 4096.. => return (Invalid, format!("ipset error {private}")),
        generic => return (errno_class(generic), errno_text(generic)),
    };
    (class, words.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_error_numbers_have_a_class_and_words() {
        assert_eq!(classify(4100).0, OpErrorClass::Busy);
        assert_eq!(classify(4103).0, OpErrorClass::Exists);
        assert_eq!(classify(4352), (OpErrorClass::Invalid, "the set is full".to_owned()));
        assert_eq!(classify(5000), (OpErrorClass::Invalid, "ipset error 5000".to_owned()));
    }

    #[test]
    fn generic_error_numbers_keep_their_class() {
        assert_eq!(classify(1).0, OpErrorClass::Denied);
        assert_eq!(classify(2).0, OpErrorClass::NotFound);
        assert_eq!(classify(17).0, OpErrorClass::Exists);
    }
}

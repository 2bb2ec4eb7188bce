//! What an error number of the kernel means for an operation.

use rustix::io::Errno;
use smartnat_core::ops::OpErrorClass;

/// The class of a positive error number as routing and netfilter use it.
pub(crate) fn class_of_errno(errno: i32) -> OpErrorClass {
    match Errno::from_raw_os_error(errno) {
        Errno::NOENT | Errno::SRCH | Errno::NODEV | Errno::NXIO => OpErrorClass::NotFound,
        Errno::EXIST => OpErrorClass::Exists,
        Errno::BUSY => OpErrorClass::Busy,
        Errno::PERM | Errno::ACCESS => OpErrorClass::Denied,
        Errno::INVAL
        | Errno::OPNOTSUPP
        | Errno::AFNOSUPPORT
        | Errno::PROTONOSUPPORT
        | Errno::RANGE
        | Errno::NAMETOOLONG
        | Errno::NETUNREACH
        | Errno::HOSTUNREACH
        | Errno::ADDRNOTAVAIL => OpErrorClass::Invalid,
        _ => OpErrorClass::Transient,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_is_reached() {
        let cases = [
            (Errno::SRCH, OpErrorClass::NotFound),
            (Errno::EXIST, OpErrorClass::Exists),
            (Errno::BUSY, OpErrorClass::Busy),
            (Errno::NETUNREACH, OpErrorClass::Invalid),
            (Errno::PERM, OpErrorClass::Denied),
            (Errno::NETDOWN, OpErrorClass::Transient),
            (Errno::NOBUFS, OpErrorClass::Transient),
        ];
        for (errno, class) in cases {
            assert_eq!(class_of_errno(errno.raw_os_error()), class, "{errno}");
        }
    }
}

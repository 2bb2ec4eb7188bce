//! What `nf_tables` refuses, as classes and words.

use std::fmt::Display;

use rustix::io::Errno;
use smartnat_core::ops::{OpError, OpErrorClass};

use crate::netlink::NetlinkError;

/// What errors that concern no single object are about.
pub(super) const OUR_TABLE: &str = "table inet smartnat";

/// What failed about `object`.
pub(super) fn op_error(object: impl Display, error: &NetlinkError) -> OpError {
    let class = error.class();
    if let NetlinkError::Refused(refusal) = error
        && let Some(words) = words(refusal.errno)
    {
        return OpError::new(class, object, format_args!("{words} (os error {})", refusal.errno));
    }
    OpError::new(class, object, error)
}

/// Better words for an error number than the system's own, which suit files.
fn words(number: i32) -> Option<&'static str> {
    Some(match Errno::from_raw_os_error(number) {
        Errno::NOENT => {
            "it, or what it refers to, is not there, or the kernel lacks a module for it"
        }
        Errno::EXIST => "it is there already, as something else",
        Errno::BUSY => "something refers to it",
        Errno::NODATA => "it reads a register that nothing before it in the rule wrote",
        Errno::NFILE => "the set is full",
        Errno::LOOP | Errno::MLINK => "its jumps lead too deep or back to itself",
        Errno::OPNOTSUPP => "the kernel does not support this there",
        Errno::RESTART => "others kept changing nftables meanwhile",
        _ => return None,
    })
}

/// That the kernel has no `nf_tables`, from how it answered the first question.
pub(super) fn unavailable(error: &NetlinkError) -> OpError {
    // nfnetlink's answer where no module serves the subsystem (`nfnetlink_rcv_msg`).
    if error.class() == OpErrorClass::Invalid {
        let detail = format_args!(
            "the kernel has no usable nftables: load its module nf_tables, or choose \
             `--backend iptables` ({error})"
        );
        return OpError::new(OpErrorClass::Invalid, "nftables", detail);
    }
    op_error("nftables", error)
}

/// That the table of our name is somebody else's.
pub(super) fn foreign_table(comment: Option<&str>) -> OpError {
    let comment = comment.map_or_else(|| "no comment".to_owned(), |c| format!("comment {c:?}"));
    let detail = format_args!(
        "somebody else made it (it has {comment}), so it is left alone: rename it in whatever \
         makes it, or delete it with `nft delete table inet smartnat`"
    );
    OpError::new(OpErrorClass::Invalid, OUR_TABLE, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::Refusal;

    fn refused(errno: Errno) -> NetlinkError {
        let errno = errno.raw_os_error();
        NetlinkError::Refused(Refusal { errno, echo: Vec::new(), offset: None })
    }

    #[test]
    fn a_kernel_without_nftables_is_told_with_what_to_do() {
        let error = unavailable(&refused(Errno::INVAL));
        assert_eq!(error.class, OpErrorClass::Invalid);
        for word in ["nf_tables", "--backend iptables"] {
            assert!(error.to_string().contains(word), "{error}");
        }
        assert_eq!(unavailable(&refused(Errno::PERM)).class, OpErrorClass::Denied);
    }

    #[test]
    fn refusals_keep_their_class_and_name_the_object() {
        for (errno, class) in [
            (Errno::NOENT, OpErrorClass::NotFound),
            (Errno::EXIST, OpErrorClass::Exists),
            (Errno::BUSY, OpErrorClass::Busy),
            (Errno::NFILE, OpErrorClass::Invalid),
            (Errno::RESTART, OpErrorClass::Transient),
            (Errno::PERM, OpErrorClass::Denied),
        ] {
            let error = op_error("set a", &refused(errno));
            assert_eq!((error.class, error.object.as_str()), (class, "set a"), "{errno}");
            let number = format!("(os error {})", errno.raw_os_error());
            assert!(error.detail.ends_with(&number), "{error}");
        }
    }
}

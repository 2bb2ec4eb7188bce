//! Kernel settings under `net.`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::Family;

/// A sysctl that we may change.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SysctlKey {
    /// `net.ipv4.ip_forward`, `net.ipv6.conf.all.forwarding`.
    Forwarding(Family),
    /// `net.ipv4.fwmark_reflect`, `net.ipv6.fwmark_reflect`.
    MarkReflect(Family),
    /// `net.ipv4.tcp_fwmark_accept`, which counts for IPv6 too: a socket answers with its SYN's mark.
    TcpMarkAccept,
    /// `net.ipv4.conf.IF.rp_filter`.
    ReversePathFilter(String),
    /// `net.ipv4.conf.IF.src_valid_mark`.
    SourceValidMark(String),
    /// `net.ipv4.conf.IF.arp_ignore`.
    ArpIgnore(String),
    /// `net.ipv4.conf.IF.arp_announce`.
    ArpAnnounce(String),
    /// `net.ipv6.conf.IF.accept_ra`.
    AcceptRouterAdvertisements(String),
}

impl SysctlKey {
    /// Path below `/proc/sys`.
    pub fn path(&self) -> String {
        match self {
            Self::Forwarding(Family::V4) => "net/ipv4/ip_forward".into(),
            Self::Forwarding(Family::V6) => "net/ipv6/conf/all/forwarding".into(),
            Self::MarkReflect(Family::V4) => "net/ipv4/fwmark_reflect".into(),
            Self::MarkReflect(Family::V6) => "net/ipv6/fwmark_reflect".into(),
            Self::TcpMarkAccept => "net/ipv4/tcp_fwmark_accept".into(),
            Self::ReversePathFilter(i) => format!("net/ipv4/conf/{i}/rp_filter"),
            Self::SourceValidMark(i) => format!("net/ipv4/conf/{i}/src_valid_mark"),
            Self::ArpIgnore(i) => format!("net/ipv4/conf/{i}/arp_ignore"),
            Self::ArpAnnounce(i) => format!("net/ipv4/conf/{i}/arp_announce"),
            Self::AcceptRouterAdvertisements(i) => format!("net/ipv6/conf/{i}/accept_ra"),
        }
    }
}

impl fmt::Display for SysctlKey {
    /// With slashes, since an interface name may hold a dot.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path())
    }
}

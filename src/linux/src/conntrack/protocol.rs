//! Numbers of ctnetlink (`linux/netfilter/nfnetlink_conntrack.h`).

/// Commands (`enum cntl_msg_types`).
pub(super) mod command {
    pub(in crate::conntrack) const GET: u8 = 1;
    pub(in crate::conntrack) const DELETE: u8 = 2;
}

/// Attributes of an entry (`enum ctattr_type`).
pub(super) mod entry {
    pub(in crate::conntrack) const ORIGINAL: u16 = 1;
    pub(in crate::conntrack) const REPLY: u16 = 2;
    pub(in crate::conntrack) const MARK: u16 = 8;
    pub(in crate::conntrack) const COUNTERS_ORIGINAL: u16 = 9;
    pub(in crate::conntrack) const COUNTERS_REPLY: u16 = 10;
    pub(in crate::conntrack) const ID: u16 = 12;
    pub(in crate::conntrack) const ZONE: u16 = 18;
    pub(in crate::conntrack) const MARK_MASK: u16 = 21;
}

/// Attributes of a direction's counters (`enum ctattr_counters`).
pub(super) mod counters {
    pub(in crate::conntrack) const PACKETS: u16 = 1;
    pub(in crate::conntrack) const BYTES: u16 = 2;
}

/// Attributes of a tuple (`enum ctattr_tuple`).
pub(super) mod tuple {
    pub(in crate::conntrack) const IP: u16 = 1;
    pub(in crate::conntrack) const LAYER4: u16 = 2;
    pub(in crate::conntrack) const ZONE: u16 = 3;
}

/// Attributes of a tuple's addresses (`enum ctattr_ip`).
pub(super) mod ip {
    pub(in crate::conntrack) const V4_SOURCE: u16 = 1;
    pub(in crate::conntrack) const V4_DESTINATION: u16 = 2;
    pub(in crate::conntrack) const V6_SOURCE: u16 = 3;
    pub(in crate::conntrack) const V6_DESTINATION: u16 = 4;
}

/// Attributes of a tuple's protocol (`enum ctattr_l4proto`).
pub(super) mod layer4 {
    pub(in crate::conntrack) const NUMBER: u16 = 1;
    pub(in crate::conntrack) const SOURCE_PORT: u16 = 2;
    pub(in crate::conntrack) const DESTINATION_PORT: u16 = 3;
    pub(in crate::conntrack) const ICMP_ID: u16 = 4;
    pub(in crate::conntrack) const ICMP_TYPE: u16 = 5;
    pub(in crate::conntrack) const ICMP_CODE: u16 = 6;
    pub(in crate::conntrack) const ICMPV6_ID: u16 = 7;
    pub(in crate::conntrack) const ICMPV6_TYPE: u16 = 8;
    pub(in crate::conntrack) const ICMPV6_CODE: u16 = 9;
}

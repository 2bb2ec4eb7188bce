//! Numbers of the ipset protocol (`linux/netfilter/ipset/ip_set.h`).

/// The protocol version that this speaks; kernels since 4.20 do.
pub(super) const PROTOCOL: u8 = 7;

/// Commands (`enum ipset_cmd`).
pub(super) mod command {
    pub(in crate::ipset) const PROTOCOL: u8 = 1;
    pub(in crate::ipset) const CREATE: u8 = 2;
    pub(in crate::ipset) const DESTROY: u8 = 3;
    pub(in crate::ipset) const LIST: u8 = 7;
    pub(in crate::ipset) const ADD: u8 = 9;
    pub(in crate::ipset) const DELETE: u8 = 10;
    pub(in crate::ipset) const TYPE: u8 = 13;
}

/// Attributes of a command.
pub(super) mod attribute {
    pub(in crate::ipset) const PROTOCOL: u16 = 1;
    pub(in crate::ipset) const SET_NAME: u16 = 2;
    pub(in crate::ipset) const TYPE_NAME: u16 = 3;
    pub(in crate::ipset) const REVISION: u16 = 4;
    pub(in crate::ipset) const FAMILY: u16 = 5;
    pub(in crate::ipset) const FLAGS: u16 = 6;
    pub(in crate::ipset) const DATA: u16 = 7;
    pub(in crate::ipset) const ELEMENTS: u16 = 8;
    pub(in crate::ipset) const LINE_NUMBER: u16 = 9;
    pub(in crate::ipset) const REVISION_MIN: u16 = 10;
}

/// Attributes of what a set is created with.
pub(super) mod option {
    pub(in crate::ipset) const TIMEOUT: u16 = 6;
    pub(in crate::ipset) const INITIAL_VALUE: u16 = 17;
    pub(in crate::ipset) const HASH_SIZE: u16 = 18;
    pub(in crate::ipset) const MAX_ELEMENTS: u16 = 19;
    pub(in crate::ipset) const BUCKET_SIZE: u16 = 21;
    pub(in crate::ipset) const ELEMENT_COUNT: u16 = 24;
    pub(in crate::ipset) const REFERENCES: u16 = 25;
    pub(in crate::ipset) const MEMORY_SIZE: u16 = 26;
}

/// Attributes of an element.
pub(super) mod element {
    pub(in crate::ipset) const IP: u16 = 1;
    pub(in crate::ipset) const PREFIX_LENGTH: u16 = 3;
    pub(in crate::ipset) const PORT: u16 = 4;
    pub(in crate::ipset) const PROTOCOL: u16 = 7;
    pub(in crate::ipset) const LINE_NUMBER: u16 = 9;
    pub(in crate::ipset) const IP2: u16 = 20;
}

/// Attributes inside of an address.
pub(super) mod address {
    pub(in crate::ipset) const IPV4: u16 = 1;
    pub(in crate::ipset) const IPV6: u16 = 2;
}

/// Flag of a listing: names alone (`IPSET_FLAG_LIST_SETNAME`).
pub(super) const LIST_NAMES: u32 = 1 << 1;

/// Error numbers of ipset (`enum ipset_errno`, `ip_set_hash.h`).
pub(super) mod errno {
    pub(in crate::ipset) const PROTOCOL: i32 = 4097;
    pub(in crate::ipset) const FIND_TYPE: i32 = 4098;
    pub(in crate::ipset) const MAX_SETS: i32 = 4099;
    pub(in crate::ipset) const BUSY: i32 = 4100;
    pub(in crate::ipset) const EXIST_SETNAME2: i32 = 4101;
    pub(in crate::ipset) const TYPE_MISMATCH: i32 = 4102;
    pub(in crate::ipset) const EXIST: i32 = 4103;
    pub(in crate::ipset) const INVALID_CIDR: i32 = 4104;
    pub(in crate::ipset) const INVALID_FAMILY: i32 = 4106;
    pub(in crate::ipset) const TIMEOUT: i32 = 4107;
    pub(in crate::ipset) const REFERENCED: i32 = 4108;
    pub(in crate::ipset) const IPADDR_IPV4: i32 = 4109;
    pub(in crate::ipset) const IPADDR_IPV6: i32 = 4110;
    pub(in crate::ipset) const HASH_FULL: i32 = 4352;
    pub(in crate::ipset) const HASH_ELEMENT: i32 = 4353;
    pub(in crate::ipset) const INVALID_PROTO: i32 = 4354;
    pub(in crate::ipset) const MISSING_PROTO: i32 = 4355;
}

//! Numbers of `nf_tables` (`linux/netfilter/nf_tables.h`) and of what nft keeps beside what the
//! kernel knows (`libnftnl/udata.h`, `enum datatypes` of nft).

/// Family of our table (`NFPROTO_INET`).
pub(crate) const NFPROTO_INET: u8 = 1;

/// Messages (`enum nf_tables_msg_types`).
pub(super) mod command {
    pub(in crate::nft) const NEW_TABLE: u8 = 0;
    pub(in crate::nft) const GET_TABLE: u8 = 1;
    pub(in crate::nft) const DELETE_TABLE: u8 = 2;
    pub(in crate::nft) const NEW_CHAIN: u8 = 3;
    pub(in crate::nft) const GET_CHAIN: u8 = 4;
    pub(in crate::nft) const DELETE_CHAIN: u8 = 5;
    pub(in crate::nft) const NEW_RULE: u8 = 6;
    pub(in crate::nft) const GET_RULE: u8 = 7;
    pub(in crate::nft) const DELETE_RULE: u8 = 8;
    pub(in crate::nft) const NEW_SET: u8 = 9;
    pub(in crate::nft) const GET_SET: u8 = 10;
    pub(in crate::nft) const DELETE_SET: u8 = 11;
    pub(in crate::nft) const NEW_ELEMENTS: u8 = 12;
    pub(in crate::nft) const GET_ELEMENTS: u8 = 13;
    pub(in crate::nft) const DELETE_ELEMENTS: u8 = 14;
    pub(in crate::nft) const GET_GENERATION: u8 = 16;
}

/// `NFTA_GEN_ID`.
pub(super) const GENERATION_ID: u16 = 1;
/// `NFTA_LIST_ELEM`.
pub(super) const LIST_ITEM: u16 = 1;

/// `NFTA_TABLE_…`.
pub(super) mod table {
    pub(in crate::nft) const NAME: u16 = 1;
    pub(in crate::nft) const FLAGS: u16 = 2;
    pub(in crate::nft) const USERDATA: u16 = 6;
    /// `NFT_TABLE_F_DORMANT`.
    pub(in crate::nft) const DORMANT: u32 = 1;
}

/// `NFTA_CHAIN_…` and `NFTA_HOOK_…`.
pub(super) mod chain {
    pub(in crate::nft) const TABLE: u16 = 1;
    pub(in crate::nft) const NAME: u16 = 3;
    pub(in crate::nft) const HOOK: u16 = 4;
    pub(in crate::nft) const POLICY: u16 = 5;
    pub(in crate::nft) const KIND: u16 = 7;
    pub(in crate::nft) const FLAGS: u16 = 10;
    pub(in crate::nft) const HOOK_NUMBER: u16 = 1;
    pub(in crate::nft) const HOOK_PRIORITY: u16 = 2;
    /// `NFT_CHAIN_BINDING`: a chain that a rule brought along and takes along.
    pub(in crate::nft) const BINDING: u32 = 4;
}

/// `NFTA_RULE_…`.
pub(super) mod rule {
    pub(in crate::nft) const TABLE: u16 = 1;
    pub(in crate::nft) const CHAIN: u16 = 2;
    pub(in crate::nft) const EXPRESSIONS: u16 = 4;
    pub(in crate::nft) const USERDATA: u16 = 7;
}

/// `NFTA_SET_…`, `NFTA_SET_DESC_…` and `NFTA_SET_FIELD_…`.
pub(super) mod set {
    pub(in crate::nft) const TABLE: u16 = 1;
    pub(in crate::nft) const NAME: u16 = 2;
    pub(in crate::nft) const FLAGS: u16 = 3;
    pub(in crate::nft) const KEY_TYPE: u16 = 4;
    pub(in crate::nft) const KEY_LENGTH: u16 = 5;
    pub(in crate::nft) const DATA_TYPE: u16 = 6;
    pub(in crate::nft) const DATA_LENGTH: u16 = 7;
    pub(in crate::nft) const DESCRIPTION: u16 = 9;
    pub(in crate::nft) const ID: u16 = 10;
    pub(in crate::nft) const TIMEOUT: u16 = 11;
    pub(in crate::nft) const USERDATA: u16 = 13;
    pub(in crate::nft) const EXPRESSION: u16 = 17;
    pub(in crate::nft) const EXPRESSIONS: u16 = 18;
    pub(in crate::nft) const DESCRIPTION_SIZE: u16 = 1;
    pub(in crate::nft) const DESCRIPTION_FIELDS: u16 = 2;
    pub(in crate::nft) const FIELD_LENGTH: u16 = 1;
}

/// `enum nft_set_flags`.
pub(super) mod set_flag {
    pub(in crate::nft) const ANONYMOUS: u32 = 0x1;
    pub(in crate::nft) const INTERVAL: u32 = 0x4;
    pub(in crate::nft) const MAP: u32 = 0x8;
    pub(in crate::nft) const TIMEOUT: u32 = 0x10;
    pub(in crate::nft) const EVALUATED: u32 = 0x20;
    pub(in crate::nft) const CONCATENATION: u32 = 0x80;
    pub(in crate::nft) const EXPRESSION: u32 = 0x100;
}

/// Attributes of a message of elements (`NFTA_SET_ELEM_LIST_…`).
pub(super) mod elements {
    pub(in crate::nft) const TABLE: u16 = 1;
    pub(in crate::nft) const SET: u16 = 2;
    pub(in crate::nft) const LIST: u16 = 3;
}

/// `NFTA_SET_ELEM_…`.
pub(super) mod element {
    pub(in crate::nft) const KEY: u16 = 1;
    pub(in crate::nft) const DATA: u16 = 2;
    pub(in crate::nft) const FLAGS: u16 = 3;
    pub(in crate::nft) const USERDATA: u16 = 6;
    pub(in crate::nft) const EXPRESSION: u16 = 7;
    pub(in crate::nft) const KEY_END: u16 = 10;
    pub(in crate::nft) const EXPRESSIONS: u16 = 11;
    /// `NFT_SET_ELEM_INTERVAL_END`: the interval before ends here, this key not included.
    pub(in crate::nft) const INTERVAL_END: u32 = 1;
    /// `NFT_SET_ELEM_CATCHALL`: for all keys that have no element of their own.
    pub(in crate::nft) const CATCH_ALL: u32 = 2;
}

/// `NFTA_DATA_…`, `NFTA_VERDICT_…`, `NFT_DATA_VERDICT`.
pub(super) mod data {
    pub(in crate::nft) const VALUE: u16 = 1;
    pub(in crate::nft) const VERDICT: u16 = 2;
    pub(in crate::nft) const VERDICT_CODE: u16 = 1;
    pub(in crate::nft) const VERDICT_CHAIN: u16 = 2;
    pub(in crate::nft) const VERDICT_TYPE: u32 = 0xffff_ff00;
}

/// Verdicts (`enum nft_verdicts`, `NF_DROP`, `NF_ACCEPT`).
pub(super) mod verdict {
    pub(in crate::nft) const DROP: u32 = 0;
    pub(in crate::nft) const ACCEPT: u32 = 1;
    pub(in crate::nft) const CONTINUE: u32 = (-1_i32).cast_unsigned();
    pub(in crate::nft) const JUMP: u32 = (-3_i32).cast_unsigned();
    pub(in crate::nft) const GOTO: u32 = (-4_i32).cast_unsigned();
    pub(in crate::nft) const RETURN: u32 = (-5_i32).cast_unsigned();
}

/// Registers (`enum nft_registers`).
pub(super) mod register {
    /// `NFT_REG_VERDICT`.
    pub(in crate::nft) const VERDICT: u32 = 0;
    /// `NFT_REG_4`, the last of the four registers of sixteen bytes.
    pub(in crate::nft) const LAST_WIDE: u32 = 4;
    /// `NFT_REG32_00`.
    pub(in crate::nft) const FIRST: u32 = 8;
}

/// `NFTA_EXPR_…`.
pub(super) mod expression {
    pub(in crate::nft) const NAME: u16 = 1;
    pub(in crate::nft) const DATA: u16 = 2;
}

/// `NFTA_COUNTER_…`.
pub(super) mod counter {
    pub(in crate::nft) const BYTES: u16 = 1;
    pub(in crate::nft) const PACKETS: u16 = 2;
}

/// `NFTA_PAYLOAD_…`, `enum nft_payload_bases`.
pub(super) mod payload {
    pub(in crate::nft) const TO: u16 = 1;
    pub(in crate::nft) const BASE: u16 = 2;
    pub(in crate::nft) const OFFSET: u16 = 3;
    pub(in crate::nft) const LENGTH: u16 = 4;
    pub(in crate::nft) const NETWORK: u32 = 1;
    pub(in crate::nft) const TRANSPORT: u32 = 2;
}

/// `NFTA_META_…`.
pub(super) mod meta {
    pub(in crate::nft) const TO: u16 = 1;
    pub(in crate::nft) const KEY: u16 = 2;
    pub(in crate::nft) const FROM: u16 = 3;
}

/// `NFTA_CT_…`.
pub(super) mod ct {
    pub(in crate::nft) const TO: u16 = 1;
    pub(in crate::nft) const KEY: u16 = 2;
    pub(in crate::nft) const FROM: u16 = 4;
}

/// `NFTA_FIB_…`, `enum nft_fib_result`, `enum nft_fib_flags`.
pub(super) mod fib {
    pub(in crate::nft) const TO: u16 = 1;
    pub(in crate::nft) const RESULT: u16 = 2;
    pub(in crate::nft) const FLAGS: u16 = 3;
    pub(in crate::nft) const ADDRESS_TYPE: u32 = 3;
    pub(in crate::nft) const DESTINATION: u32 = 2;
}

/// `NFTA_BITWISE_…`.
pub(super) mod bitwise {
    pub(in crate::nft) const FROM: u16 = 1;
    pub(in crate::nft) const TO: u16 = 2;
    pub(in crate::nft) const LENGTH: u16 = 3;
    pub(in crate::nft) const MASK: u16 = 4;
    pub(in crate::nft) const XOR: u16 = 5;
    pub(in crate::nft) const OPERATION: u16 = 6;
    /// `NFT_BITWISE_MASK_XOR`.
    pub(in crate::nft) const MASK_XOR: u32 = 0;
}

/// `NFTA_CMP_…`, `enum nft_cmp_ops`.
pub(super) mod cmp {
    pub(in crate::nft) const FROM: u16 = 1;
    pub(in crate::nft) const OPERATION: u16 = 2;
    pub(in crate::nft) const DATA: u16 = 3;
    pub(in crate::nft) const EQUAL: u32 = 0;
    pub(in crate::nft) const NOT_EQUAL: u32 = 1;
}

/// `NFTA_LOOKUP_…`.
pub(super) mod lookup {
    pub(in crate::nft) const SET: u16 = 1;
    pub(in crate::nft) const FROM: u16 = 2;
    pub(in crate::nft) const TO: u16 = 3;
    pub(in crate::nft) const FLAGS: u16 = 5;
    /// `NFT_LOOKUP_F_INV`.
    pub(in crate::nft) const INVERTED: u32 = 1;
}

/// `NFTA_NG_…`, `NFT_NG_RANDOM`.
pub(super) mod numgen {
    pub(in crate::nft) const TO: u16 = 1;
    pub(in crate::nft) const MODULUS: u16 = 2;
    pub(in crate::nft) const KIND: u16 = 3;
    pub(in crate::nft) const OFFSET: u16 = 4;
    pub(in crate::nft) const RANDOM: u32 = 1;
}

/// `NFTA_DYNSET_…`, `enum nft_dynset_ops`.
pub(super) mod dynset {
    pub(in crate::nft) const SET: u16 = 1;
    pub(in crate::nft) const OPERATION: u16 = 3;
    pub(in crate::nft) const KEY: u16 = 4;
    pub(in crate::nft) const VALUE: u16 = 5;
    pub(in crate::nft) const TIMEOUT: u16 = 6;
    pub(in crate::nft) const PADDING: u16 = 8;
    pub(in crate::nft) const FLAGS: u16 = 9;
    pub(in crate::nft) const UPDATE: u32 = 1;
    pub(in crate::nft) const DELETE: u32 = 2;
}

/// `NFTA_NAT_…`, `enum nft_nat_types`, `NF_NAT_RANGE_…`.
pub(super) mod nat {
    pub(in crate::nft) const KIND: u16 = 1;
    pub(in crate::nft) const FAMILY: u16 = 2;
    pub(in crate::nft) const ADDRESS: u16 = 3;
    pub(in crate::nft) const LAST_ADDRESS: u16 = 4;
    pub(in crate::nft) const PORT: u16 = 5;
    pub(in crate::nft) const LAST_PORT: u16 = 6;
    pub(in crate::nft) const FLAGS: u16 = 7;
    pub(in crate::nft) const SOURCE: u32 = 0;
    pub(in crate::nft) const DESTINATION: u32 = 1;
    /// The kernel sets these itself where there is an address, a port.
    pub(in crate::nft) const IMPLIED_FLAGS: u32 = 3;
}

/// `NFTA_REJECT_…`, `enum nft_reject_types`, `NFT_REJECT_ICMPX_PORT_UNREACH`.
pub(super) mod reject {
    pub(in crate::nft) const KIND: u16 = 1;
    pub(in crate::nft) const CODE: u16 = 2;
    pub(in crate::nft) const TCP_RESET: u32 = 1;
    pub(in crate::nft) const ICMPX: u32 = 2;
    pub(in crate::nft) const PORT_UNREACHABLE: u8 = 1;
}

/// `NFTA_IMMEDIATE_…`.
pub(super) mod immediate {
    pub(in crate::nft) const TO: u16 = 1;
    pub(in crate::nft) const DATA: u16 = 2;
}

/// What nft keeps in userdata: a kind, a length and a value each.
pub(super) mod userdata {
    /// `NFTNL_UDATA_TABLE_COMMENT`, `NFTNL_UDATA_RULE_COMMENT`, `NFTNL_UDATA_SET_ELEM_COMMENT`.
    pub(in crate::nft) const COMMENT: u8 = 0;
    /// `NFTNL_UDATA_SET_KEYBYTEORDER`.
    pub(in crate::nft) const KEY_ORDER: u8 = 0;
    /// `NFTNL_UDATA_SET_DATABYTEORDER`.
    pub(in crate::nft) const DATA_ORDER: u8 = 1;
    /// `NFTNL_UDATA_SET_ELEM_FLAGS`.
    pub(in crate::nft) const ELEMENT_FLAGS: u8 = 1;
    /// `SET_ELEM_F_INTERVAL_OPEN`: no element ends the interval.
    pub(in crate::nft) const INTERVAL_OPEN: u32 = 1;
    /// `BYTEORDER_INVALID`, of concatenations and verdicts.
    pub(in crate::nft) const NO_ORDER: u32 = 0;
    /// `BYTEORDER_HOST_ENDIAN`.
    pub(in crate::nft) const HOST_ORDER: u32 = 1;
    /// `BYTEORDER_BIG_ENDIAN`.
    pub(in crate::nft) const NETWORK_ORDER: u32 = 2;
}

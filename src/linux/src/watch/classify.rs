//! What a notification of the kernel means for us.

use smartnat_core::objects::{BuiltinHook, CHAIN_PREFIX, ROUTE_PROTOCOL};

use super::Changes;
use crate::netlink::Attributes;

const HOST: Changes = Changes { host: true, kernel: false };
const KERNEL: Changes = Changes { host: false, kernel: true };
const NOTHING: Changes = Changes { host: false, kernel: false };

const HEADER_BYTES: usize = 16;
const NLMSG_OVERRUN: u16 = 4;

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
/// `IFF_UP | IFF_LOWER_UP`.
const UP_WITH_CARRIER: u32 = 0x1_0001;
const AF_BRIDGE: u8 = 7;
const MAIN_TABLE: u8 = 254;
const RTN_UNICAST: u8 = 1;
/// Size of `fib_rule_hdr`.
const RULE_HEADER_BYTES: usize = 12;
const FRA_PROTOCOL: u16 = 21;

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFT_MSG_DELTABLE: u16 = 2;
const NFT_MSG_NEWCHAIN: u16 = 3;
const NFT_MSG_DELCHAIN: u16 = 5;
const NFT_MSG_NEWRULE: u16 = 6;
const NFT_MSG_DELRULE: u16 = 8;
/// Size of `nfgenmsg`.
const NFGEN_BYTES: usize = 4;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_CHAIN_NAME: u16 = 3;

/// Meaning of a datagram of the routing groups.
pub(crate) fn route_datagram(datagram: &[u8]) -> Changes {
    each_message(datagram, route_message)
}

/// Meaning of a datagram of the nftables group.
pub(crate) fn nftables_datagram(datagram: &[u8]) -> Changes {
    each_message(datagram, nftables_message)
}

/// Joins the meaning of all messages; what cannot be read may mean anything.
fn each_message(mut datagram: &[u8], meaning: impl Fn(u16, &[u8]) -> Option<Changes>) -> Changes {
    let mut changes = NOTHING;
    while let Some((length, kind)) = header(datagram) {
        let Some(body) = datagram.get(HEADER_BYTES..length) else { return Changes::EVERYTHING };
        changes |= match kind {
            NLMSG_OVERRUN => Changes::EVERYTHING,
            _ => meaning(kind, body).unwrap_or(Changes::EVERYTHING),
        };
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    changes
}

fn header(bytes: &[u8]) -> Option<(usize, u16)> {
    let (length, rest) = bytes.split_first_chunk()?;
    let kind = rest.first_chunk()?;
    Some((usize::try_from(u32::from_ne_bytes(*length)).ok()?, u16::from_ne_bytes(*kind)))
}

/// `None`: the message cannot be read.
fn route_message(kind: u16, body: &[u8]) -> Option<Changes> {
    Some(match kind {
        RTM_NEWLINK | RTM_DELLINK if *body.first()? == AF_BRIDGE => NOTHING,
        RTM_NEWLINK => {
            let flags = u32::from_ne_bytes(*body.get(8..)?.first_chunk()?);
            // Routes vanish without a notification of their own when their link goes down.
            if flags & UP_WITH_CARRIER == UP_WITH_CARRIER { HOST } else { Changes::EVERYTHING }
        }
        RTM_NEWADDR => HOST,
        // Likewise, when the last address of a link goes.
        RTM_DELLINK | RTM_DELADDR => Changes::EVERYTHING,
        RTM_NEWROUTE | RTM_DELROUTE => {
            let [_, _, _, _, table, protocol, _, route_type] = *body.first_chunk()?;
            match (protocol, table, route_type) {
                (ROUTE_PROTOCOL, _, _) => KERNEL,
                (_, MAIN_TABLE, RTN_UNICAST) => HOST,
                _ => NOTHING,
            }
        }
        RTM_NEWRULE | RTM_DELRULE => {
            let attributes = Attributes::new(body.get(RULE_HEADER_BYTES..)?);
            let protocol = value(attributes, FRA_PROTOCOL)?;
            if protocol == [ROUTE_PROTOCOL] { KERNEL } else { NOTHING }
        }
        _ => NOTHING,
    })
}

/// `None`: the message cannot be read. Only what touches chains of ours or jumps to them
/// counts: others may change their tables all day.
fn nftables_message(kind: u16, body: &[u8]) -> Option<Changes> {
    if kind >> 8 != NFNL_SUBSYS_NFTABLES || ![AF_INET, AF_INET6].contains(body.first()?) {
        return Some(NOTHING);
    }
    let attributes = Attributes::new(body.get(NFGEN_BYTES..)?);
    let chain = |attribute: u16| Some(name(value(attributes, attribute)?));
    let ours = |name: &[u8]| name.starts_with(CHAIN_PREFIX.as_bytes());
    let concerns_us = match kind & 0xff {
        NFT_MSG_DELTABLE => true,
        NFT_MSG_NEWCHAIN | NFT_MSG_DELCHAIN => ours(chain(NFTA_CHAIN_NAME)?),
        NFT_MSG_NEWRULE => ours(chain(NFTA_RULE_CHAIN)?),
        // A deleted jump to us is one in a built-in chain.
        NFT_MSG_DELRULE => {
            let name = chain(NFTA_RULE_CHAIN)?;
            ours(name) || BuiltinHook::ALL.iter().any(|h| h.name().as_bytes() == name)
        }
        _ => false,
    };
    Some(if concerns_us { KERNEL } else { NOTHING })
}

/// The attribute's bytes, none where it is absent; `None`: the message cannot be read.
fn value(mut attributes: Attributes<'_>, kind: u16) -> Option<&[u8]> {
    let found = attributes.find(|a| a.as_ref().map_or(true, |a| a.kind == kind));
    found.map_or(Some(&[]), |a| a.ok().map(|a| a.value))
}

/// A string without its NUL.
fn name(value: &[u8]) -> &[u8] {
    value.strip_suffix(&[0]).unwrap_or(value)
}

//! What a notification of the kernel means for us.

use smartnat_core::objects::nft::NFT_TABLE;
use smartnat_core::objects::{BuiltinHook, CHAIN_PREFIX, ROUTE_PROTOCOL, XtTable};

use super::Changes;
use crate::netlink::Attributes;
use crate::nft::OwnPort;

const HOST: Changes = Changes { host: true, kernel: false, nftables: false };
const KERNEL: Changes = Changes { host: false, kernel: true, nftables: false };
const NFTABLES: Changes = Changes { host: false, kernel: true, nftables: true };
const NOTHING: Changes = Changes { host: false, kernel: false, nftables: false };

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
const NFT_MSG_NEWTABLE: u16 = 0;
const NFT_MSG_DELTABLE: u16 = 2;
const NFT_MSG_NEWCHAIN: u16 = 3;
const NFT_MSG_DELCHAIN: u16 = 5;
const NFT_MSG_NEWRULE: u16 = 6;
const NFT_MSG_DELRULE: u16 = 8;
const NFT_MSG_NEWSET: u16 = 9;
const NFT_MSG_DELSET: u16 = 11;
const NFT_MSG_NEWSETELEM: u16 = 12;
const NFT_MSG_DELSETELEM: u16 = 14;
/// Size of `nfgenmsg`.
const NFGEN_BYTES: usize = 4;
const NFPROTO_INET: u8 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// Name of the table, in messages about whatever is in one.
const NFTA_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_CHAIN_NAME: u16 = 3;

/// Meaning of a datagram of the routing groups.
pub(crate) fn route_datagram(datagram: &[u8]) -> Changes {
    each_message(datagram, |header, body| route_message(header.kind, body))
}

/// Meaning of a datagram of the nftables group. What our own client changed in our table is none.
pub(crate) fn nftables_datagram(datagram: &[u8], own: &OwnPort) -> Changes {
    each_message(datagram, |header, body| {
        let meaning = nftables_message(header.kind, body)?;
        Some(if own.is(header.port) { NOTHING } else { meaning })
    })
}

/// Joins the meaning of all messages; what cannot be read may mean anything.
fn each_message(
    mut datagram: &[u8],
    meaning: impl Fn(&Header, &[u8]) -> Option<Changes>,
) -> Changes {
    let mut changes = NOTHING;
    while let Some(header) = Header::of(datagram) {
        let Some(body) = datagram.get(HEADER_BYTES..header.length) else {
            return Changes::EVERYTHING;
        };
        changes |= match header.kind {
            NLMSG_OVERRUN => Changes::EVERYTHING,
            _ => meaning(&header, body).unwrap_or(Changes::EVERYTHING),
        };
        datagram = datagram.get(header.length.next_multiple_of(4)..).unwrap_or_default();
    }
    changes
}

/// `nlmsghdr`.
struct Header {
    length: usize,
    kind: u16,
    /// `nlmsg_pid`: the socket whose request it was, 0 where it was nobody's or is cut off.
    port: u32,
}

impl Header {
    fn of(bytes: &[u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk()?;
        let kind = rest.first_chunk()?;
        let port = bytes.get(12..).and_then(|rest| rest.first_chunk());
        Some(Self {
            length: usize::try_from(u32::from_ne_bytes(*length)).ok()?,
            kind: u16::from_ne_bytes(*kind),
            port: port.map_or(0, |port| u32::from_ne_bytes(*port)),
        })
    }
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

/// `None`: the message cannot be read. Only what touches our table, chains of ours or jumps to
/// them counts: others may change their tables all day.
fn nftables_message(kind: u16, body: &[u8]) -> Option<Changes> {
    if kind >> 8 != NFNL_SUBSYS_NFTABLES {
        return Some(NOTHING);
    }
    let concerns_us = match *body.first()? {
        NFPROTO_INET => concerns_our_table(kind & 0xff, body)?,
        AF_INET | AF_INET6 => concerns_our_chains(kind & 0xff, body)?,
        _ => false,
    };
    Some(if concerns_us { NFTABLES } else { NOTHING })
}

/// Whether it is about something in our table. What rules add to sets is not told at all.
fn concerns_our_table(command: u16, body: &[u8]) -> Option<bool> {
    const COMMANDS: [u16; 10] = [
        NFT_MSG_NEWTABLE,
        NFT_MSG_DELTABLE,
        NFT_MSG_NEWCHAIN,
        NFT_MSG_DELCHAIN,
        NFT_MSG_NEWRULE,
        NFT_MSG_DELRULE,
        NFT_MSG_NEWSET,
        NFT_MSG_DELSET,
        NFT_MSG_NEWSETELEM,
        NFT_MSG_DELSETELEM,
    ];
    let attributes = Attributes::new(body.get(NFGEN_BYTES..)?);
    let table = name(value(attributes, NFTA_TABLE)?);
    Some(COMMANDS.contains(&command) && table == NFT_TABLE.as_bytes())
}

/// Whether it is about what iptables-nft made of ours.
fn concerns_our_chains(command: u16, body: &[u8]) -> Option<bool> {
    let attributes = body.get(NFGEN_BYTES..)?;
    let named = |attribute: u16| Some(name(value(Attributes::new(attributes), attribute)?));
    let ours = |name: &[u8]| name.starts_with(CHAIN_PREFIX.as_bytes());
    let filters = named(NFTA_TABLE)? == XtTable::Filter.name().as_bytes();
    let concerns = |name: &[u8]| ours(name) || (filters && is_judging(name));
    Some(match command {
        NFT_MSG_DELTABLE => true,
        NFT_MSG_NEWCHAIN | NFT_MSG_DELCHAIN => concerns(named(NFTA_CHAIN_NAME)?),
        NFT_MSG_NEWRULE => concerns(named(NFTA_RULE_CHAIN)?),
        // A deleted jump to us is one in a built-in chain.
        NFT_MSG_DELRULE => {
            let name = named(NFTA_RULE_CHAIN)?;
            ours(name) || BuiltinHook::ALL.iter().any(|h| h.name().as_bytes() == name)
        }
        _ => false,
    })
}

/// Whether it is a built-in chain of table filter, in which others may begin to judge.
fn is_judging(name: &[u8]) -> bool {
    XtTable::Filter.hooks().iter().any(|hook| hook.name().as_bytes() == name)
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

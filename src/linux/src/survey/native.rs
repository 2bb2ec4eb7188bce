//! Base chains of nftables that no iptables program shows, by netlink.

use std::fmt;

use serde::Serialize;
use smartnat_core::model::Family;
use smartnat_core::objects::BuiltinHook;
use smartnat_core::objects::nft::{NFT_TABLE, NftExpr, NftVerdict};
use smartnat_core::ops::OpErrorClass;

use crate::netlink::{
    Attributes, MessageBuilder, NetfilterSocket, NetlinkError, ParseError, Subsystem,
};
use crate::nft::decode::{AnyRule, any_rule};

/// `NFT_MSG_GETCHAIN`.
const GET_CHAIN: u8 = 4;
/// `NFT_MSG_GETRULE`.
const GET_RULE: u8 = 7;
/// `NF_DROP`.
const DROP: u32 = 0;
/// Tables of iptables, in families `ip` and `ip6`.
const IPTABLES_TABLES: [&str; 5] = ["raw", "mangle", "nat", "filter", "security"];

/// Attributes of nftables (`NFTA_…`).
mod attribute {
    pub(super) const CHAIN_TABLE: u16 = 1;
    pub(super) const CHAIN_NAME: u16 = 3;
    pub(super) const CHAIN_HOOK: u16 = 4;
    pub(super) const CHAIN_POLICY: u16 = 5;
    pub(super) const CHAIN_USE: u16 = 6;
    pub(super) const CHAIN_TYPE: u16 = 7;
    pub(super) const HOOK_NUMBER: u16 = 1;
    pub(super) const RULE_TABLE: u16 = 1;
    pub(super) const RULE_CHAIN: u16 = 2;
}

/// A family of tables that carries IP (`NFPROTO_…`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TableFamily {
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// Both.
    Inet,
}

impl TableFamily {
    const ALL: [Self; 3] = [Self::Ip, Self::Ip6, Self::Inet];

    fn number(self) -> u8 {
        match self {
            Self::Ip => 2,
            Self::Ip6 => 10,
            Self::Inet => 1,
        }
    }

    /// Whether packets of this family come to its chains.
    pub fn carries(self, family: Family) -> bool {
        match self {
            Self::Ip => family == Family::V4,
            Self::Ip6 => family == Family::V6,
            Self::Inet => true,
        }
    }
}

impl fmt::Display for TableFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Inet => "inet",
        })
    }
}

/// Where a base chain sees packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Hook {
    /// As they arrive.
    Prerouting,
    /// To this host.
    Input,
    /// Through it.
    Forward,
    /// From it.
    Output,
    /// As they leave.
    Postrouting,
}

impl Hook {
    /// `NF_INET_…`; others, such as ingress, are none of ours.
    fn of_number(number: u32) -> Option<Self> {
        let all = [Self::Prerouting, Self::Input, Self::Forward, Self::Output, Self::Postrouting];
        all.get(usize::try_from(number).ok()?).copied()
    }
}

/// A base chain that its owner made with nftables itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct NativeChain {
    /// Family of its table.
    pub family: TableFamily,
    /// Its table.
    pub table: String,
    /// Its name.
    pub chain: String,
    /// Where it sees packets.
    pub hook: Hook,
    /// It drops what none of its rules accepts, by its policy or by a rule for everything.
    #[serde(skip)]
    pub(super) drops: bool,
    /// It translates addresses, and holds at least one rule.
    #[serde(skip)]
    pub(super) translates: bool,
}

impl fmt::Display for NativeChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "chain {} of table {} {} (nftables)", self.chain, self.family, self.table)
    }
}

/// Base chains that are neither ours nor, where their programs can be asked, those of
/// iptables; none where the kernel has no nftables.
pub(super) fn base_chains(iptables_too: bool) -> Result<Vec<NativeChain>, NetlinkError> {
    let mut socket = NetfilterSocket::open()?;
    let mut found = Vec::new();
    for family in TableFamily::ALL {
        let message =
            MessageBuilder::new(Subsystem::NfTables, GET_CHAIN, 0, family.number()).finish()?;
        let chains = socket.dump(&message, |chains: &mut Vec<NativeChain>, attributes| {
            chains.extend(decode(family, attributes)?);
            Ok(())
        });
        match chains {
            Ok(chains) => found.extend(chains),
            // nfnetlink's answer for a subsystem that no module serves.
            Err(error) if error.class() == OpErrorClass::Invalid => return Ok(Vec::new()),
            Err(error) => return Err(error),
        }
    }
    found.retain(|chain| !is_ours(chain) && (iptables_too || !is_of_iptables(chain)));
    for chain in &mut found {
        if matches!(chain.hook, Hook::Input | Hook::Forward) && !chain.drops {
            chain.drops = drops_by_rule(&mut socket, chain)?;
        }
    }
    Ok(found)
}

/// Whether one of its rules drops or rejects whatever comes to it.
fn drops_by_rule(socket: &mut NetfilterSocket, chain: &NativeChain) -> Result<bool, NetlinkError> {
    let mut message = MessageBuilder::new(Subsystem::NfTables, GET_RULE, 0, chain.family.number());
    message.string(attribute::RULE_TABLE, &chain.table);
    message.string(attribute::RULE_CHAIN, &chain.chain);
    let rules = socket.dump(&message.finish()?, |rules: &mut Vec<AnyRule>, attributes| {
        rules.push(any_rule(attributes)?);
        Ok(())
    });
    let rules = match rules {
        // It is gone by now.
        Err(error) if error.class() == OpErrorClass::NotFound => return Ok(false),
        rules => rules?,
    };
    // Older kernels list more than what was asked for.
    let own = rules.iter().filter(|r| r.table == chain.table && r.chain == chain.chain);
    Ok(own.into_iter().any(|rule| drops_everything(&rule.rule.expressions)))
}

fn drops_everything(expressions: &[NftExpr]) -> bool {
    let Some((last, others)) = expressions.split_last() else { return false };
    let ends = match last {
        NftExpr::Verdict(verdict) => *verdict == NftVerdict::Drop,
        NftExpr::Reject(_) => true,
        NftExpr::Unknown(name) => name == "reject",
        _ => false,
    };
    let only_tells = |expression: &NftExpr| match expression {
        NftExpr::Counter => true,
        NftExpr::Unknown(name) => name == "log",
        _ => false,
    };
    ends && others.iter().all(only_tells)
}

fn is_ours(chain: &NativeChain) -> bool {
    chain.family == TableFamily::Inet && chain.table == NFT_TABLE
}

fn is_of_iptables(chain: &NativeChain) -> bool {
    // Base chains of other names in these tables are passed over by its programs.
    chain.family != TableFamily::Inet
        && IPTABLES_TABLES.contains(&chain.table.as_str())
        && BuiltinHook::ALL.iter().any(|hook| hook.name() == chain.chain)
}

/// A chain as the kernel lists it; `None` unless packets come to it by a hook that concerns us.
fn decode(
    family: TableFamily,
    attributes: Attributes<'_>,
) -> Result<Option<NativeChain>, ParseError> {
    let (mut table, mut name, mut kind) = (String::new(), String::new(), String::new());
    let (mut hook, mut policy, mut uses) = (None, None, 0);
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            attribute::CHAIN_TABLE => table = attribute.text(),
            attribute::CHAIN_NAME => name = attribute.text(),
            attribute::CHAIN_TYPE => kind = attribute.text(),
            attribute::CHAIN_POLICY => policy = Some(attribute.be32()?),
            attribute::CHAIN_USE => uses = attribute.be32()?,
            attribute::CHAIN_HOOK => {
                for inner in attribute.nested() {
                    let inner = inner?;
                    if inner.kind == attribute::HOOK_NUMBER {
                        hook = Hook::of_number(inner.be32()?);
                    }
                }
            }
            _ => {}
        }
    }
    Ok(hook.map(|hook| NativeChain {
        family,
        table,
        chain: name,
        hook,
        drops: policy == Some(DROP),
        translates: kind == "nat" && uses > 0,
    }))
}

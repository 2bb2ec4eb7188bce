//! Chains that packets enter by themselves, of iptables and nftables alike, in their order.

use std::collections::BTreeMap;

use smartnat_core::model::Family;
use smartnat_core::objects::nft::{NftChainKind, NftName};
use smartnat_core::objects::{BuiltinHook, XtTable, XtTableId};

use super::nft::Nftables;
use super::xtables::Xtables;

/// `NF_IP_PRI_CONNTRACK`.
pub(crate) const CONNTRACK: i32 = -200;
/// `NF_IP_PRI_RAW`, `NF_IP_PRI_MANGLE`, `NF_IP_PRI_FILTER`.
const RAW: i32 = -300;
const MANGLE: i32 = -150;
const FILTER: i32 = 0;
/// `NF_IP_PRI_NAT_DST`, `NF_IP_PRI_NAT_SRC`.
const TRANSLATE_DESTINATION: i32 = -100;
const TRANSLATE_SOURCE: i32 = 100;

/// Where translation as a whole has its place at a hook (`nf_nat_ipv4_ops`).
pub(crate) fn translation_priority(hook: BuiltinHook) -> Option<i32> {
    match hook {
        BuiltinHook::Prerouting | BuiltinHook::Output => Some(TRANSLATE_DESTINATION),
        BuiltinHook::Postrouting | BuiltinHook::Input => Some(TRANSLATE_SOURCE),
        BuiltinHook::Forward => None,
    }
}

/// A chain that packets enter by themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HookChain {
    /// A built-in chain of iptables.
    Xtables(XtTable),
    /// A base chain of nftables.
    Nftables { table: String, chain: NftName },
}

/// A chain at its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hooked {
    pub(crate) priority: i32,
    /// Its rules translate: they see first packets alone.
    pub(crate) nat: bool,
    /// The packet is routed anew when its mark has changed in it (`nf_route_table_hook4`).
    pub(crate) reroutes: bool,
    pub(crate) chain: HookChain,
}

/// All such chains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hooks(BTreeMap<(Family, BuiltinHook), Vec<Hooked>>);

impl Hooks {
    /// Those at a hook in the order in which packets meet them.
    pub(crate) fn at(&self, family: Family, hook: BuiltinHook) -> &[Hooked] {
        self.0.get(&(family, hook)).map_or(&[], Vec::as_slice)
    }

    /// Takes in what has come and gone. Of equal priorities the youngest comes first
    /// (`nf_hook_entries_grow`).
    pub(super) fn follow(&mut self, xtables: &Xtables, nft: &Nftables) {
        let mut present: BTreeMap<(Family, BuiltinHook), Vec<Hooked>> = BTreeMap::new();
        for (family, hook, hooked) in of_xtables(xtables).chain(of_nftables(nft)) {
            present.entry((family, hook)).or_default().push(hooked);
        }
        self.0.retain(|at, _| present.contains_key(at));
        for (at, now) in present {
            let held = self.0.entry(at).or_default();
            held.retain(|hooked| now.contains(hooked));
            for new in now {
                if !held.contains(&new) {
                    let place = held.partition_point(|other| other.priority < new.priority);
                    held.insert(place, new);
                }
            }
        }
    }
}

fn of_xtables(xtables: &Xtables) -> impl Iterator<Item = (Family, BuiltinHook, Hooked)> {
    xtables.tables().flat_map(|table| {
        let XtTableId { family, table: name } = table.id();
        table.builtins().map(move |(hook, _)| (family, hook, of_xtable(name, hook)))
    })
}

fn of_xtable(table: XtTable, hook: BuiltinHook) -> Hooked {
    let priority = match table {
        XtTable::Raw => RAW,
        XtTable::Mangle => MANGLE,
        XtTable::Nat => translation_priority(hook).unwrap_or(FILTER),
        XtTable::Filter => FILTER,
    };
    Hooked {
        priority,
        nat: table == XtTable::Nat,
        reroutes: table == XtTable::Mangle && hook == BuiltinHook::Output,
        chain: HookChain::Xtables(table),
    }
}

fn of_nftables(nft: &Nftables) -> impl Iterator<Item = (Family, BuiltinHook, Hooked)> {
    nft.tables().flat_map(|(name, table)| {
        table.bases().flat_map(move |(chain, base)| {
            Family::ALL.map(|family| {
                let hooked = Hooked {
                    priority: base.priority,
                    nat: base.kind == NftChainKind::Nat,
                    reroutes: base.kind == NftChainKind::Route,
                    chain: HookChain::Nftables { table: name.to_owned(), chain: chain.clone() },
                };
                (family, base.hook, hooked)
            })
        })
    })
}

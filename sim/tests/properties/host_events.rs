//! What happens to the host other than by us: links, addresses, other programs.

use std::fmt;

use proptest::sample::Index;
use smartnat_core::model::Family;
use smartnat_core::objects::nft::{
    NftChain, NftExpr, NftKey, NftName, NftRule, NftSet, NftTable, NftVerdict,
};
use smartnat_core::objects::{KernelState, ROUTE_PROTOCOL, SetElement};
use smartnat_core::ops::{Domain, NetworkOp, NftOp, Transaction};
use smartnat_sim::SimKernel;

use crate::common::{held, net, stray_rule};

/// Uplinks that come and go.
pub(crate) const LINKS: [&str; 3] = ["ext1", "ext2", "ext3"];

/// Their addresses.
pub(crate) const ADDRESSES: [(&str, &str); 6] = [
    ("ext1", "203.0.113.10/24"),
    ("ext1", "203.0.113.11/24"),
    ("ext1", "2001:db8:1::10/64"),
    ("ext2", "198.51.100.10/24"),
    ("ext2", "2001:db8:2::10/64"),
    ("ext3", "203.0.113.30/24"),
];

/// How others change what is ours.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Interference {
    FlushChain,
    AppendRule,
    DeleteJumps,
    DeleteRules,
    DeleteRoutes,
    DeleteElement,
}

impl Interference {
    pub(crate) const ALL: [Self; 6] = [
        Self::FlushChain,
        Self::AppendRule,
        Self::DeleteJumps,
        Self::DeleteRules,
        Self::DeleteRoutes,
        Self::DeleteElement,
    ];
}

impl fmt::Display for Interference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FlushChain => "flush a chain of ours",
            Self::AppendRule => "append a rule to a chain of ours",
            Self::DeleteJumps => "delete the jumps to our chains",
            Self::DeleteRules => "delete our routing rules of a family",
            Self::DeleteRoutes => "delete our routes",
            Self::DeleteElement => "delete an element of a set of ours",
        })
    }
}

pub(crate) fn flap(kernel: &mut SimKernel, name: &str) {
    let Some(link) = kernel.links().get(name) else { return };
    let up = !link.up;
    kernel.set_link_up(name, up);
    if up {
        for address in addresses_of(name).filter(|a| net(a).addr().is_ipv6()) {
            kernel.add_address(name, address);
        }
    }
}

pub(crate) fn toggle(kernel: &mut SimKernel, name: &str, address: &str) {
    let Some(link) = kernel.links().get(name) else { return };
    let v6 = net(address).addr().is_ipv6();
    if link.addresses.iter().any(|a| a.address == net(address)) {
        kernel.remove_address(name, net(address).addr());
    } else if link.up || !v6 {
        kernel.add_address(name, address);
    }
}

pub(crate) fn plug(kernel: &mut SimKernel, name: &str) {
    if kernel.links().get(name).is_some() {
        kernel.remove_link(name);
        return;
    }
    kernel.add_link(name);
    for address in addresses_of(name) {
        kernel.add_address(name, address);
    }
}

fn addresses_of(name: &str) -> impl Iterator<Item = &'static str> {
    ADDRESSES.iter().filter(move |(link, _)| *link == name).map(|(_, address)| *address)
}

pub(crate) fn interfere(kernel: &mut SimKernel, what: Interference, at: Index) {
    let KernelState { xtables, sets, nft, .. } = held(kernel);
    if let Some(table) = nft
        && interfere_with_nft(kernel, &table, what, at)
    {
        return;
    }
    let chains: Vec<_> = xtables
        .iter()
        .flat_map(|(id, table)| table.chains.keys().map(move |chain| (*id, chain.0.clone())))
        .collect();
    match what {
        Interference::FlushChain | Interference::AppendRule if chains.is_empty() => {}
        Interference::FlushChain => {
            let (id, chain) = &chains[at.index(chains.len())];
            kernel.foreign_delete_rules(*id, chain, |_| true);
        }
        Interference::AppendRule => {
            let (id, chain) = &chains[at.index(chains.len())];
            kernel.foreign_append(*id, chain, &stray_rule());
        }
        Interference::DeleteJumps => {
            for (id, table) in &xtables {
                for hook in table.jumps.keys() {
                    kernel.foreign_delete_rules(*id, hook.name(), |rule| {
                        rule.jump_target().is_some_and(|t| t.0.starts_with("SMARTNAT-"))
                    });
                }
            }
        }
        Interference::DeleteRules => {
            let family = Family::ALL[at.index(2)];
            kernel.foreign_delete_routing_rules(|r| {
                r.protocol == ROUTE_PROTOCOL && r.family == family
            });
        }
        Interference::DeleteRoutes => {
            kernel.foreign_delete_routes(|r| r.protocol == ROUTE_PROTOCOL);
        }
        Interference::DeleteElement => {
            let elements: Vec<(_, SetElement)> = sets
                .iter()
                .flat_map(|(name, set)| set.elements.iter().map(move |e| (name.clone(), *e)))
                .collect();
            if let Some((set, element)) = elements.get(at.index(elements.len().max(1))) {
                let op = NetworkOp::DeleteElement { set: set.clone(), element: *element };
                let by_others = Transaction { domain: Domain::Sets, ops: vec![op] };
                kernel.interfere(&by_others).expect("the set is there");
            }
        }
    }
}

/// The same in our table of nftables; whether it is there that something is changed.
fn interfere_with_nft(
    kernel: &mut SimKernel,
    table: &NftTable,
    what: Interference,
    at: Index,
) -> bool {
    let put = |name: &NftName, chain: &NftChain, rules: Vec<NftRule>| NftOp::PutChain {
        name: name.clone(),
        chain: NftChain { base: chain.base, rules },
    };
    let chains: Vec<_> = table.chains.iter().collect();
    let ops: Vec<NftOp> = match what {
        Interference::FlushChain => {
            let (name, chain) = chains[at.index(chains.len())];
            vec![put(name, chain, Vec::new())]
        }
        Interference::AppendRule => {
            let (name, chain) = chains[at.index(chains.len())];
            let expressions = vec![NftExpr::Verdict(NftVerdict::Accept)];
            let stray = NftRule { expressions, comment: Some("stray".into()) };
            vec![put(name, chain, [chain.rules.clone(), vec![stray]].concat())]
        }
        Interference::DeleteJumps => {
            let bases = chains.iter().filter(|(_, chain)| chain.base.is_some());
            bases.map(|(name, chain)| put(name, chain, Vec::new())).collect()
        }
        Interference::DeleteElement => {
            let keys = |(name, set): (&NftName, &NftSet)| {
                let delete = |key: &NftKey| {
                    let (set, key) = (name.clone(), key.clone());
                    NftOp::DeleteElement { set, key }
                };
                set.elements.keys().map(delete).collect::<Vec<_>>()
            };
            let elements: Vec<_> = table.sets.iter().flat_map(keys).collect();
            elements.get(at.index(elements.len().max(1))).cloned().into_iter().collect()
        }
        Interference::DeleteRules | Interference::DeleteRoutes => return false,
    };
    if !ops.is_empty() {
        let ops = ops.into_iter().map(NetworkOp::Nft).collect();
        let by_others = Transaction { domain: Domain::Nftables, ops };
        kernel.interfere(&by_others).expect("others may do that");
    }
    true
}

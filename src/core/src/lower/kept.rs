//! Kernel objects that follow a change of the dataplane: those of the Mappings that changed, the
//! chains of their addresses, and what lets pods out. [`super::lower`] is the reference.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::nftables::{NftShares, TouchedNft};
use super::{DesiredObjects, iptables, routing, sets};
use crate::dataplane::{Changed, Dataplane, MappingPlane};
use crate::model::{Family, ObjectKey};
use crate::names;
use crate::objects::{
    ChainName, IpSet, KernelState, SetElement, SetName, XtRule, XtTable, XtTableId, XtTableState,
};

/// Which objects belong to whom, where several share one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Shares {
    /// How many rules of an address's chain are a Mapping's. They are in the order of the keys.
    addresses: BTreeMap<IpAddr, BTreeMap<ObjectKey, usize>>,
    /// How many Mappings name a set of sources.
    sources: BTreeMap<SetName, usize>,
    nft: NftShares,
}

/// Objects that may differ from before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TouchedObjects {
    /// Chains by table.
    pub(crate) chains: BTreeMap<XtTableId, BTreeSet<ChainName>>,
    /// Sets that came, went or have another form.
    pub(crate) sets: BTreeSet<SetName>,
    /// Elements of other sets.
    pub(crate) elements: BTreeMap<SetName, BTreeSet<SetElement>>,
    /// Of our table of nftables.
    pub(crate) nft: TouchedNft,
    /// Tables of iptables' other flavour.
    pub(crate) others: bool,
    /// Rules and routes.
    pub(crate) routing: bool,
    /// Sysctls.
    pub(crate) sysctls: bool,
}

impl TouchedObjects {
    /// The touched objects of `desired` and of `observed`, which agree on the others as they were.
    pub(crate) fn of(
        &self,
        desired: &DesiredObjects,
        observed: &KernelState,
    ) -> (DesiredObjects, KernelState) {
        let mut part = (DesiredObjects::default(), KernelState::default());
        part.0.xtables = self.tables(&desired.xtables);
        part.1.xtables = self.tables(&observed.xtables);
        part.0.sets = self.sets(&desired.sets);
        part.1.sets = self.sets(&observed.sets);
        // What agreed is not kept twice.
        part.0.nft = desired.nft.as_ref().map(|table| self.nft.after(table));
        part.1.nft = desired.nft.as_ref().map(|table| self.nft.before(table));
        if self.others {
            part.0.other_xtables.clone_from(&desired.other_xtables);
            part.1.other_xtables.clone_from(&observed.other_xtables);
        }
        if self.sysctls {
            part.0.sysctls.clone_from(&desired.sysctls);
            part.1.sysctls.clone_from(&observed.sysctls);
        }
        if self.routing {
            part.0.rules.clone_from(&desired.rules);
            part.0.routes.clone_from(&desired.routes);
            part.1.rules.clone_from(&observed.rules);
            part.1.routes.clone_from(&observed.routes);
        }
        part
    }

    fn tables(&self, all: &BTreeMap<XtTableId, XtTableState>) -> BTreeMap<XtTableId, XtTableState> {
        let touched = self.chains.iter().filter_map(|(id, names)| {
            let XtTableState { chains, jumps, created_builtins } = all.get(id)?;
            let chains =
                names.iter().filter_map(|name| Some((name.clone(), chains.get(name)?.clone())));
            let (jumps, created_builtins) = (jumps.clone(), created_builtins.clone());
            Some((*id, XtTableState { chains: chains.collect(), jumps, created_builtins }))
        });
        touched.collect()
    }

    fn sets(&self, all: &BTreeMap<SetName, IpSet>) -> BTreeMap<SetName, IpSet> {
        let elements = self.elements.iter().filter_map(|(name, elements)| {
            let IpSet { spec, elements: all } = all.get(name)?;
            let elements = elements.iter().filter(|e| all.contains(e)).copied().collect();
            Some((name.clone(), IpSet { spec: *spec, elements }))
        });
        let whole =
            self.sets.iter().filter_map(|name| Some((name.clone(), all.get(name)?.clone())));
        elements.chain(whole).collect()
    }
}

impl Shares {
    /// Of a table of nftables.
    pub(super) fn of_nftables(nft: NftShares) -> Self {
        Self { nft, ..Self::default() }
    }

    /// Of a dataplane that was lowered to iptables.
    pub(super) fn of_iptables(dataplane: &Dataplane) -> Self {
        let mut shares = Self::default();
        for (key, plane) in &dataplane.mappings {
            let rules = iptables::jumps_to_mapping(key, plane).len();
            for address in &plane.addresses {
                shares.addresses.entry(*address).or_default().insert(key.clone(), rules);
            }
            for name in source_sets(dataplane, plane).into_keys() {
                *shares.sources.entry(name).or_default() += 1;
            }
        }
        shares
    }

    /// Lowers what changed in `dataplane`.
    pub(crate) fn follow(
        &mut self,
        objects: &mut DesiredObjects,
        dataplane: &Dataplane,
        changed: &Changed,
    ) -> TouchedObjects {
        let mut touched = TouchedObjects::default();
        if let Some(table) = &mut objects.nft {
            touched.nft = self.nft.follow(table, dataplane, changed);
            if other_exits(dataplane, changed) {
                objects.rules = routing::rules(dataplane);
                touched.routing = true;
            }
            return touched;
        }
        for (key, old) in &changed.before.mappings {
            let new = dataplane.mappings.get(key);
            for family in dataplane.families.iter().copied() {
                let chains = |plane: &MappingPlane| {
                    iptables::chains_of_mapping(dataplane.marks, family, key, plane)
                };
                let (old, new) = (old.as_ref().map(chains), new.map(chains));
                let id = XtTableId { family, table: XtTable::Nat };
                replace_chains(objects, id, old, new, &mut touched);
            }
            self.follow_sets(objects, dataplane, key, [old.as_ref(), new], &mut touched);
            self.follow_addresses(objects, key, [old.as_ref(), new], &mut touched);
        }
        if follow_pods(objects, dataplane, changed, &mut touched) {
            follow_exits(objects, dataplane, &mut touched);
        }
        touched
    }

    /// Sets of sources go with the last Mapping that names them, those of affinity with their own.
    fn follow_sets(
        &mut self,
        objects: &mut DesiredObjects,
        dataplane: &Dataplane,
        key: &ObjectKey,
        [old, new]: [Option<&MappingPlane>; 2],
        touched: &mut TouchedObjects,
    ) {
        let sources = |plane| source_sets(dataplane, plane);
        let affinity = |plane: &MappingPlane| -> BTreeMap<SetName, IpSet> {
            let families = dataplane.families.iter();
            families.flat_map(|family| sets::affinity(key, plane, *family)).collect()
        };
        for (name, set) in new.map(sources).into_iter().flatten() {
            let users = self.sources.entry(name.clone()).or_default();
            *users += 1;
            if *users == 1 {
                touched.sets.insert(name.clone());
                objects.sets.insert(name, set);
            }
        }
        for name in old.map(sources).into_iter().flatten().map(|(name, _)| name) {
            let Some(users) = self.sources.get_mut(&name) else { continue };
            *users -= 1;
            if *users == 0 {
                self.sources.remove(&name);
                objects.sets.remove(&name);
                touched.sets.insert(name);
            }
        }
        let mut gone = old.map(affinity).unwrap_or_default();
        for (name, set) in new.map(affinity).into_iter().flatten() {
            if gone.remove(&name).as_ref() != Some(&set) {
                touched.sets.insert(name.clone());
                objects.sets.insert(name, set);
            }
        }
        for name in gone.into_keys() {
            objects.sets.remove(&name);
            touched.sets.insert(name);
        }
    }

    /// The chains of addresses of which this Mapping has other ports than before.
    fn follow_addresses(
        &mut self,
        objects: &mut DesiredObjects,
        key: &ObjectKey,
        [old, new]: [Option<&MappingPlane>; 2],
        touched: &mut TouchedObjects,
    ) {
        let jumps = |plane| iptables::jumps_to_mapping(key, plane);
        let (before, now) = (old.map(jumps), new.map(jumps));
        let has = |plane: Option<&MappingPlane>, address: &IpAddr| {
            plane.is_some_and(|plane| plane.addresses.contains(address))
        };
        let addresses: BTreeSet<IpAddr> =
            old.into_iter().chain(new).flat_map(|plane| &plane.addresses).copied().collect();
        let mut exposed_anew = BTreeSet::new();
        for address in addresses {
            let stays = has(old, &address) && has(new, &address);
            if stays && before == now {
                continue;
            }
            let rules = now.clone().filter(|_| has(new, &address)).unwrap_or_default();
            if self.splice(objects, address, key, rules, touched) {
                exposed_anew.insert(Family::of(&address));
            }
        }
        for family in exposed_anew {
            let exposed = self.addresses.keys().filter(|a| Family::of(a) == family);
            let (name, rules) = iptables::dispatch(exposed);
            let id = XtTableId { family, table: XtTable::Nat };
            put_chain(objects, id, name, rules, touched);
        }
    }

    /// Puts a Mapping's rules where they belong in an address's chain. Whether that chain came or
    /// went.
    fn splice(
        &mut self,
        objects: &mut DesiredObjects,
        address: IpAddr,
        key: &ObjectKey,
        rules: Vec<XtRule>,
        touched: &mut TouchedObjects,
    ) -> bool {
        let id = XtTableId { family: Family::of(&address), table: XtTable::Nat };
        let Some(table) = objects.xtables.get_mut(&id) else { return false };
        let name = names::address_chain(address);
        let shares = self.addresses.entry(address).or_default();
        let known = !shares.is_empty();
        let begins: usize = shares.range(..key).map(|(_, rules)| rules).sum();
        let ends = begins + shares.get(key).copied().unwrap_or(0);
        if rules.is_empty() {
            shares.remove(key);
        } else {
            shares.insert(key.clone(), rules.len());
        }
        let exposed = !shares.is_empty();
        touched.chains.entry(id).or_default().insert(name.clone());
        if exposed {
            table.chains.entry(name).or_default().splice(begins..ends, rules);
        } else {
            self.addresses.remove(&address);
            table.chains.remove(&name);
        }
        known != exposed
    }
}

/// Whether an address came or went that pods leave with.
fn other_exits(dataplane: &Dataplane, Changed { before, come }: &Changed) -> bool {
    let gone = before.pods.values().flatten().any(|e| !dataplane.egress.contains_key(&e.address));
    let mut arrivals: BTreeMap<IpAddr, usize> = BTreeMap::new();
    for (_, address) in come {
        *arrivals.entry(*address).or_default() += 1;
    }
    let is_new = |(address, count): (&IpAddr, &usize)| {
        dataplane.egress.get(address).is_some_and(|plane| plane.pods.len() == *count)
    };
    gone || arrivals.iter().any(is_new)
}

fn source_sets(dataplane: &Dataplane, plane: &MappingPlane) -> BTreeMap<SetName, IpSet> {
    let families = dataplane.families.iter();
    families.filter_map(|family| sets::sources(plane, *family)).collect()
}

fn replace_chains(
    objects: &mut DesiredObjects,
    id: XtTableId,
    old: Option<BTreeMap<ChainName, Vec<XtRule>>>,
    new: Option<BTreeMap<ChainName, Vec<XtRule>>>,
    touched: &mut TouchedObjects,
) {
    let mut gone = old.unwrap_or_default();
    for (name, rules) in new.unwrap_or_default() {
        if gone.remove(&name).as_ref() != Some(&rules) {
            put_chain(objects, id, name, rules, touched);
        }
    }
    let Some(table) = objects.xtables.get_mut(&id) else { return };
    for name in gone.into_keys() {
        table.chains.remove(&name);
        touched.chains.entry(id).or_default().insert(name);
    }
}

fn put_chain(
    objects: &mut DesiredObjects,
    id: XtTableId,
    name: ChainName,
    rules: Vec<XtRule>,
    touched: &mut TouchedObjects,
) {
    let Some(table) = objects.xtables.get_mut(&id) else { return };
    touched.chains.entry(id).or_default().insert(name.clone());
    table.chains.insert(name, rules);
}

/// The members of egress sets. Whether one came or went, or is of another uplink.
fn follow_pods(
    objects: &mut DesiredObjects,
    dataplane: &Dataplane,
    Changed { before, come }: &Changed,
    touched: &mut TouchedObjects,
) -> bool {
    let mut other_exits = false;
    let left = before.pods.iter().filter_map(|(pod, from)| Some((*pod, from.as_ref()?.address)));
    for (pod, address) in left {
        let name = names::egress_set(address);
        let element = SetElement::Ip(pod);
        match dataplane.egress.get(&address) {
            None => {
                other_exits |= objects.sets.remove(&name).is_some();
                touched.sets.insert(name);
            }
            Some(plane) if !plane.pods.contains(&pod) => {
                if let Some(set) = objects.sets.get_mut(&name) {
                    set.elements.remove(&element);
                }
                touched.elements.entry(name).or_default().insert(element);
            }
            Some(_) => {}
        }
    }
    for (pod, address) in come {
        let name = names::egress_set(*address);
        let element = SetElement::Ip(*pod);
        match objects.sets.get_mut(&name) {
            Some(set) => {
                set.elements.insert(element);
                touched.elements.entry(name).or_default().insert(element);
            }
            None => {
                if let Some(plane) = dataplane.egress.get(address) {
                    objects.sets.insert(name.clone(), sets::egress(*address, plane));
                    touched.sets.insert(name);
                    other_exits = true;
                }
            }
        }
    }
    other_exits
}

/// Everything that speaks of the addresses that pods leave with.
fn follow_exits(objects: &mut DesiredObjects, dataplane: &Dataplane, touched: &mut TouchedObjects) {
    for family in dataplane.families.iter().copied() {
        let id = XtTableId { family, table: XtTable::Mangle };
        let XtTableState { chains, .. } = iptables::mangle(dataplane, family);
        let old = objects.xtables.get(&id).map(|table| table.chains.clone());
        replace_chains(objects, id, old, Some(chains), touched);
        let id = XtTableId { family, table: XtTable::Nat };
        let (name, rules) = iptables::source_translation(dataplane, family);
        put_chain(objects, id, name, rules, touched);
    }
    objects.rules = routing::rules(dataplane);
    touched.routing = true;
}

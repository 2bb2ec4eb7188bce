//! The table follows a change of the dataplane: elements of the Mappings that changed, and what
//! they share with others. [`super::table`] is the reference.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::services::{Pieces, Shared, Shift, sources_chain, sources_set};
use super::{TableBuilder, sets};
use crate::dataplane::{Changed, Dataplane, MappingPlane};
use crate::model::ObjectKey;
use crate::objects::nft::{NftChain, NftElement, NftKey, NftName, NftSet, NftTable};
use crate::objects::pairs;

/// Who needs what several share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct NftShares {
    /// How many Mappings need it.
    #[serde(with = "pairs")]
    users: BTreeMap<Shared, usize>,
    /// How many ranges need a port of a shift.
    #[serde(with = "pairs")]
    shifted: BTreeMap<(Shift, u16), usize>,
}

/// What of the table may differ from before, with what it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TouchedNft {
    chains: BTreeMap<NftName, Option<NftChain>>,
    /// Sets that came or went.
    sets: BTreeMap<NftName, Option<NftSet>>,
    /// Elements of other sets.
    elements: BTreeMap<NftName, BTreeMap<NftKey, Option<NftElement>>>,
}

impl TouchedNft {
    /// The touched part of a table as it is now.
    pub(crate) fn after(&self, table: &NftTable) -> NftTable {
        let chain = |name: &NftName| Some((name.clone(), table.chains.get(name)?.clone()));
        let whole = |name: &NftName| Some((name.clone(), table.sets.get(name)?.clone()));
        let element = |set: &NftSet, key: &NftKey| set.elements.get(key).cloned();
        let chains = self.chains.keys().filter_map(chain).collect();
        let sets = self.sets.keys().filter_map(whole).chain(self.parts(table, element)).collect();
        NftTable { sets, chains }
    }

    /// The same part as it was before.
    pub(crate) fn before(&self, table: &NftTable) -> NftTable {
        let chain =
            |(name, chain): (&NftName, &Option<NftChain>)| Some((name.clone(), chain.clone()?));
        let whole = |(name, set): (&NftName, &Option<NftSet>)| Some((name.clone(), set.clone()?));
        let chains = self.chains.iter().filter_map(chain).collect();
        let element = |set: &NftName, key: &NftKey| self.elements.get(set)?.get(key)?.clone();
        let mut sets: BTreeMap<_, _> = self.sets.iter().filter_map(whole).collect();
        for name in self.elements.keys().filter(|name| !self.sets.contains_key(*name)) {
            sets.extend(self.part(table, name, |_, key| element(name, key)));
        }
        NftTable { sets, chains }
    }

    fn parts<'a>(
        &'a self,
        table: &'a NftTable,
        element: impl Fn(&NftSet, &NftKey) -> Option<NftElement> + Copy + 'a,
    ) -> impl Iterator<Item = (NftName, NftSet)> + 'a {
        let others = self.elements.keys().filter(|name| !self.sets.contains_key(*name));
        others.filter_map(move |name| self.part(table, name, element))
    }

    fn part(
        &self,
        table: &NftTable,
        name: &NftName,
        element: impl Fn(&NftSet, &NftKey) -> Option<NftElement>,
    ) -> Option<(NftName, NftSet)> {
        let set = table.sets.get(name)?;
        let keys = self.elements.get(name)?.keys();
        let elements = keys.filter_map(|key| Some((key.clone(), element(set, key)?))).collect();
        Some((name.clone(), NftSet { spec: set.spec.clone(), elements }))
    }

    /// Takes note of an element before it changes. What it was first counts.
    fn element(&mut self, set: &NftName, key: &NftKey, before: Option<&NftElement>) {
        if !self.elements.contains_key(set) {
            self.elements.insert(set.clone(), BTreeMap::new());
        }
        let Some(elements) = self.elements.get_mut(set) else { return };
        if !elements.contains_key(key) {
            elements.insert(key.clone(), before.cloned());
        }
    }

    fn insert(&mut self, table: &mut NftTable, set: &NftName, key: NftKey, element: NftElement) {
        let Some(held) = table.sets.get_mut(set) else { return };
        self.element(set, &key, held.elements.get(&key));
        held.elements.insert(key, element);
    }

    fn remove(&mut self, table: &mut NftTable, set: &NftName, key: &NftKey) {
        let Some(held) = table.sets.get_mut(set) else { return };
        let before = held.elements.remove(key);
        self.element(set, key, before.as_ref());
    }

    fn insert_set(&mut self, table: &mut NftTable, name: NftName, set: NftSet) {
        self.sets.entry(name.clone()).or_insert(None);
        table.sets.insert(name, set);
    }

    /// A set of which all elements that it had are touched, or none.
    fn remove_set(&mut self, table: &mut NftTable, name: &NftName) {
        let Some(mut set) = table.sets.remove(name) else { return };
        let touched = self.elements.get(name).into_iter().flatten();
        let before = touched.filter_map(|(key, was)| Some((key.clone(), was.clone()?)));
        set.elements.extend(before);
        self.sets.entry(name.clone()).or_insert(Some(set));
    }

    fn insert_chain(&mut self, table: &mut NftTable, name: NftName, chain: NftChain) {
        let before = table.chains.insert(name.clone(), chain);
        self.chains.entry(name).or_insert(before);
    }

    fn remove_chain(&mut self, table: &mut NftTable, name: NftName) {
        let before = table.chains.remove(&name);
        self.chains.entry(name).or_insert(before);
    }
}

impl NftShares {
    /// A Mapping more needs these.
    pub(super) fn add(&mut self, needed: BTreeSet<Shared>) {
        for shared in needed {
            self.count(&shared);
            *self.users.entry(shared).or_default() += 1;
        }
    }

    /// What anybody needs.
    pub(super) fn shared(&self) -> impl Iterator<Item = &Shared> {
        self.users.keys()
    }

    /// Counts a range of a shift that nobody needed so far. Returns the elements that are new.
    fn count(&mut self, shared: &Shared) -> BTreeSet<NftKey> {
        let Shared::Shift(shift, ports) = shared else { return BTreeSet::new() };
        if self.users.contains_key(shared) {
            return BTreeSet::new();
        }
        let mut new = BTreeSet::new();
        for port in ports.first()..=ports.last() {
            let users = self.shifted.entry((*shift, port)).or_default();
            *users += 1;
            new.extend(shift.element(port).filter(|_| *users == 1).map(|(key, _)| key));
        }
        new
    }

    /// Lowers what changed in `dataplane`.
    pub(crate) fn follow(
        &mut self,
        table: &mut NftTable,
        dataplane: &Dataplane,
        changed: &Changed,
    ) -> TouchedNft {
        let mut touched = TouchedNft::default();
        let mut come = Vec::new();
        let mut gone = Vec::new();
        for (key, old) in &changed.before.mappings {
            let new = dataplane.mappings.get(key);
            let [old, new] =
                [old.as_ref(), new].map(|plane| plane.map(|p| pieces(dataplane, key, p)));
            let (old, new) = (old.unwrap_or_default(), new.unwrap_or_default());
            let mut before = by_key(old.elements);
            for (at, element) in by_key(new.elements) {
                if before.get(&at) == Some(&element) {
                    before.remove(&at);
                } else {
                    come.push((at, element));
                }
            }
            gone.extend(before.into_keys());
            self.follow_shared(table, dataplane, [&old.shared, &new.shared], &mut touched);
        }
        follow_pods(&mut gone, &mut come, dataplane, changed);
        // What one gives up another may take over: first everything goes.
        for (set, key) in gone {
            touched.remove(table, &set, &key);
        }
        for ((set, key), element) in come {
            touched.insert(table, &set, key, element);
        }
        touched
    }

    fn follow_shared(
        &mut self,
        table: &mut NftTable,
        dataplane: &Dataplane,
        [old, new]: [&BTreeSet<Shared>; 2],
        touched: &mut TouchedNft,
    ) {
        for shared in new.difference(old) {
            let new = self.count(shared);
            let users = self.users.entry(shared.clone()).or_default();
            *users += 1;
            if *users == 1 {
                add_shared(table, dataplane, shared, &new, touched);
            }
        }
        for shared in old.difference(new) {
            let Some(users) = self.users.get_mut(shared) else { continue };
            *users -= 1;
            if *users == 0 {
                self.users.remove(shared);
                self.remove_shared(table, shared, touched);
            }
        }
    }

    fn remove_shared(&mut self, table: &mut NftTable, shared: &Shared, touched: &mut TouchedNft) {
        for (map, key, _) in shared.targets() {
            touched.remove(table, &map, &key);
        }
        match shared {
            Shared::Spread(shape) => touched.remove_chain(table, shape.chain()),
            Shared::Sources(family, networks) => {
                touched.remove_chain(table, sources_chain(*family, networks));
                touched.remove_set(table, &sources_set(*family, networks));
            }
            Shared::Shift(shift, ports) => {
                let name = shift.map();
                for port in ports.first()..=ports.last() {
                    let Some(users) = self.shifted.get_mut(&(*shift, port)) else { continue };
                    *users -= 1;
                    if *users == 0 {
                        self.shifted.remove(&(*shift, port));
                        if let Some((key, _)) = shift.element(port) {
                            touched.remove(table, &name, &key);
                        }
                    }
                }
                if table.sets.get(&name).is_some_and(|map| map.elements.is_empty()) {
                    touched.remove_set(table, &name);
                }
            }
        }
    }
}

/// What a Mapping needs in all families.
pub(super) fn pieces(dataplane: &Dataplane, key: &ObjectKey, mapping: &MappingPlane) -> Pieces {
    let mut all = Pieces::default();
    for family in dataplane.families.iter().copied() {
        let Pieces { elements, shared } = Pieces::of(family, key, mapping);
        all.elements.extend(elements);
        all.shared.extend(shared);
    }
    all
}

type At = (NftName, NftKey);

fn by_key(elements: Vec<(NftName, NftKey, NftElement)>) -> BTreeMap<At, NftElement> {
    elements.into_iter().map(|(set, key, element)| ((set, key), element)).collect()
}

/// `new`: the elements of a shift that are.
fn add_shared(
    table: &mut NftTable,
    dataplane: &Dataplane,
    shared: &Shared,
    new: &BTreeSet<NftKey>,
    touched: &mut TouchedNft,
) {
    for (map, key, element) in shared.targets() {
        touched.insert(table, &map, key, element);
    }
    let mut one = TableBuilder::new(dataplane);
    one.share(shared, dataplane.marks);
    for (name, chain) in one.table.chains {
        touched.insert_chain(table, name, chain);
    }
    for (name, set) in one.table.sets {
        if !table.sets.contains_key(&name) {
            touched.insert_set(table, name, set);
            continue;
        }
        for (key, element) in set.elements.into_iter().filter(|(key, _)| new.contains(key)) {
            touched.insert(table, &name, key, element);
        }
    }
}

fn follow_pods(
    gone: &mut Vec<At>,
    come: &mut Vec<(At, NftElement)>,
    dataplane: &Dataplane,
    Changed { before, come: leaving }: &Changed,
) {
    for (pod, exit) in &before.pods {
        let Some(exit) = exit else { continue };
        let elements = sets::pod(*pod, exit.address, &exit.uplink);
        gone.extend(elements.map(|(set, key, _)| (set, key)));
    }
    for (pod, address) in leaving {
        let Some(plane) = dataplane.egress.get(address) else { continue };
        let elements = sets::pod(*pod, *address, &plane.uplink);
        come.extend(elements.map(|(set, key, element)| ((set, key), element)));
    }
}

//! nftables: one table of few chains and maps. What varies with Mappings and endpoints is in
//! elements, so the number of look-ups for a packet does not depend on their number.

mod assemble;
pub mod counted;
mod frame;
mod kept;
mod names;
mod services;
mod sets;
mod spread;

pub(crate) use kept::{NftShares, TouchedNft};

use self::services::Shared;
use crate::dataplane::Dataplane;
use crate::marks::MarkLayout;
use crate::model::Family;
use crate::objects::nft::{
    NftBase, NftChain, NftChainKind, NftElement, NftKey, NftName, NftRule, NftSet, NftSetSpec,
    NftTable, NftValue, NftVerdict,
};
use crate::objects::{BuiltinHook, KernelState};
use crate::packed::pack_map;

/// The table of a dataplane with uplinks, with who needs what several share.
pub(super) fn table(dataplane: &Dataplane) -> (NftTable, NftShares) {
    let mut table = TableBuilder::new(dataplane);
    frame::build(&mut table, dataplane);
    let mut shares = NftShares::default();
    for (key, mapping) in &dataplane.mappings {
        let pieces = kept::pieces(dataplane, key, mapping);
        for (set, key, element) in pieces.elements {
            table.whole_element(&set, key, element);
        }
        shares.add(pieces.shared);
    }
    for object in shares.shared() {
        table.share(object, dataplane.marks);
    }
    for (address, plane) in &dataplane.egress {
        for pod in &plane.pods {
            for (set, key, element) in sets::pod(*pod, *address, &plane.uplink) {
                table.whole_element(&set, key, element);
            }
        }
    }
    for set in table.table.sets.values_mut() {
        pack_map(&mut set.elements);
    }
    (table.table, shares)
}

/// The uplinks' numbers that a kernel's table holds.
pub(crate) fn uplink_numbers(observed: &KernelState) -> Vec<(String, u32)> {
    let map = observed.nft.as_ref().and_then(|table| table.sets.get(names::UPLINKS));
    let number = |(key, element): (&NftKey, &NftElement)| {
        let NftValue::Verdict(NftVerdict::Goto(chain)) = &element.value else { return None };
        let end = key.first.iter().position(|byte| *byte == 0)?;
        let name = std::str::from_utf8(&key.first[..end]).ok()?;
        Some((name.to_owned(), names::number_of_uplink_chain(chain)?))
    };
    map.into_iter().flat_map(|map| map.elements.iter().filter_map(number)).collect()
}

/// The set of ended connections whose packets are held back.
pub(crate) fn quarantine_set(family: Family) -> NftName {
    names::of_family(sets::QUARANTINE, family).into()
}

/// In which order elements come, and in the reverse of which they go: what leads somewhere comes
/// after what is there (T18).
pub(crate) fn rank(set: &NftName) -> u8 {
    let of = |name: &str| Family::ALL.iter().any(|f| set.as_str() == names::of_family(name, *f));
    match () {
        () if of(sets::SERVICES) => 3,
        () if of(sets::RESTRICTED) || of(sets::LEAVING) => 2,
        () if of(sets::ENDPOINTS)
            || of(sets::RANGE_ENDPOINTS)
            || of(sets::MEMBERS)
            || of(sets::RANGE_MEMBERS)
            || of(sets::RANGES)
            || of(sets::EGRESS)
            || [names::TARGETS, names::RESTRICTED_TARGETS].contains(&set.as_str()) =>
        {
            1
        }
        // The host's own, lists of sources, shifts: what everything else relies on.
        () => 0,
    }
}

/// A table under construction.
struct TableBuilder {
    table: NftTable,
    families: Vec<Family>,
}

impl TableBuilder {
    fn new(dataplane: &Dataplane) -> Self {
        Self { table: NftTable::default(), families: dataplane.families.clone() }
    }

    fn set(&mut self, name: impl Into<NftName>, spec: NftSetSpec) {
        let set = NftSet { spec, elements: std::collections::BTreeMap::new() };
        let previous = self.table.sets.insert(name.into(), set);
        assert!(previous.is_none(), "a set is lowered once");
    }

    fn element(&mut self, set: &NftName, key: NftKey, value: NftValue) {
        self.whole_element(set, key, sets::element(value));
    }

    fn whole_element(&mut self, set: &NftName, key: NftKey, element: NftElement) {
        if let Some(set) = self.table.sets.get_mut(set) {
            set.elements.insert(key, element);
        }
    }

    fn chain(&mut self, name: impl Into<NftName>, rules: impl IntoIterator<Item = assemble::Rule>) {
        self.add_chain(name.into(), None, rules);
    }

    /// A chain that packets enter by themselves.
    fn base(
        &mut self,
        name: &str,
        (kind, hook, priority): (NftChainKind, BuiltinHook, i32),
        rules: impl IntoIterator<Item = assemble::Rule>,
    ) {
        self.add_chain(name.into(), Some(NftBase { kind, hook, priority, drops: false }), rules);
    }

    fn add_chain(
        &mut self,
        name: NftName,
        base: Option<NftBase>,
        rules: impl IntoIterator<Item = assemble::Rule>,
    ) {
        let rules = rules.into_iter().map(NftRule::from).collect();
        let previous = self.table.chains.insert(name, NftChain { base, rules });
        assert!(previous.is_none(), "a chain is lowered once");
    }

    fn share(&mut self, shared: &Shared, marks: MarkLayout) {
        for (map, key, element) in shared.targets() {
            self.whole_element(&map, key, element);
        }
        match shared {
            Shared::Spread(shape) => self.chain(shape.chain(), shape.rules(marks)),
            Shared::Sources(family, networks) => {
                let name = services::sources_set(*family, networks);
                self.set(name.clone(), sets::sources(*family));
                for network in networks {
                    self.element(&name, spread::interval(network), NftValue::Nothing);
                }
                let chain = services::sources_chain(*family, networks);
                self.chain(chain, spread::restriction(*family, networks));
            }
            Shared::Shift(shift, ports) => {
                let name = shift.map();
                if !self.table.sets.contains_key(&name) {
                    self.set(name.clone(), sets::shift());
                }
                for port in ports.first()..=ports.last() {
                    if let Some((key, element)) = shift.element(port) {
                        self.whole_element(&name, key, element);
                    }
                }
            }
        }
    }
}

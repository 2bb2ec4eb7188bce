//! Chains that several Mappings share: they spread connections over endpoints (T8), and look at
//! who may connect (T2).

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::assemble::{Key, Rule, rule};
use super::names::{HAIRPIN, RESTRICTED_TARGETS, of_family};
use super::services::{Shift, external_endpoint, sources_set};
use super::sets;
use crate::marks::MarkLayout;
use crate::model::Family;
use crate::objects::nft::{NatKind, NftKey, NftName, Register, SetUpdate, fields};

/// What becomes of the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Ports {
    /// One external port: the endpoint's.
    Single,
    /// A range: it stays.
    Kept,
    /// A range: it is shifted.
    Shifted(Shift),
}

/// How connections are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Shape {
    pub(super) family: Family,
    pub(super) endpoints: u32,
    pub(super) masquerade: bool,
    pub(super) ports: Ports,
    pub(super) affinity_seconds: Option<u32>,
}

impl Shape {
    /// The chain's name.
    pub(super) fn chain(&self) -> NftName {
        let mut name = format!("{}-{}", of_family("spread", self.family), self.endpoints);
        if !self.masquerade {
            name += "-client-kept";
        }
        match self.ports {
            Ports::Single => {}
            Ports::Kept => name += "-range",
            Ports::Shifted(shift) => {
                name += "-range-";
                name += shift.map().as_str();
            }
        }
        if let Some(seconds) = self.affinity_seconds {
            name += "-affinity-";
            name += &seconds.to_string();
        }
        name.into()
    }

    /// Its rules.
    pub(super) fn rules(&self, marks: MarkLayout) -> Vec<Rule> {
        let flags = if self.masquerade { marks.ours | marks.masquerade } else { marks.ours };
        let mut rules = vec![
            rule().ct_mark(0, marks.routing()).jump(HAIRPIN),
            rule().ct_mark(marks.egress, marks.egress).jump(HAIRPIN),
            rule().set_ct_mark(flags, flags),
        ];
        match self.affinity_seconds {
            None => {
                let mut key = self.external(Key::of(self.family).random(self.endpoints));
                let value = key.end();
                let port = key.after_address();
                let chosen = rule().key(&mut key);
                let chosen = chosen.value_of(&self.endpoints_map(), key.first(), value);
                rules.push(self.translate(chosen, value, port));
            }
            Some(seconds) => rules.extend(self.affine(seconds)),
        }
        rules
    }

    /// A client that was here before goes where it went, if that is still an endpoint.
    fn affine(&self, seconds: u32) -> [Rule; 3] {
        let millis = Some(u64::from(seconds) * 1000);
        let affinity = of_family(sets::AFFINITY, self.family);
        let positions = of_family(sets::POSITIONS, self.family);
        let members = self.named(sets::MEMBERS, sets::RANGE_MEMBERS);
        // The number of an endpoint, the external endpoint, the client.
        let number = Register(0);
        let external = Register(1);
        let key = || self.external(Key::of(self.family).skip(1)).source();
        let (address, port) = (key().end(), key().after_address());

        let held = rule().key(&mut key()).value_by_mark(&affinity, external, number);
        let held = held.value_of(&members, number, address);
        let held = held.dynset(&affinity, SetUpdate::Update, external, number, millis);
        let held = self.translate(held, address, port);

        // An update leaves the value of an element as it is. What value is deleted does not matter.
        let stale = rule().key(&mut key()).mark_to(number);
        let stale = stale.dynset(&affinity, SetUpdate::Delete, external, number, None);

        let chosen = rule().key(&mut key()).random(self.endpoints, number);
        let chosen = chosen.value_by_mark(&positions, number, number);
        let chosen = chosen.value_of(&members, number, address);
        let chosen = chosen.dynset(&affinity, SetUpdate::Update, external, number, millis);
        [held, stale, self.translate(chosen, address, port)]
    }

    fn external(&self, key: Key) -> Key {
        external_endpoint(key, self.ports != Ports::Single)
    }

    fn named(&self, single: &str, range: &str) -> String {
        of_family(if self.ports == Ports::Single { single } else { range }, self.family)
    }

    fn endpoints_map(&self) -> String {
        self.named(sets::ENDPOINTS, sets::RANGE_ENDPOINTS)
    }

    fn translate(&self, rule: Rule, address: Register, port: Register) -> Rule {
        let (rule, port) = match self.ports {
            Ports::Single => (rule, Some(port)),
            Ports::Kept => (rule, None),
            Ports::Shifted(shift) => {
                (rule.port_to(port).port_by(shift.map().as_str(), port), Some(port))
            }
        };
        rule.translate(NatKind::Destination, self.family, address, port)
    }
}

/// Lets those go on to their endpoints who may connect, and drops the others.
pub(super) fn restriction(family: Family, networks: &[IpNet]) -> [Rule; 3] {
    let set = sources_set(family, networks);
    let restricted = of_family(sets::RESTRICTED, family);
    let allowed = |range| {
        let mut source = Key::of(family).source();
        let rule = rule().key(&mut source).is_in(set.as_str(), source.first());
        let mut external = external_endpoint(Key::of(family), range);
        rule.key(&mut external).by_name(&restricted, RESTRICTED_TARGETS, &external)
    };
    [allowed(false), allowed(true), rule().drop()]
}

/// The interval of a network.
pub(super) fn interval(network: &IpNet) -> NftKey {
    let bytes = |address: IpAddr| fields::address(address);
    NftKey::interval(bytes(network.network()), bytes(network.broadcast()))
}

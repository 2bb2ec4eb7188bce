//! Chains that several Mappings share: they spread connections over endpoints (T8), and look at
//! who may connect (T2).

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::assemble::{Key, Rule, rule};
use super::names::{HAIRPIN, of_family};
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
                let mut key = self.external(Key::of(self.family)).random(self.endpoints);
                let value = key.end();
                let port = key.after_address();
                let chosen = rule().key(&mut key).value_of(&self.endpoints_map(), &key, 0, value);
                rules.push(self.translate(chosen, value, port));
            }
            Some(seconds) => rules.extend(self.affine(seconds)),
        }
        rules
    }

    /// A client that was here before goes where it went, if that is still an endpoint.
    fn affine(&self, seconds: u32) -> [Rule; 3] {
        let millis = Some(u64::from(seconds) * 1000);
        let map = self.named(sets::AFFINITY, sets::RANGE_AFFINITY);
        let members = self.named(sets::MEMBERS, sets::RANGE_MEMBERS);
        let client = || self.external(Key::of(self.family).source());

        let mut key = client();
        let (value, port) = (key.end(), key.after_address());
        let held = rule().key(&mut key).value_of(&map, &key, 0, value).is_in(&members, &key, 1);
        let held = held.dynset(&map, SetUpdate::Update, &key, value, millis);
        let held = self.translate(held, value, port);

        // An update leaves the value of an element as it is.
        let mut key = client();
        let stale = rule().key(&mut key).value_of(&map, &key, 0, value);
        let stale = stale.dynset(&map, SetUpdate::Delete, &key, value, None);

        let mut key = client().random(self.endpoints);
        let (value, port) = (key.end(), key.after_address());
        let chosen = rule().key(&mut key).value_of(&self.endpoints_map(), &key, 1, value);
        let chosen = chosen.dynset(&map, SetUpdate::Update, &key, value, millis);
        [held, stale, self.translate(chosen, value, port)]
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
        let rule = rule().key(&mut source).is_in(set.as_str(), &source, 0);
        let mut external = external_endpoint(Key::of(family), range);
        rule.key(&mut external).by_key(&restricted, &external)
    };
    [allowed(false), allowed(true), rule().drop()]
}

/// The interval of a network.
pub(super) fn interval(network: &IpNet) -> NftKey {
    let bytes = |address: IpAddr| fields::address(address);
    NftKey::interval(bytes(network.network()), bytes(network.broadcast()))
}

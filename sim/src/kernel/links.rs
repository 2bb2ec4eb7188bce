//! Links and their addresses.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use smartnat_core::model::{Family, InterfaceAddress};

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimLink {
    /// Interface index.
    pub index: u32,
    /// Administratively up (`IFF_UP`).
    pub up: bool,
    /// Carrier (`IFF_RUNNING`).
    pub carrier: bool,
    /// Its addresses.
    pub addresses: Vec<InterfaceAddress>,
}

/// All links, and the families that the kernel has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Links {
    by_name: BTreeMap<String, SimLink>,
    last_index: u32,
    families: Vec<Family>,
}

/// Whether the kernel takes it as an interface name (`IFNAMSIZ` less its NUL).
pub(super) fn is_interface_name(name: &str) -> bool {
    (1..=15).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_graphic() && b != b'/')
        && name != "."
        && name != ".."
}

impl Links {
    /// Loopback alone.
    pub(super) fn new() -> Self {
        let mut links =
            Self { by_name: BTreeMap::new(), last_index: 0, families: Family::ALL.to_vec() };
        links.add("lo");
        for address in ["127.0.0.1/8", "::1/128"] {
            let address = address.parse().expect("a constant address");
            links.link_mut("lo").addresses.push(InterfaceAddress { address, link_local: true });
        }
        links
    }

    /// One link.
    pub fn get(&self, name: &str) -> Option<&SimLink> {
        self.by_name.get(name)
    }

    /// All links by name, loopback included.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &SimLink)> {
        self.by_name.iter().map(|(name, link)| (name.as_str(), link))
    }

    /// Families that the kernel has.
    pub fn families(&self) -> &[Family] {
        &self.families
    }

    pub(super) fn set_families(&mut self, families: Vec<Family>) {
        self.families = families;
    }

    /// The link that holds `address`.
    pub fn holder(&self, address: IpAddr) -> Option<&str> {
        self.iter()
            .find(|(_, link)| link.addresses.iter().any(|a| a.address.addr() == address))
            .map(|(name, _)| name)
    }

    /// Whether the host takes what is sent to `address` (`RTN_LOCAL`), on whatever link it arrives.
    pub(crate) fn is_local(&self, address: IpAddr) -> bool {
        address.is_loopback()
            || self
                .by_name
                .values()
                .any(|link| link.up && link.addresses.iter().any(|a| a.address.addr() == address))
    }

    /// Connected subnets: link, subnet. A link that is down has none, one without carrier keeps them.
    pub(crate) fn connected(&self) -> impl Iterator<Item = (&str, IpNet)> {
        self.iter().filter(|(name, link)| link.up && *name != "lo").flat_map(|(name, link)| {
            link.addresses
                .iter()
                .filter(|a| a.address.prefix_len() < a.address.max_prefix_len())
                .map(move |a| (name, a.address.trunc()))
        })
    }

    pub(super) fn add(&mut self, name: &str) {
        assert!(is_interface_name(name), "{name:?} is no interface name");
        self.last_index += 1;
        let link =
            SimLink { index: self.last_index, up: true, carrier: true, addresses: Vec::new() };
        assert!(self.by_name.insert(name.into(), link).is_none(), "link {name} exists already");
    }

    pub(super) fn remove(&mut self, name: &str) {
        assert!(self.by_name.remove(name).is_some(), "there is no link {name}");
    }

    /// For events on the host, which a test makes happen to links that it has added.
    pub(super) fn link_mut(&mut self, name: &str) -> &mut SimLink {
        self.by_name.get_mut(name).unwrap_or_else(|| panic!("there is no link {name}"))
    }
}

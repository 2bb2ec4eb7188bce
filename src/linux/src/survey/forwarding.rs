//! Who needs the host to forward, beside us (T16).

use std::collections::{BTreeMap, BTreeSet};

use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use smartnat_core::model::Family;
use smartnat_core::ops::{OpError, OpErrorClass};
use smartnat_core::xtables_text::{ForeignTable, SavedTables};

use super::native::base_chains;
use super::{MAX_NAMED, is_nft_read, saved_tables, target_of};
use crate::routing::{Routing, interface_names};
use crate::xtables::{Flavour, XtablesSettings};

/// Targets of iptables that translate addresses.
const TRANSLATIONS: [&str; 5] = ["MASQUERADE", "SNAT", "DNAT", "NETMAP", "REDIRECT"];

/// What of others needs forwarding, by family; a family without any is absent. What cannot
/// be looked into counts, since switching forwarding off might cut somebody off.
#[derive(Debug, Default)]
struct Users(BTreeMap<Family, BTreeSet<String>>);

/// Looks for translations and bridges of others in the calling thread's network namespace;
/// the reasons are for people.
pub fn forwarding_users(settings: XtablesSettings) -> BTreeMap<Family, Vec<String>> {
    let mut users = Users::default();
    let saved = saved_tables(settings);
    let nft_is_read = is_nft_read(&saved);
    for (flavour, tables) in saved {
        match tables {
            Ok(tables) => {
                for (family, saved) in &tables {
                    users.of_iptables(flavour, *family, saved);
                }
            }
            Err(error) => users.of_both(&unknown(&error)),
        }
    }
    match base_chains(!nft_is_read) {
        Ok(chains) => {
            for chain in chains.iter().filter(|chain| chain.translates) {
                let concerned = Family::ALL.into_iter().filter(|f| chain.family.carries(*f));
                concerned.for_each(|family| users.add(family, chain.to_string()));
            }
        }
        Err(error) => users.of_both(&format!("nftables, which cannot be read ({error})")),
    }
    match links() {
        Ok(links) => bridges(&links).iter().for_each(|bridge| users.of_both(bridge)),
        Err(error) => users.of_both(&unknown(&error)),
    }
    users.told()
}

fn unknown(error: &OpError) -> String {
    format!("what cannot be read ({error})")
}

impl Users {
    fn add(&mut self, family: Family, reason: String) {
        self.0.entry(family).or_default().insert(reason);
    }

    fn of_both(&mut self, reason: &str) {
        for family in Family::ALL {
            self.add(family, reason.to_owned());
        }
    }

    fn of_iptables(&mut self, flavour: Flavour, family: Family, saved: &SavedTables) {
        if saved.unreadable.contains("nat") {
            self.add(family, format!("table nat, which iptables-{flavour} cannot read"));
        }
        let nothing = ForeignTable::default();
        let nat = saved.foreign.get("nat").unwrap_or(&nothing);
        for (chain, rules) in nat.builtin_rules.iter().chain(&nat.chains) {
            for target in rules.iter().filter_map(|rule| target_of(rule)) {
                if TRANSLATIONS.contains(&target) {
                    self.add(family, format!("{target} in nat/{chain} (iptables-{flavour})"));
                }
            }
        }
    }

    fn told(self) -> BTreeMap<Family, Vec<String>> {
        let told = |(family, reasons): (Family, BTreeSet<String>)| {
            let more = reasons.len().saturating_sub(MAX_NAMED);
            let mut named: Vec<String> = reasons.into_iter().take(MAX_NAMED).collect();
            named.extend((more > 0).then(|| format!("{more} more")));
            (family, named)
        };
        self.0.into_iter().map(told).collect()
    }
}

fn links() -> Result<Vec<LinkMessage>, OpError> {
    let failed = |error| OpError::new(OpErrorClass::Transient, "list of links", error);
    let mut routing = Routing::open().map_err(failed)?;
    routing.connection().links().map_err(|error| error.about("list of links"))
}

/// Bridges that have a port: to whatever is behind it this host is, or may be, the router.
fn bridges(links: &[LinkMessage]) -> Vec<String> {
    let of_port = |link: &LinkMessage| {
        link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Controller(index) => Some(*index),
            _ => None,
        })
    };
    let used: BTreeSet<u32> = links.iter().filter_map(of_port).collect();
    let is_bridge = |link: &&LinkMessage| {
        link.attributes.iter().any(|attribute| match attribute {
            LinkAttribute::LinkInfo(infos) => {
                infos.iter().any(|info| matches!(info, LinkInfo::Kind(InfoKind::Bridge)))
            }
            _ => false,
        })
    };
    let names = interface_names(links);
    links
        .iter()
        .filter(|link| used.contains(&link.header.index))
        .filter(is_bridge)
        .filter_map(|link| names.get(&link.header.index))
        .map(|name| format!("bridge {name}"))
        .collect()
}

//! What is foreign in this network namespace and matters to us. Reads only.

mod sockets;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;
use smartnat_core::model::{Family, Protocol};
use smartnat_core::xtables_text::ForeignTable;

use crate::xtables::{Flavour, Xtables, XtablesSettings};

/// Rules of one kind that a message names one by one.
const MAX_NAMED: usize = 5;
/// Chains whose policy decides on packets to and through this host.
const JUDGING_CHAINS: [&str; 2] = ["INPUT", "FORWARD"];

/// A chain of others, or one of its rules.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ForeignChain {
    /// `iptables-nft` or `iptables-legacy`.
    pub program: String,
    /// Which of the two families.
    pub family: Family,
    /// Its table.
    pub table: String,
    /// Its name.
    pub chain: String,
}

/// A rule of others that translates destinations.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ForeignTranslation {
    /// Where it is.
    #[serde(flatten)]
    pub chain: ForeignChain,
    /// The rule as `iptables-save` prints it, without its chain.
    pub rule: String,
}

/// A socket that accepts connections or datagrams from an uplink, were it not for the guard.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Listener {
    /// The uplink whose address it is; absent: it listens on all addresses.
    pub uplink: Option<String>,
    /// Its protocol.
    pub protocol: Protocol,
    /// What it is bound to.
    pub address: SocketAddr,
}

/// What is foreign and matters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Survey {
    /// Destination translations of others.
    pub translations: Vec<ForeignTranslation>,
    /// Built-in chains that drop what no rule accepts.
    pub dropping_policies: Vec<ForeignChain>,
    /// Listeners that uplinks can reach.
    pub listeners: BTreeSet<Listener>,
    /// What could not be looked into, and why.
    pub unreadable: Vec<String>,
}

/// Looks around in the calling thread's network namespace. `uplinks` are the addresses of
/// each uplink. A part that cannot be read is named in the result.
pub fn survey(settings: XtablesSettings, uplinks: &BTreeMap<String, BTreeSet<IpAddr>>) -> Survey {
    let mut found = Survey::default();
    for flavour in Flavour::ALL {
        // A flavour without programs was not used by anybody.
        let Ok(mut xtables) = Xtables::detect(flavour.into(), settings) else { continue };
        match xtables.foreign() {
            Ok(tables) => {
                for ((family, name), table) in &tables {
                    found.look_into(flavour, *family, name, table);
                }
            }
            Err(error) => found.unreadable.push(error.to_string()),
        }
    }
    match sockets::listening() {
        Ok(sockets) => {
            let reachable = sockets.into_iter().filter_map(|(protocol, address)| {
                let uplink = reached_through(address.ip(), uplinks)?;
                Some(Listener { uplink, protocol, address })
            });
            found.listeners = reachable.collect();
        }
        Err(error) => found.unreadable.push(format!("listening sockets: {error}")),
    }
    found
}

/// The uplink whose address this is, `Some(None)` for all addresses; `None` for another address.
#[allow(clippy::option_option, reason = "private, and the two mean different things")]
fn reached_through(
    address: IpAddr,
    uplinks: &BTreeMap<String, BTreeSet<IpAddr>>,
) -> Option<Option<String>> {
    if uplinks.is_empty() {
        return None;
    }
    if address.is_unspecified() {
        return Some(None);
    }
    let uplink = uplinks.iter().find(|(_, addresses)| addresses.contains(&address));
    uplink.map(|(name, _)| Some(name.clone()))
}

impl Survey {
    fn look_into(&mut self, flavour: Flavour, family: Family, name: &str, table: &ForeignTable) {
        let chain = |chain: &str| ForeignChain {
            program: format!("iptables-{flavour}"),
            family,
            table: name.to_owned(),
            chain: chain.to_owned(),
        };
        if name == "filter" {
            let drops = |chain: &&str| table.policies.get(*chain).is_some_and(|p| p == "DROP");
            self.dropping_policies.extend(JUDGING_CHAINS.into_iter().filter(drops).map(chain));
        }
        if name == "nat" {
            for (at, rules) in table.builtin_rules.iter().chain(&table.chains) {
                let translating = rules.iter().filter(|rule| translates_destination(rule));
                self.translations.extend(
                    translating
                        .map(|rule| ForeignTranslation { chain: chain(at), rule: rule.clone() }),
                );
            }
        }
    }

    /// Whether nothing was found and everything could be read.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What was found, for people.
    pub fn messages(&self) -> Vec<String> {
        let mut messages = self.translation_messages();
        messages.extend(self.dropping_policies.iter().map(|at| {
            format!(
                "the policy of {at} is DROP: what no rule accepts there is dropped; packets of \
                 Mappings are accepted by rules of ours",
            )
        }));
        messages.extend(self.listeners.iter().map(|listener| match &listener.uplink {
            Some(uplink) => format!(
                "a program listens on {} {}, an address of uplink {uplink}: Mappings of this port \
                 come first, and the guard keeps everybody else from it",
                listener.protocol, listener.address
            ),
            None => format!(
                "a program listens on {} port {} of all addresses ({}), those of uplinks too: \
                 without the guard it can be reached from there",
                listener.protocol,
                listener.address.port(),
                listener.address.ip()
            ),
        }));
        messages.extend(self.unreadable.iter().map(|what| format!("cannot be read: {what}")));
        messages
    }

    fn translation_messages(&self) -> Vec<String> {
        let named = self.translations.iter().take(MAX_NAMED).map(|t| {
            format!(
                "a foreign rule in {} translates destinations and may take connections away from \
                 Mappings: {}",
                t.chain, t.rule
            )
        });
        let mut messages: Vec<String> = named.collect();
        let more = self.translations.len().saturating_sub(MAX_NAMED);
        if more > 0 {
            messages.push(format!("{more} more foreign rules translate destinations"));
        }
        messages
    }
}

impl std::fmt::Display for ForeignChain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{} ({}, {})", self.table, self.chain, self.program, self.family)
    }
}

fn translates_destination(rule: &str) -> bool {
    // Words in quotes are comments, which may say anything.
    rule.split('"').step_by(2).any(|part| {
        let words: Vec<_> = part.split_ascii_whitespace().collect();
        words.windows(2).any(|pair| matches!(pair, ["-j", "DNAT" | "REDIRECT" | "NETMAP"]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_translation_is_known_by_its_target() {
        assert!(translates_destination("-p tcp --dport 80 -j DNAT --to-destination 10.0.0.1:80"));
        assert!(translates_destination("-p tcp -j REDIRECT --to-ports 8080"));
        assert!(!translates_destination("-m comment --comment \"see -j DNAT below\" -j RETURN"));
        assert!(!translates_destination("-j DNAT-WEB"));
    }

    #[test]
    fn a_socket_matters_on_an_address_of_an_uplink_or_on_all() {
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        let uplinks = [("eth1".to_owned(), [address("192.0.2.2")].into())].into();
        assert_eq!(reached_through(address("192.0.2.2"), &uplinks), Some(Some("eth1".into())));
        assert_eq!(reached_through(address("::"), &uplinks), Some(None));
        assert_eq!(reached_through(address("127.0.0.1"), &uplinks), None);
        assert_eq!(reached_through(address("0.0.0.0"), &BTreeMap::new()), None);
    }

    #[test]
    fn many_translations_are_told_by_number() {
        let chain = ForeignChain {
            program: "iptables-nft".into(),
            family: Family::V4,
            table: "nat".into(),
            chain: "KUBE-SEP".into(),
        };
        let rule = |n| ForeignTranslation { chain: chain.clone(), rule: format!("-j DNAT {n}") };
        let survey = Survey { translations: (0..100).map(rule).collect(), ..Survey::default() };
        let messages = survey.messages();
        assert_eq!(messages.len(), MAX_NAMED + 1);
        assert!(messages[MAX_NAMED].starts_with("95 more"), "{messages:?}");
    }
}

//! What is foreign in this network namespace and matters to us. Reads only.

mod forwarding;
mod messages;
mod native;
mod obstacles;
mod sockets;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::Serialize;
use smartnat_core::model::{Family, IptablesFlavour, Protocol};
use smartnat_core::ops::OpError;
use smartnat_core::status::UplinkStatus;
use smartnat_core::xtables_text::{ForeignTable, SavedTables};

use crate::xtables::{Flavour, Xtables, XtablesSettings};

pub use forwarding::forwarding_users;
pub use native::{Hook, NativeChain, TableFamily};
pub use obstacles::obstacles;

/// Findings of one kind that messages name one by one.
const MAX_NAMED: usize = 5;
/// Chains whose policy decides on packets to and through this host.
const JUDGING_CHAINS: [&str; 2] = ["INPUT", "FORWARD"];
/// Targets of iptables that translate destinations.
const DESTINATION_TARGETS: [&str; 3] = ["DNAT", "REDIRECT", "NETMAP"];

/// Where our rules are when no iptables program shows them.
const NFTABLES: &str = "nftables";

/// Uplinks by name, as the status tells of them.
pub type Uplinks = BTreeMap<String, UplinkStatus>;

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
    /// The uplink of whose addresses one is its destination.
    pub uplink: Option<String>,
}

/// A socket on an address of an uplink, or that an uplink without the guard reaches.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Listener {
    /// The uplink whose address it is; absent: it listens on all addresses.
    pub uplink: Option<String>,
    /// Its protocol.
    pub protocol: Protocol,
    /// What it is bound to.
    pub address: SocketAddr,
    /// Uplinks without the guard from which it can be reached.
    pub open_to: BTreeSet<String>,
}

/// What is foreign and matters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Survey {
    /// Destination translations of others.
    pub translations: Vec<ForeignTranslation>,
    /// Base chains of others that translate destinations with nftables itself.
    pub native_translations: Vec<NativeChain>,
    /// Built-in chains that drop what no rule accepts.
    pub dropping_policies: Vec<ForeignChain>,
    /// Base chains of others that drop what comes to or goes through this host and that they do not
    /// accept.
    pub native_drops: Vec<NativeChain>,
    /// Listeners that uplinks can reach, or could without the guard.
    pub listeners: BTreeSet<Listener>,
    /// What could not be looked into, and why.
    pub unreadable: Vec<String>,
    /// `iptables-nft`, `iptables-legacy` or `nftables`: where our rules are.
    pub serving: BTreeSet<String>,
}

/// Looks around in the calling thread's network namespace. Our rules are, or will be, in
/// `flavour`; those of `Auto` are where they are found, and those of `None` in a table of
/// nftables. A part that cannot be read is named in the result.
pub fn survey(
    flavour: Option<IptablesFlavour>,
    settings: XtablesSettings,
    uplinks: &Uplinks,
) -> Survey {
    let mut found = Survey::default();
    found.serving.extend(flavour.is_none().then(|| NFTABLES.to_owned()));
    let saved = saved_tables(settings);
    let nft_is_read = is_nft_read(&saved);
    for (read, tables) in saved {
        match tables {
            Ok(tables) => {
                let ours = tables.values().any(|saved| !saved.ours.is_empty());
                if flavour.is_some_and(|flavour| ours || flavour == read.into()) {
                    found.serving.insert(program(read));
                }
                for (family, saved) in &tables {
                    found.look_into(read, *family, saved, uplinks);
                }
            }
            Err(error) => found.unreadable.push(error.to_string()),
        }
    }
    match native::base_chains(!nft_is_read) {
        Ok(chains) => found.look_into_native(chains),
        Err(error) => found.unreadable.push(format!("chains of nftables: {error}")),
    }
    match sockets::listening() {
        Ok(sockets) => {
            let of_uplinks = |(protocol, address)| listener(protocol, address, uplinks);
            found.listeners = sockets.into_iter().filter_map(of_uplinks).collect();
        }
        Err(error) => found.unreadable.push(format!("listening sockets: {error}")),
    }
    found
}

type TablesByFamily = BTreeMap<Family, SavedTables>;

/// What each flavour holds, or why it cannot be read. One without programs was not used by anybody.
fn saved_tables(settings: XtablesSettings) -> Vec<(Flavour, Result<TablesByFamily, OpError>)> {
    let read = |flavour: Flavour| {
        let mut xtables = Xtables::detect(flavour.into(), settings).ok()?;
        Some((flavour, xtables.read()))
    };
    Flavour::ALL.into_iter().filter_map(read).collect()
}

/// Whether iptables-nft was read, so that its chains need not be told once more as native ones.
fn is_nft_read<T, E>(read: &[(Flavour, Result<T, E>)]) -> bool {
    read.iter().any(|(flavour, tables)| *flavour == Flavour::Nft && tables.is_ok())
}

fn program(flavour: Flavour) -> String {
    format!("iptables-{flavour}")
}

/// The socket, if it is on an address of an uplink or an uplink without the guard reaches it.
fn listener(protocol: Protocol, address: SocketAddr, uplinks: &Uplinks) -> Option<Listener> {
    let of = |uplink: &UplinkStatus| uplink.addresses.contains(&address.ip());
    let uplink = uplinks.iter().find(|(_, uplink)| of(uplink)).map(|(name, _)| name.clone());
    if uplink.is_none() && !address.ip().is_unspecified() {
        return None;
    }
    // Linux takes what is for any of its addresses on every interface.
    let open = uplinks.iter().filter(|(_, uplink)| !uplink.guarded);
    let open_to: BTreeSet<String> = open.map(|(name, _)| name.clone()).collect();
    (uplink.is_some() || !open_to.is_empty()).then_some(Listener {
        uplink,
        protocol,
        address,
        open_to,
    })
}

impl Survey {
    fn look_into(
        &mut self,
        flavour: Flavour,
        family: Family,
        saved: &SavedTables,
        uplinks: &Uplinks,
    ) {
        let at = |table: &str, chain: &str| ForeignChain {
            program: program(flavour),
            family,
            table: table.to_owned(),
            chain: chain.to_owned(),
        };
        let nothing = ForeignTable::default();
        let table = |name| saved.foreign.get(name).unwrap_or(&nothing);
        let policies = &table("filter").policies;
        let drops = |chain: &&str| policies.get(*chain).is_some_and(|p| p == "DROP");
        let dropping = JUDGING_CHAINS.into_iter().filter(drops);
        self.dropping_policies.extend(dropping.map(|chain| at("filter", chain)));
        let nat = table("nat");
        for (chain, rules) in nat.builtin_rules.iter().chain(&nat.chains) {
            let translates =
                |rule: &&String| target_of(rule).is_some_and(|t| DESTINATION_TARGETS.contains(&t));
            self.translations.extend(rules.iter().filter(translates).map(|rule| {
                let uplink = uplink_of(rule, uplinks);
                ForeignTranslation { chain: at("nat", chain), rule: rule.clone(), uplink }
            }));
        }
        self.unreadable.extend(
            saved.unreadable.iter().map(|t| format!("table {t} ({}, {family})", program(flavour))),
        );
    }

    fn look_into_native(&mut self, chains: Vec<NativeChain>) {
        for chain in chains {
            match chain.hook {
                Hook::Prerouting | Hook::Output if chain.translates => {
                    self.native_translations.push(chain);
                }
                Hook::Input | Hook::Forward if chain.drops => self.native_drops.push(chain),
                _ => {}
            }
        }
    }
}

impl std::fmt::Display for ForeignChain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{} ({}, {})", self.table, self.chain, self.program, self.family)
    }
}

/// The word after an option; words in quotes are comments, which may say anything.
fn word_after<'a>(rule: &'a str, option: &str) -> Option<&'a str> {
    rule.split('"').step_by(2).find_map(|part| {
        let mut words = part.split_ascii_whitespace();
        words.by_ref().find(|word| *word == option)?;
        words.next()
    })
}

/// What a rule does with a packet that it matches.
fn target_of(rule: &str) -> Option<&str> {
    word_after(rule, "-j")
}

/// The uplink of whose addresses one is the rule's destination.
fn uplink_of(rule: &str, uplinks: &Uplinks) -> Option<String> {
    let destination = word_after(rule, "-d").filter(|_| !rule.contains("! -d "))?;
    let net = destination
        .parse::<IpNet>()
        .or_else(|_| destination.parse::<IpAddr>().map(IpNet::from))
        .ok()?;
    let meant = |uplink: &UplinkStatus| uplink.addresses.iter().any(|a| net.contains(a));
    uplinks.iter().find(|(_, uplink)| meant(uplink)).map(|(name, _)| name.clone())
}

#[cfg(test)]
mod tests;

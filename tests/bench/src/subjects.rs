//! What is measured side by side.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use smartnat_core::model::Backend;

use crate::cluster;

/// What carries the traffic from the client to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Carrier {
    /// The host forwards, without a rule of netfilter.
    Forwarding,
    /// `SmartNat` on nftables.
    Nftables,
    /// `SmartNat` on iptables.
    Iptables,
    /// A rule for each Mapping in one chain, written with `iptables-restore`.
    Flat,
}

impl Carrier {
    /// The backend, where it is `SmartNat`.
    pub(crate) fn backend(self) -> Option<Backend> {
        match self {
            Self::Nftables => Some(Backend::Nftables),
            Self::Iptables => Some(Backend::Iptables),
            Self::Forwarding | Self::Flat => None,
        }
    }

    /// Where a client finds the Mapping of this number.
    pub(crate) fn target(self, number: u32) -> SocketAddr {
        match self {
            Self::Forwarding => cluster::endpoints(number)[0],
            Self::Nftables | Self::Iptables | Self::Flat => cluster::external(number),
        }
    }
}

/// Which Mapping is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    /// The one that was created last.
    Last,
    /// The one in the middle.
    Middle,
}

/// One line of the tables.
#[derive(Debug)]
pub(crate) struct Subject {
    /// Its name in the results.
    pub key: &'static str,
    /// Its name for people.
    pub name: &'static str,
    /// What carries the traffic.
    pub carrier: Carrier,
    /// Which Mapping is asked for.
    pub probe: Probe,
}

/// All of them, in the order of the tables.
pub(crate) const SUBJECTS: [Subject; 5] = [
    Subject {
        key: "forwarding",
        name: "forwarding without NAT",
        carrier: Carrier::Forwarding,
        probe: Probe::Last,
    },
    Subject {
        key: "nftables",
        name: "SmartNat, nftables",
        carrier: Carrier::Nftables,
        probe: Probe::Last,
    },
    Subject {
        key: "iptables",
        name: "SmartNat, iptables",
        carrier: Carrier::Iptables,
        probe: Probe::Last,
    },
    Subject {
        key: "flat-middle",
        name: "a rule for each Mapping, the middle one",
        carrier: Carrier::Flat,
        probe: Probe::Middle,
    },
    Subject {
        key: "flat-last",
        name: "a rule for each Mapping, the last one",
        carrier: Carrier::Flat,
        probe: Probe::Last,
    },
];

/// The subject that all are compared with.
pub(crate) const BASELINE: &str = "forwarding";

impl Subject {
    /// The subject of this name in the results.
    pub(crate) fn find(key: &str) -> Option<&'static Self> {
        SUBJECTS.iter().find(|subject| subject.key == key)
    }

    /// Its place in the list, by which it has the same colour in all plots.
    pub(crate) fn place(key: &str) -> usize {
        SUBJECTS.iter().position(|subject| subject.key == key).unwrap_or(SUBJECTS.len())
    }

    /// Where a client connects to, among so many Mappings.
    pub(crate) fn target(&self, size: u32) -> SocketAddr {
        self.carrier.target(match self.probe {
            Probe::Last => size - 1,
            Probe::Middle => size / 2,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subject_is_found_and_asks_for_a_mapping_that_is_there() {
        for subject in &SUBJECTS {
            assert_eq!(Subject::find(subject.key).map(|s| s.name), Some(subject.name));
            for size in [1, 2, 100] {
                let mut ends =
                    (0..size).flat_map(|n| [cluster::external(n), cluster::endpoints(n)[0]]);
                assert!(ends.any(|end| end == subject.target(size)), "{}", subject.key);
            }
        }
        assert!(Subject::find(BASELINE).is_some_and(|s| s.carrier == Carrier::Forwarding));
    }
}

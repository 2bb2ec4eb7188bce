//! What carries the dataplane in a test.

use smartnat_core::model::{Backend, IptablesFlavour};
use smartnat_sim::kernel::XtFlavour;

/// The objects of netfilter that carry the dataplane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruleset {
    /// One table of nftables.
    Nftables,
    /// iptables on `nf_tables`, and ipset.
    IptablesNft,
    /// iptables on `x_tables`, and ipset.
    IptablesLegacy,
}

impl Ruleset {
    /// The setting.
    pub fn backend(self) -> Backend {
        match self {
            Self::Nftables => Backend::Nftables,
            Self::IptablesNft | Self::IptablesLegacy => Backend::Iptables,
        }
    }

    /// The programs of others on the host, and ours where they carry the dataplane.
    pub fn flavour(self) -> IptablesFlavour {
        match self {
            Self::Nftables | Self::IptablesNft => IptablesFlavour::Nft,
            Self::IptablesLegacy => IptablesFlavour::Legacy,
        }
    }

    /// The same of a simulated kernel.
    pub fn simulated_flavour(self) -> XtFlavour {
        match self {
            Self::Nftables | Self::IptablesNft => XtFlavour::Nft,
            Self::IptablesLegacy => XtFlavour::Legacy,
        }
    }
}

//! The counters of the Linux kernel.

use smartnat_core::marks::MarkLayout;
use smartnat_core::model::IptablesFlavour;
use smartnat_core::objects::{FlowFilter, XtTable};
use smartnat_core::ops::{OpError, OpErrorClass};
use smartnat_linux::{ConntrackClient, RuleCounter, Xtables, XtablesSettings};

use super::{RuleCounts, TrafficSource};

/// Connections that are looked at; each takes some 50 bytes between two scrapes.
const MAX_FLOWS: usize = 1 << 18;
/// Chains of Mappings, as [`smartnat_core::names::mapping_chain`] names them.
pub(super) const MAPPING_CHAINS: &str = "SMARTNAT-M-";
/// Whether the kernel counts what connections carry.
const ACCOUNTING: &str = "/proc/sys/net/netfilter/nf_conntrack_acct";

/// Reads rules and connections in the network namespace of the calling thread.
#[derive(Clone, Debug)]
pub struct KernelTraffic {
    flavour: Option<IptablesFlavour>,
    settings: XtablesSettings,
    translated: FlowFilter,
}

impl KernelTraffic {
    /// Of the flavour that is in use, which is never `Auto`: its detection reads all tables. With
    /// nftables there is none, and first packets of Mappings are not counted.
    pub fn new(
        flavour: Option<IptablesFlavour>,
        settings: XtablesSettings,
        mark_mask: u32,
    ) -> Self {
        let marks = MarkLayout::new(mark_mask);
        let translated = FlowFilter { mark: marks.ours, mask: marks.ours | marks.egress };
        Self { flavour, settings, translated }
    }

    fn rules(&self, flavour: IptablesFlavour) -> Result<Vec<RuleCounter>, OpError> {
        let mut xtables = Xtables::detect(flavour, self.settings)
            .map_err(|error| OpError::new(OpErrorClass::NotFound, "iptables", error))?;
        xtables.rule_counters(XtTable::Nat, MAPPING_CHAINS)
    }
}

impl TrafficSource for KernelTraffic {
    fn read(&mut self) -> Result<RuleCounts, OpError> {
        let rules = self.flavour.map_or_else(|| Ok(Vec::new()), |flavour| self.rules(flavour))?;
        let counts = std::fs::read_to_string(ACCOUNTING).is_ok_and(|text| text.trim() == "1");
        let flows = if counts {
            Some(ConntrackClient::open()?.counters(&self.translated, MAX_FLOWS)?)
        } else {
            None
        };
        Ok(RuleCounts { rules, flows })
    }
}

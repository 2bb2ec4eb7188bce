//! The counters of the Linux kernel.

use smartnat_core::lower::counted;
use smartnat_core::marks::MarkLayout;
use smartnat_core::model::{Family, IptablesFlavour};
use smartnat_core::objects::{FlowFilter, XtTable};
use smartnat_core::ops::{OpError, OpErrorClass};
use smartnat_linux::{ConntrackClient, NftClient, RuleCounter, Xtables, XtablesSettings};

use super::endpoints::{EndpointCounter, joined};
use super::{RuleCounts, TrafficSource};

/// Connections that are looked at; each takes some 50 bytes between two scrapes.
const MAX_FLOWS: usize = 1 << 18;
/// Chains of Mappings, as [`smartnat_core::names::mapping_chain`] names them.
pub(super) const MAPPING_CHAINS: &str = "SMARTNAT-M-";
/// Whether the kernel counts what connections carry.
const ACCOUNTING: &str = "/proc/sys/net/netfilter/nf_conntrack_acct";

/// Reads rules or elements, and connections, in the network namespace of the calling thread.
#[derive(Debug)]
pub struct KernelTraffic {
    flavour: Option<IptablesFlavour>,
    settings: XtablesSettings,
    translated: FlowFilter,
    /// Kept open: closing one waits for readers of the tables to end.
    client: Option<NftClient>,
}

impl KernelTraffic {
    /// Of the flavour that is in use, which is never `Auto`: its detection reads all tables; none
    /// where nftables carries the dataplane.
    pub fn new(
        flavour: Option<IptablesFlavour>,
        settings: XtablesSettings,
        mark_mask: u32,
    ) -> Self {
        let marks = MarkLayout::new(mark_mask);
        let translated = FlowFilter { mark: marks.ours, mask: marks.ours | marks.egress };
        Self { flavour, settings, translated, client: None }
    }

    fn rules(&self, flavour: IptablesFlavour) -> Result<Vec<RuleCounter>, OpError> {
        let mut xtables = Xtables::detect(flavour, self.settings)
            .map_err(|error| OpError::new(OpErrorClass::NotFound, "iptables", error))?;
        xtables.rule_counters(XtTable::Nat, MAPPING_CHAINS)
    }

    fn endpoints(&mut self) -> Result<Vec<EndpointCounter>, OpError> {
        let mut client = self.client.take().map_or_else(NftClient::open, Ok)?;
        let mut endpoints = Vec::new();
        for family in Family::ALL {
            // In this order none is permitted that has not arrived.
            let permitted = client.counters(&counted::permitted(family))?;
            let arrivals = client.counters(&counted::arrivals(family))?;
            endpoints.extend(joined(family, arrivals, permitted));
        }
        self.client = Some(client);
        Ok(endpoints)
    }
}

impl TrafficSource for KernelTraffic {
    fn read(&mut self) -> Result<RuleCounts, OpError> {
        let (rules, endpoints) = match self.flavour {
            Some(flavour) => (self.rules(flavour)?, Vec::new()),
            None => (Vec::new(), self.endpoints()?),
        };
        let counts = std::fs::read_to_string(ACCOUNTING).is_ok_and(|text| text.trim() == "1");
        let flows = if counts {
            Some(ConntrackClient::open()?.counters(&self.translated, MAX_FLOWS)?)
        } else {
            None
        };
        Ok(RuleCounts { rules, endpoints, flows })
    }
}

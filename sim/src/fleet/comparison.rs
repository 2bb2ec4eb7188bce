//! Whether a fleet with a past is as one without.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use smartnat_core::compile::sysctl_scope;
use smartnat_core::coordination::{MappingRecord, StatusCondition, Truth, Write};
use smartnat_core::marks::MarkLayout;
use smartnat_core::model::{Backend, ObjectKey};
use smartnat_core::objects::{KernelState, ObservationScope};
use smartnat_core::ops::Kernel as _;

use super::{Fleet, Host, UPLINK, gateway_config};

/// Conditions without their dates: type, truth, reason, message, and whether they are about the
/// current generation.
pub type Conditions = BTreeSet<(String, Truth, String, String, bool)>;

/// All that a history may not leave a trace in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picture {
    /// What is said of each Mapping.
    pub mappings: BTreeMap<ObjectKey, MappingPicture>,
    /// What the kernel of each running instance holds.
    pub kernels: BTreeMap<String, KernelState>,
}

/// What is said of a Mapping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MappingPicture {
    /// It is being deleted.
    pub deleting: bool,
    /// `metadata.finalizers` of an accepted Mapping. One that was not always accepted may have ours.
    pub finalizers: Vec<String>,
    /// `status.invalid`.
    pub invalid: Option<String>,
    /// `status.configuredAddresses`.
    pub configured: BTreeMap<IpAddr, Vec<IpAddr>>,
    /// `status.observedGeneration` is the current one.
    pub observed: bool,
    /// `status.endpoints`.
    pub endpoints: Option<i64>,
    /// `status.conditions`.
    pub conditions: Conditions,
    /// `status.addresses`, by address and instance.
    pub entries: BTreeMap<(IpAddr, String), Conditions>,
}

impl MappingPicture {
    fn of(record: &MappingRecord) -> Self {
        let said = |c: &StatusCondition| {
            let current = c.generation == record.generation;
            (c.kind.clone(), c.truth, c.reason.clone(), c.message.clone(), current)
        };
        let entries = record
            .entries
            .iter()
            .map(|e| ((e.address, e.instance.clone()), e.conditions.iter().map(said).collect()));
        let summary = &record.summary;
        let accepted = summary.invalid.as_deref() == Some("no");
        Self {
            deleting: record.deleting,
            finalizers: if accepted { record.finalizers.clone() } else { Vec::new() },
            invalid: summary.invalid.clone(),
            configured: summary.configured_addresses.clone(),
            observed: summary.observed_generation == Some(record.generation),
            endpoints: summary.endpoints,
            conditions: summary.conditions.iter().map(said).collect(),
            entries: entries.collect(),
        }
    }
}

impl Fleet {
    /// What there is to be seen.
    pub fn picture(&self) -> Picture {
        let mappings = self.server.mappings();
        let running = self.hosts.iter().filter(|(_, host)| host.process.is_some());
        Picture {
            mappings: mappings.map(|m| (m.key().clone(), MappingPicture::of(&m.record))).collect(),
            kernels: running.map(|(name, host)| (name.clone(), host.held(self.backend))).collect(),
        }
    }

    /// The hosts whose program runs, as if all began now with the objects that there are.
    pub fn afresh(&self) -> Self {
        let mut fresh = Self::new(self.times, self.backend);
        for object in self.server.cluster() {
            fresh.put(object);
        }
        for (name, host) in self.hosts.iter().filter(|(_, host)| host.process.is_some()) {
            fresh.add_host(name, &host.instance, &host.address_texts(), 0);
            fresh.start(name, &BTreeMap::new());
        }
        fresh
    }

    /// Lets time pass until nothing but Leases was written for `quiet` ms and every gateway is in
    /// sync, but no longer than `most`; whether it came to that.
    pub fn settle(&mut self, quiet: u64, most: u64) -> bool {
        let end = self.now + most;
        loop {
            let before = self.sent.len();
            self.advance(quiet);
            let news = self.sent[before..].iter();
            let calm = news.filter(|s| !matches!(s.write, Write::Lease { .. })).count() == 0;
            let in_sync = self.hosts.values().filter_map(|h| h.process.as_ref());
            let in_sync =
                in_sync.into_iter().all(|p| p.report.as_ref().is_some_and(|report| report.in_sync));
            if calm && in_sync {
                return true;
            }
            if self.now >= end {
                return false;
            }
        }
    }
}

impl Host {
    /// Everything of ours in its kernel, but for what tells when it began.
    fn held(&self, backend: Backend) -> KernelState {
        let config = gateway_config(&self.instance, backend);
        let scope = ObservationScope {
            table_base: config.table_base,
            table_count: MarkLayout::new(config.mark_mask).max_uplinks(),
            rule_priority: config.rule_priority,
            sysctls: sysctl_scope(&self.kernel.host(), &config),
            netfilter: smartnat_core::objects::Netfilter::All,
        };
        let mut reader = self.kernel.clone();
        reader.recover();
        reader.clear_faults();
        let mut state = reader.observe(&scope).unwrap_or_default();
        state.xtables.retain(|_, table| !table.is_empty());
        state
    }

    fn address_texts(&self) -> Vec<String> {
        let uplink = self.kernel.links().get(UPLINK);
        uplink.into_iter().flat_map(|l| &l.addresses).map(|a| a.address.to_string()).collect()
    }
}

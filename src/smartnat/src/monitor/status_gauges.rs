//! What follows from the latest status and the kernel's own figures, worked out at each scrape.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use smartnat_core::status::StatusReport;

use super::Health;

const CONNTRACK: &str = "/proc/sys/net/netfilter";

/// Gauges that nobody has to keep up to date.
#[derive(Debug)]
pub(super) struct StatusGauges {
    health: Arc<Health>,
}

impl StatusGauges {
    pub(super) fn new(health: Arc<Health>) -> Self {
        Self { health }
    }
}

impl Collector for StatusGauges {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(encoder);
        let ready = self.health.why_not_ready(Instant::now()).is_empty();
        out.gauge("ready", "1 where /readyz answers 200", u64::from(ready))?;
        let report = self.health.report().unwrap_or_default();
        out.gauge(
            "in_sync",
            "1 where the kernel was read back and holds what is wanted, and nothing is degraded",
            u64::from(report.in_sync),
        )?;
        out.status(&report)?;
        out.connections()
    }
}

struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let gauge = ConstGauge::new(value);
        gauge.encode(self.0.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }

    fn status(&mut self, report: &StatusReport) -> fmt::Result {
        self.mappings(report)?;
        let ports = || report.mappings.values().flat_map(|mapping| &mapping.ports);
        let endpoints: BTreeSet<&String> =
            ports().flat_map(|port| port.endpoints.values()).flatten().collect();
        self.gauge(
            "endpoints",
            "Endpoints (address and port) that get new connections through this instance",
            count(endpoints.len()),
        )?;
        self.gauge(
            "ports_waiting",
            "Ports of accepted Mappings without a Service port or endpoint",
            count(ports().filter(|port| port.waiting.is_some()).count()),
        )?;
        self.gauge("uplinks", "Uplinks in use", count(report.uplinks.len()))?;
        let addresses = report.uplinks.values().map(|uplink| uplink.addresses.len()).sum();
        self.gauge("external_addresses", "External addresses on uplinks", count(addresses))?;
        self.gauge(
            "degraded_reasons",
            "What keeps this instance from being in sync; the log names each",
            count(report.degraded.len()),
        )
    }

    fn mappings(&mut self, report: &StatusReport) -> fmt::Result {
        let mut counts: BTreeMap<(&str, bool, &str), u64> = BTreeMap::new();
        for condition in report.mappings.values().flat_map(|mapping| &mapping.conditions) {
            let key = (&*condition.kind, condition.status, &*condition.reason);
            *counts.entry(key).or_default() += 1;
        }
        let mut family = self.0.encode_descriptor(
            "mappings",
            "Mappings by condition (Accepted, Programmed), its status and its reason, as this \
             instance sees them",
            None,
            MetricType::Gauge,
        )?;
        for ((kind, status, reason), number) in counts {
            let status = if status { "True" } else { "False" };
            let labels = [("condition", kind), ("status", status), ("reason", reason)];
            ConstGauge::new(number).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// Figures of the network namespace that the calling thread is in.
    fn connections(&mut self) -> fmt::Result {
        let help = "Connections that the kernel tracks in this network namespace, others' included";
        if let Some(number) = read("nf_conntrack_count") {
            self.gauge("conntrack_entries", help, number)?;
        }
        let help = "Connections that the kernel will track at most; beyond that it drops new ones";
        if let Some(limit) = read("nf_conntrack_max") {
            self.gauge("conntrack_entries_limit", help, limit)?;
        }
        Ok(())
    }
}

/// `None` where the kernel tracks no connections yet.
fn read(name: &str) -> Option<u64> {
    std::fs::read_to_string(format!("{CONNTRACK}/{name}")).ok()?.trim().parse().ok()
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

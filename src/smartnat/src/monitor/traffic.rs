//! What each Mapping has carried, from counters that the kernel keeps anyway.

mod endpoints;
mod kernel;
mod ports;

#[cfg(test)]
mod tests;

pub use endpoints::EndpointCounter;
pub use kernel::KernelTraffic;

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::registry::Unit;
use smartnat_core::lower::counted::Lot;
use smartnat_core::model::ObjectKey;
use smartnat_core::names::{fixed_chain, mapping_chain};
use smartnat_core::objects::CHAIN_PREFIX;
use smartnat_core::ops::OpError;
use smartnat_core::status::StatusReport;
use smartnat_linux::{FlowCount, FlowCounters, RuleCounter};

use super::lock;
use endpoints::{Endpoint, Last};
use ports::Ports;

/// What the kernel has counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleCounts {
    /// Rules of the nat table of iptables, which only the first packet of a connection meets.
    pub rules: Vec<RuleCounter>,
    /// Likewise with nftables, by external endpoint.
    pub endpoints: Vec<EndpointCounter>,
    /// Connections of Mappings; `None` where the kernel does not count what they carry.
    pub flows: Option<Vec<FlowCounters>>,
}

/// Where counters come from. Reading blocks.
pub trait TrafficSource: Send + 'static {
    /// What the kernel has counted by now.
    fn read(&mut self) -> Result<RuleCounts, OpError>;
}

/// What became of the first packet of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Translated,
    Refused,
    NobodyHome,
}

impl Verdict {
    const ALL: [Self; 3] = [Self::Translated, Self::Refused, Self::NobodyHome];

    fn label(self) -> &'static str {
        match self {
            Self::Translated => "translated",
            Self::Refused => "refused",
            Self::NobodyHome => "nobody_home",
        }
    }

    /// By the chain that a rule of a Mapping's chain goes to.
    fn of(target: &str) -> Option<Self> {
        if target == fixed_chain("REFUSE").0 {
            Some(Self::Refused)
        } else if target == fixed_chain("NOBODY-HOME").0 {
            Some(Self::NobodyHome)
        } else {
            let kind = target.strip_prefix(CHAIN_PREFIX)?;
            kind.starts_with("P-").then_some(Self::Translated)
        }
    }
}

/// What one Mapping has carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Carried {
    first_packets: [u64; 3],
    from_clients: FlowCount,
    to_clients: FlowCount,
}

/// Sums by Mapping that only grow, although a rule that is rewritten counts from 0 and a
/// connection that ends takes its counters along.
#[derive(Debug, Default)]
pub struct Traffic(Mutex<Sums>);

#[derive(Debug, Default)]
struct Sums {
    mappings: BTreeMap<ObjectKey, Carried>,
    /// Last values by a digest of their rule: the texts would take many times the space.
    rules: BTreeMap<u64, u64>,
    endpoints: BTreeMap<Endpoint, Last>,
    /// Last values by a digest of their connection; `None` before the first reading.
    flows: Option<BTreeMap<u64, [FlowCount; 2]>>,
}

impl Traffic {
    /// Adds what was counted since the last time.
    pub(super) fn add(&self, counts: &RuleCounts, report: &StatusReport) {
        let mut sums = lock(&self.0);
        sums.mappings.retain(|key, _| report.mappings.contains_key(key));
        for key in served(report) {
            sums.mappings.entry(key.clone()).or_default();
        }
        sums.add_rules(&counts.rules, report);
        let ports = Ports::of(report);
        sums.add_endpoints(&counts.endpoints, &ports);
        match &counts.flows {
            Some(flows) => sums.add_flows(flows, &ports),
            None => sums.flows = None,
        }
    }
}

/// Mappings of which this instance holds an address.
fn served(report: &StatusReport) -> impl Iterator<Item = &ObjectKey> {
    let held = report.mappings.iter().filter(|(_, m)| !m.configured_addresses.is_empty());
    held.map(|(key, _)| key)
}

impl Sums {
    fn add_rules(&mut self, rules: &[RuleCounter], report: &StatusReport) {
        let chains: BTreeMap<String, &ObjectKey> =
            served(report).map(|key| (mapping_chain(key).0, key)).collect();
        let mut values = BTreeMap::new();
        for rule in rules {
            let Some(key) = chains.get(&rule.chain) else { continue };
            let Some(verdict) = rule.target().and_then(Verdict::of) else { continue };
            let digest = digest(&(rule.family, &rule.chain, &rule.rule));
            let last = self.rules.get(&digest).copied().unwrap_or_default();
            // A smaller value: the rule was written anew since.
            let more = rule.packets.checked_sub(last).unwrap_or(rule.packets);
            let carried = self.mappings.entry((*key).clone()).or_default();
            let sum = &mut carried.first_packets[verdict as usize];
            *sum = sum.saturating_add(more);
            values.insert(digest, rule.packets);
        }
        self.rules = values;
    }

    fn add_endpoints(&mut self, counters: &[EndpointCounter], ports: &Ports<'_>) {
        let mut before = std::mem::take(&mut self.endpoints);
        for counter in counters {
            let (address, protocol, port) = counter.endpoint;
            let Some(key) = ports.at(address, protocol, port) else { continue };
            let mut last = before.remove(&counter.endpoint).unwrap_or_default();
            let more = last.follow(counter);
            self.endpoints.insert(counter.endpoint, last);
            let verdict = match counter.lot {
                Lot::NobodyHome => Verdict::NobodyHome,
                Lot::GoesOn | Lot::Refused => Verdict::Translated,
            };
            let sums = &mut self.mappings.entry(key.clone()).or_default().first_packets;
            for (verdict, number) in [(verdict, more.allowed), (Verdict::Refused, more.refused)] {
                let sum = &mut sums[verdict as usize];
                *sum = sum.saturating_add(number);
            }
        }
    }

    /// What connections carried before the first reading is not counted.
    fn add_flows(&mut self, flows: &[FlowCounters], ports: &Ports<'_>) {
        let last = self.flows.take();
        let mut values = BTreeMap::new();
        for FlowCounters { flow, original, reply } in flows {
            let digest = digest(&flow.key);
            values.insert(digest, [*original, *reply]);
            let Some(last) = &last else { continue };
            let Some(key) = ports.owner(&flow.key.original) else { continue };
            let [before, before_reply] = last.get(&digest).copied().unwrap_or_default();
            let carried = self.mappings.entry(key.clone()).or_default();
            grow(&mut carried.from_clients, *original, before);
            grow(&mut carried.to_clients, *reply, before_reply);
        }
        self.flows = Some(values);
    }
}

fn grow(sum: &mut FlowCount, now: FlowCount, before: FlowCount) {
    sum.packets = sum.packets.saturating_add(now.packets.saturating_sub(before.packets));
    sum.bytes = sum.bytes.saturating_add(now.bytes.saturating_sub(before.bytes));
}

fn digest(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

const NEW_CONNECTIONS: &str = "First packets of connections by Mapping: translated to an endpoint \
    (one a connection), refused by allowedSources or met by nobody home (one a packet, since none \
    opens a connection). From counters of rules or elements; what one counted between the last \
    scrape and its rewriting is lost";
const PACKETS: &str = "Packets of connections by Mapping, in from clients and out to them; egress is \
    left out. From \
    connection tracking, and only where net.netfilter.nf_conntrack_acct is 1; what a connection \
    carried between the last scrape and its end is lost";
const BYTES: &str = "Bytes of these packets, with their IP headers";

impl Collector for Traffic {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut encoder = encoder;
        let sums = lock(&self.0);
        if sums.mappings.is_empty() {
            return Ok(());
        }
        let named: Vec<(String, &Carried)> =
            sums.mappings.iter().map(|(key, carried)| (key.to_string(), carried)).collect();
        let mut family = encoder.encode_descriptor(
            "mapping_new_connections",
            NEW_CONNECTIONS,
            None,
            MetricType::Counter,
        )?;
        for (mapping, carried) in &named {
            for verdict in Verdict::ALL {
                let number = carried.first_packets[verdict as usize];
                // Of most Mappings nobody is ever refused; a series that says so is a waste.
                if number > 0 || verdict == Verdict::Translated {
                    let labels = [("mapping", mapping.as_str()), ("verdict", verdict.label())];
                    ConstCounter::new(number).encode(family.encode_family(&labels)?)?;
                }
            }
        }
        if sums.flows.is_none() {
            return Ok(());
        }
        let packets = |count: FlowCount| count.packets;
        carried_by(&mut encoder, "mapping_packets", PACKETS, None, &named, packets)?;
        let bytes = |count: FlowCount| count.bytes;
        carried_by(&mut encoder, "mapping_traffic", BYTES, Some(&Unit::Bytes), &named, bytes)
    }
}

fn carried_by(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    named: &[(String, &Carried)],
    value: impl Fn(FlowCount) -> u64,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, unit, MetricType::Counter)?;
    for (mapping, carried) in named {
        for (direction, count) in [("in", carried.from_clients), ("out", carried.to_clients)] {
            let labels = [("mapping", mapping.as_str()), ("direction", direction)];
            ConstCounter::new(value(count)).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

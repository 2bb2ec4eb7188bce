//! The leader's fields of a status, and the events that go with their changes.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::finalizers::is_going;
use super::io::{ClusterEvent, Subject, Write};
use super::peers::Life;
use super::records::{MappingRecord, StatusCondition, Summary, Truth, condition, date, shortened};
use super::{Coordinator, PENDING_MILLIS};
use crate::model::{Family, ObjectKey};
use crate::status::{MappingStatus, reason};

/// What all instances together say.
struct Verdict {
    truth: Truth,
    reason: &'static str,
    message: String,
}

impl Verdict {
    fn new(truth: Truth, reason: &'static str, message: impl Into<String>) -> Self {
        Self { truth, reason, message: message.into() }
    }
}

/// What one instance says of the generation at hand.
enum Says {
    Serves(String),
    Fails(String),
    Nothing,
}

impl Coordinator {
    /// The leader's write of the whole Mapping's fields, if it needs one.
    pub(super) fn plan_summary(
        &mut self,
        key: &ObjectKey,
        record: &MappingRecord,
    ) -> Option<Write> {
        if !self.leads() || is_going(record) {
            return None;
        }
        let status = self.status_of(key, record)?.clone();
        let verdict = match self.verdict(record, &status) {
            Some(verdict) => {
                self.pending_since.remove(key);
                verdict
            }
            None => self.pending(key, record)?,
        };
        let mut summary = self.summary(record, &status, verdict);
        if summary.says_the_same(&record.summary) {
            return None;
        }
        date(&mut summary.conditions, &record.summary.conditions);
        let (mapping, uid) = (key.clone(), record.uid.clone());
        Some(Write::Summary { mapping, uid, summary: Box::new(summary) })
    }

    /// What is said while an instance has not yet said anything of this generation, or not yet
    /// confirmed a removal: nothing at first, since that is soon over.
    fn pending(&mut self, key: &ObjectKey, record: &MappingRecord) -> Option<Verdict> {
        let since = *self.pending_since.entry(key.clone()).or_insert(self.now);
        if self.now < since.plus_millis(PENDING_MILLIS) {
            return None;
        }
        if record.deleting {
            let text =
                format!("being deleted; waiting for {}", self.unconfirmed(record).join(", "));
            return Some(Verdict::new(Truth::False, reason::PENDING, text));
        }
        let publishers = self.publishers(record);
        let live = publishers.iter().filter(|(_, life, _)| *life == Life::Live).map(|(n, ..)| *n);
        let silent: Vec<&str> =
            live.filter(|name| matches!(says(name, record), Says::Nothing)).collect();
        if silent.is_empty() {
            return Some(judge(&[], &BTreeSet::new(), &[]));
        }
        let text = format!("{} has not read it back yet", silent.join(", "));
        Some(Verdict::new(Truth::False, reason::PENDING, text))
    }

    fn summary(&self, record: &MappingRecord, status: &MappingStatus, verdict: Verdict) -> Summary {
        let new = |kind: &str, truth, reason: &str, message: String| StatusCondition {
            kind: kind.into(),
            truth,
            reason: reason.into(),
            message: shortened(message),
            generation: record.generation,
            since: self.now,
        };
        let accepted = status.conditions.iter().find(|c| c.kind == reason::ACCEPTED);
        let accepted = accepted
            .map(|c| new(reason::ACCEPTED, c.status.into(), &c.reason, c.message.to_string()));
        let programmed = new(reason::PROGRAMMED, verdict.truth, verdict.reason, verdict.message);
        let held: BTreeSet<IpAddr> = self
            .publishers(record)
            .into_iter()
            .filter(|(_, life, _)| *life != Life::Lost)
            .flat_map(|(.., addresses)| addresses)
            .collect();
        let pods = |a: &IpAddr| {
            status.pods.iter().copied().filter(|p| Family::of(p) == Family::of(a)).collect()
        };
        let is_valid = status.invalid == "no" && !record.deleting;
        let count = |f| status.pods.iter().filter(|p| Family::of(p) == f).count();
        let endpoints = Family::ALL.map(count).into_iter().max().unwrap_or_default();
        Summary {
            invalid: Some(shortened(status.invalid.clone())),
            service_vip: status.service_vip,
            configured_addresses: held.iter().filter(|_| is_valid).map(|a| (*a, pods(a))).collect(),
            observed_generation: Some(record.generation),
            endpoints: Some(i64::try_from(endpoints).unwrap_or(i64::MAX)),
            conditions: accepted.into_iter().chain([programmed]).collect(),
        }
    }

    /// Instances that publish an address of the Mapping, with those addresses.
    pub(super) fn publishers(&self, record: &MappingRecord) -> Vec<(&str, Life, BTreeSet<IpAddr>)> {
        self.peers
            .instances(self.config.max_finalize_millis)
            .map(|(name, life, all)| {
                (name, life, all.intersection(&record.addresses).copied().collect())
            })
            .filter(|(.., addresses): &(&str, Life, BTreeSet<IpAddr>)| !addresses.is_empty())
            .collect()
    }

    /// `Programmed` of the whole: some live instance serves it and none fails. `None` as long as
    /// a live instance has said nothing of this generation.
    fn verdict(&self, record: &MappingRecord, status: &MappingStatus) -> Option<Verdict> {
        if status.invalid != "no" {
            let text = "the Mapping was not accepted";
            return Some(Verdict::new(Truth::False, reason::NOT_ACCEPTED, text));
        }
        if record.deleting {
            return None;
        }
        let publishers = self.publishers(record);
        if publishers.is_empty() && self.is_arriving(record) {
            return None;
        }
        let (mut serving, mut texts, mut silent) = (Vec::new(), BTreeSet::new(), false);
        for (name, ..) in publishers.iter().filter(|(_, life, _)| *life == Life::Live) {
            match says(name, record) {
                Says::Fails(text) => {
                    let message = format!("{name}: {text}");
                    return Some(Verdict::new(Truth::False, reason::KERNEL_ERROR, message));
                }
                Says::Serves(text) => {
                    serving.push(*name);
                    texts.extend((!text.is_empty()).then_some(text));
                }
                Says::Nothing => silent = true,
            }
        }
        if silent {
            return None;
        }
        let lapsed: Vec<&str> = publishers
            .iter()
            .filter(|(_, life, _)| *life == Life::Lapsed)
            .map(|(name, ..)| *name)
            .collect();
        Some(judge(&serving, &texts, &lapsed))
    }

    /// This host holds an address of it that its Lease does not tell yet: soon somebody does have
    /// it, as always after the first start.
    fn is_arriving(&self, record: &MappingRecord) -> bool {
        let published = self.own_lease().map(|lease| &lease.addresses);
        let is_told = |a: &IpAddr| published.is_some_and(|published| published.contains(a));
        record.addresses.iter().any(|a| self.held.contains_key(a) && !is_told(a))
    }

    /// What a write changes, for whoever reads events.
    pub(super) fn events_of(&self, write: &Write) -> Vec<ClusterEvent> {
        let Write::Summary { mapping, uid, summary } = write else { return Vec::new() };
        let Some(record) = self.mappings.get(mapping) else { return Vec::new() };
        let news = summary.conditions.iter().filter(|new| {
            let said = |c: &StatusCondition| (c.truth, c.reason.clone(), c.message.clone());
            // The same under another generation need not be told again, nor what follows from
            // a rejection.
            condition(&record.summary.conditions, &new.kind).map(said) != Some(said(new))
                && new.reason != reason::NOT_ACCEPTED
        });
        news.map(|new| ClusterEvent {
            subject: Subject::Mapping(mapping.clone(), uid.clone()),
            warning: is_warning(new),
            reason: word(new),
            message: new.message.clone(),
        })
        .collect()
    }
}

fn is_warning(new: &StatusCondition) -> bool {
    let fails = new.truth != Truth::True && new.reason != reason::PENDING;
    fails || new.reason == reason::WAITING
}

/// What `name` says of all its addresses.
fn says(name: &str, record: &MappingRecord) -> Says {
    let entries = record.entries.iter().filter(|e| e.instance == name);
    let conditions = entries.filter_map(|e| condition(&e.conditions, reason::PROGRAMMED));
    let current: Vec<&StatusCondition> =
        conditions.filter(|c| c.generation == record.generation).collect();
    let Some(first) = current.first() else { return Says::Nothing };
    let failing = current.iter().find(|c| c.truth == Truth::False);
    match failing {
        Some(c) if c.reason == reason::PENDING => Says::Nothing,
        Some(c) => Says::Fails(c.message.clone()),
        None if current.iter().any(|c| c.truth == Truth::Unknown) => Says::Nothing,
        None if first.reason == reason::WAITING => Says::Serves(first.message.clone()),
        None => Says::Serves(String::new()),
    }
}

fn judge(serving: &[&str], texts: &BTreeSet<String>, lapsed: &[&str]) -> Verdict {
    let lost = if lapsed.is_empty() {
        String::new()
    } else {
        format!("; {} has not renewed its Lease", lapsed.join(", "))
    };
    match (serving, lapsed) {
        ([], []) => Verdict::new(
            Truth::False,
            reason::NO_INSTANCE,
            "no gateway holds an address of it on an uplink",
        ),
        ([], _) => Verdict::new(
            Truth::Unknown,
            reason::INSTANCE_LOST,
            format!("{} has not renewed its Lease", lapsed.join(", ")),
        ),
        _ if texts.is_empty() => Verdict::new(
            Truth::True,
            reason::SERVING,
            format!("served by {}{lost}", serving.join(", ")),
        ),
        _ => {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            Verdict::new(Truth::True, reason::WAITING, format!("{}{lost}", texts.join("; ")))
        }
    }
}

/// The one word of the event that tells of a condition.
fn word(condition: &StatusCondition) -> String {
    match (condition.kind.as_str(), condition.truth) {
        (reason::ACCEPTED, Truth::True) => reason::ACCEPTED.into(),
        (reason::PROGRAMMED, Truth::True) if condition.reason == reason::SERVING => {
            reason::PROGRAMMED.into()
        }
        _ => condition.reason.clone(),
    }
}

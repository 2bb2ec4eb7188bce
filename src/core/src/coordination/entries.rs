//! Entries of `status.addresses`: each instance its own, the leader those of lapsed ones.

use std::net::IpAddr;

use super::Coordinator;
use super::io::Write;
use super::peers::Life;
use super::records::{
    AddressEntry, MappingRecord, StatusCondition, Truth, condition, date, same_entries, shortened,
};
use crate::model::ObjectKey;
use crate::status::{Condition, reason};

impl Coordinator {
    /// The next write of entries that a Mapping needs.
    pub(super) fn plan_entries(&self, key: &ObjectKey, record: &MappingRecord) -> Option<Write> {
        let me = self.config.instance.clone();
        let own = self.own_lease().and_then(|_| self.own_entries(key, record));
        let own = own.and_then(|wanted| entries_write(key, record, me, wanted));
        own.or_else(|| if self.leads() { self.entries_of_others(key, record) } else { None })
    }

    /// What this instance has to say; `None` as long as it has not made up its mind.
    fn own_entries(&self, key: &ObjectKey, record: &MappingRecord) -> Option<Vec<AddressEntry>> {
        let status = self.status_of(key, record)?;
        let programmed = status.conditions.iter().find(|c| c.kind == reason::PROGRAMMED)?;
        // A removal that takes no longer than usual needs no word.
        let removed = status.released;
        if record.deleting && !removed && programmed.reason != reason::KERNEL_ERROR {
            return None;
        }
        let served: Vec<IpAddr> = if record.deleting {
            let published = self.published.iter().flatten();
            published.copied().filter(|a| record.addresses.contains(a)).collect()
        } else {
            status.configured_addresses.keys().copied().collect()
        };
        // The kernel may still serve what is no longer wanted.
        let read_back = self.report.as_ref().is_some_and(|r| r.read_back);
        let mut leaving = record
            .entries
            .iter()
            .filter(|e| self.is_me(&e.instance) && !served.contains(&e.address));
        if !read_back && leaving.next().is_some() {
            return None;
        }
        // Nothing of it is in the kernel, also where it was not accepted when it was deleted.
        let (truth, why, message) = if record.deleting && removed {
            let text = "it is being deleted and the kernel holds nothing of it";
            (Truth::False, reason::REMOVED.to_owned(), text.to_owned())
        } else {
            let Condition { status, reason, message, .. } = programmed;
            (Truth::from(*status), reason.to_string(), message.to_string())
        };
        let entry = |address: IpAddr| {
            let mut conditions = vec![StatusCondition {
                kind: reason::PROGRAMMED.into(),
                truth,
                reason: why.clone(),
                message: shortened(message.clone()),
                generation: record.generation,
                since: self.now,
            }];
            conditions.extend(self.shared(address, record.generation));
            AddressEntry { address, instance: self.config.instance.clone(), conditions }
        };
        Some(served.into_iter().map(entry).collect())
    }

    /// Says so when other live instances hold the address too.
    fn shared(&self, address: IpAddr, generation: i64) -> Option<StatusCondition> {
        let others: Vec<&str> = self.others_with(address).collect();
        (!others.is_empty()).then(|| StatusCondition {
            kind: reason::SHARED.into(),
            truth: Truth::True,
            reason: reason::HELD_BY_OTHERS.into(),
            message: shortened(format!("also held by {}", others.join(", "))),
            generation,
            since: self.now,
        })
    }

    /// What instances said that lapsed is not known any more; who is gone for good, or has no
    /// Lease, says nothing at all.
    fn entries_of_others(&self, key: &ObjectKey, record: &MappingRecord) -> Option<Write> {
        let patience = self.config.max_finalize_millis;
        let others = record.entries.iter().filter(|e| !self.is_me(&e.instance));
        let mut names: Vec<&str> = others.map(|e| e.instance.as_str()).collect();
        names.dedup();
        names.into_iter().find_map(|name| {
            let wanted = match self.peers.life(name, patience) {
                Some(Life::Live) => return None,
                None if self.peers.may_have_joined(name) => return None,
                Some(Life::Lapsed) => {
                    record.entries_of(name).iter().map(|e| lapsed(e, self.now)).collect()
                }
                Some(Life::Lost) | None => Vec::new(),
            };
            entries_write(key, record, name.to_owned(), wanted)
        })
    }
}

/// The write of an instance's entries, unless they are as wanted.
fn entries_write(
    key: &ObjectKey,
    record: &MappingRecord,
    instance: String,
    mut wanted: Vec<AddressEntry>,
) -> Option<Write> {
    let before = record.entries_of(&instance);
    if same_entries(&before, &wanted) {
        return None;
    }
    for entry in &mut wanted {
        if let Some(known) = before.iter().find(|b| b.address == entry.address) {
            date(&mut entry.conditions, &known.conditions);
        }
    }
    let (mapping, uid) = (key.clone(), record.uid.clone());
    Some(Write::Entries { mapping, uid, instance, entries: wanted })
}

/// An entry of an instance of which nothing is known any more.
fn lapsed(entry: &AddressEntry, now: crate::model::Timestamp) -> AddressEntry {
    let generation = condition(&entry.conditions, reason::PROGRAMMED).map_or(0, |c| c.generation);
    let unknown = StatusCondition {
        kind: reason::PROGRAMMED.into(),
        truth: Truth::Unknown,
        reason: reason::INSTANCE_LOST.into(),
        message: format!("{} has not renewed its Lease", entry.instance),
        generation,
        since: now,
    };
    AddressEntry { conditions: vec![unknown], ..entry.clone() }
}

//! The writes of instances, with their preconditions.

use std::collections::BTreeSet;
use std::net::IpAddr;

use smartnat_core::coordination::{
    AddressEntry, LeaseName, LeaseRecord, MappingRecord, Write, WriteError, Written,
};
use smartnat_core::model::ObjectKey;

use super::{ApiServer, Key, Object, StoredMapping};

impl ApiServer {
    /// Does what an instance asks for. `clock` is the renewal time that it writes into a Lease:
    /// its own clock, which may be hours off.
    pub fn write(&mut self, write: &Write, clock: u64) -> Result<Written, WriteError> {
        match write {
            Write::Lease { name, replaces, holder, duration_millis, addresses } => {
                let record = LeaseRecord {
                    holder: holder.clone(),
                    renewed: clock.to_string(),
                    duration_millis: *duration_millis,
                    addresses: addresses.clone(),
                    version: String::new(),
                };
                self.write_lease(name, replaces.as_deref(), record)
            }
            Write::Entries { mapping, uid, instance, entries } => {
                self.apply(mapping, uid, |m| apply_entries(m, instance, entries))
            }
            Write::Summary { mapping, uid, summary } => {
                self.apply(mapping, uid, |m| m.record.summary = (**summary).clone())
            }
            Write::Finalizers { mapping, uid, replaces, finalizers } => {
                let stored = self.mapping(mapping).ok_or(WriteError::NotFound)?;
                if stored.record.version != *replaces {
                    return Err(WriteError::Conflict);
                }
                let known = &stored.record.finalizers;
                if stored.record.deleting && finalizers.iter().any(|f| !known.contains(f)) {
                    let text = "no new finalizers can be added if the object is being deleted";
                    return Err(WriteError::Refused(text.into()));
                }
                self.apply(mapping, uid, |m| m.record.finalizers.clone_from(finalizers))
            }
        }
    }

    fn write_lease(
        &mut self,
        name: &LeaseName,
        replaces: Option<&str>,
        record: LeaseRecord,
    ) -> Result<Written, WriteError> {
        let stored = self.lease(name).map(|r| r.version.as_str());
        match (stored, replaces) {
            (None, Some(_)) => return Err(WriteError::NotFound),
            (stored, replaces) if stored != replaces => return Err(WriteError::Conflict),
            _ => {}
        }
        self.store(Key::Lease(name.clone()), Some(Object::Lease(record)));
        let written = self.lease(name).cloned().ok_or(WriteError::NotFound)?;
        Ok(Written::Lease(written))
    }

    fn apply(
        &mut self,
        key: &ObjectKey,
        uid: &str,
        change: impl FnOnce(&mut StoredMapping),
    ) -> Result<Written, WriteError> {
        let stored = self.mapping(key).ok_or(WriteError::NotFound)?;
        if stored.record.uid != uid {
            return Err(WriteError::Conflict);
        }
        self.change_mapping(key, change);
        let record: Option<MappingRecord> = self.mapping(key).map(|m| m.record.clone());
        Ok(Written::Mapping(record.map(Box::new)))
    }

    /// Somebody deletes a Lease, as clean-up of a node does.
    pub fn delete_lease(&mut self, name: &LeaseName) {
        self.store(Key::Lease(name.clone()), None);
    }
}

/// Server-side apply under the manager of `instance`: what it applied before and does not name
/// any more goes, unless another manager owns it too.
fn apply_entries(mapping: &mut StoredMapping, instance: &str, entries: &[AddressEntry]) {
    let named: BTreeSet<(IpAddr, String)> =
        entries.iter().map(|e| (e.address, e.instance.clone())).collect();
    let before = mapping.owners.insert(instance.to_owned(), named.clone()).unwrap_or_default();
    let gone: Vec<&(IpAddr, String)> = before
        .difference(&named)
        .filter(|entry| !mapping.owners.values().any(|owned| owned.contains(*entry)))
        .collect();
    let stays = |e: &AddressEntry| !gone.contains(&&(e.address, e.instance.clone()));
    let mut all = mapping.record.entries.clone();
    all.retain(stays);
    for entry in entries {
        let is_same =
            |e: &AddressEntry| (e.address, &e.instance) == (entry.address, &entry.instance);
        match all.iter_mut().find(|e| is_same(e)) {
            Some(known) => *known = entry.clone(),
            None => all.push(entry.clone()),
        }
    }
    mapping.record.entries = all;
}

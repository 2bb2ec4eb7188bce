//! The finalizer: a deleted Mapping goes when every instance that may hold something of it has
//! confirmed its removal, or is waited for no longer (T20).

use std::collections::BTreeSet;

use super::io::Write;
use super::peers::Life;
use super::records::{MappingRecord, condition};
use super::{Coordinator, FINALIZER};
use crate::model::ObjectKey;
use crate::status::reason;

impl Coordinator {
    /// The leader's write of finalizers, if the Mapping needs one.
    pub(super) fn plan_finalizers(&self, key: &ObjectKey, record: &MappingRecord) -> Option<Write> {
        if !self.leads() {
            return None;
        }
        let has = has_finalizer(record);
        let mut finalizers = record.finalizers.clone();
        if record.deleting && has && self.may_go(key, record) {
            finalizers.retain(|f| f != FINALIZER);
        } else if !record.deleting && !has && self.is_accepted(key, record) {
            finalizers.push(FINALIZER.into());
        } else {
            return None;
        }
        Some(Write::Finalizers {
            mapping: key.clone(),
            uid: record.uid.clone(),
            replaces: record.version.clone(),
            finalizers,
        })
    }

    fn is_accepted(&self, key: &ObjectKey, record: &MappingRecord) -> bool {
        self.status_of(key, record).is_some_and(|status| status.invalid == "no")
    }

    fn may_go(&self, key: &ObjectKey, record: &MappingRecord) -> bool {
        let me = self.config.instance.as_str();
        // What this instance does is known without asking the API server.
        let released = self.status_of(key, record).is_some_and(|status| status.released);
        self.waited_for(key, record)
            .into_iter()
            .all(|name| if name == me { released } else { has_confirmed(name, record) })
    }

    /// Instances of which a confirmation is missing, for people.
    pub(super) fn unconfirmed(&self, record: &MappingRecord) -> Vec<String> {
        let patience = self.config.max_finalize_millis;
        let instances = self.concerned(record);
        let missing = instances.into_iter().filter(|name| !has_confirmed(name, record));
        missing
            .filter_map(|name| match self.peers.life(name, patience) {
                Some(Life::Live) => Some(with_failure(name, record)),
                Some(Life::Lapsed) => Some(format!("{name}, which has not renewed its Lease")),
                None if self.peers.may_have_joined(name) => Some(name.to_owned()),
                Some(Life::Lost) | None => None,
            })
            .collect()
    }

    /// Instances that may hold something of the Mapping in their kernel: those that publish an
    /// address of it, and those that said so once.
    fn concerned<'a>(&'a self, record: &'a MappingRecord) -> BTreeSet<&'a str> {
        let publishers = self.publishers(record).into_iter().map(|(name, ..)| name);
        // Somebody may have deleted the own Lease.
        let me = self.published.iter().flatten().any(|a| record.addresses.contains(a));
        let me = me.then_some(self.config.instance.as_str());
        let said = record.entries.iter().map(|e| e.instance.as_str());
        publishers.chain(said).chain(me).collect()
    }

    /// Those of them that hold a deletion up.
    fn waited_for<'a>(&'a self, key: &ObjectKey, record: &'a MappingRecord) -> Vec<&'a str> {
        let patience = self.config.max_finalize_millis;
        let waited =
            self.deleting_since.get(key).map(|since| self.peers.clock().saturating_sub(*since));
        let concerned = self.concerned(record).into_iter();
        concerned
            .filter(|name| match self.peers.life(name, patience) {
                _ if self.is_me(name) => true,
                Some(Life::Live) => true,
                None => self.peers.may_have_joined(name),
                Some(Life::Lapsed) => waited.is_none_or(|waited| waited < patience),
                Some(Life::Lost) => false,
            })
            .collect()
    }
}

/// It is being deleted and waits for nobody of ours: nothing is written to it any more.
pub(super) fn is_going(record: &MappingRecord) -> bool {
    record.deleting && !has_finalizer(record)
}

fn has_finalizer(record: &MappingRecord) -> bool {
    record.finalizers.iter().any(|f| f == FINALIZER)
}

/// The name of an instance that is waited for, with what keeps it, if it said so.
fn with_failure(name: &str, record: &MappingRecord) -> String {
    let conditions = record.entries.iter().filter(|e| e.instance == name);
    let programmed = conditions.filter_map(|e| condition(&e.conditions, reason::PROGRAMMED));
    let failure = programmed
        .filter(|c| c.generation == record.generation && c.reason == reason::KERNEL_ERROR)
        .map(|c| format!("{name} ({})", c.message))
        .next();
    failure.unwrap_or_else(|| name.to_owned())
}

/// Whether all that an instance says of the Mapping is that it is removed.
fn has_confirmed(name: &str, record: &MappingRecord) -> bool {
    let mut entries = record.entries.iter().filter(|e| e.instance == name).peekable();
    entries.peek().is_some()
        && entries.all(|e| {
            condition(&e.conditions, reason::PROGRAMMED)
                .is_some_and(|c| c.reason == reason::REMOVED && c.generation == record.generation)
        })
}

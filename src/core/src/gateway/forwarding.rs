//! Forwarding that others need stays on when we no longer do (T16).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Event, EventKind, Gateway, Output};
use crate::model::Family;
use crate::objects::SysctlKey;
use crate::ops::{NetworkOp, Transaction};

/// Who needs forwarding beside us.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Forwarding {
    /// What of others needs it, for people.
    needed: BTreeMap<Family, Vec<String>>,
    /// Families in which it was left on, and that was told.
    kept: BTreeSet<Family>,
}

impl Gateway {
    pub(super) fn on_forwarding_needed(&mut self, needed: BTreeMap<Family, Vec<String>>) {
        self.forwarding = Forwarding { needed, kept: BTreeSet::new() };
    }

    /// What would switch off what others need only forgets the value from before us.
    pub(super) fn keep_forwarding(
        &mut self,
        mut transactions: Vec<Transaction>,
    ) -> Vec<Transaction> {
        let mut news = Vec::new();
        for (key, value) in restored(&mut transactions) {
            if let SysctlKey::Forwarding(family) = key
                && self.forwarding.needed.contains_key(family)
            {
                *value = None;
                news.extend(self.forwarding.kept.insert(*family).then_some(*family));
            }
        }
        let advertised = self.keep_router_advertisements(&mut transactions);
        for family in news {
            let advertised = if family == Family::V6 { advertised.as_slice() } else { &[] };
            self.tell_of_kept_forwarding(family, advertised);
        }
        transactions
    }

    /// With IPv6 forwarding on, the 1 from before us would mean "no" and cost the default route.
    fn keep_router_advertisements(&self, transactions: &mut [Transaction]) -> Vec<String> {
        let mut interfaces = Vec::new();
        if self.forwarding.kept.contains(&Family::V6) {
            for (key, value) in restored(transactions) {
                if let SysctlKey::AcceptRouterAdvertisements(interface) = key {
                    *value = None;
                    interfaces.push(interface.clone());
                }
            }
        }
        interfaces
    }

    fn tell_of_kept_forwarding(&mut self, family: Family, advertised: &[String]) {
        let reasons = self.forwarding.needed.get(&family).map_or(&[][..], Vec::as_slice);
        let mut message = format!("{family} forwarding stays on, since others need it");
        if !reasons.is_empty() {
            message += ": ";
            message += &reasons.join(", ");
        }
        if !advertised.is_empty() {
            message += "; so that router advertisements still count, accept_ra stays 2 on ";
            message += &advertised.join(", ");
        }
        let event = Event { kind: EventKind::ForwardingKept, mapping: None, message };
        self.outbox.push_back(Output::Event(event));
    }
}

/// Sysctls that get their value from before us, with that value.
fn restored(
    transactions: &mut [Transaction],
) -> impl Iterator<Item = (&SysctlKey, &mut Option<String>)> {
    transactions.iter_mut().flat_map(|t| &mut t.ops).filter_map(|op| match op {
        NetworkOp::ForgetSysctl { key, value } if value.is_some() => Some((&*key, value)),
        _ => None,
    })
}

//! Somebody who undoes a repair at once must not keep the gateway busy.

use serde::{Deserialize, Serialize};

use super::READ_BACK_MILLIS;
use crate::model::Timestamp;

/// Repairs in [`READ_BACK_MILLIS`]: the rest of what others change in that time is put back
/// together, in time for T17. A person at a keyboard stays below.
const REPAIRS_AT_ONCE: u32 = 20;

/// How often others' changes were put back lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Repairs {
    since: Timestamp,
    count: u32,
}

impl Repairs {
    /// Takes note of one that is due.
    pub(super) fn add(&mut self, now: Timestamp) {
        if self.end() <= now {
            *self = Self { since: now, count: 0 };
        }
        self.count = self.count.saturating_add(1);
    }

    /// Until when there are to be no more; `None`: there may be.
    pub(super) fn put_off(&self, now: Timestamp) -> Option<Timestamp> {
        Some(self.end()).filter(|end| self.count > REPAIRS_AT_ONCE && *end > now)
    }

    fn end(&self) -> Timestamp {
        self.since.plus_millis(READ_BACK_MILLIS)
    }
}

//! When gathered changes are handed on.

use std::time::Duration;

use tokio::time::Instant;

/// A change after a quiet time is handed on at once; those that follow are gathered in windows
/// that grow as long as changes keep coming.
#[derive(Debug)]
pub(super) struct Window {
    shortest: Duration,
    longest: Duration,
    /// How long the next window will be.
    length: Duration,
    /// Until when changes are gathered.
    closes: Option<Instant>,
    /// When what was gathered is handed on.
    due: Option<Instant>,
}

impl Window {
    pub(super) fn new(shortest: Duration, longest: Duration) -> Self {
        Self { shortest, longest, length: shortest, closes: None, due: None }
    }

    /// Something changed.
    pub(super) fn changed(&mut self, now: Instant) {
        if self.due.is_some() {
            return;
        }
        if self.closes.is_none_or(|closes| now >= closes + self.length) {
            self.length = self.shortest;
        }
        self.due = Some(self.closes.map_or(now, |closes| closes.max(now)));
    }

    /// When what changed is to be handed on, if anything did.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// What changed was handed on: a window opens.
    pub(super) fn handed_on(&mut self, now: Instant) {
        self.due = None;
        self.closes = Some(now + self.length);
        self.length = (self.length * 2).min(self.longest);
    }

    /// What changed was handed on along with something else.
    pub(super) fn cleared(&mut self) {
        self.due = None;
    }
}

#[cfg(test)]
mod tests;

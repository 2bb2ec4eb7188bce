//! What a run on another backend, or in iptables' other flavour, left. The dataplane is set up
//! beside it, so that connections live on by their marks, which mean the same in both; then it
//! goes. Found again after a crash in between.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{EventKind, Gateway, Goal};
use crate::model::Backend;
use crate::objects::{KernelState, XtTable, XtTableId, XtTableState};

/// What is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum Left {
    /// Nobody has looked yet.
    Unknown,
    /// It is there.
    Found,
    /// There is nothing. Only we put something there, and one run has one backend.
    Gone,
}

impl Left {
    pub(super) fn is_gone(self) -> bool {
        self == Self::Gone
    }
}

impl Gateway {
    /// Tells what is found at the first look.
    pub(super) fn look_for_left(&mut self, observed: &KernelState) {
        let places = places(observed, self.config.backend);
        if self.goal != Goal::Serve || self.left != Left::Unknown || places.is_empty() {
            return;
        }
        self.left = Left::Found;
        let message = format!(
            "a run on another backend left objects in {}; they are removed once the dataplane \
             stands beside them, and connections live on",
            places.join(" and ")
        );
        self.event(EventKind::BackendChanged, message);
    }

    /// All that was observed is the target.
    pub(super) fn nothing_is_left(&mut self) {
        if self.left == Left::Found {
            let message = "what a run on another backend left is removed".to_owned();
            self.event(EventKind::BackendChanged, message);
        }
        self.left = Left::Gone;
    }
}

/// Where objects are that this backend has no use for.
fn places(observed: &KernelState, backend: Backend) -> Vec<&'static str> {
    let native = backend == Backend::Nftables;
    // Beside nftables ours may be in table filter.
    let held = |tables: &BTreeMap<XtTableId, XtTableState>| {
        let useless = |id: &XtTableId| !native || id.table != XtTable::Filter;
        tables.iter().any(|(id, table)| useless(id) && !table.is_empty())
    };
    let found = [
        (!native && observed.nft.is_some(), "nftables"),
        (native && held(&observed.xtables), "iptables"),
        (held(&observed.other_xtables), "iptables' other flavour"),
        (native && !observed.sets.is_empty(), "ipset"),
    ];
    found.into_iter().filter_map(|(there, place)| there.then_some(place)).collect()
}

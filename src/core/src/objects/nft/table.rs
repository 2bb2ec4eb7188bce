//! A table.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{NftChain, NftName, NftSet};
use crate::ops::NftOp;

/// Everything in our table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct NftTable {
    /// Sets and maps.
    pub sets: BTreeMap<NftName, NftSet>,
    /// Chains.
    pub chains: BTreeMap<NftName, NftChain>,
}

impl NftTable {
    /// What it is after an operation that the kernel took.
    pub fn follow(&mut self, op: &NftOp) {
        match op {
            NftOp::CreateTable => {}
            NftOp::DeleteTable => *self = Self::default(),
            NftOp::CreateSet { name, spec } => {
                let set = NftSet { spec: spec.clone(), elements: BTreeMap::new() };
                self.sets.insert(name.clone(), set);
            }
            NftOp::DeleteSet { name } => {
                self.sets.remove(name);
            }
            NftOp::PutChain { name, chain } => {
                self.chains.insert(name.clone(), chain.clone());
            }
            NftOp::DeleteChain { name } => {
                self.chains.remove(name);
            }
            NftOp::AddElement { set, key, element } => {
                // What has a timeout is no part of what is observed.
                if let Some(set) = self.sets.get_mut(set).filter(|s| s.spec.timeout.is_none()) {
                    set.elements.insert(key.clone(), element.clone());
                }
            }
            NftOp::DeleteElement { set, key } => {
                if let Some(set) = self.sets.get_mut(set) {
                    set.elements.remove(key);
                }
            }
        }
    }
}

//! Everything of ours that a kernel holds.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::nft::NftTable;
use super::{BuiltinChain, IpSet, Route, RoutingRule, SetName, SysctlKey, XtTableId, XtTableState};
use crate::ops::NftOp;

/// A sysctl as observed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SysctlState {
    /// Value now.
    pub value: String,
    /// Value before we first changed it, if we did (from the state file).
    pub original: Option<String>,
}

/// Everything of ours that a kernel holds, and nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct KernelState {
    /// iptables, by family and table; a table without anything of ours is absent.
    #[serde(with = "pairs")]
    pub xtables: BTreeMap<XtTableId, XtTableState>,
    /// The same of iptables' other flavour.
    #[serde(with = "pairs")]
    pub other_xtables: BTreeMap<XtTableId, XtTableState>,
    /// Built-in chains of table filter in which others judge packets, by rules or a policy of DROP;
    /// only where this says it.
    pub contested: BTreeSet<BuiltinChain>,
    /// The same of iptables' other flavour.
    pub other_contested: BTreeSet<BuiltinChain>,
    /// Sets with our prefix.
    pub sets: BTreeMap<SetName, IpSet>,
    /// Our table of nftables; absent where there is none.
    pub nft: Option<NftTable>,
    /// Rules with our protocol number and a priority of ours.
    pub rules: BTreeSet<RoutingRule>,
    /// Routes with our protocol number in our tables.
    pub routes: BTreeSet<Route>,
    /// Sysctls: those of the observation's scope that exist, and those with a recorded original.
    #[serde(with = "pairs")]
    pub sysctls: BTreeMap<SysctlKey, SysctlState>,
}

impl KernelState {
    /// What it is after an operation on our table of nftables that the kernel took.
    pub fn follow_nft(&mut self, op: &NftOp) {
        match op {
            NftOp::DeleteTable => self.nft = None,
            other => self.nft.get_or_insert_default().follow(other),
        }
    }
}

/// Which parts of netfilter an observation reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Netfilter {
    /// Whatever any backend may have put there: iptables of both flavours, ipset, nftables.
    #[default]
    All,
    /// What the backend in use works with: with iptables its own tables and sets, with nftables its
    /// table and all tables of iptables. The rest of the answer is empty and says nothing.
    InUse,
    /// What of that the kernel sends no notification of, while it does of nftables (T17): with
    /// nftables the tables of iptables-legacy. The rest of the answer says nothing.
    Untold,
}

/// What an observation covers beyond what names tell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ObservationScope {
    /// Our routing tables are `table_base + 1 ..= table_base + table_count`.
    pub table_base: u32,
    /// How many tables are ours.
    pub table_count: u32,
    /// Our rule priorities are `rule_priority .. rule_priority + 5`.
    pub rule_priority: u32,
    /// Sysctls to read.
    pub sysctls: BTreeSet<SysctlKey>,
    /// What of netfilter to read.
    #[serde(default)]
    pub netfilter: Netfilter,
}

impl ObservationScope {
    /// The rule priorities that are ours: five steps, see the lowering of routing.
    pub fn rule_priorities(&self) -> Range<u32> {
        self.rule_priority..self.rule_priority.saturating_add(5)
    }
}

/// Maps with structured keys, as lists of pairs so that JSON can hold them.
pub(crate) mod pairs {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<'a, S, M, K, V>(map: &'a M, serializer: S) -> Result<S::Ok, S::Error>
    where
        S: Serializer,
        &'a M: IntoIterator<Item = (&'a K, &'a V)>,
        K: Serialize + 'a,
        V: Serialize + 'a,
    {
        serializer.collect_seq(map)
    }

    pub(crate) fn deserialize<'de, D, M, K, V>(deserializer: D) -> Result<M, D::Error>
    where
        D: Deserializer<'de>,
        M: IntoIterator<Item = (K, V)> + FromIterator<(K, V)>,
        K: Deserialize<'de>,
        V: Deserialize<'de>,
    {
        Ok(Vec::<(K, V)>::deserialize(deserializer)?.into_iter().collect())
    }
}

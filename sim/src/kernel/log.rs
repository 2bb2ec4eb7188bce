//! What the kernel was asked to do.

use smartnat_core::model::Timestamp;
use smartnat_core::objects::{BuiltinHook, ChainName, XtTableId};
use smartnat_core::ops::{Domain, NetworkOp, OpError, Transaction};

use super::SimKernel;
use super::routing::{route_object, rule_object};

/// One transaction that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionRecord {
    /// When.
    pub at: Timestamp,
    /// Where it went.
    pub domain: Domain,
    /// Each operation with the object it is about, for example `put chain nat/SMARTNAT-DNAT (IPv4)`.
    pub ops: Vec<String>,
    /// How many of them are in effect.
    pub applied: u64,
    /// How it ended.
    pub outcome: Result<(), OpError>,
}

/// All transactions since the log was last taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Log {
    records: Vec<TransactionRecord>,
    applied: u64,
    trespasses: Vec<String>,
}

impl Log {
    pub(super) fn push(
        &mut self,
        at: Timestamp,
        transaction: &Transaction,
        applied: u64,
        outcome: &Result<(), OpError>,
    ) {
        let domain = transaction.domain;
        let ops = transaction.ops.iter().map(|op| describe(domain, op)).collect();
        self.applied += applied;
        self.records.push(TransactionRecord { at, domain, ops, applied, outcome: outcome.clone() });
    }

    pub(super) fn trespass(&mut self, what: String) {
        self.trespasses.push(what);
    }
}

/// The log.
impl SimKernel {
    /// Operations that took effect since the beginning.
    pub fn applied_ops(&self) -> u64 {
        self.log.applied
    }

    /// All transactions since [`Self::take_log`], failed ones included.
    pub fn log(&self) -> &[TransactionRecord] {
        &self.log.records
    }

    /// Hands out the transactions so far and forgets them.
    pub fn take_log(&mut self) -> Vec<TransactionRecord> {
        std::mem::take(&mut self.log.records)
    }

    /// Operations of ours that meant to change something that is not ours, or to add something
    /// that nobody could recognise as ours (T14). A test asserts that there is none.
    pub fn trespasses(&self) -> &[String] {
        &self.log.trespasses
    }
}

/// The operation and the object it is about.
pub(crate) fn describe(domain: Domain, op: &NetworkOp) -> String {
    let chain = |name: &ChainName| chain_object(domain, &name.0);
    let hook = |hook: &BuiltinHook| chain_object(domain, hook.name());
    match op {
        NetworkOp::PutChain { chain: name, .. } => format!("put {}", chain(name)),
        NetworkOp::DeleteChain { chain: name } => format!("delete {}", chain(name)),
        NetworkOp::InsertJump { hook: h, rule } => {
            format!("insert jump to {} in {}", target(rule.jump_target()), hook(h))
        }
        NetworkOp::DeleteJump { hook: h, rule } => {
            format!("delete jump to {} in {}", target(rule.jump_target()), hook(h))
        }
        NetworkOp::DeleteEmptyBuiltin { hook: h } => format!("delete empty {}", hook(h)),
        NetworkOp::CreateSet { name, .. } => format!("create set {name}"),
        NetworkOp::AddElement { set, element } => format!("add {element} to set {set}"),
        NetworkOp::DeleteElement { set, element } => format!("delete {element} from set {set}"),
        NetworkOp::DestroySet { name } => format!("destroy set {name}"),
        NetworkOp::AddRule(rule) => format!("add {}", rule_object(rule)),
        NetworkOp::DeleteRule(rule) => format!("delete {}", rule_object(rule)),
        NetworkOp::PutRoute(route) => format!("put {}", route_object(route)),
        NetworkOp::DeleteRoute(route) => format!("delete {}", route_object(route)),
        NetworkOp::SetSysctl { key, value } => format!("set {key} to {value}"),
        NetworkOp::ForgetSysctl { key, .. } => format!("forget {key}"),
        NetworkOp::DeleteFlow(key) => format!("delete flow {}", key.id),
    }
}

fn target(chain: Option<&ChainName>) -> &str {
    chain.map_or("nothing", |name| name.0.as_str())
}

fn chain_object(domain: Domain, name: &str) -> String {
    match domain {
        Domain::Xtables(id) => table_chain_object(id, name),
        _ => format!("chain {name}"),
    }
}

/// A chain as errors name it.
pub(super) fn table_chain_object(id: XtTableId, name: &str) -> String {
    format!("chain {}/{name} ({})", id.table.name(), id.family)
}
